r"""Autoregressive sampling as one fixed sequence of operations, for graphs that cannot loop until something converges.

*The network.*  Sampling D features evaluates a MADE D times, though each hidden unit changes only once: a unit of
degree :math:`d` is final as soon as the first :math:`d` features are known.  :class:`StepwiseMade` computes every unit
at the step at which it becomes final, from slices of the weights without their masked entries, so that all D steps
together cost one evaluation of the network.

*The inverse.*  A bracketed Newton iteration stops when it has converged; here the bracket is divided into 32 parts four
times, and the solution interpolated in the last one, which is 10^-6 of the first.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from cathode.density.autoregressive import AutoregressiveMixture
from cathode.density.base import ConditionalDensity
from cathode.density.elementary import normal_upper_tail
from cathode.density.mixtures import DiscretisedLogisticHead, GaussianHead, LogisticHead, MixtureHead
from cathode.density.networks.made import Made, MaskedLinear
from cathode.support.errors import UserError

__all__ = ["StepwiseMade", "StepwiseState", "UnrolledMixture", "mixture_quantile"]

_PARTS, _ROUNDS = 32, 4
# The same function gives the target and the mixture's tail, so that for one component its error of 2e-9 cancels.
_DEGREE = 12


class _Slices(nn.Module):
    """The live blocks of a masked linear layer: ``weights[i]`` maps the units before step i to the new ones."""

    def __init__(self, layer: MaskedLinear, counts: list[int], previous: list[int], *, shift: int) -> None:
        super().__init__()
        weight = (layer.weight * layer.mask).detach()
        self.counts = counts
        self.bias = nn.Parameter(layer.bias.detach().clone())
        self.weights = nn.ParameterList()
        row = 0
        for i, count in enumerate(counts):
            seen = sum(previous[: i + shift])
            self.weights.append(weight[row : row + count, :seen].T.contiguous())
            row += count

    def biases(self, context: Tensor | None, weight: Tensor | None, rows: int) -> list[Tensor]:
        """What does not depend on the features, for each step: ``(B, count)``."""
        if context is None or weight is None:
            return list(self.bias.expand(rows, -1).split(self.counts, dim=-1))
        return list(torch.addmm(self.bias, context, weight).split(self.counts, dim=-1))

    def forward(self, step: int, bias: Tensor, seen: Tensor | None) -> Tensor:
        return bias if seen is None else torch.addmm(bias, seen, self.weights[step])


class StepwiseMade(nn.Module):
    """A :class:`~cathode.density.networks.made.Made`, evaluated one feature after the other.

    Args:
        made: The network; its weights are copied.
    """

    def __init__(self, made: Made) -> None:
        super().__init__()
        self.features, self.outputs = made.features, made.outputs
        units, shift = [1] * made.features, 0  # of the layer before: features are known one step later than units
        self.layers = nn.ModuleList()
        for width, layer in zip(made.hidden, made.layers, strict=True):
            degrees = torch.arange(width) * made.features // width
            counts = torch.bincount(degrees, minlength=made.features).tolist()
            self.layers.append(_Slices(layer, counts, units, shift=shift))  # type: ignore[arg-type]
            units, shift = counts, 1
        self.residual = [i > 0 and made.hidden[i - 1] == width for i, width in enumerate(made.hidden)]
        self.head = _Slices(made.head, [made.outputs] * made.features, units, shift=shift)
        self.from_context = nn.ParameterList()
        if made.head_context is not None:
            linears = [*made.contexts, made.head_context]
            self.from_context = nn.ParameterList([m.weight.detach().T.contiguous() for m in linears])  # type: ignore[operator,union-attr]

    def start(self, rows: int, context: Tensor | None = None) -> StepwiseState:
        """The state before the first feature; ``context (B, C)``."""
        biases = []
        for i, layer in enumerate([*self.layers, self.head]):
            assert isinstance(layer, _Slices)
            weight = self.from_context[i] if len(self.from_context) else None
            biases.append(layer.biases(context, weight, rows))
        return StepwiseState(step=0, biases=biases, seen=[None] * (len(self.layers) + 1))

    def outputs_of_next(self, state: StepwiseState) -> Tensor:
        """Outputs ``(B, outputs)`` for the next feature; call :meth:`StepwiseState.append` with its value after it."""
        step, seen = state.step, state.seen
        below: Tensor | None = None
        for index, (layer, residual) in enumerate(zip(self.layers, self.residual, strict=True)):
            assert isinstance(layer, _Slices)
            if not layer.counts[step]:
                below = None
                continue
            new = functional.silu(layer(step, state.biases[index][step], seen[index]))
            if residual and below is not None:
                new = new + below
            seen[index + 1] = _joined(seen[index + 1], new)
            below = new
        assert isinstance(self.head, _Slices)
        return self.head(step, state.biases[-1][step], seen[-1])


@dataclass
class StepwiseState:
    """What is known so far: the features and the units of each layer, ``seen[l] (B, n)``, None while there are none."""

    step: int
    biases: list[list[Tensor]]
    seen: list[Tensor | None]

    def append(self, feature: Tensor) -> None:
        """The value ``(B,)`` of the feature that :meth:`StepwiseMade.outputs_of_next` spoke about."""
        self.seen[0] = _joined(self.seen[0], feature.unsqueeze(-1))
        self.step += 1


def _joined(known: Tensor | None, new: Tensor) -> Tensor:
    return new if known is None else torch.cat([known, new], -1)


def mixture_quantile(head: MixtureHead, z: Tensor, raw: Tensor) -> Tensor:
    """The ``x`` with ``F(x) = Phi(z)`` for a mixture, as ``head.decode``: ``z (B,)``, ``raw (B, 3K)``, in float64."""
    log_w, location, log_scale = (t.double() for t in head.split(raw))
    w, inverse = log_w.exp(), torch.exp(-log_scale)
    target = z.double()
    # The smaller tail keeps all digits: below the median sign is 1 and F is compared, above it -1 and 1 - F.
    sign = torch.where(target < 0, 1.0, -1.0).to(target)
    q = normal_upper_tail(target.abs(), degree=_DEGREE)
    if isinstance(head, LogisticHead):
        component = sign * (q.log() - torch.log1p(-q))
    elif isinstance(head, GaussianHead):
        component = target
    else:
        raise UserError(f"{type(head).__name__} has no form for export")

    def tail(x: Tensor) -> Tensor:
        """Tail of the mixture at ``x (B, P)``."""
        u = sign[:, None, None] * (x.unsqueeze(-1) - location.unsqueeze(1)) * inverse.unsqueeze(1)
        one = torch.sigmoid(u) if isinstance(head, LogisticHead) else normal_upper_tail(-u, degree=_DEGREE)
        return (w.unsqueeze(1) * one).sum(-1)

    quantiles = location + component.unsqueeze(-1) * torch.exp(log_scale)
    low = quantiles.amin(-1, keepdim=True)
    width = quantiles.amax(-1, keepdim=True) - low
    grid = torch.arange(1, _PARTS, dtype=torch.float64) / _PARTS
    goal, side = q.unsqueeze(-1), sign.unsqueeze(-1)
    for _ in range(_ROUNDS):
        below = (tail(low + width * grid) - goal) * side < 0
        low = low + width * (below.sum(-1, keepdim=True).double() / _PARTS)
        width = width / _PARTS
    edges = tail(torch.cat([low, low + width], -1))
    first, last = edges[:, :1], edges[:, 1:]
    rise = last - first
    flat = rise == 0
    fraction = torch.where(flat, 0.5, (goal - first) / torch.where(flat, 1.0, rise)).clamp(0.0, 1.0)
    x = (low + width * fraction).squeeze(-1)
    return (torch.round(x) if isinstance(head, DiscretisedLogisticHead) else x).to(z.dtype)


class UnrolledMixture(ConditionalDensity):
    """An :class:`~cathode.density.autoregressive.AutoregressiveMixture` that decodes by a fixed sequence of operations.

    Args:
        density: Its weights are copied.
    """

    def __init__(self, density: AutoregressiveMixture) -> None:
        super().__init__()
        self.event_shape, self.context_features = density.event_shape, density.context_features
        self.heads = density.heads
        self.made = StepwiseMade(density.made)

    def decode(self, noise: Tensor, context: Tensor | None = None, *, mask: Tensor | None = None) -> Tensor:
        """Events ``(B, D)``."""
        if mask is not None:
            raise ValueError("an autoregressive mixture is a density of vectors; it takes no mask")
        state = self.made.start(noise.shape[0], context)
        columns: list[Tensor] = []
        for z, head in zip(noise.unbind(-1), self.heads, strict=True):
            columns.append(mixture_quantile(head, z, self.made.outputs_of_next(state)))
            state.append(columns[-1])
        return torch.stack(columns, -1)
