"""Results as plain values: what JSON can hold."""

from __future__ import annotations

import math
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

__all__ = ["Plain", "plain"]


def plain(value: Any) -> Any:
    """``value`` with dataclasses, arrays and NumPy scalars turned into dicts, lists, numbers; NaN and inf
    into None.

    Raises:
        TypeError: Something inside has no plain form.
    """
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value) if field.repr}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int | bool):
        return value
    raise TypeError(f"{type(value).__name__} has no plain form")


class Plain:
    """Gives a dataclass ``to_dict``.  Fields declared with ``repr=False`` are working parts and are left
    out.
    """

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; what is not finite becomes None."""
        return plain(self)
