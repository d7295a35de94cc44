"""What simulation frameworks hand to a model and expect back: thin modules around a generator.

``generic``
    ``noise (B, M)``, ``context (B, C)`` -> ``energies (B, V)`` [MeV] in CaloChallenge order.
``par04``
    ``input (B, M + 4)``: noise, E / E_max, theta / 90 deg, 0, 1 -> ``output (B, V)``: fractions of E, looped over r,
    phi and z, the last fastest.
``ddml``
    ``noise (B, M)``, ``conditions (B, 4)``: E [GeV], -dx, -dy, dz -> ``energies (B, layers, rows, columns)`` [GeV].
``fastcalosim``
    ``inn_eta_in (B, 1)``: 10 abs(eta), ``inn_einc_in (B, 1)`` [MeV], ``cfm_z_shape``, ``inn_z_energy``: normal numbers
    -> ``energies (B, V)`` [MeV].

Sources: Geant4 11.4, extended example Par04 (``Par04InferenceSetup``: latent numbers, then energy, angle and the code
of the geometry; the energy of a cell is the output times that of the particle); DDML's interface of the ConvL2LFlows
model; the names of the ONNX inputs in ATLAS FastCaloSim of 2026.

Deviation from DDML: its models draw their noise themselves; here it is an input, so that a seed fixes the showers.
Deviation from FastCaloSim: it gives one normal number for each voxel and layer; a generator that needs more has wider
inputs of the same names, which the description states.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cathode.support.errors import UserError
from cathode.support.seeding import torch_generator
from fastsim.generators.generator import ShowerGenerator

__all__ = ["CONTRACTS", "Contract", "Port", "make_contract", "random_contexts"]

_GEV = 1000.0
_THETA = ("incident_theta", "theta")


@dataclass(frozen=True)
class Port:
    """One input or output.

    Attributes:
        name: Its name in the file.
        columns: Shape without the batch.
        meaning: What it holds, with units.
    """

    name: str
    columns: tuple[int, ...]
    meaning: str


@dataclass(frozen=True)
class Contract:
    """A generator dressed for a framework.

    Attributes:
        name: Of the contract.
        module: Takes the inputs in order, returns the output.
        inputs: In order.
        output: The one output.
        notes: What else a user of the file must know.
        pack: Noise ``(B, M)`` and context ``(B, C)`` to the inputs by name.
        unpack: Output to voxel energies ``(B, V)`` [MeV] in CaloChallenge order, given the context.
    """

    name: str
    module: nn.Module
    inputs: tuple[Port, ...]
    output: Port
    notes: dict[str, Any]
    pack: Callable[[Tensor, Tensor], dict[str, Tensor]]
    unpack: Callable[[Tensor, Tensor], Tensor]


def make_contract(name: str, generator: ShowerGenerator, *, max_energy: float | None = None) -> Contract:
    """Dress a generator (see :func:`cathode.density.export.exportable`) for a framework.

    Args:
        name: One of :data:`CONTRACTS`.
        generator: In evaluation mode.
        max_energy: E_max of Par04 [MeV]; default 1024 GeV, as in the example.

    Raises:
        UserError: Unknown contract, or a generator that needs conditions which the framework does not give.
    """
    if name not in CONTRACTS:
        raise UserError(f"unknown contract {name!r}; known: {', '.join(CONTRACTS)}")
    if max_energy is not None and name != "par04":
        raise UserError("the largest energy is part of the contract par04 only")
    if name == "par04":
        return _par04(generator, 1024e3 if max_energy is None else max_energy)
    return {"generic": _generic, "ddml": _ddml, "fastcalosim": _fastcalosim}[name](generator)


CONTRACTS = ("generic", "par04", "ddml", "fastcalosim")


def random_contexts(generator: ShowerGenerator, count: int, *, seed: int) -> Tensor:
    """Contexts ``(count, C)`` spread over the range of the training: energies log-uniform, conditions uniform."""
    stream = torch_generator(seed, "contexts")
    low, high = generator.incident_range
    energy = low * (high / low) ** torch.rand(count, 1, generator=stream)
    ranges = generator.condition_ranges or ((0.0, 1.0),) * len(generator.condition_names)
    conditions = [a + (b - a) * torch.rand(count, 1, generator=stream) for a, b in ranges]
    return torch.cat([energy, *conditions], 1)


class _Generic(nn.Module):
    def __init__(self, generator: ShowerGenerator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, noise: Tensor, context: Tensor) -> Tensor:
        return self.generator.decode(noise, context)


def _generic(generator: ShowerGenerator) -> Contract:
    names = ", ".join(["incident energy [MeV]", *generator.condition_names])
    return Contract(
        "generic",
        _Generic(generator),
        (_noise_port(generator), Port("context", (generator.context_features,), names)),
        Port("energies", generator.event_shape, "voxel energies [MeV]; r fastest, then alpha, then layer"),
        {},
        lambda noise, context: {"noise": noise, "context": context},
        lambda output, context: output,
    )


class _Par04(nn.Module):
    def __init__(self, generator: ShowerGenerator, max_energy: float, theta: bool) -> None:
        super().__init__()
        self.generator, self.max_energy, self.theta = generator, max_energy, theta
        self.width = sum(generator.noise_widths)
        self.shape = generator.geometry.shape

    def forward(self, inputs: Tensor) -> Tensor:
        noise, energy = inputs[:, : self.width], inputs[:, self.width : self.width + 1] * self.max_energy
        context = torch.cat([energy, inputs[:, self.width + 1 : self.width + 2] * (math.pi / 2)], 1)
        voxels = self.generator.decode(noise, context if self.theta else energy)
        cells = voxels.unflatten(1, self.shape).permute(0, 3, 2, 1).flatten(1)
        return cells / energy


def _par04(generator: ShowerGenerator, max_energy: float) -> Contract:
    shape = generator.geometry.shape
    if shape is None:
        raise UserError(f"contract par04 needs a regular mesh in r, phi and z; {generator.geometry.name!r} is none")
    if not max_energy > 0:
        raise UserError(f"the largest energy of par04 is {max_energy}: give a positive number of MeV")
    _only(generator, "par04", (_THETA,))
    theta = bool(generator.condition_names)
    width = sum(generator.noise_widths)

    def pack(noise: Tensor, context: Tensor) -> dict[str, Tensor]:
        angle = context[:, 1:] / (math.pi / 2) if theta else torch.zeros_like(context)
        code = torch.tensor([0.0, 1.0]).expand(len(noise), 2)
        return {"input": torch.cat([noise, context[:, :1] / max_energy, angle, code], 1)}

    def unpack(output: Tensor, context: Tensor) -> Tensor:
        cells = output.unflatten(1, shape[::-1]).permute(0, 3, 2, 1).flatten(1)
        return cells * context[:, :1]

    return Contract(
        "par04",
        _Par04(generator, max_energy, theta),
        (Port("input", (width + 4,), f"{width} normal numbers, E / {max_energy:g} MeV, theta / 90 deg, 0, 1"),),
        Port("output", generator.event_shape, "voxel energy / incident energy; loops over r, phi, z, the last fastest"),
        {
            "size_latent": width,
            "max_energy_mev": max_energy,
            "theta_used": theta,
            "mesh": {"r": shape[2], "phi": shape[1], "z": shape[0]},
        },
        pack,
        unpack,
    )


class _Ddml(nn.Module):
    def __init__(self, generator: ShowerGenerator, columns: Sequence[str]) -> None:
        super().__init__()
        self.generator, self.columns = generator, tuple(columns)
        self.shape = generator.geometry.shape

    def forward(self, noise: Tensor, conditions: Tensor) -> Tensor:
        dz = conditions[:, 3:4]
        known = {"dx": -conditions[:, 1:2], "dy": -conditions[:, 2:3], "dz": dz}
        angle = [torch.acos(dz.clamp(-1.0, 1.0)) if c in _THETA else known[c] for c in self.columns]
        voxels = self.generator.decode(noise, torch.cat([conditions[:, :1] * _GEV, *angle], 1)) / _GEV
        return voxels if self.shape is None else voxels.unflatten(1, self.shape)


def _ddml(generator: ShowerGenerator) -> Contract:
    names = generator.condition_names
    _only(generator, "ddml", (("dx",), ("dy",), ("dz",), _THETA))
    shape = generator.geometry.shape or generator.event_shape

    def pack(noise: Tensor, context: Tensor) -> dict[str, Tensor]:
        columns = {name: context[:, i + 1] for i, name in enumerate(names)}
        dx, dy = (columns.get(n, torch.zeros(len(noise))) for n in ("dx", "dy"))
        dz = columns.get("dz", torch.ones(len(noise)))
        for name in _THETA:
            dz = columns[name].cos() if name in columns else dz
        return {"noise": noise, "conditions": torch.stack([context[:, 0] / _GEV, -dx, -dy, dz], 1)}

    return Contract(
        "ddml",
        _Ddml(generator, names),
        (_noise_port(generator), Port("conditions", (4,), "E [GeV], -dx, -dy, dz of the particle's direction")),
        Port("energies", tuple(shape), "voxel energies [GeV]; layers, then rows (alpha or y), then columns (r or x)"),
        {"conditions_used": ["E", *names]},
        pack,
        lambda output, context: output.flatten(1) * _GEV,
    )


class _FastCaloSim(nn.Module):
    def __init__(self, generator: ShowerGenerator, eta: bool) -> None:
        super().__init__()
        self.generator, self.eta = generator, eta

    def forward(self, eta_in: Tensor, einc_in: Tensor, z_shape: Tensor, z_energy: Tensor) -> Tensor:
        # An input that nothing depends on would vanish from the graph, and the framework could not set it.
        context = torch.cat([einc_in, eta_in / 10.0], 1) if self.eta else einc_in + 0.0 * eta_in
        return self.generator.decode(torch.cat([z_energy, z_shape], 1), context)


def _fastcalosim(generator: ShowerGenerator) -> Contract:
    _only(generator, "fastcalosim", (("eta", "abs_eta"),))
    eta = bool(generator.condition_names)
    energy, shape = generator.noise_widths
    layers = generator.geometry.n_layers

    def pack(noise: Tensor, context: Tensor) -> dict[str, Tensor]:
        eta_in = 10.0 * context[:, 1:2] if eta else torch.full_like(context[:, :1], 2.0)
        return {
            "inn_eta_in": eta_in,
            "inn_einc_in": context[:, :1],
            "cfm_z_shape": noise[:, energy:],
            "inn_z_energy": noise[:, :energy],
        }

    return Contract(
        "fastcalosim",
        _FastCaloSim(generator, eta),
        (
            Port("inn_eta_in", (1,), "10 |eta|" + ("" if eta else "; not used by this generator")),
            Port("inn_einc_in", (1,), "incident energy [MeV]"),
            Port("cfm_z_shape", (shape,), "normal numbers of the shape"),
            Port("inn_z_energy", (energy,), "normal numbers of the layer energies"),
        ),
        Port("energies", generator.event_shape, "voxel energies [MeV]; r fastest, then alpha, then layer"),
        {
            "layers": list(generator.geometry.layer_ids),
            "boundaries": [0, *(part.stop for part in generator.geometry.slices)],
            "one_number_per_voxel_and_layer": (energy, shape) == (layers, generator.event_shape[0]),
        },
        pack,
        lambda output, context: output,
    )


def _noise_port(generator: ShowerGenerator) -> Port:
    return Port("noise", (sum(generator.noise_widths),), "independent standard normal numbers")


def _only(generator: ShowerGenerator, contract: str, accepted: Sequence[Sequence[str]]) -> None:
    """Refuse conditions that the framework has no input for; of each group of synonyms one may be there."""
    names = generator.condition_names
    known = [name for group in accepted for name in group]
    for name in names:
        if name not in known:
            raise UserError(
                f"contract {contract} has no input for the condition {name!r} of this generator; "
                f"it knows {', '.join(known)}: use the contract generic"
            )
    for group in accepted:
        if sum(name in names for name in group) > 1:
            raise UserError(f"contract {contract}: the conditions {', '.join(group)} are the same input")
