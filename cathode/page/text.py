"""Numbers as people read them: errors decide the digits, NaN is a dash, the minus sign is a minus sign."""

from __future__ import annotations

import math

__all__ = ["MISSING", "duration", "efficiency", "measured", "number", "probability", "sigma"]

MISSING = "–"
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def number(value: float | None, *, digits: int = 4) -> str:
    """``digits`` significant digits, thousands separated; a dash for None, NaN; counts are never rounded."""
    if value is None or math.isnan(value):
        return MISSING
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value == int(value) and abs(value) < 1e15:
        text = f"{int(value):,}"
    elif abs(value) >= 10 ** (digits - 1):
        text = f"{value:,.0f}"
    else:
        text = f"{value:.{digits}g}"
        if "e" in text:
            return _power(value, digits=digits - 1)
    return text.replace("-", "−")


def measured(value: float | None, error: float | None = None) -> str:
    """``value ± error``, both to two significant digits of the error."""
    if value is None or not math.isfinite(value):
        return number(value)
    if error is None or not math.isfinite(error) or error <= 0:
        return number(value)
    decimals = decimals_of(error)
    return f"{value:,.{decimals}f} ± {error:,.{decimals}f}".replace("-", "−")


def decimals_of(error: float) -> int:
    """Decimals that show two significant digits of a positive error (at most 8)."""
    # Rounded first: 0.0996 becomes 0.10, which has one decimal less than its logarithm says.
    return min(max(1 - math.floor(math.log10(float(f"{error:.1e}"))), 0), 8)


def sigma(value: float | None) -> str:
    """A significance with one decimal, such as ``5.2 σ``."""
    if value is None or not math.isfinite(value):
        return number(value) + (" σ" if value is not None and math.isinf(value) else "")
    return f"{value:.1f} σ".replace("-0.0", "0.0").replace("-", "−")


def probability(value: float | None) -> str:
    """A p-value: plain above 0.001, as a power of ten below."""
    if value is None or not math.isfinite(value):
        return number(value)
    if value <= 0:
        return "< 10⁻³⁰⁰"
    return f"{value:.2g}" if value >= 1e-3 else _power(value, digits=1)


def efficiency(value: float) -> str:
    """A background efficiency: ``10⁻²``, ``5 × 10⁻⁴``, ``1``."""
    if not math.isfinite(value) or value <= 0:
        return MISSING
    if value >= 0.1:
        return f"{value:.3g}"
    return _power(value, digits=1)


def duration(seconds: float | None) -> str:
    """Wall time: ``0.8 s``, ``1 min 23 s``, ``2 h 05 min``."""
    if seconds is None or not math.isfinite(seconds):
        return MISSING
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _power(value: float, *, digits: int) -> str:
    mantissa, exponent = f"{value:.{max(digits, 0)}e}".split("e")
    mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
    power = "10" + str(int(exponent)).translate(_SUPERSCRIPT)
    if mantissa == "1":
        return power
    return f"{mantissa} × {power}".replace("-", "−")
