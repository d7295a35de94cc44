"""Energy closure: total and layer energies against the incident energy; and a few single showers to look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cathode.support.seeding import numpy_generator
from fastsim.data import Showers
from fastsim.evaluation.energies import energy_groups

__all__ = ["ExampleShower", "LayerResponse", "Response", "Spread", "example_showers", "response"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Spread:
    """Mean and width of a distribution.

    Attributes:
        mean, mean_error: Arithmetic mean and its standard error.
        width, width_error: Standard deviation and its standard error, from the fourth moment.
    """

    mean: float
    mean_error: float
    width: float
    width_error: float


@dataclass(frozen=True)
class LayerResponse:
    """Mean energy of one layer over the incident energy.

    Attributes:
        layer: Id of the layer.
        reference, generated: Mean and width of E_layer / E_inc.
        reference_empty, generated_empty: Fraction of showers that leave nothing in the layer.
    """

    layer: int
    reference: Spread
    generated: Spread
    reference_empty: float
    generated_empty: float


@dataclass(frozen=True)
class Response:
    """Closure at one incident energy or in one interval.

    Attributes:
        energy, low, high: Incident energy in MeV, see :class:`~fastsim.evaluation.energies.EnergyGroup`.
        showers: Number of reference and generated showers.
        reference, generated: Mean and width of E_tot / E_inc.
        layers: The same of each layer's energy.
    """

    energy: float
    low: float
    high: float
    showers: tuple[int, int]
    reference: Spread
    generated: Spread
    layers: tuple[LayerResponse, ...]

    @property
    def mean_ratio(self) -> tuple[float, float]:
        """Generated over reference mean of E_tot / E_inc, with its error."""
        return _ratio(self.generated.mean, self.generated.mean_error, self.reference.mean, self.reference.mean_error)

    @property
    def width_ratio(self) -> tuple[float, float]:
        """Generated over reference width of E_tot / E_inc, with its error."""
        return _ratio(
            self.generated.width, self.generated.width_error, self.reference.width, self.reference.width_error
        )


@dataclass(frozen=True)
class ExampleShower:
    """One shower, as its voxels that are not zero.

    Attributes:
        sample: ``reference`` or ``generated``.
        incident_energy: MeV.
        voxels: Numbers of the voxels ``(n,)``.
        energies: MeV ``(n,)``.
    """

    sample: str
    incident_energy: float
    voxels: NDArray[np.int64]
    energies: Array


def response(reference: Showers, generated: Showers) -> tuple[Response, ...]:
    """Closure of total and layer energies; groups with fewer than two showers of either sample are left out."""
    fractions = [
        s.layer_energies().astype(np.float64) / s.incident_energy.astype(np.float64) for s in (reference, generated)
    ]
    result = []
    for group in energy_groups(reference.incident_energy):
        rows = [group.rows(s.incident_energy) for s in (reference, generated)]
        if min(map(len, rows)) < 2:
            continue
        parts = [f[r] for f, r in zip(fractions, rows, strict=True)]
        totals = [spread(p.sum(axis=1)) for p in parts]
        layers = tuple(
            LayerResponse(
                identifier,
                spread(parts[0][:, k]),
                spread(parts[1][:, k]),
                float((parts[0][:, k] == 0).mean()),
                float((parts[1][:, k] == 0).mean()),
            )
            for k, identifier in enumerate(reference.geometry.layer_ids)
        )
        result.append(
            Response(group.energy, group.low, group.high, (len(rows[0]), len(rows[1])), totals[0], totals[1], layers)
        )
    return tuple(result)


def spread(values: Array) -> Spread:
    """Mean and standard deviation of ``(N,)`` values with their standard errors."""
    n = len(values)
    mean, width = float(values.mean()), float(values.std(ddof=1))
    if width == 0.0:
        return Spread(mean, 0.0, 0.0, 0.0)
    fourth = float(np.mean(((values - mean) / width) ** 4))
    # Var(s^2) = sigma^4 (kurtosis - (n - 3)/(n - 1)) / n, and s has half the relative error of s^2.
    width_error = 0.5 * width * np.sqrt(max(fourth - (n - 3) / (n - 1), 0.0) / n)
    return Spread(mean, width / np.sqrt(n), width, float(width_error))


def example_showers(
    reference: Showers, generated: Showers, *, seed: int, quantiles: Sequence[float] = (0.15, 0.5, 0.85)
) -> tuple[tuple[ExampleShower, ExampleShower], ...]:
    """Random pairs of a reference and a generated shower of nearly the same incident energy.

    Args:
        reference: To draw from.
        generated: To draw from.
        seed: Of the draw: nobody picks showers that look well.
        quantiles: Of the incident energy.
    """
    generator = numpy_generator(seed, "evaluation", "examples")
    pairs = []
    for quantile in quantiles:
        energy = float(np.quantile(reference.incident_energy, quantile, method="nearest"))
        pair = []
        for name, showers in (("reference", reference), ("generated", generated)):
            values = showers.incident_energy[:, 0].astype(np.float64)
            near = np.flatnonzero(np.abs(values / energy - 1.0) < 0.02)
            candidates = near if len(near) else np.argsort(np.abs(values - energy))[:1]
            row = int(generator.choice(candidates))
            voxels = np.flatnonzero(showers.energies[row] > 0)
            pair.append(ExampleShower(name, values[row], voxels, showers.energies[row, voxels].astype(np.float64)))
        pairs.append((pair[0], pair[1]))
    return tuple(pairs)


def _ratio(a: float, a_error: float, b: float, b_error: float) -> tuple[float, float]:
    if b == 0.0 or a == 0.0:
        return (a / b if b else float("nan")), float("nan")
    return a / b, abs(a / b) * float(np.hypot(a_error / a, b_error / b))
