"""What a calorimeter physicist plots: one number per shower, with its name, label, unit and layer.

Per layer: energy, centre of energy and width in both transverse directions and in radius, sparsity: the observables of
the CaloChallenge (arXiv:2410.21611), computed as its public code does.  Per shower: total over incident energy, and,
beyond the CaloChallenge, the same shapes of the whole shower, its asymmetry, the hottest voxel's share, and centre and
width in depth.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from fastsim.evaluation.features import axes_of, centre_and_width, sparsity
from fastsim.evaluation.moments import LayerMoments, has_transverse_plane, layer_moments
from fastsim.evaluation.procedure import Mode, checked_mode, voxel_threshold
from fastsim.geometry import Geometry

if TYPE_CHECKING:
    from fastsim.data import Showers

__all__ = ["Kind", "Observable", "Observables", "observables"]

Kind = Literal[
    "energy-total",
    "energy-layer",
    "energy-voxel",
    "centre-x",
    "centre-y",
    "centre-r",
    "width-x",
    "width-y",
    "width-r",
    "sparsity",
    "asymmetry",
    "hottest",
    "centre-z",
    "width-z",
]

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Observable:
    """One number per shower.

    Attributes:
        name: Identifier, such as ``centre_eta_layer_1``.
        label: In words.
        unit: ``MeV``, ``mm``, ``layers`` or empty.
        kind: What it measures, the same for all layers.
        layer: Id of its layer; None for the whole shower.
        values: Float32 ``(N,)``.
    """

    name: str
    label: str
    unit: str
    kind: Kind
    layer: int | None
    values: Floats


class Observables(Mapping[str, Observable]):
    """Observables by name, in the order of the CaloChallenge."""

    def __init__(self, members: list[Observable]) -> None:
        self._members = {one.name: one for one in members}

    def __getitem__(self, name: str) -> Observable:
        return self._members[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def of_kind(self, kind: Kind) -> tuple[Observable, ...]:
        """All layers' observables of one kind."""
        return tuple(one for one in self.values() if one.kind == kind)


def observables(showers: Showers, mode: Mode = "strict", *, threshold: float | None = None) -> Observables:
    """All observables of every shower.

    ``calochallenge`` has those of the CaloChallenge only; ``strict`` adds the shapes of the whole shower.

    Args:
        showers: Of any geometry in mode ``strict``.
        mode: Evaluation mode.
        threshold: Voxels below it [MeV] count as empty; default: that of the public dataset.

    Raises:
        UserError: As :func:`~fastsim.evaluation.procedure.voxel_threshold`.
    """
    geometry = showers.geometry
    cut = voxel_threshold(geometry, checked_mode(mode), threshold)
    moments = layer_moments(showers, threshold=cut)
    incident = np.asarray(showers.incident_energy, dtype=np.float64).reshape(-1)
    members = [
        _made("e_tot_over_e_inc", "total / incident energy", "", "energy-total", moments.energy.sum(axis=1) / incident)
    ]
    members += _per_layer(moments, geometry)
    if mode == "strict":
        members += _whole(moments, geometry)
    return Observables(members)


def _per_layer(moments: LayerMoments, geometry: Geometry) -> list[Observable]:
    plane = has_transverse_plane(geometry)
    everywhere = np.ones(geometry.n_layers, dtype=bool)
    centres, widths = [], []
    first, second = axes_of(geometry)
    for axis, kind, layers, one, two in (
        (first, "x", plane, moments.x, moments.xx),
        (second, "y", plane, moments.y, moments.yy),
        ("r", "r", everywhere, moments.r, moments.rr),
    ):
        centre, width = centre_and_width(moments.energy, one, two)
        shown = _SYMBOLS.get(axis, axis)
        centres.append((f"centre_{axis}", f"centre of energy in {shown}", "mm", f"centre-{kind}", layers, centre))
        widths.append((f"width_{axis}", f"width in {shown}", "mm", f"width-{kind}", layers, width))
    energy = ("e", "energy", "MeV", "energy-layer", everywhere, moments.energy)
    empty = ("sparsity", "sparsity", "", "sparsity", everywhere, sparsity(moments, geometry))
    return [
        _made(f"{name}_layer_{i}", f"{label}, layer {i}", unit, kind, values[:, index], layer=i)
        for name, label, unit, kind, layers, values in (energy, *centres, *widths, empty)
        for index, i in enumerate(geometry.layer_ids)
        if layers[index]
    ]


def _whole(moments: LayerMoments, geometry: Geometry) -> list[Observable]:
    plane = has_transverse_plane(geometry)
    energy = moments.energy.sum(axis=1)
    members = []
    for axis, kind, one, two, sides in (
        (axes_of(geometry)[0], "x", moments.x, moments.xx, moments.x_sides),
        (axes_of(geometry)[1], "y", moments.y, moments.yy, moments.y_sides),
    ):
        if not plane.any():
            continue
        # Rings have no direction: the layers that have one speak for the shower.
        shared = moments.energy[:, plane].sum(axis=1)
        centre, width = centre_and_width(shared, one[:, plane].sum(axis=1), two[:, plane].sum(axis=1))
        shown = _SYMBOLS.get(axis, axis)
        members += [
            _made(f"centre_{axis}", f"centre of energy in {shown}", "mm", f"centre-{kind}", centre),
            _made(f"width_{axis}", f"width in {shown}", "mm", f"width-{kind}", width),
            _made(
                f"asymmetry_{axis}",
                f"asymmetry in {shown}",
                "",
                "asymmetry",
                _share(sides[:, plane].sum(axis=1), shared),
            ),
        ]
    centre, width = centre_and_width(energy, moments.r.sum(axis=1), moments.rr.sum(axis=1))
    members += [
        _made("centre_r", "mean radius", "mm", "centre-r", centre),
        _made("width_r", "width in r", "mm", "width-r", width),
        _made("sparsity", "sparsity", "", "sparsity", 1.0 - moments.active.sum(axis=1) / geometry.n_voxels),
        _made(
            "hottest_share", "hottest voxel / total energy", "", "hottest", _share(moments.hottest.max(axis=1), energy)
        ),
    ]
    if geometry.n_layers > 1:
        depth = np.array([geometry.z[part].mean() for part in geometry.slices])
        centre, width = centre_and_width(energy, moments.energy @ depth, moments.energy @ depth**2)
        unit = "layers" if geometry.z_edges is None else "mm"
        members += [
            _made("centre_z", "longitudinal centre of energy", unit, "centre-z", centre),
            _made("width_z", "longitudinal width", unit, "width-z", width),
        ]
    return members


_SYMBOLS = {"eta": "η", "phi": "φ"}


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def _made(name: str, label: str, unit: str, kind: str, values: np.ndarray, *, layer: int | None = None) -> Observable:
    return Observable(name, label, unit, kind, layer, values.astype(np.float32))  # type: ignore[arg-type]
