"""Tests in the blinded window of a sideband fit: is there an excess, and would the function alone make
one?
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cathode.statistics.counting import CountingResult, counting_test
from cathode.statistics.dijet import BinnedDijet
from cathode.statistics.massfit import SidebandFit, fit_sidebands
from cathode.statistics.plain import Plain
from cathode.statistics.significance import z_to_p
from cathode.support.errors import UserError
from cathode.support.seeding import numpy_generator

__all__ = ["SpuriousSignal", "WindowTest", "spurious_signal", "window_test"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class WindowTest(Plain):
    """Excess in the blinded window.  All p-values are one-sided and exceed 0.5 for a deficit.

    Attributes:
        observed: Events in the window.
        expected: Events interpolated from the sidebands.
        expected_error: Standard error of ``expected`` from the fit.
        counting: Counting test with that expectation as a constraint.
        p_value: From the profile likelihood of sidebands and window together, the background's parameters
            floating.
        significance: The same in standard deviations.
        toy_p_value: p-value of the same statistic from refitted toys; NaN without toys.
        toy_p_value_error: Its error from the number of toys.
        toys: Number of toys whose fits converged.
    """

    observed: float
    expected: float
    expected_error: float
    counting: CountingResult
    p_value: float
    significance: float
    toy_p_value: float = math.nan
    toy_p_value_error: float = math.nan
    toys: int = 0


def window_test(fit: SidebandFit, observed: float | None = None, *, toys: int = 0, seed: int = 0) -> WindowTest:
    """Compare the events in the blinded window with the interpolated sideband fit.

    The profile likelihood has the yield of the window free under "signal" (then the sidebands alone fix the
    background) and zero under "no signal" (then sidebands and window are fitted together, the window as one
    bin); the signed root of the likelihood ratio is asymptotically normal.

    Args:
        fit: Result of :func:`cathode.statistics.massfit.fit_sidebands` with a blinded window.
        observed: Events in the window; default: the counts of the fit's spectrum there.
        toys: Pseudo-experiments at the best fit without signal, each refitted twice; 0 for none.
        seed: Their seed.

    Raises:
        UserError: The fit has no window, or is not valid.
    """
    if fit.blind is None:
        raise UserError("window test: the fit blinded no window; give fit_sidebands the borders in `blind`")
    if not fit.valid:
        raise UserError(
            f"window test: the fit is not valid ({'; '.join(fit.problems)}); loosen the cut or widen the sidebands"
        )
    low, high = fit.blind
    if observed is None:
        inside = (fit.edges[:-1] > low - 1e-9) & (fit.edges[1:] < high + 1e-9)
        observed = float(fit.counts[inside].sum())
    expected, error = fit.expected_in(low, high)
    counting = counting_test(observed, expected, error)

    sidebands = fit.bins(fit.edges[:-1][fit.fitted], fit.edges[1:][fit.fitted])
    everything = fit.bins(np.append(fit.edges[:-1][fit.fitted], low), np.append(fit.edges[1:][fit.fitted], high))
    counts = np.append(fit.counts[fit.fitted], observed)[None]
    roots, null, _ = _signed_roots(counts, sidebands, everything, fit.theta)
    root = float(roots[0])
    toy_p, toy_error, good = math.nan, math.nan, 0
    if toys > 0:
        generator = numpy_generator(seed, "window test")
        spectra = generator.poisson(everything.expected(null[0]), size=(toys, counts.shape[1])).astype(np.float64)
        toy_roots, _, converged = _signed_roots(spectra, sidebands, everything, null[0])
        toy_roots = toy_roots[converged]
        good = len(toy_roots)
        toy_p = (int((toy_roots >= root).sum()) + 1) / (good + 1)
        toy_error = math.sqrt(toy_p * (1 - toy_p) / max(good, 1))
    return WindowTest(
        observed=float(observed),
        expected=expected,
        expected_error=error,
        counting=counting,
        p_value=float(z_to_p(root)),
        significance=root,
        toy_p_value=toy_p,
        toy_p_value_error=toy_error,
        toys=good,
    )


def _signed_roots(
    counts: Array, sidebands: BinnedDijet, everything: BinnedDijet, start: Array
) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Signed roots (T,), null parameters (T, K), converged (T,); the window is the last bin of ``counts``
    (T, B).
    """
    free, free_converged = sidebands.fit(counts[:, :-1], start)
    null, null_converged = everything.fit(counts, start)
    q = everything.deviance(counts, null) - sidebands.deviance(counts[:, :-1], free)
    sign = np.sign(counts[:, -1] - everything.expected(free)[:, -1])
    return sign * np.sqrt(np.maximum(q, 0)), null, free_converged & null_converged


@dataclass(frozen=True)
class SpuriousSignal(Plain):
    """Signal that the function's misfit alone would fake.

    Attributes:
        spurious: Background events in the window minus their interpolation from the sidebands.
        spurious_error: Error of ``spurious`` from the size of the template.
        signal_error: Standard deviation of a measured signal in data of the stated size.
        ratio: ``spurious / signal_error``.
        ratio_error: Its error from the size of the template.
        limit: Largest tolerated absolute ratio.
        passed: Whether the absolute ratio stays below the limit, allowing for two standard errors of the
            template.
        parameters: Number of parameters of the function.
    """

    spurious: float
    spurious_error: float
    signal_error: float
    ratio: float
    ratio_error: float
    limit: float
    passed: bool
    parameters: int


def spurious_signal(
    template: ArrayLike,
    edges: ArrayLike,
    *,
    data_events: float,
    blind: tuple[float, float] = (3.3, 3.7),
    parameters: int,
    limit: float = 0.3,
    sqrt_s: float = 13.0,
) -> SpuriousSignal:
    """Fit a signal-free template as if it were data, and see what signal appears.

    The test of the ATLAS searches (ATL-PHYS-PUB-2020-028): the spurious signal must be small against the
    statistical error of the signal in data.

    Args:
        template: Signal-free unweighted events per bin (B,), best many more than in data.
        edges: Bin edges (B + 1,), TeV.
        data_events: Events expected in data over all bins; the template is scaled to it.
        blind: The window, TeV.
        parameters: Number of parameters of the function under test.
        limit: Largest tolerated ratio; analyses take 0.2 to 0.5.
        sqrt_s: Centre-of-mass energy, TeV.

    Raises:
        UserError: See :func:`fit_sidebands`; or ``data_events`` is not positive.
    """
    counts = np.asarray(template, dtype=np.float64)
    if not (math.isfinite(data_events) and data_events > 0):
        raise UserError(f"spurious signal: data_events={data_events} must be positive")
    fit = fit_sidebands(counts, edges, blind=blind, parameters=parameters, sqrt_s=sqrt_s)
    if not fit.valid:
        raise UserError(f"spurious signal: the fit to the template is not valid ({'; '.join(fit.problems)})")
    scale = data_events / float(counts.sum())
    expected, error = fit.expected_in(*blind)
    background = float(counts[~fit.fitted].sum())
    # Both the window's count and the interpolation shrink like the square root of the events.
    data_error = math.sqrt(scale * (expected + error**2))
    template_error = scale * math.sqrt(background + error**2)
    spurious = scale * (background - expected)
    ratio, ratio_error = spurious / data_error, template_error / data_error
    return SpuriousSignal(
        spurious=spurious,
        spurious_error=template_error,
        signal_error=data_error,
        ratio=ratio,
        ratio_error=ratio_error,
        limit=limit,
        passed=abs(ratio) - 2 * ratio_error < limit,
        parameters=parameters,
    )
