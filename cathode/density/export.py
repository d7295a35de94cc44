r"""Densities as ONNX and TorchScript graphs: ``decode`` with noise as an input, so that any program can sample.

A graph computes :math:`x = \mathrm{decode}(z, c)`: the caller draws the noise :math:`z`, with its own generator, and
gives the context :math:`c` in physical units; preprocessing, the unrolled solver with its fixed steps and the inverse
preprocessing are inside.  The batch is a dynamic axis.

:func:`exportable` makes the copy that is traced: the same function of noise and context, written as one fixed sequence
of operations.  Where :meth:`~cathode.density.base.ConditionalDensity.decode` looks at values to decide what to do next
(a Newton iteration that ends early, a domain policy that counts), the copy has a member that does not.  A class of
density gets such a copy through :func:`register_exportable`, or brings it itself as a method ``exportable()``.

Graphs come from the ``torch.export`` based exporter: the older tracer makes invalid graphs of some flows.
"""

from __future__ import annotations

import copy
import logging
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from cathode.density.autoregressive import AutoregressiveMixture
from cathode.density.base import ConditionalDensity
from cathode.density.bijections.domain import Bounded
from cathode.density.censored import CensoredAutoregressive
from cathode.density.diffusion import EDM
from cathode.density.elementary import elementary_erfc
from cathode.density.ensemble import Ensemble
from cathode.density.layered import LayeredFlow
from cathode.density.matching import FlowMatching
from cathode.density.scanned import ScannedCensored, ScannedSequence
from cathode.density.sequence import AmountSequence
from cathode.density.solvers import ADAPTIVE_METHODS
from cathode.density.unrolled import UnrolledMixture
from cathode.support.errors import UserError, require
from cathode.support.files import atomic_write

__all__ = [
    "OPSET",
    "Decoder",
    "OnnxModel",
    "export_module_onnx",
    "export_module_torchscript",
    "export_onnx",
    "export_torchscript",
    "exportable",
    "register_exportable",
]

logger = logging.getLogger(__name__)

OPSET = 18
_LARGEST_BYTES = 2**31 - 2**20  # protobuf's limit on one file
M = TypeVar("M", bound=nn.Module)
_PREPARE: dict[type[nn.Module], Callable[[Any], nn.Module]] = {}


def register_exportable(cls: type[M]) -> Callable[[Callable[[M], nn.Module]], Callable[[M], nn.Module]]:
    """Decorator of a function that turns a module of ``cls`` (a private copy) into one that can be traced."""

    def decorate(prepare: Callable[[M], nn.Module]) -> Callable[[M], nn.Module]:
        _PREPARE[cls] = prepare
        return prepare

    return decorate


def exportable(density: M) -> M:
    """A copy of ``density`` whose ``decode`` is the same function as one fixed sequence of operations.

    Raises:
        UserError: The density has an adaptive solver, whose operations depend on the events.
    """
    ready = _prepare(copy.deepcopy(density)).eval()
    for parameter in ready.parameters():
        parameter.requires_grad_(False)
    return ready  # type: ignore[return-value]


def _prepare(module: nn.Module) -> nn.Module:
    own = getattr(module, "exportable", None)
    if callable(own):
        return own()
    for name, child in list(module.named_children()):
        module._modules[name] = _prepare(child)
    for cls in type(module).__mro__:
        if cls in _PREPARE:
            return _PREPARE[cls](module)
    return module


@register_exportable(Bounded)
def _without_policy(member: Bounded) -> nn.Module:
    # The policies clip and raise count values, which a graph cannot; values are moved inside under each policy.
    member.policy = "mask"
    if member.upper > torch.finfo(torch.float32).max:
        member.upper = math.inf
    return member


@register_exportable(FlowMatching)
def _fixed_steps(density: FlowMatching) -> nn.Module:
    _refuse_adaptive(density.solver)
    return density


@register_exportable(EDM)
def _fixed_noise_levels(density: EDM) -> nn.Module:
    _refuse_adaptive(density.solver)
    sigma_data = float(density.sigma_data)
    # A buffer has no number while a graph is traced.
    object.__setattr__(density, "_s", lambda sigma: math.hypot(sigma, sigma_data))
    return density


class _InDouble(ConditionalDensity):
    """A flow with its weights kept in float64, which ``LayeredFlow.decode`` widens in every call."""

    def __init__(self, flow: LayeredFlow) -> None:
        super().__init__()
        self.event_shape, self.context_features = flow.event_shape, flow.context_features
        self.flow = flow.double()

    def decode(self, noise: Tensor, context: Tensor | None = None, *, mask: Tensor | None = None) -> Tensor:
        c = None if context is None else context.double()
        return self.flow.decode(noise.double(), c, mask=mask).to(noise.dtype)


@register_exportable(LayeredFlow)
def _widened(flow: LayeredFlow) -> nn.Module:
    return _InDouble(flow) if flow.decode_in_double else flow


def _erf(x: Tensor) -> Tensor:
    # onnxruntime has the error function in float32 only.
    return torch.sign(x) * (1.0 - elementary_erfc(x.abs())) if x.dtype == torch.float64 else NotImplemented


def _searchsorted(knots: Tensor, x: Tensor, *, right: bool = False, **others: Any) -> Tensor:
    below = knots.unsqueeze(-2) <= x.unsqueeze(-1) if right else knots.unsqueeze(-2) < x.unsqueeze(-1)
    return below.sum(-1)


# ONNX has no search in sorted numbers and no erfc, and 1 - erf has no digits in the tail.
_IN_ELEMENTARY_OPERATIONS: dict[Any, Callable[..., Any]] = {
    torch.ops.aten.erfc.default: elementary_erfc,
    torch.ops.aten.special_erfc.default: elementary_erfc,
    torch.ops.aten.erf.default: _erf,
    torch.ops.aten.searchsorted.Tensor: _searchsorted,
}


def _refuse_adaptive(solver: str) -> None:
    if solver in ADAPTIVE_METHODS:
        raise UserError(
            f"the adaptive solver {solver!r} takes as many steps as its events need and has no fixed graph: "
            "export with a fixed-step solver, for example rk4"
        )


@register_exportable(AutoregressiveMixture)
def _step_by_step(density: AutoregressiveMixture) -> nn.Module:
    return UnrolledMixture(density)


@register_exportable(CensoredAutoregressive)
def _as_a_loop(density: CensoredAutoregressive) -> nn.Module:
    return ScannedCensored(density)


@register_exportable(AmountSequence)
def _as_a_loop_of_loops(density: AmountSequence) -> nn.Module:
    return ScannedSequence(density)


@register_exportable(Ensemble)
class _EveryMember(ConditionalDensity):
    """An ensemble that decodes with every member and then chooses: as many times the work, but one sequence."""

    def __init__(self, ensemble: Ensemble) -> None:
        super().__init__()
        self.event_shape, self.context_features = ensemble.event_shape, ensemble.context_features
        self.ensemble = ensemble

    def noise(
        self, count: int, *, mask: Tensor | None = None, generator: torch.Generator, dtype: torch.dtype | None = None
    ) -> Tensor:
        return self.ensemble.noise(count, mask=mask, generator=generator, dtype=dtype)

    def decode(self, noise: Tensor, context: Tensor | None = None, *, mask: Tensor | None = None) -> Tensor:
        inner, channel = noise[..., :-1], noise[..., -1]
        if channel.ndim > 1:
            channel = (channel if mask is None else channel * mask).flatten(1).amax(1)
        chosen = (channel.double().unsqueeze(1) >= self.ensemble.edges).sum(1)
        events: Tensor | None = None
        for k, member in enumerate(self.ensemble._each()):
            part = member.decode(inner, context, mask=mask)
            here = (chosen == k).view(-1, *[1] * (part.ndim - 1))
            events = part if events is None else torch.where(here, part, events)
        assert events is not None
        return events


class Decoder(nn.Module):
    """``decode`` as a module with positional inputs ``noise[, context][, mask]``, as exporters want it."""

    def __init__(self, density: ConditionalDensity, *, masked: bool = False) -> None:
        super().__init__()
        self.density = density
        self.masked = masked

    def forward(self, noise: Tensor, *others: Tensor) -> Tensor:
        mask = others[-1] if self.masked else None
        context = others[0] if self.density.context_features else None
        return self.density.decode(noise, context, mask=mask)


def export_onnx(
    density: ConditionalDensity,
    path: str | Path,
    *,
    context: Tensor | None = None,
    mask: Tensor | None = None,
    noise: Tensor | None = None,
    metadata: Mapping[str, str] | None = None,
) -> OnnxModel:
    """Write ``decode`` of any density as an ONNX graph with inputs ``noise[, context][, mask]`` and output ``events``.

    Args:
        density: Any member of the core, on the CPU.
        path: File to write.
        context: ``(B, C)`` example, at least 2 rows of plausible values; needed if the density has a context.
        mask: ``(B, P)`` example for sets.
        noise: ``(B, …)`` example; drawn from a fixed seed without it.
        metadata: Strings kept inside the model file.

    Returns:
        The written model, opened in onnxruntime.

    Raises:
        UserError: The density cannot be exported, or the extra ``onnx`` is missing.
        ValueError: Examples that do not fit the density.
    """
    module, example = _decoder_and_example(density, context=context, mask=mask, noise=noise)
    return export_module_onnx(module, path, example=example, outputs=["events"], metadata=metadata)


def export_torchscript(
    density: ConditionalDensity,
    path: str | Path,
    *,
    context: Tensor | None = None,
    mask: Tensor | None = None,
    noise: Tensor | None = None,
) -> torch.jit.ScriptModule:
    """Write ``decode`` of any density as TorchScript; arguments, inputs and errors as :func:`export_onnx`."""
    module, example = _decoder_and_example(density, context=context, mask=mask, noise=noise)
    return export_module_torchscript(module, path, example=example)


def _decoder_and_example(
    density: ConditionalDensity, *, context: Tensor | None, mask: Tensor | None, noise: Tensor | None
) -> tuple[Decoder, dict[str, Tensor]]:
    columns = 0 if context is None else context.shape[-1]
    if columns != density.context_features:
        raise ValueError(f"the example context has {columns} columns, the density has {density.context_features}")
    if noise is None:
        rows = next((len(t) for t in (context, mask) if t is not None), 3)
        noise = density.noise(rows, mask=mask, generator=torch.Generator().manual_seed(0))
    example = {"noise": noise}
    if context is not None:
        example["context"] = context.to(noise.dtype)
    if mask is not None:
        example["mask"] = mask
    return Decoder(exportable(density), masked=mask is not None).eval(), example


def export_module_onnx(
    module: nn.Module,
    path: str | Path,
    *,
    example: Mapping[str, Tensor],
    outputs: Sequence[str],
    static_batch: bool = False,
    metadata: Mapping[str, str] | None = None,
) -> OnnxModel:
    """Write a module as an ONNX graph; axis 0 of every input and output is the batch.

    Args:
        module: Deterministic, in evaluation mode, made of :func:`exportable` densities.
        path: File to write; it is replaced only when all went well.
        example: Inputs by name, in the order of the module's positional arguments.  For a dynamic batch at
            least 2 rows, because a batch of 1 would be taken for a constant.
        outputs: Names of the outputs.
        static_batch: Fix the batch to that of the example.
        metadata: Strings kept inside the model file.

    Raises:
        UserError: The module has operations without an ONNX form or depends on values, the file would exceed 2 GB, or
            the extra ``onnx`` is missing.
        ValueError: Too few example rows.
    """
    require("onnxscript", "onnx")
    require("onnxruntime", "onnx")
    rows = {len(tensor) for tensor in example.values()}
    if len(rows) != 1 or (rows == {1} and not static_batch):
        raise ValueError(f"example inputs have {sorted(rows)} rows: give the same number, at least 2, to each")
    # One dimension for all inputs: equality that is found afterwards becomes a guard, which the exporter trips over.
    batch = torch.export.Dim("batch")
    dynamic: Any = None if static_batch else tuple({0: batch} for _ in example)
    if dynamic is not None and isinstance(module, Decoder):
        dynamic = (dynamic[0], dynamic[1:]) if len(dynamic) > 1 else (dynamic[0], ())  # *others is one tuple
    loops = [part for part in module.modules() if isinstance(part, (ScannedCensored, ScannedSequence))]
    try:
        for part in loops:
            part.as_scan = True
        with torch.no_grad(), _quiet_exporter():
            graph = torch.export.export(module, tuple(example.values()), dynamic_shapes=dynamic, strict=False)
            if any(node.target in _IN_ELEMENTARY_OPERATIONS for node in graph.graph.nodes):
                graph = graph.run_decompositions(dict(_IN_ELEMENTARY_OPERATIONS))
            program = torch.onnx.export(
                graph,
                (),
                dynamo=True,
                opset_version=OPSET,
                input_names=list(example),
                output_names=list(outputs),
                optimize=True,
                verbose=False,
            )
    except Exception as error:  # the exporter raises what it likes
        logger.debug("export failed", exc_info=True)
        raise UserError(f"this model has no ONNX form: {_reason(error)}") from error
    finally:
        for part in loops:
            part.as_scan = False
    assert program is not None
    _name_batch(program.model, None if static_batch else "batch")
    for key, value in (metadata or {}).items():
        program.model.metadata_props[key] = value
    with atomic_write(path) as temporary:
        if _bytes_of_weights(module) > _LARGEST_BYTES:
            raise UserError(f"cannot write {path}: the weights exceed the 2 GB that one ONNX file can hold")
        program.save(str(temporary), external_data=False)
        OnnxModel(temporary)
    return OnnxModel(path)


def export_module_torchscript(
    module: nn.Module, path: str | Path, *, example: Mapping[str, Tensor]
) -> torch.jit.ScriptModule:
    """Trace a module to TorchScript; arguments as :func:`export_module_onnx`, the batch is free.

    Raises:
        UserError: The module cannot be traced, or its trace is not the module: it gives something else for other rows.
    """
    inputs = tuple(example.values())
    try:
        with torch.no_grad(), _quiet_exporter():
            traced = torch.jit.trace(module, inputs, check_trace=False)
            # A trace that froze the batch or a decision shows it on rows in another number and order.
            others = tuple(torch.cat([t.flip(0), t]) for t in inputs)
            expected, found = module(*others), traced(*others)
            same = torch.allclose(expected, found, rtol=1e-4, atol=1e-6 * float(expected.abs().max()))
    except Exception as error:
        raise UserError(f"this model has no TorchScript form: {_reason(error)}") from error
    if not same:
        raise UserError(
            "this model has no TorchScript form: the traced graph depends on the example it was traced with"
        )
    with atomic_write(path) as temporary, _quiet_exporter():
        torch.jit.save(traced, str(temporary))
    return traced


def _reason(error: BaseException) -> str:
    """First line of the innermost cause: the outer ones only say at which step the exporter was."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


@dataclass(frozen=True)
class _Port:
    name: str
    shape: tuple[int | None, ...]
    dtype: str


class OnnxModel:
    """An ONNX file, opened in onnxruntime on the CPU.

    Args:
        path: The file.
        threads: Threads of one operation; operations run one after the other.

    Attributes:
        inputs: Names, shapes (None = batch) and types of the inputs.
        outputs: Those of the outputs.

    Raises:
        UserError: The file is missing or not a model that onnxruntime can run.
    """

    def __init__(self, path: str | Path, *, threads: int = 1) -> None:
        runtime = require("onnxruntime", "onnx")
        self.path, self.threads = Path(path), threads
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        if not self.path.is_file():
            raise UserError(f"{path}: no such file")
        try:
            self._session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise UserError(f"{path}: onnxruntime cannot run this file: {str(error).splitlines()[0]}") from error
        self.inputs = [_port(node) for node in self._session.get_inputs()]
        self.outputs = [_port(node) for node in self._session.get_outputs()]

    @property
    def metadata(self) -> dict[str, str]:
        """Strings kept inside the file."""
        return dict(self._session.get_modelmeta().custom_metadata_map)

    def __call__(self, **inputs: np.ndarray | Tensor) -> dict[str, np.ndarray]:
        """Run the graph on inputs by name; outputs by name."""
        arrays = {key: value.numpy() if isinstance(value, Tensor) else value for key, value in inputs.items()}
        values = self._session.run(None, arrays)
        return {port.name: value for port, value in zip(self.outputs, values, strict=True)}


def _port(node: Any) -> _Port:
    return _Port(node.name, tuple(d if isinstance(d, int) else None for d in node.shape), node.type)


def _name_batch(model: Any, name: str | None) -> None:
    """Call the dynamic axis 0 of inputs and outputs ``name``, whatever the exporter called it."""
    if name is None:
        return
    import onnx_ir

    for value in [*model.graph.inputs, *model.graph.outputs]:
        if value.shape is not None and len(value.shape) and not isinstance(value.shape[0], int):
            value.shape = onnx_ir.Shape([name, *list(value.shape)[1:]])


def _bytes_of_weights(module: nn.Module) -> int:
    return sum(t.numel() * t.element_size() for t in [*module.parameters(), *module.buffers()])


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Without the exporters' warnings about themselves and about packages that this one does not need."""
    chatty = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [log.level for log in chatty]
    for log in chatty:
        log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for log, level in zip(chatty, levels, strict=True):
            log.setLevel(level)
