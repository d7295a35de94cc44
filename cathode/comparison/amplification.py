"""Amplification: does a generator know more than the events it was trained on? (arXiv:2008.06545)

The truth is cut into ``n`` quantiles.  A sample puts the fraction ``x_j`` into quantile ``j``, and its quantile error
is ``MSE = sum_j (x_j - 1/n)^2``, which for ``N`` true events is ``(1 - 1/n) / N`` on average.  So ``(1 - 1/n) / MSE``
is the number of true events that any sample is worth, and a generator amplifies its training sample if it is worth
more than that had events.  A fit of a known family is the best that can be hoped for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr

from cathode.support.errors import UserError

__all__ = ["Amplification", "AmplificationPoint", "amplification", "mixture_fit", "quantile_mse"]

Cumulative = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class AmplificationPoint:
    """Quantile error of one sample.

    Attributes:
        name: ``training``, ``fit`` or ``generated``.
        events: Number of events; 0 for the fit, which has no sampling noise.
        mse: ``sum_j (x_j - 1/n)^2``, without what the finite truth adds to it on average.
        error: Standard error of ``mse``.
        equivalent: Number of true events with this ``mse`` on average; infinite if it is not above the truth's noise.
    """

    name: str
    events: int
    mse: float
    error: float
    equivalent: float


@dataclass(frozen=True)
class Amplification:
    """Result of :func:`amplification`.

    Attributes:
        quantiles: Number of quantiles.
        truth: Number of events that the quantiles come from.
        training: The generator's training sample.
        fit: A fit to the training sample.
        generated: First ``events`` generated events, for each size asked for.
        factor: Equivalent events of the largest generated sample over those of the training sample.
    """

    quantiles: int
    truth: int
    training: AmplificationPoint
    fit: AmplificationPoint
    generated: tuple[AmplificationPoint, ...]
    factor: float


def amplification(
    truth: ArrayLike,
    training: ArrayLike,
    generated: ArrayLike,
    *,
    quantiles: int = 20,
    sizes: Sequence[int] | None = None,
    fit: Callable[[np.ndarray], Cumulative] | None = None,
) -> Amplification:
    """Quantile errors of a training sample, of a fit to it, and of ever larger generated samples, for one observable.

    Args:
        truth: Independent true events ``(N,)``, many more than training events: their noise limits what can be seen.
        training: Events that the generator was trained on ``(T,)``.
        generated: Generated events ``(M,)``.
        quantiles: Number of quantiles.
        sizes: Numbers of generated events; default 1, 2, 5, 10, ... times the training sample, and all.
        fit: Makes a cumulative distribution from a sample; default :func:`mixture_fit`, the paper's camel back.

    Raises:
        UserError: Too few events, or values that are not finite.
    """
    parent, small, many = (
        _checked(x, n) for x, n in ((truth, "truth"), (training, "training"), (generated, "generated"))
    )
    if quantiles < 2 or len(parent) < 10 * quantiles:
        raise UserError(f"{quantiles} quantiles need at least 2 of them and 10 true events in each, got {len(parent)}")
    inner = np.quantile(parent, np.arange(1, quantiles) / quantiles)
    noise = (1.0 - 1.0 / quantiles) / len(parent)
    if sizes is None:
        steps = [len(small) * f for f in (1, 2, 5, 10, 20, 50, 100)]
        sizes = sorted({s for s in steps if s < len(many)} | {len(many)})
    if min(sizes) < 1 or max(sizes) > len(many):
        raise UserError(f"sizes {list(sizes)} of the generated sample are not between 1 and its {len(many)} events")
    cumulative = (mixture_fit if fit is None else fit)(small)
    filled = np.diff(np.concatenate([[0.0], cumulative(inner), [1.0]]))
    points = tuple(_sample_point("generated", many[:n], inner, noise) for n in sizes)
    trained = _sample_point("training", small, inner, noise)
    return Amplification(
        quantiles=quantiles,
        truth=len(parent),
        training=trained,
        fit=_point("fit", 0, filled, noise, len(parent)),
        generated=points,
        factor=points[-1].equivalent / trained.equivalent,
    )


def quantile_mse(sample: ArrayLike, edges: ArrayLike) -> float:
    """``sum_j (x_j - 1/n)^2`` of the fractions ``x_j`` of ``sample`` ``(N,)`` between the inner ``edges`` ``(n - 1,)``.

    Raises:
        UserError: An empty sample or values that are not finite.
    """
    fractions = _fractions(_checked(sample, "sample"), np.asarray(edges, dtype=np.float64))
    return float(np.sum((fractions - 1.0 / len(fractions)) ** 2))


def mixture_fit(sample: np.ndarray, *, iterations: int = 300, tolerance: float = 1e-7) -> Cumulative:
    """Maximum-likelihood fit of two Gaussians, the five-parameter fit of arXiv:2008.06545, by expectation-maximisation.

    Starts from the halves below and above the median; widths are kept above a thousandth of the sample's.
    """
    x = _checked(sample, "fit")
    spread = float(x.std())
    if spread == 0.0:
        constant = float(x[0])
        return lambda values: (np.asarray(values) >= constant).astype(np.float64)
    low, high = x[x <= np.median(x)], x[x > np.median(x)]
    if not len(high):
        low, high = x, x
    means = np.array([low.mean(), high.mean()])
    widths = np.maximum([low.std(), high.std()], 0.1 * spread)
    weights, last = np.array([0.5, 0.5]), -np.inf
    for _ in range(iterations):
        log_parts = np.log(weights) - np.log(widths) - 0.5 * ((x[:, None] - means) / widths) ** 2
        top = log_parts.max(axis=1, keepdims=True)
        parts = np.exp(log_parts - top)
        total = parts.sum(axis=1, keepdims=True)
        likelihood = float(np.mean(np.log(total) + top))
        parts /= total
        mass = np.maximum(parts.sum(axis=0), 1e-300)
        weights = np.maximum(mass / mass.sum(), 1e-12)
        means = parts.T @ x / mass
        widths = np.sqrt(np.maximum((parts * (x[:, None] - means) ** 2).sum(axis=0) / mass, (1e-3 * spread) ** 2))
        if likelihood - last < tolerance:
            break
        last = likelihood
    shares = weights / weights.sum()
    return lambda values: ndtr((np.asarray(values, dtype=np.float64)[..., None] - means) / widths) @ shares


def _sample_point(name: str, sample: np.ndarray, inner: np.ndarray, noise: float) -> AmplificationPoint:
    return _point(name, len(sample), _fractions(sample, inner), noise, round((1 - 1 / (len(inner) + 1)) / noise))


def _point(name: str, events: int, fractions: np.ndarray, noise: float, truth: int) -> AmplificationPoint:
    n = len(fractions)
    deviation = fractions - 1.0 / n
    mse = float(np.sum(deviation**2)) - noise
    # Multinomial noise of both samples: linear in a true deviation, and quadratic without one; measured deviations
    # make the linear part of samples without any twice the quadratic one.
    per_event = 1.0 / truth + (1.0 / events if events else 0.0)
    linear = 4.0 * per_event * (float(fractions @ deviation**2) - float(fractions @ deviation) ** 2)
    quadratic = 2.0 * (per_event**2) * (n - 1) / n**2
    equivalent = (1.0 - 1.0 / n) / mse if mse > 0 else float("inf")
    return AmplificationPoint(name, events, mse, float(np.sqrt(max(linear - quadratic, quadratic))), equivalent)


def _fractions(sample: np.ndarray, inner: np.ndarray) -> np.ndarray:
    counts = np.bincount(np.searchsorted(inner, sample, side="right"), minlength=len(inner) + 1)
    return counts / len(sample)


def _checked(x: ArrayLike, name: str) -> np.ndarray:
    array = np.asarray(x, dtype=np.float64).ravel()
    if not len(array) or not np.isfinite(array).all():
        raise UserError(f"sample {name!r} is empty or has values that are not finite: amplification needs numbers")
    return array
