"""Rare topologies: how often has a shower more than one core?

Photons that convert early, bremsstrahlung and hadronic interactions make showers with two separated maxima; a generator
that learned the average draws too few of them.  In each layer, energy is summed in discs around every voxel.  A layer
has two cores if, besides its best disc, another one that does not touch it holds a given share of the layer's energy
and is the best of all discs that it touches.  In depth, a second maximum must rise above the valley before it by a
share of the first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cathode.comparison.estimate import Estimate
from cathode.support.errors import UserError
from fastsim.evaluation.moments import LayerMoments, has_transverse_plane, layer_moments

if TYPE_CHECKING:
    from fastsim.data import Showers

__all__ = ["MultiPeakRate", "multi_peak_rates"]

# Layers that a longitudinal profile needs before two maxima in it mean something.
_LEAST_LAYERS = 8
# Discs beside the best one that are looked at; those on its slope are passed over.
_TRIES = 12
_ROWS = 2000


@dataclass(frozen=True)
class MultiPeakRate:
    """How often showers of either sample have two separated maxima.

    Attributes:
        name: ``layer_ID``, ``any_layer`` or ``depth``.
        layer: Id of the layer, if it is about one.
        radius_mm: Radius of the discs; 0 where there are none.
        reference, generated: Fraction of showers; ``expected`` of the latter is the former.
    """

    name: str
    layer: int | None
    radius_mm: float
    reference: Estimate
    generated: Estimate

    @property
    def pull(self) -> float:
        """Difference of the fractions in standard errors."""
        return (self.generated.value - self.reference.value) / float(
            np.hypot(self.generated.error, self.reference.error)
        )


def multi_peak_rates(
    reference: Showers,
    generated: Showers,
    *,
    threshold: float = 0.0,
    share: float = 0.15,
    least_layer_share: float = 0.05,
    max_layers: int = 12,
    max_events: int = 10_000,
) -> tuple[MultiPeakRate, ...]:
    """Rates of layers with two cores, of showers with any such layer, and of two maxima in depth.

    The discs' radius is half the median root-mean-square radius of the reference's showers in that layer, at least
    the distance of neighbouring voxels in its core.

    Args:
        reference: Showers of the full simulation.
        generated: Showers to compare with them.
        threshold: Voxels below it [MeV] count as empty.
        share: Least share of the layer's energy in the second disc, and least rise in depth over the first maximum.
        least_layer_share: Layers with less of the shower's energy have no cores.
        max_layers: Look only at the layers with most energy.
        max_events: First showers of each sample to use; 0 for all.

    Raises:
        UserError: Shares that are not between 0 and 1.
    """
    if not (0 < share < 1 and 0 <= least_layer_share < 1):
        raise UserError(f"shares must be between 0 and 1, got {share} and {least_layer_share}")
    geometry = reference.geometry
    samples = [s[: max_events or len(s)].cut(threshold) for s in (reference, generated)]
    moments = [layer_moments(s) for s in samples]
    plane = np.flatnonzero(has_transverse_plane(geometry))
    mean = moments[0].energy.mean(axis=0)
    chosen = np.sort(plane[np.argsort(-mean[plane], kind="stable")][:max_layers])
    result = []
    any_layer = [np.zeros(len(s), dtype=bool) for s in samples]
    for index in chosen:
        part = geometry.slices[index]
        x, y = geometry.x[part], geometry.y[part]
        distance = np.hypot(x[:, None] - x, y[:, None] - y)
        radius = _radius(moments[0].energy[:, index], _spread(moments[0], int(index)), distance)
        two = []
        for k, (s, m) in enumerate(zip(samples, moments, strict=True)):
            relevant = m.energy[:, index] > least_layer_share * m.energy.sum(axis=1)
            found = relevant & _two_cores(s.energies[:, part], distance, radius, share)
            any_layer[k] |= found
            two.append(found)
        identifier = geometry.layer_ids[index]
        result.append(_rate(f"layer_{identifier}", identifier, radius, two))
    if len(chosen):
        result.append(_rate("any_layer", None, 0.0, any_layer))
    if geometry.n_layers >= _LEAST_LAYERS:
        result.append(_rate("depth", None, 0.0, [_two_in_depth(m.energy, share) for m in moments]))
    return tuple(result)


def _two_cores(energies: NDArray[np.float32], distance: np.ndarray, radius: float, share: float) -> NDArray[np.bool_]:
    """Which showers ``(N,)`` have two separated discs, in a layer with voxels ``(N, n)``."""
    disc = (distance <= radius).astype(np.float32)
    touching = distance <= 2.0 * radius
    found = np.zeros(len(energies), dtype=bool)
    for start in range(0, len(energies), _ROWS):
        block = energies[start : start + _ROWS]
        sums = block @ disc
        needed = np.float32(share) * block.sum(axis=1)
        rows = np.flatnonzero(needed > 0)
        free = ~touching[sums[rows].argmax(axis=1)]
        for _ in range(_TRIES):
            allowed = np.where(free, sums[rows], np.float32(-1.0))
            second = allowed.argmax(axis=1)
            value = allowed[np.arange(len(rows)), second]
            enough = value >= needed[rows]
            rows, free, second, value = rows[enough], free[enough], second[enough], value[enough]
            if not len(rows):
                break
            near = touching[second]
            best = np.where(near, sums[rows], np.float32(-1.0)).max(axis=1)
            # Float32 sums of the same voxels in one order are equal, so a maximum equals itself.
            peak = value >= best
            found[start + rows[peak]] = True
            rows, free = rows[~peak], free[~peak] & ~near[~peak]
    return found


def _two_in_depth(energy: NDArray[np.float64], share: float) -> NDArray[np.bool_]:
    """Which longitudinal profiles ``(N, L)`` rise again after a valley, by ``share`` of their maximum.

    A running mean over about an eighth of the layers takes out sampling fluctuations.
    """
    width = energy.shape[1] // _LEAST_LAYERS
    total = np.cumsum(np.pad(energy, ((0, 0), (1, 0))), axis=1)
    energy = (total[:, width:] - total[:, :-width]) / width
    rows = np.arange(len(energy))
    top = energy.argmax(axis=1)
    layers = np.arange(energy.shape[1])
    rises = np.zeros(len(energy))
    for before in (False, True):
        behind = layers <= top[:, None] if before else layers >= top[:, None]
        profile = np.where(behind, energy, np.inf)
        profile = profile[:, ::-1] if before else profile
        valley = np.minimum.accumulate(profile, axis=1)
        rise = np.zeros_like(energy)
        np.subtract(profile, valley, out=rise, where=np.isfinite(profile))
        rises = np.maximum(rises, rise.max(axis=1))
    height = energy[rows, top]
    return (height > 0) & (rises >= share * height)


def _spread(moments: LayerMoments, index: int) -> np.ndarray:
    """Root-mean-square distance [mm] of the energy from its centre."""
    energy = np.maximum(moments.energy[:, index], 1e-16)
    squares = sum(
        two[:, index] / energy - (one[:, index] / energy) ** 2
        for one, two in ((moments.x, moments.xx), (moments.y, moments.yy))
    )
    return np.sqrt(np.clip(squares, 0.0, None))


def _radius(energy: np.ndarray, spread: np.ndarray, distance: np.ndarray) -> float:
    filled = energy > 0
    typical = float(np.median(spread[filled])) if filled.any() else 0.0
    nearest = np.where(distance > 0, distance, np.inf).min(axis=1)
    return max(0.5 * typical, 1.01 * float(nearest.min()))


def _rate(name: str, layer: int | None, radius: float, found: list[NDArray[np.bool_]]) -> MultiPeakRate:
    values = []
    for flags in found:
        n, k = len(flags), int(flags.sum())
        # Agresti and Coull: an error that is not zero when nothing was found.
        near = (k + 1.0) / (n + 2.0)
        values.append((k / n, float(np.sqrt(near * (1.0 - near) / (n + 2.0)))))
    return MultiPeakRate(
        name,
        layer,
        radius,
        Estimate(*values[0], float("nan")),
        Estimate(*values[1], values[0][0]),
    )
