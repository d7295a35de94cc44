"""Fit the simulator to showers of a file, so that the classical baseline is a fair one.

GFlash is tuned to a detector before it is used.  Here the layer boundaries (or one scale for them), the depth of the
maximum and its energy dependence, α, the mean conversion depth of photons, the sampling fluctuation, the size of the
longitudinal fluctuations, the core and tail of the radial profile, the number of spots and one common response are
fitted, by moments: the means of layer energies against the quadrature of :mod:`fastsim.data.gflash.expected`, all else
against simulated showers with common random numbers.  Corrections of the published constants are held near one by
Gaussian priors, so that a file with few layers does not bend them at will.

Give it training rows only: what is fitted here must not have seen the showers that a generator is judged with.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares, minimize_scalar

from cathode.support.errors import UserError
from fastsim.data.gflash.beam import Beam
from fastsim.data.gflash.calorimeter import Calorimeter
from fastsim.data.gflash.cascade import Particle, check_particle
from fastsim.data.gflash.expected import expected_layer_energies
from fastsim.data.gflash.presets import calorimeter_for
from fastsim.data.gflash.simulator import simulate
from fastsim.data.gflash.summaries import Summary, energy_bins, summarise
from fastsim.data.showers import Showers

__all__ = ["Calibration", "Deviations", "calibrate"]

logger = logging.getLogger(__name__)

Array = npt.NDArray[np.float64]
Edges = Literal["auto", "free", "scaled", "fixed"]

# Widths of the priors on the corrections, in their own units.
_PRIORS = {"t_max_shift": 0.7, "t_max_slope": 0.15, "alpha_scale": 0.2, "conversion_scale": 0.15}
# Of the logarithm of a layer's thickness: the last layers hold so little that they cannot tell it from α.
_THICKNESS_PRIOR = 0.3
# Of the logarithms of core_scale and tail_scale, and of core_weight.
_RADIAL_PRIORS = (0.5, 0.5, 1.0)
# Relative accuracy that is asked of layer energies, and an absolute one in units of the incident energy.
_RELATIVE, _ABSOLUTE = 0.01, 0.0005
# A layer with less than this share of the energy says nothing about widths and radii.
_SMALL_LAYER = 0.005


@dataclass(frozen=True)
class Deviations:
    """Simulated against given showers: root mean squares over energies and layers, without unit."""

    layer_mean: float
    """Of the difference of mean E_layer / E_inc."""
    layer_width: float
    """Of the logarithm of the ratio of widths of E_layer / E_inc."""
    total_width: float
    """The same of E_total / E_inc."""
    radial: float
    """Of the difference of the fractions of energy in groups of radii."""
    occupancy: float
    """Of the logarithm of the ratio of the numbers of voxels with energy."""


@dataclass(frozen=True)
class Calibration:
    """A fitted calorimeter, and how far it is from the showers before and after."""

    calorimeter: Calorimeter
    before: Deviations
    after: Deviations
    showers: int
    """Number of showers it was fitted to."""


def calibrate(
    showers: Showers,
    *,
    seed: int,
    particle: str | None = None,
    material: Calorimeter | str | None = None,
    threshold: float = 0.0,
    edges: Edges = "auto",
    most: int = 3000,
    rounds: int = 2,
) -> Calibration:
    """Fit a calorimeter to training showers.

    Args:
        showers: Training showers (with their threshold applied).
        seed: Seed of the simulated showers.
        particle: ``"photon"`` or ``"electron"``; default: the geometry's.
        material: Start of the fit; see :func:`fastsim.data.gflash.calorimeter_for`.
        threshold: Threshold [MeV] of ``showers``, applied to the simulated ones.
        edges: Fit each layer boundary (``free``), one factor for all (``scaled``) or none (``fixed``); ``auto`` is free
            up to 8 layers and scaled beyond.
        most: At most so many showers are used, the first ones.
        rounds: Rounds of longitudinal, fluctuation and radial fits.

    Raises:
        UserError: Fewer than 100 showers, or a material that does not fit.
    """
    if len(showers) < 100:
        raise UserError(f"a calibration needs at least 100 showers, got {len(showers)}")
    calorimeter = calorimeter_for(showers.geometry, material)
    kind = check_particle(particle or showers.geometry.particle or "")
    if edges == "auto":
        edges = "free" if 1 < calorimeter.n_layers <= 8 else "scaled" if calorimeter.n_layers > 1 else "fixed"
    fit = _Fit(showers[:most], calorimeter, kind, seed, threshold)
    before = fit.deviations(calorimeter)
    for index in range(rounds):
        calorimeter = fit.longitudinal(calorimeter, edges)
        calorimeter = fit.sampling(calorimeter)
        calorimeter = fit.fluctuations(calorimeter)
        calorimeter = fit.radial(calorimeter)
        calorimeter = fit.spots(calorimeter)
        calorimeter = fit.response(calorimeter)
        calorimeter = fit.sampling(calorimeter)
        logger.info("calibration round %d: %s", index + 1, fit.deviations(calorimeter))
    return Calibration(calorimeter, before, fit.deviations(calorimeter), len(fit.showers))


class _Fit:
    """The showers to fit to, and one step for each group of parameters."""

    def __init__(self, showers: Showers, start: Calorimeter, particle: Particle, seed: int, threshold: float) -> None:
        self.showers = showers
        self.thickness = np.diff(start.layer_edges)
        self.particle = particle
        self.seed = seed
        self.threshold = threshold
        self.beam = Beam.of(showers)
        self.energy = showers.incident_energy[:, 0].astype(float)
        self.bins = energy_bins(self.energy)
        self.data = self.summary(showers)
        self.heavy = self.data.layer_mean > _SMALL_LAYER

    def summary(self, showers: Showers) -> Summary:
        return summarise(showers, self.bins[: len(showers)], None if self.beam is None else self.beam.position)

    def simulated(self, calorimeter: Calorimeter) -> Summary:
        """The same showers simulated, always with the same random numbers."""
        return self.summary(
            simulate(
                self.showers.geometry, self.energy, seed=self.seed, particle=self.particle, material=calorimeter,
                threshold=self.threshold, beam=self.beam, show=False,
            )
        )  # fmt: skip

    def deviations(self, calorimeter: Calorimeter) -> Deviations:
        simulated, data, heavy = self.simulated(calorimeter), self.data, self.heavy
        return Deviations(
            layer_mean=_rms(simulated.layer_mean - data.layer_mean),
            layer_width=_rms(_log_ratio(simulated.layer_width, data.layer_width)[heavy]),
            total_width=_rms(_log_ratio(simulated.total_width, data.total_width)),
            radial=_rms((simulated.radial - data.radial)[heavy]),
            occupancy=_rms(_log_ratio(simulated.occupancy, data.occupancy)),
        )

    def longitudinal(self, calorimeter: Calorimeter, edges: Edges) -> Calorimeter:
        """Means of the layers: boundaries, T, α, conversion depth."""
        if calorimeter.n_layers == 1:
            return calorimeter
        energies = np.array([self.energy[self.bins == index].mean() for index in range(int(self.bins.max()) + 1)])

        def expected(candidate: Calorimeter) -> Array:
            return expected_layer_energies(candidate, energies, self.particle, nodes=5) / energies[:, None]

        # Thresholds and transverse losses, and the width of the energy bins, act as factors on the means.
        start = expected(calorimeter)
        factor = np.clip(self.simulated(calorimeter).layer_mean / np.maximum(start, 1e-9), 0.05, 2.0)
        counts = np.bincount(self.bins)[:, None]
        error = np.hypot(self.data.layer_width / np.sqrt(counts), _RELATIVE * self.data.layer_mean) + _ABSOLUTE
        names = [name for name in _PRIORS if name != "conversion_scale" or self.particle == "photon"]
        extra = {"free": len(self.thickness), "scaled": 1}.get(edges, 0)

        def build(values: Array) -> Calorimeter:
            tuning = replace(calorimeter.tuning, **dict(zip(names, values.tolist(), strict=False)))
            rest = np.exp(values[len(names) :])
            scaled = self.thickness * (rest if extra else 1.0)
            depths = calorimeter.layer_edges[0] + np.concatenate([[0.0], np.cumsum(scaled)])
            return replace(calorimeter, tuning=tuning, layer_edges=tuple(depths.tolist()))

        neutral = np.array([0.0 if name.startswith("t_max") else 1.0 for name in names])
        prior = np.array([_PRIORS[name] for name in names])

        def residuals(values: Array) -> Array:
            difference = (factor * expected(build(values)) - self.data.layer_mean) / error
            return np.concatenate(
                [difference.ravel(), (values[: len(names)] - neutral) / prior, values[len(names) :] / _THICKNESS_PRIOR]
            )

        logarithm = np.log(np.diff(calorimeter.layer_edges) / self.thickness)
        first = np.concatenate([[getattr(calorimeter.tuning, name) for name in names], logarithm[:extra]])
        bounds = np.array(
            [[0.3, 3.0] if name.endswith("scale") else [-3.0, 3.0] for name in names] + [[-2.0, 2.0]] * extra
        )
        result = least_squares(residuals, first, bounds=bounds.T, diff_step=1e-3, loss="soft_l1", max_nfev=25)
        return build(result.x)

    def fluctuations(self, calorimeter: Calorimeter) -> Calorimeter:
        """Widths of the layers: longitudinal fluctuations."""
        if calorimeter.n_layers == 1:
            return calorimeter

        def cost(candidate: Calorimeter) -> float:
            simulated = self.simulated(candidate)
            return _rms(_log_ratio(simulated.layer_width, self.data.layer_width)[self.heavy])

        return _search(calorimeter, "fluctuation_scale", cost)

    def sampling(self, calorimeter: Calorimeter) -> Calorimeter:
        """Width of the total: sampling fluctuation."""
        if not calorimeter.sampling_fluctuation:
            return calorimeter
        ratio = np.median(self.data.total_width / np.maximum(self.simulated(calorimeter).total_width, 1e-9))
        c = calorimeter.sampling_fluctuation * float(np.clip(ratio, 0.3, 3.0))
        # The number of spots is defined relative to c; it stays.
        scale = calorimeter.tuning.spot_scale * c / calorimeter.sampling_fluctuation
        return replace(calorimeter, sampling_fluctuation=c, tuning=replace(calorimeter.tuning, spot_scale=scale))

    def radial(self, calorimeter: Calorimeter) -> Calorimeter:
        """Radial fractions: radii of core and tail, weight of the core."""
        if self.beam is not None:
            # The axis moves from shower to shower, so voxels have no radius; the number of hit voxels is what is left.
            return _search(calorimeter, "core_scale", self._occupancy_cost)
        share = np.sqrt(self.data.layer_mean / self.data.layer_mean.sum(1, keepdims=True))

        def build(values: Array) -> Calorimeter:
            core, tail, weight = (values - 1).tolist()
            tuning = replace(
                calorimeter.tuning, core_scale=float(np.exp(core)), tail_scale=float(np.exp(tail)), core_weight=weight
            )
            return replace(calorimeter, tuning=tuning)

        def residuals(values: Array) -> Array:
            difference = (self.simulated(build(values)).radial - self.data.radial) / np.sqrt(self.data.radial + 0.001)
            return np.concatenate(
                [(difference * share[:, :, None])[self.heavy].ravel() / 0.01, (values - 1) / _RADIAL_PRIORS]
            )

        tuning = calorimeter.tuning
        # Shifted by one, as the steps of the numerical derivatives are relative to the values.
        first = 1 + np.array([np.log(tuning.core_scale), np.log(tuning.tail_scale), tuning.core_weight])
        bounds = (first * 0 - 1.0, first * 0 + 3.0)
        return build(least_squares(residuals, np.clip(first, -0.9, 2.9), bounds=bounds, diff_step=0.05, max_nfev=6).x)

    def spots(self, calorimeter: Calorimeter) -> Calorimeter:
        """Number of hit voxels: number of spots."""
        return _search(calorimeter, "spot_scale", self._occupancy_cost, low=0.1, high=10.0)

    def response(self, calorimeter: Calorimeter) -> Calorimeter:
        """Mean total energy: one factor on all layers."""
        ratio = float(np.mean(self.data.total_mean / np.maximum(self.simulated(calorimeter).total_mean, 1e-9)))
        return replace(calorimeter, response=tuple((calorimeter.responses * ratio).tolist()))

    def _occupancy_cost(self, candidate: Calorimeter) -> float:
        return _rms(_log_ratio(self.simulated(candidate).occupancy, self.data.occupancy))


def _search(
    calorimeter: Calorimeter, name: str, cost: Callable[[Calorimeter], float], *, low: float = 0.4, high: float = 2.5
) -> Calorimeter:
    """The value of one tuning factor, between ``low`` and ``high``, at which ``cost`` is least."""

    def build(log_value: float) -> Calorimeter:
        return replace(calorimeter, tuning=replace(calorimeter.tuning, **{name: float(np.exp(log_value))}))

    result = minimize_scalar(
        lambda value: cost(build(value)), bounds=(np.log(low), np.log(high)), method="bounded",
        options={"xatol": 0.03, "maxiter": 10},
    )  # fmt: skip
    return build(float(result.x))


def _log_ratio(first: Array, second: Array) -> Array:
    return np.log(np.maximum(first, 1e-9) / np.maximum(second, 1e-9))


def _rms(values: Array) -> float:
    return float(np.sqrt(np.mean(np.square(values)))) if values.size else 0.0
