"""From a generator to a verified file in ONNX or TorchScript, with a description of inputs and outputs beside it."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from cathode.density.export import OnnxModel, export_module_onnx, export_module_torchscript, exportable
from cathode.support.errors import UserError
from cathode.support.files import atomic_write, sha256_of, write_json
from cathode.support.provenance import versions
from cathode.support.seeding import torch_generator
from fastsim.deployment.agreement import Agreement, agreement
from fastsim.deployment.contracts import Contract, Port, make_contract, random_contexts
from fastsim.generators.generator import ShowerGenerator

__all__ = ["Exported", "export_generator", "inputs_of", "run_exported"]

logger = logging.getLogger(__name__)

Format = Literal["onnx", "torchscript"]
SUFFIXES: dict[str, str] = {"onnx": ".onnx", "torchscript": ".pt"}
FORMAT = 1
_CHUNK = 256


@dataclass(frozen=True)
class Exported:
    """A written file.

    Attributes:
        path: The model.
        description: JSON file beside it.
        agreement: Of its showers with the generator's.
    """

    path: Path
    description: Path
    agreement: Agreement


def inputs_of(
    generator: ShowerGenerator, contract: Contract, *, count: int, seed: int
) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Inputs by name for ``count`` random showers, and the noise ``(B, M)`` and context ``(B, C)`` that they hold."""
    context = random_contexts(generator, count, seed=seed)
    noise = generator.noise(count, generator=torch_generator(seed, "noise"))
    return contract.pack(noise, context), noise, context


def export_generator(
    generator: ShowerGenerator,
    path: str | Path,
    *,
    contract: str = "generic",
    format: Format = "onnx",
    max_energy: float | None = None,
    check_showers: int = 200,
    tolerance: float = 1e-4,
    seed: int = 0,
) -> Exported:
    """Write a generator as one file that any program can run, and check it before it appears.

    The whole generator is inside: preprocessing, solver steps, thresholds, conservation of layer energies.  Noise is an
    input.

    Args:
        generator: Trained, on the CPU.
        path: File to write, ``.onnx`` or ``.pt``; the description takes the suffix ``.json``.
        contract: One of :data:`fastsim.deployment.contracts.CONTRACTS`.
        format: ``onnx`` or ``torchscript``.
        max_energy: Of the contract par04 [MeV].
        check_showers: Showers that are compared with the generator's.
        tolerance: Largest relative deviation of a voxel in showers without a turned decision
            (:mod:`fastsim.deployment.agreement`).
        seed: Of noise and contexts of the comparison.

    Raises:
        UserError: A suffix of another format, a generator that cannot be exported or does not fit the contract, or
            showers that are not those of the generator; nothing is written then.
    """
    path = Path(path)
    if path.suffix != SUFFIXES[format]:
        raise UserError(f"{path}: a file of the format {format} ends in {SUFFIXES[format]}")
    generator = generator.eval()
    made = make_contract(contract, exportable(generator), max_energy=max_energy)
    example, _, _ = inputs_of(generator, made, count=3, seed=seed)
    description = path.with_suffix(".json")
    # Both or none: the description is written last and before either appears.
    with atomic_write(description) as draft_description, atomic_write(path) as draft, torch.no_grad():
        _write(made, draft, example, format, generator)
        found = _check(generator, made, draft, format, count=check_showers, seed=seed)
        if not found.within(tolerance):
            raise UserError(
                f"the exported showers are not those of the generator: {found.turned} of {found.showers} differ, "
                f"the others by up to {found.deviation:.2g} (allowed {tolerance:g}); nothing was written"
            )
        content = _describe(generator, made, found)
        content["model"] = {"file": path.name, "kind": format, "sha256": sha256_of(draft), "package": _version()}
        write_json(draft_description, content)
    return Exported(path, description, found)


def run_exported(model: OnnxModel | torch.jit.ScriptModule, inputs: Mapping[str, Tensor]) -> np.ndarray:
    """The output of an exported model for inputs by name, in chunks."""
    rows = len(next(iter(inputs.values())))
    pieces = []
    for start in range(0, rows, _CHUNK):
        part = {name: value[start : start + _CHUNK].contiguous() for name, value in inputs.items()}
        if isinstance(model, OnnxModel):
            pieces.append(next(iter(model(**part).values())))
        else:
            pieces.append(model(*part.values()).numpy())
    return np.concatenate(pieces)


def _write(
    contract: Contract, path: Path, example: Mapping[str, Tensor], format: Format, generator: ShowerGenerator
) -> None:
    contract.module.eval()
    if format == "onnx":
        metadata = {"contract": contract.name, "geometry": generator.geometry.name, "package": _version()}
        export_module_onnx(contract.module, path, example=example, outputs=[contract.output.name], metadata=metadata)
    else:
        export_module_torchscript(contract.module, path, example=example)


def _check(
    generator: ShowerGenerator, contract: Contract, path: Path, format: Format, *, count: int, seed: int
) -> Agreement:
    inputs, noise, context = inputs_of(generator, contract, count=count, seed=seed + 1)
    reference = torch.cat(
        [generator.decode(z, c) for z, c in zip(noise.split(_CHUNK), context.split(_CHUNK), strict=True)]
    )
    model = OnnxModel(path) if format == "onnx" else torch.jit.load(str(path))
    if isinstance(model, OnnxModel):
        missing = set(inputs) - {port.name for port in model.inputs}
        if missing:
            raise UserError(f"the exported graph lost the inputs {sorted(missing)}: the generator does not use them")
    output = torch.from_numpy(run_exported(model, inputs))
    return agreement(reference.numpy(), contract.unpack(output, context).numpy())


def _describe(generator: ShowerGenerator, contract: Contract, found: Agreement) -> dict[str, Any]:
    geometry = generator.geometry

    def port(port: Port) -> dict[str, Any]:
        return {"name": port.name, "shape": ["batch", *port.columns], "type": "float32", "meaning": port.meaning}

    return {
        "format": FORMAT,
        "contract": contract.name,
        "inputs": [port(p) for p in contract.inputs],
        "outputs": [port(contract.output)],
        "notes": contract.notes,
        "noise": "independent standard normal numbers, drawn by the caller",
        "geometry": {
            "name": geometry.name,
            "particle": geometry.particle,
            "layers": list(geometry.layer_ids),
            "boundaries": [0, *(part.stop for part in geometry.slices)],
            "n_alpha": list(geometry.n_alpha),
            "n_r": list(geometry.n_r),
            "shape": None if geometry.shape is None else list(geometry.shape),
        },
        "threshold_mev": generator.threshold,
        "incident_range_mev": list(generator.incident_range),
        "conditions": {
            name: list(limits)
            for name, limits in zip(generator.condition_names, generator.condition_ranges, strict=False)
        },
        "agreement": dataclasses.asdict(found),
    }


def _version() -> str:
    return f"cathode-hep {versions()['cathode-hep']}"
