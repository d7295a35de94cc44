"""Milliseconds per shower: of PyTorch, ``torch.compile``, ONNX in float32 and in INT8, at several batch sizes.

Every number is the median over repeated calls after warm-up, with the 16 % and 84 % quantiles, on a stated number of
threads; inputs are ready beforehand, and the showers end as an array in memory.  A case that would take longer than the
budget is left out and says so.
"""

from __future__ import annotations

import dataclasses
import logging
import multiprocessing
import os
import shutil
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cathode.density.export import OnnxModel, exportable
from cathode.support.errors import UserError
from cathode.support.progress import progress
from cathode.support.provenance import environment
from cathode.support.seeding import torch_generator
from cathode.support.threads import limit_threads
from fastsim.data import Showers
from fastsim.deployment.contracts import make_contract, random_contexts
from fastsim.deployment.export import Exported, export_generator
from fastsim.deployment.quality import QualityLoss, quality_loss
from fastsim.deployment.quantisation import Quantised, quantise
from fastsim.generators.generator import ShowerGenerator, load_generator

__all__ = ["BACKENDS", "Latency", "LatencyResult", "LatencySettings", "measure_latency", "time_calls"]

logger = logging.getLogger(__name__)

BACKENDS = ("pytorch", "torch.compile", "onnx", "onnx-int8")
Call = Callable[[Tensor, Tensor], Any]


@dataclass(frozen=True)
class LatencySettings:
    """What is measured.

    Attributes:
        batch_sizes: Showers per call.
        backends: Which of :data:`BACKENDS`.
        seconds: Budget of each case [s], warm-up included; all of ``torch.compile`` has three times as much.
        repeats: Most calls per case.
        threads: Of every backend.
        quality_showers: Showers for the quality of INT8; 0: not measured.
        seed: Of noise and contexts.
    """

    batch_sizes: tuple[int, ...] = (1, 100, 10_000)
    backends: tuple[str, ...] = BACKENDS
    seconds: float = 60.0
    repeats: int = 50
    threads: int = 1
    quality_showers: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        unknown = sorted(set(self.backends) - set(BACKENDS))
        if unknown:
            raise UserError(f"unknown backend {unknown[0]!r}; known: {', '.join(BACKENDS)}")
        if not self.batch_sizes or min(self.batch_sizes) < 1:
            raise UserError(f"batch sizes must be positive, got {list(self.batch_sizes)}")
        if not self.seconds > 0 or self.repeats < 1 or self.threads < 1 or self.quality_showers < 0:
            raise UserError("seconds, repeats and threads must be positive, quality showers not negative")


@dataclass(frozen=True)
class Latency:
    """One case.

    Attributes:
        backend: One of :data:`BACKENDS`.
        batch: Showers per call.
        milliseconds: Median wall time per shower; None if it was not measured.
        low, high: Quantiles of 16 % and 84 % over the calls.
        cpu_milliseconds: Median time of the processor per shower: what a machine without other work would take.
        repeats: Calls after warm-up.
        note: Why it was not measured, or what else there is to say.
    """

    backend: str
    batch: int
    milliseconds: float | None
    low: float | None = None
    high: float | None = None
    cpu_milliseconds: float | None = None
    repeats: int = 0
    note: str = ""


@dataclass(frozen=True)
class LatencyResult:
    """All cases and what was found on the way.

    Attributes:
        cases: In the order of backends and batch sizes.
        threads: Of every backend.
        exported: The ONNX file's agreement with the generator; None if it was not exported.
        quantised: Sizes before and after.
        quality: Showers of INT8 against those of the generator, for the same noise.
        environment: Machine and versions.
    """

    cases: tuple[Latency, ...]
    threads: int
    exported: Exported | None
    quantised: Quantised | None
    quality: QualityLoss | None
    environment: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Plain data; ``milliseconds_per_shower`` has the fastest backend of each batch size."""
        best: dict[str, float] = {}
        for case in self.cases:
            key = f"cpu_batch{case.batch}"
            if case.milliseconds is not None:
                best[key] = min(best.get(key, case.milliseconds), case.milliseconds)
        return {
            "milliseconds_per_shower": best,
            "note": f"fastest backend on the CPU, threads: {self.threads}, median of repeated calls",
            "threads": self.threads,
            "cases": [dataclasses.asdict(case) for case in self.cases],
            "agreement": None if self.exported is None else dataclasses.asdict(self.exported.agreement),
            "int8": None
            if self.quantised is None
            else {
                "matrices": self.quantised.matrices,
                "products": self.quantised.products,
                "bytes_before": self.quantised.bytes_before,
                "bytes_after": self.quantised.bytes_after,
                "quality": None if self.quality is None else dataclasses.asdict(self.quality),
            },
            "environment": self.environment,
        }


@dataclass(frozen=True)
class Calls:
    """Times of repeated calls [s]: on the wall, and of the processor in this process."""

    wall: tuple[float, ...]
    cpu: tuple[float, ...]


def time_calls(call: Callable[[], Any], *, seconds: float, repeats: int, expected: float = 0.0) -> Calls:
    """Time repeated calls after one for warm-up, as many as ``seconds`` allow; at least one.

    Args:
        call: What is timed.
        seconds: Budget, the warm-up included.
        repeats: Most calls.
        expected: How long a call should take [s]: without a warm-up if that is more than a third of the budget.
    """
    start = time.perf_counter()
    if 3 * expected <= seconds:
        call()
    wall: list[float] = []
    cpu: list[float] = []
    while len(wall) < repeats and (not wall or time.perf_counter() - start + wall[-1] < seconds):
        before, worked = time.perf_counter(), time.process_time()
        call()
        wall.append(time.perf_counter() - before)
        cpu.append(time.process_time() - worked)
    return Calls(tuple(wall), tuple(cpu))


def measure_latency(folder: str | Path, settings: LatencySettings = LatencySettings()) -> LatencyResult:
    """Time a saved generator.

    Args:
        folder: Model folder.
        settings: What is measured.

    Raises:
        UserError: No such model, or one that cannot be exported while an ONNX backend is asked for.
    """
    generator = load_generator(folder)
    before = torch.get_num_threads()
    limit_threads(settings.threads)
    try:
        return _measure(generator, Path(folder), settings)
    finally:
        limit_threads(before)


def _measure(generator: ShowerGenerator, folder: Path, settings: LatencySettings) -> LatencyResult:
    cases: list[Latency] = []
    exported = quantised = quality = None
    with tempfile.TemporaryDirectory() as scratch, torch.no_grad():
        bar = progress(settings.backends, description="timing", unit="backend")
        for backend in bar:
            if backend == "pytorch":
                cases += _cases(backend, generator.decode, generator, settings)
            elif backend == "torch.compile":
                cases += _compiled(folder, settings)
            else:
                if exported is None:
                    exported = export_generator(generator, Path(scratch) / "model.onnx", seed=settings.seed)
                path = exported.path
                if backend == "onnx-int8":
                    quantised = quantise(exported.path, Path(scratch) / "int8.onnx")
                    path = quantised.path
                model = OnnxModel(path, threads=settings.threads)
                if backend == "onnx-int8" and settings.quality_showers:
                    quality = _quality(generator, model, settings)
                cases += _cases(backend, _onnx_call(model), generator, settings)
    return LatencyResult(tuple(cases), settings.threads, exported, quantised, quality, environment())


def _onnx_call(model: OnnxModel) -> Call:
    return lambda noise, context: model(noise=noise, context=context)


def _cases(backend: str, call: Call, generator: ShowerGenerator, settings: LatencySettings) -> list[Latency]:
    known: dict[int, float] = {}

    def timed(batch: int, repeats: int, expected: float) -> Calls:
        noise = generator.noise(batch, generator=torch_generator(settings.seed, "noise", batch))
        context = random_contexts(generator, batch, seed=settings.seed)
        calls = time_calls(lambda: call(noise, context), seconds=settings.seconds, repeats=repeats, expected=expected)
        known[batch] = float(np.median(calls.wall))
        return calls

    cases = []
    for batch in settings.batch_sizes:
        # Calls have a fixed cost, so that one shower says little about many: approach the batch in steps of ten.
        while known and 10 * max(known) < batch and 2 * 10 * known[max(known)] < settings.seconds:
            timed(10 * max(known), 1, 0.0)
        expected = _extrapolated(known, batch)
        if expected > settings.seconds:
            note = f"not measured: a call takes about {expected:.0f} s, the budget is {settings.seconds:g} s"
            cases.append(Latency(backend, batch, None, note=note))
            continue
        calls = timed(batch, settings.repeats, expected)
        low, middle, high = (1e3 * q / batch for q in np.quantile(calls.wall, [0.16, 0.5, 0.84]))
        cpu = 1e3 * float(np.median(calls.cpu)) / batch
        cases.append(Latency(backend, batch, middle, low, high, cpu, len(calls.wall)))
    return cases


def _extrapolated(known: dict[int, float], batch: int) -> float:
    """Expected time of a call [s]: a fixed cost and one per shower, from the two largest batches timed so far."""
    sizes = sorted(known)
    if not sizes:
        return 0.0
    last = known[sizes[-1]]
    if len(sizes) == 1:
        return last * max(1.0, batch / sizes[-1])
    slope = max((last - known[sizes[-2]]) / (sizes[-1] - sizes[-2]), 0.0)
    return last + slope * max(0, batch - sizes[-1])


def _quality(generator: ShowerGenerator, model: OnnxModel, settings: LatencySettings) -> QualityLoss:
    from fastsim.deployment.export import run_exported

    count = settings.quality_showers
    contract = make_contract("generic", generator)
    context = random_contexts(generator, count, seed=settings.seed)
    noise = generator.noise(count, generator=torch_generator(settings.seed, "quality"))
    pairs = zip(noise.split(256), context.split(256), strict=True)
    original = torch.cat([generator.decode(z, c) for z, c in pairs]).numpy()
    changed = run_exported(model, contract.pack(noise, context))
    conditions = context[:, 1:].numpy() if generator.condition_names else None

    def showers(energies: np.ndarray) -> Showers:
        incident = context[:, :1].numpy()
        return Showers.unchecked(incident, energies, generator.geometry, conditions, generator.condition_names)

    return quality_loss(showers(original), showers(changed), threshold=generator.threshold)


# torch.compile may take minutes for long sequences of operations and cannot be interrupted: it runs in a process of its
# own, which is ended when its time is over.


def _compiled(folder: Path, settings: LatencySettings) -> list[Latency]:
    def none(reason: str) -> list[Latency]:
        return [Latency("torch.compile", batch, None, note=f"not measured: {reason}") for batch in settings.batch_sizes]

    if not any(shutil.which(name) for name in (os.environ.get("CXX", ""), "c++", "g++", "clang++") if name):
        return none("no C++ compiler on this machine")
    budget = 3 * settings.seconds
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    worker = context.Process(target=_compile_worker, args=(queue, str(folder), settings), daemon=True)
    worker.start()
    found: dict[int, Latency] = {}
    reason = ""
    end = time.monotonic() + budget
    while len(found) < len(settings.batch_sizes):
        try:
            item = queue.get(timeout=max(0.1, min(1.0, end - time.monotonic())))
        except Exception:  # queue.Empty
            if time.monotonic() > end:
                reason = f"compilation took longer than {budget:g} s"
                break
            if not worker.is_alive() and queue.empty():
                reason = "compilation failed"
                break
            continue
        if isinstance(item, str):
            reason = item
            break
        found[item.batch] = item
    worker.terminate()
    worker.join()
    queue.close()
    queue.join_thread()
    rest = {case.batch: case for case in none(reason)}
    return [found.get(batch, rest[batch]) for batch in settings.batch_sizes]


def _compile_worker(queue: Any, folder: str, settings: LatencySettings) -> None:
    try:
        limit_threads(settings.threads)
        logging.getLogger("torch").setLevel(logging.ERROR)
        generator = load_generator(folder)
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # The copy for export has no operations that look at values, where a compiler would break the graph.
            compiled = torch.compile(exportable(generator).decode, dynamic=False)
            for batch in settings.batch_sizes:
                alone = dataclasses.replace(settings, batch_sizes=(batch,))
                queue.put(_cases("torch.compile", compiled, generator, alone)[0])
    except Exception as error:
        logger.debug("torch.compile failed: %s", traceback.format_exc())
        lines = str(error).strip().splitlines() or [type(error).__name__]
        queue.put(f"compilation failed: {lines[0][:200]}")
    queue.close()
    queue.join_thread()


def table(cases: Sequence[Latency]) -> str:
    """The cases as text: one row per backend, one column per batch size, milliseconds per shower."""
    batches = sorted({case.batch for case in cases})
    backends = list(dict.fromkeys(case.backend for case in cases))
    by_key = {(case.backend, case.batch): case for case in cases}
    rows = [["ms per shower", *(f"batch {batch:,}" for batch in batches)]]
    notes: list[str] = []
    for backend in backends:
        row = [backend]
        for batch in batches:
            case = by_key.get((backend, batch))
            if case is None or case.milliseconds is None:
                row.append("-")
                if case is not None:
                    notes.append(f"{backend}, batch {batch:,}: {case.note}")
            else:
                row.append(f"{case.milliseconds:.3g} [{case.low:.3g}, {case.high:.3g}] cpu {case.cpu_milliseconds:.3g}")
        rows.append(row)
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, *notes])
