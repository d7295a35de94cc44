"""The simulator: cascades, energy spots, voxels.

For every shower the depth is walked through in steps.  The energy of a step is that of the longitudinal profile, drawn
from a gamma distribution of relative width c/√E in sampling media; it is carried by a Poisson number of spots of equal
energy, which are placed by the radial profile at the step's depth and at random azimuth.  The number of spots makes the
fluctuations of the radial profile (Grindhammer and Peters, hep-ex/0001020, sections 3.3 and 4.3).

Deviation: a step whose Poisson number is 0 gets one spot, so that energy is conserved.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

import numpy as np
import numpy.typing as npt

from cathode.support.errors import UserError
from cathode.support.progress import progress
from fastsim.data.gflash.beam import CONDITION_NAMES, Beam
from fastsim.data.gflash.calorimeter import Calorimeter
from fastsim.data.gflash.cascade import CONVERSION_X0, Cascades, Particle, check_particle, pair_fraction, spot_number
from fastsim.data.gflash.presets import calorimeter_for
from fastsim.data.gflash.radial import radial_profile
from fastsim.data.gflash.streams import ShowerStreams
from fastsim.data.gflash.voxels import VoxelMap
from fastsim.data.showers import Showers
from fastsim.geometry import Geometry

__all__ = ["STEP_X0", "simulate", "simulate_chunks", "steps_of"]

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

#: Longest step [X0].
STEP_X0 = 0.5

_SPOTS_PER_CHUNK = 1_000_000
_VOXELS_PER_CHUNK = 5_000_000
_STEPS_PER_CHUNK = 400_000


def steps_of(calorimeter: Calorimeter, *, longest: float = STEP_X0) -> tuple[Array, Ints]:
    """Depths [X0] of the S + 1 step edges, which include all layer edges, and the layer of each step (S,)."""
    edges, layers = [np.array(calorimeter.layer_edges[:1])], []
    for layer, (low, high) in enumerate(zip(calorimeter.layer_edges[:-1], calorimeter.layer_edges[1:], strict=True)):
        count = max(int(np.ceil((high - low) / longest - 1e-9)), 1)
        edges.append(np.linspace(low, high, count + 1)[1:])
        layers += [layer] * count
    return np.concatenate(edges), np.array(layers, dtype=np.int64)


def simulate(
    geometry: Geometry,
    incident_energy: npt.ArrayLike,
    *,
    seed: int,
    particle: str | None = None,
    material: Calorimeter | str | None = None,
    threshold: float = 0.0,
    beam: Beam | None = None,
    first: int = 0,
    show: bool = True,
) -> Showers:
    """Simulate one shower per incident energy.

    Args:
        geometry: Where the energy is read out.
        incident_energy: Energies [MeV], (N,) or (N, 1).
        seed: Seed; the n-th shower depends on it, on ``first`` + n, and on its own energy and direction only.
        particle: ``"photon"`` or ``"electron"``; default: the geometry's.
        material: A calorimeter, the name of a preset, or None for the preset that fits the geometry.
        threshold: Voxels below this [MeV] are set to 0.
        beam: Impact points and directions; default: along the axis.
        first: Number of the first shower, to continue a sample.
        show: Show a progress bar on a terminal.

    Raises:
        UserError: Energies that are not positive, an unknown particle or material, or layers that do not fit.
    """
    parts = list(
        simulate_chunks(
            geometry, incident_energy, seed=seed, particle=particle, material=material, threshold=threshold,
            beam=beam, first=first, show=show,
        )
    )  # fmt: skip
    return Showers.concatenate(parts) if len(parts) > 1 else parts[0]


def simulate_chunks(
    geometry: Geometry,
    incident_energy: npt.ArrayLike,
    *,
    seed: int,
    particle: str | None = None,
    material: Calorimeter | str | None = None,
    threshold: float = 0.0,
    beam: Beam | None = None,
    first: int = 0,
    show: bool = True,
) -> Iterator[Showers]:
    """The showers of :func:`simulate` in consecutive chunks that fit into some 100 MB."""
    energy = np.asarray(incident_energy, dtype=float).reshape(-1)
    if not len(energy) or not np.isfinite(energy).all() or (energy <= 0).any():
        raise UserError("incident energies must be positive, finite numbers in MeV, at least one")
    if first < 0 or seed < 0:
        raise UserError(f"the seed and the number of the first shower must not be negative, got {seed} and {first}")
    kind = check_particle(particle or geometry.particle or "")
    calorimeter = calorimeter_for(geometry, material)
    if calorimeter.n_layers != geometry.n_layers:
        raise UserError(
            f"calorimeter {calorimeter.name!r} has {calorimeter.n_layers} layers but geometry {geometry.name!r} has "
            f"{geometry.n_layers}: give a material with one depth interval per layer"
        )
    if beam is not None and len(beam.position) != len(energy):
        raise UserError(f"{len(energy)} incident energies but {len(beam.position)} impact points")
    return _chunks(_Run(geometry, calorimeter, kind, seed, threshold), energy, beam, first, show)


def _chunks(run: _Run, energy: Array, beam: Beam | None, first: int, show: bool) -> Iterator[Showers]:
    steps = len(run.step_layers) * run.cascades
    spots = spot_number(run.calorimeter, energy) * 1.1 + steps
    limit = max(1, min(_VOXELS_PER_CHUNK // run.geometry.n_voxels, _STEPS_PER_CHUNK // steps))
    with progress(description="simulate", total=len(energy), unit="shower") if show else nullcontext() as bar:
        start = 0
        while start < len(energy):
            within = int(np.searchsorted(np.cumsum(spots[start : start + limit]), _SPOTS_PER_CHUNK))
            stop = start + min(max(within, 1), limit, len(energy) - start)
            rows = slice(start, stop)
            yield run.chunk(energy[rows], None if beam is None else beam.rows(rows), first + start)
            if bar is not None:
                bar.update(stop - start)
            start = stop


class _Run:
    """All that chunks share."""

    def __init__(
        self, geometry: Geometry, calorimeter: Calorimeter, particle: Particle, seed: int, threshold: float
    ) -> None:
        self.geometry = geometry
        self.calorimeter = calorimeter
        self.particle = particle
        self.threshold = threshold
        self.step_edges, self.step_layers = steps_of(calorimeter)
        self.streams = ShowerStreams(seed)
        self.voxels = VoxelMap(geometry)

    @property
    def cascades(self) -> int:
        """Cascades per shower."""
        return 2 if self.particle == "photon" else 1

    def chunk(self, energy: Array, beam: Beam | None, first: int) -> Showers:
        """Showers ``first``, ``first`` + 1, ... of ``energy`` (B,)."""
        edges = self.step_edges if beam is None else self._slanted()
        cascades = self._cascades(energy, first)
        deposits, counts = self._deposits(cascades, edges, len(energy), first)
        uniform = self._uniform(counts.reshape(len(energy), -1).sum(1), 2 if beam is None else 3, first)
        flat_counts = counts.ravel()
        # Energy per spot, and the profile, are one number per (cascade, step).
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.where(flat_counts > 0, deposits.ravel() / flat_counts, 0.0)
        tau = cascades.tau((edges[1:] + edges[:-1]) / 2)
        profile = radial_profile(self.calorimeter.medium, cascades.energy_mev[:, None], tau, self.calorimeter.tuning)
        index = np.repeat(np.arange(len(flat_counts)), flat_counts)
        radius = profile.at(index).sample(uniform[0]) * self.calorimeter.medium.moliere_mm
        row, step = index // (counts.shape[1] * self.cascades), index % counts.shape[1]
        weight = share[index]
        if beam is None:
            layer = self.step_layers[step]
            voxel = self.voxels.around_axis(layer, radius, uniform[1])
        else:
            layer, voxel = self._pointed(beam, row, edges[step] + uniform[2] * np.diff(edges)[step], radius, uniform[1])
        weight = weight * self.calorimeter.responses[layer]
        kept = voxel >= 0
        flat = np.bincount(
            row[kept] * self.geometry.n_voxels + voxel[kept], weight[kept], len(energy) * self.geometry.n_voxels
        )
        energies = flat.astype(np.float32).reshape(len(energy), self.geometry.n_voxels)
        energies[energies < np.float32(self.threshold)] = 0
        conditions = None if beam is None else beam.conditions(energy)
        names = () if beam is None else CONDITION_NAMES
        return Showers.unchecked(energy.astype(np.float32)[:, None], energies, self.geometry, conditions, names)

    def _cascades(self, energy: Array, first: int) -> Cascades:
        """Cascades of all showers, shower by shower."""
        normals, uniform = np.empty((len(energy), 2 * self.cascades)), np.empty((len(energy), 3))
        for row in range(len(energy)):
            generator = self.streams.at(first + row, 0)
            normals[row] = generator.standard_normal(2 * self.cascades)
            uniform[row] = generator.random(3)
        if self.particle == "electron":
            return Cascades.draw(self.calorimeter, energy, np.zeros(len(energy)), normals)
        depth = -np.log1p(-uniform[:, 0]) * CONVERSION_X0 * self.calorimeter.tuning.conversion_scale
        part = pair_fraction(uniform[:, 1], uniform[:, 2])
        halves = np.stack([part, 1 - part], axis=1) * energy[:, None]
        return Cascades.draw(self.calorimeter, halves.ravel(), np.repeat(depth, 2), normals.reshape(-1, 2))

    def _deposits(self, cascades: Cascades, edges: Array, showers: int, first: int) -> tuple[Array, Ints]:
        """Energy [MeV] and number of spots of each cascade's steps, both (B x cascades, S)."""
        calorimeter = self.calorimeter
        mean = cascades.energy_fractions(edges) * cascades.energy_mev[:, None]
        spots = cascades.spot_fractions(edges) * spot_number(calorimeter, cascades.energy_mev)[:, None]
        mean, spots = mean.reshape(showers, -1), spots.reshape(showers, -1)
        # A gamma distribution of mean E and variance c² E (in GeV) has the scale c² GeV, and its sums have it too: the
        # fluctuation of the whole does not depend on the steps.
        scale = 1000.0 * calorimeter.sampling_fluctuation**2
        common = calorimeter.constant_fluctuation**2
        counts = np.empty(spots.shape, dtype=np.int64)
        deposits = mean.copy()
        for row in range(showers):
            generator = self.streams.at(first + row, 1)
            if scale:
                deposits[row] = generator.standard_gamma(mean[row] / scale) * scale
            counts[row] = generator.poisson(spots[row])
            if common:
                deposits[row] *= generator.standard_gamma(1 / common) * common
        counts = np.where(deposits > 0, np.maximum(counts, 1), 0)
        shape = (showers * self.cascades, -1)
        return deposits.reshape(shape), counts.reshape(shape)

    def _uniform(self, numbers: Ints, columns: int, first: int) -> Array:
        """Uniform numbers of all spots, (columns, spots), from each shower's own stream."""
        stops = np.cumsum(numbers)
        uniform = np.empty((columns, int(stops[-1])))
        for row, (stop, number) in enumerate(zip(stops.tolist(), numbers.tolist(), strict=True)):
            uniform[:, stop - number : stop] = self.streams.at(first + row, 2).random((columns, number))
        return uniform

    def _slanted(self) -> Array:
        """Step edges along inclined axes, up to the longest path, which is at 60 degrees (see :class:`Beam`)."""
        depth = 2 * self.calorimeter.layer_edges[-1]
        return np.linspace(0.0, depth, int(np.ceil(depth / STEP_X0)) + 1)

    def _pointed(self, beam: Beam, row: Ints, path: Array, radius: Array, turn: Array) -> tuple[Ints, Ints]:
        """Layer and voxel of spots at ``path`` [X0] along and ``radius`` [mm] from inclined axes."""
        first, second = beam.frames()
        x0 = self.calorimeter.medium.x0_mm
        cosine, sine = np.cos(2 * np.pi * turn) * radius, np.sin(2 * np.pi * turn) * radius
        along = path * x0
        x, y, z = (
            beam.direction[row, axis] * along + first[row, axis] * cosine + second[row, axis] * sine
            for axis in range(3)
        )
        edges = np.asarray(self.calorimeter.layer_edges) * x0
        layer = np.searchsorted(edges, z, side="right") - 1
        inside = (layer >= 0) & (layer < self.calorimeter.n_layers)
        layer = np.clip(layer, 0, self.calorimeter.n_layers - 1)
        voxel = self.voxels.at(layer, x + beam.position[row, 0], y + beam.position[row, 1])
        return layer, np.where(inside, voxel, -1)
