"""The commands ``fastsim export`` and ``fastsim latency``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from cathode.support.errors import UserError
from cathode.support.files import write_json
from fastsim.deployment.contracts import CONTRACTS
from fastsim.deployment.export import SUFFIXES, export_generator
from fastsim.deployment.latency import BACKENDS, LatencySettings, measure_latency, table
from fastsim.deployment.quantisation import quantise
from fastsim.generators.commands import find_model
from fastsim.generators.generator import load_generator

__all__ = ["Export", "LatencyCommand", "run_export", "run_latency"]


@dataclass(frozen=True)
class Export:
    """Write a generator as one ONNX or TorchScript file with the inputs that a simulation framework gives."""

    model: Annotated[Path, tyro.conf.Positional]
    """Model folder, or the folder of a training run."""
    output: Path
    """File to write: .onnx, or .pt for TorchScript; a description is written beside it (.json)."""
    contract: Literal["generic", "par04", "ddml", "fastcalosim"] = "generic"
    """Names and units of inputs and outputs: plain, Geant4 Par04, DDML, or ATLAS FastCaloSim."""
    max_energy: float | None = None
    """With par04: energy [MeV] that the framework divides by; default 1024 GeV."""
    int8: bool = False
    """Also write FILE-int8.onnx with 8-bit network weights."""
    check_showers: int = 200
    """Showers that are compared with those of the generator before the file appears."""


@dataclass(frozen=True)
class LatencyCommand:
    """Measure milliseconds per shower: PyTorch, torch.compile, ONNX in float32 and INT8."""

    model: Annotated[Path, tyro.conf.Positional]
    """Model folder, or the folder of a training run."""
    batch_sizes: tuple[int, ...] = (1, 100, 10_000)
    """Showers per call."""
    backends: tuple[Literal["pytorch", "torch.compile", "onnx", "onnx-int8"], ...] = BACKENDS  # type: ignore[assignment]
    """What to measure."""
    seconds: float = 60.0
    """Budget of each backend and batch size [s]."""
    repeats: int = 50
    """Most calls of each."""
    threads: int = 1
    """Threads of every backend."""
    output: Path | None = None
    """JSON file for the numbers; fastsim evaluate reads it as --timing."""


def run_export(command: Export) -> None:
    """Write the files that ``command`` describes.

    Raises:
        UserError: No such model, a name that fits no format, or a generator that does not fit the contract.
    """
    formats = {suffix: name for name, suffix in SUFFIXES.items()}
    if command.output.suffix not in formats:
        raise UserError(f"--output {command.output}: the name must end in {' or '.join(formats)}")
    if command.contract not in CONTRACTS:
        raise UserError(f"unknown contract {command.contract!r}; known: {', '.join(CONTRACTS)}")
    if command.check_showers < 1:
        raise UserError(f"--check-showers {command.check_showers}: give a positive number")
    kind = formats[command.output.suffix]
    if command.int8 and kind != "onnx":
        raise UserError("--int8 needs an ONNX file: let the name of --output end in .onnx")
    generator = load_generator(find_model(command.model))
    done = export_generator(
        generator,
        command.output,
        contract=command.contract,
        format=kind,  # type: ignore[arg-type]
        max_energy=command.max_energy,
        check_showers=command.check_showers,
    )
    found = done.agreement
    print(f"model: {done.path} (contract {command.contract})\ndescription: {done.description}")
    print(
        f"{found.showers} showers agree with the generator to {found.deviation:.1e}; "
        f"in {found.turned} a decision at a threshold fell differently"
    )
    if command.int8:
        path = command.output.with_name(f"{command.output.stem}-int8.onnx")
        small = quantise(done.path, path)
        print(f"int8: {path} ({small.bytes_before / 1e6:.1f} MB to {small.bytes_after / 1e6:.1f} MB)")


def run_latency(command: LatencyCommand) -> None:
    """Print the table that ``command`` asks for, and write the numbers.

    Raises:
        UserError: No such model, or settings out of range.
    """
    settings = LatencySettings(
        batch_sizes=command.batch_sizes,
        backends=command.backends,
        seconds=command.seconds,
        repeats=command.repeats,
        threads=command.threads,
    )
    result = measure_latency(find_model(command.model), settings)
    if command.output is not None:
        write_json(command.output, result.to_dict())
    print(table(result.cases))
    print(
        f"threads: {result.threads}; median wall time, [16 %, 84 %] of repeated calls, and median time of the processor"
    )
    if result.quantised is not None and result.quality is not None:
        small, loss = result.quantised, result.quality
        print(
            f"INT8: {small.matrices} matrices, {small.bytes_before / 1e6:.1f} MB to {small.bytes_after / 1e6:.1f} MB; "
            f"mean energy {loss.mean_total - 1:+.2%}, lit voxels {loss.lit_voxels - 1:+.2%}, largest separation power "
            f"{loss.separation:.2g} ({loss.observable})"
        )
    if command.output is not None:
        print(f"numbers: {command.output}")
