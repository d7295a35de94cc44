r"""Autoregressive density of amounts that are exactly zero below a threshold.

Energies in the cells of a detector, or of any list with a noise cut, are zero or at least :math:`t`.  A smooth density
must smear the zeros out and cut afterwards; here they are part of the distribution.  The conditional of an amount is
a mixture of Gaussians in :math:`y = \log(x / t)`, *censored* at both ends (Tobin 1958 for one component):

.. math::
    P(x = 0) &= w_0 + \sum_k w_k F_k(0), \\
    p(x) &= \tfrac{1}{x} \sum_k w_k f_k(y), \qquad 0 < y < U, \\
    P(x = R) &= w_R + \sum_k w_k (1 - F_k(U)), \qquad U = \log\max((R - t) / t, 1),

with R the remainder of a known sum (:class:`~cathode.density.budgets.Budgets`): what would leave less than t takes all
of it.  Weights :math:`w_0, w_R, w_k`, locations and scales come from a
:class:`~cathode.density.networks.grouped_made.GroupedMade` of the earlier amounts, the context and the remainder, so
the likelihood is exact, and samples have exact zeros, respect the threshold and add up to the known sums.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from cathode.density.base import ConditionalDensity
from cathode.density.budgets import Budgets
from cathode.density.networks.grouped_made import GroupedMade
from cathode.density.registry import buildable

__all__ = ["CensoredAutoregressive"]

_LOG_SCALE = (-7.0, 2.0)
_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
# Numbers that describe a known amount to the network: logarithm, whether it is positive, and something in between.
_INPUTS = 3
_EMBEDDING = 16


@buildable("censored-autoregressive")
class CensoredAutoregressive(ConditionalDensity):
    """Conditional density of amounts ``(B, D)``, each 0 or at least ``threshold``.

    Args:
        features: D.
        context_features: C.  Columns named in ``totals`` and ``amounts`` are in the units of the amounts, the others
            should have about unit scale.
        threshold: t, in the units of the amounts.  None: unbounded features of about unit scale, no zeros.
        order: Order of generation, a permutation of the D features; default: as they are.
        groups: Group of each feature *in the order of generation*, never falling; default: each its own.
        blocks: Block of each feature, *as the features are numbered*; those of a block share a known sum, and no two of
            them may be in one group.  Default: no known sums.
        totals: Context column with the sum of each block.
        amounts: Other context columns in the units of the amounts; the network sees them on a logarithmic scale.
        components: K.
        hidden: Width of the network.
        layers: Its residual blocks.
        bottleneck: Numbers per feature that the network hands to the head.
        head: Width of the head, which is shared by all features.
        context_width: Width of the small networks that bring the context to each layer.
        neighbours: For each feature, earlier ones whose amounts its head sees directly (as the features are numbered);
            the network alone is slow to learn that of hundreds of features a few matter most.
        hints: For each feature, context columns that its head sees directly.

    Raises:
        ValueError: An argument that does not fit the others.
    """

    loss_is_nll = True
    near: Tensor
    told: Tensor
    order: Tensor
    inverse_order: Tensor
    sized_columns: Tensor
    rest_columns: Tensor

    def __init__(
        self,
        features: int,
        context_features: int = 0,
        *,
        threshold: float | None = None,
        order: list[int] | None = None,
        groups: list[int] | None = None,
        blocks: list[int] | None = None,
        totals: list[int] | None = None,
        amounts: list[int] | None = None,
        components: int = 4,
        hidden: int = 768,
        layers: int = 2,
        bottleneck: int = 16,
        head: int = 64,
        context_width: int = 64,
        neighbours: list[list[int]] | None = None,
        hints: list[list[int]] | None = None,
    ) -> None:
        super().__init__()
        order = list(range(features)) if order is None else list(order)
        groups = list(range(features)) if groups is None else list(groups)
        if sorted(order) != list(range(features)) or len(groups) != features:
            raise ValueError(f"order must be a permutation, and groups a list, of {features} features")
        if threshold is not None and threshold <= 0:
            raise ValueError(f"threshold is {threshold}; give a positive amount, or none")
        if (blocks is None) != (totals is None) or (blocks is not None and max(blocks) + 1 != len(totals or [])):
            raise ValueError("blocks and totals go together, one context column for each block")
        if (blocks or amounts) and threshold is None:
            raise ValueError("known sums and amounts need a threshold")
        if any(len(rows) != features for rows in (blocks, neighbours, hints) if rows is not None):
            raise ValueError(f"blocks, neighbours and hints are lists of {features}, one entry for each feature")
        named = [*(totals or []), *(amounts or []), *(column for row in hints or [] for column in row)]
        if any(not 0 <= column < context_features for column in named):
            raise ValueError(f"totals, amounts and hints are numbers of the {context_features} context columns")
        self.event_shape = (features,)
        self.context_features = context_features
        self.threshold, self.components = threshold, components
        self.budgets = (
            Budgets([blocks[i] for i in order], groups, threshold)
            if blocks is not None and threshold is not None
            else None
        )
        self.totals = list(totals or [])
        self.sized = self.totals + [c for c in amounts or [] if c not in self.totals]
        self.rest = [c for c in range(context_features) if c not in self.sized]
        # Columns as buffers: the body of a loop in an exported graph cannot hold lists.
        self.register_buffer("sized_columns", torch.tensor(self.sized, dtype=torch.long), persistent=False)
        self.register_buffer("rest_columns", torch.tensor(self.rest, dtype=torch.long), persistent=False)
        self.atoms = (threshold is not None) + (blocks is not None)
        width = len(self.rest) + 2 * len(self.sized)
        self.network = GroupedMade(groups, _INPUTS, bottleneck, width, hidden, layers, context_width)
        numbers = 3 * components + self.atoms
        self.embedding = nn.Parameter(0.5 * torch.randn(features, _EMBEDDING))
        place = {feature: i for i, feature in enumerate(order)}
        near = [[place[n] for n in (neighbours or [[]] * features)[feature]] for feature in order]
        if any(groups[n] >= groups[i] for i, row in enumerate(near) for n in row):
            raise ValueError("neighbours must belong to earlier groups")
        # Row 0 of what is looked up is empty and fills short lists up.
        self.register_buffer("near", _table([[n + 1 for n in row] for row in near]), persistent=False)
        told = [[c + 1 for c in (hints or [[]] * features)[feature]] for feature in order]
        self.register_buffer("told", _table(told), persistent=False)
        direct = _INPUTS * self.near.shape[1] + self.told.shape[1]
        self.mix = nn.Sequential(
            nn.Linear(bottleneck + _EMBEDDING + direct + (5 if blocks is not None else 0), head),
            nn.SiLU(),
            nn.Linear(head, numbers),
        )
        self.direct = nn.Parameter(0.02 * torch.randn(features, bottleneck, numbers))
        start = torch.zeros(features, numbers)
        low, high = (-0.5, 2.5) if threshold is not None and blocks is None else (-1.5, 1.5)
        start[:, self.atoms + components : self.atoms + 2 * components] = torch.linspace(low, high, components)
        start[:, self.atoms + 2 * components :] = -0.3
        self.bias = nn.Parameter(start)
        self.register_buffer("order", torch.tensor(order), persistent=False)
        self.register_buffer("inverse_order", torch.tensor(order).argsort(), persistent=False)

    # -- noise and context -----------------------------------------------------------------------------------

    def noise(
        self, count: int, *, mask: Tensor | None = None, generator: torch.Generator, dtype: torch.dtype | None = None
    ) -> Tensor:
        """``(count, 2 D)`` standard-normal numbers: for each feature one that picks a component and one within it."""
        self._refuse(mask)
        width = 2 * self.event_shape[0]
        return torch.randn((count, width), generator=generator, device=generator.device, dtype=dtype)

    def _context(self, context: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """What the network sees, and the known sums ``(B, blocks)``."""
        if context is None or not self.sized or self.threshold is None:
            return context, None
        sizes = context[:, self.sized_columns].clamp_min(0.0)
        positive = (sizes >= 0.5 * self.threshold).to(sizes)
        scaled = 0.25 * torch.log(sizes / self.threshold + 0.5) - 0.5
        totals = (sizes * positive)[:, : len(self.totals)] if self.totals else None
        return torch.cat([context[:, self.rest_columns], scaled, positive], 1), totals

    def _describe(self, x: Tensor) -> Tensor:
        if self.threshold is None:
            return torch.stack([x, torch.tanh(x), torch.tanh(0.3 * x)], -1)
        relative = x / self.threshold
        positive = (relative > 0).to(x)
        return torch.stack(
            [positive * torch.log(relative.clamp_min(1.0)) / 3.0, positive, 0.05 * relative.clamp_min(0.0).sqrt()], -1
        )

    def _mixture(
        self,
        q: Tensor,
        known: Tensor,
        context: Tensor | None,
        remainder: Tensor | None,
        total: Tensor | None,
        members: slice,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Log-weights (atoms first), locations and log-scales.

        Args:
            q: ``(B, n, Q)`` of the network.
            known: ``(B, k, I)`` descriptions of the first k features in the order of generation.
            context: ``(B, C)``.
            remainder: ``(B, n)`` of the known sums.
            total: ``(B, n)``, these sums.
            members: Which n features, in the order of generation.
        """
        q = functional.silu(q)
        seen = [q, self.embedding[members].expand(len(q), -1, -1)]
        share: Tensor | None = None
        if self.budgets is not None and remainder is not None and total is not None:
            # Locations are relative to an equal share of what is left: the network learns who gets more, not how much
            # there is.
            share = self.budgets.share(remainder, members).unsqueeze(-1)
            seen += [self.budgets.features(remainder, total), 0.3 * share]
        if self.near.shape[1]:
            seen.append(functional.pad(known, (0, 0, 1, 0))[:, self.near[members]].flatten(2))
        if self.told.shape[1] and context is not None:
            seen.append(functional.pad(context, (1, 0))[:, self.told[members]])
        raw = self.mix(torch.cat(seen, -1))
        raw = raw + torch.einsum("bvq,vqp->bvp", q, self.direct[members]) + self.bias[members]
        weights = self.atoms + self.components
        logits, location, log_scale = raw.split([weights, self.components, self.components], -1)
        if share is not None and remainder is not None and self.threshold is not None:
            location = location + share
            # The more is left the less likely one feature takes it all: without this the small probabilities that a
            # network leaves everywhere give, one time in a thousand, everything to a feature that never has much.
            steep = torch.log1p(remainder / self.threshold).unsqueeze(-1)
            logits = torch.cat([logits[..., :1], logits[..., 1:2] - steep, logits[..., 2:]], -1)
        return torch.log_softmax(logits, -1), location, log_scale.clamp(*_LOG_SCALE)

    @torch.no_grad()
    def initialise(self, x: Tensor, context: Tensor | None = None) -> None:
        """Start from the features' own distributions: probabilities of the atoms, and components at the quantiles.

        Shares of a sum may differ by orders of magnitude; from a common start, components far below it would first
        grow wide, and some would stay so.

        Args:
            x: ``(N, D)`` training events, a few thousand are enough.
            context: ``(N, C)``.
        """
        x = x[:, self.order]
        _, totals = self._context(context)
        active, y = torch.ones_like(x, dtype=torch.bool), x
        whole = torch.zeros_like(active)
        if self.threshold is not None:
            y = torch.log((x / self.threshold).clamp_min(1.0))
        if self.budgets is not None and totals is not None:
            remainder = self.budgets.remainders(x)
            active = (remainder > 0) & ~self.budgets.last
            whole = active & (x > 0) & (x >= remainder)
            y = y - self.budgets.share(remainder, slice(0, x.shape[1]))
        zero = active & (x <= 0) if self.threshold is not None else torch.zeros_like(active)
        k, first = self.components, self.atoms
        for i in range(x.shape[1]):
            count = float(active[:, i].sum())
            values = y[active[:, i] & ~zero[:, i] & ~whole[:, i], i]
            if first:
                # One pseudo-event keeps what was never seen possible; the network's own term for "takes all" stays.
                self.bias[i, 0] = math.log((float(zero[:, i].sum()) + 1.0) / (len(values) + 1.0)) + math.log(k)
            if first > 1:
                self.bias[i, 1] = math.log((float(whole[:, i].sum()) + 1.0) / (len(values) + 1.0)) + math.log(k)
            if count and len(values) >= 2 * k:
                places = torch.quantile(values, (torch.arange(k, device=x.device) + 0.5).to(values) / k)
                spread = float(places[-1] - places[0]) / max(k - 1, 1) if k > 1 else float(values.std())
                self.bias[i, first + k : first + 2 * k] = places
                self.bias[i, first + 2 * k :] = math.log(max(spread, 0.05))

    # -- density ---------------------------------------------------------------------------------------------

    def log_prob(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Log-density ``(B,)``: probability of the zeros and remainders times density of the other amounts, nats.

        Known sums are taken from the events: the context's must be theirs.
        """
        x = x[:, self.order]
        seen, totals = self._context(context)
        remainder = total = None
        if self.budgets is not None and totals is not None:
            remainder, total = self.budgets.remainders(x), totals[:, self.budgets.block]
        known = self._describe(x)
        q = self.network(known, seen)
        everything = slice(0, len(self.order))
        log_w, location, log_scale = self._mixture(q, known, context, remainder, total, everything)
        y = x if self.threshold is None else torch.log((x / self.threshold).clamp_min(1.0))
        inverse = torch.exp(-log_scale)
        u = (y.unsqueeze(-1) - location) * inverse
        inside = torch.logsumexp(log_w[..., self.atoms :] - 0.5 * u.square() - log_scale, -1) - _HALF_LOG_2PI
        if self.threshold is None:
            return inside.sum(-1)
        zero = torch.logsumexp(
            torch.cat([log_w[..., :1], log_w[..., self.atoms :] + _log_cdf(-location * inverse)], -1), -1
        )
        value = torch.where(x > 0, inside - y - math.log(self.threshold), zero)
        if remainder is None:
            return value.sum(-1)
        bound = torch.log(((remainder - self.threshold) / self.threshold).clamp_min(1.0))
        beyond = _log_cdf((location - bound.unsqueeze(-1)) * inverse)
        whole = torch.logsumexp(torch.cat([log_w[..., 1:2], log_w[..., 2:] + beyond], -1), -1)
        value = torch.where((x > 0) & (x >= remainder), whole, value)
        settled = (remainder <= 0) | self.budgets.last  # type: ignore[union-attr]
        return value.masked_fill(settled, 0.0).sum(-1)

    def loss(
        self,
        x: Tensor,
        context: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Negative log-density, nats; uses no randomness."""
        self._refuse(mask)
        return -self.log_prob(x, context)

    def decode(self, noise: Tensor, context: Tensor | None = None, *, mask: Tensor | None = None) -> Tensor:
        """Amounts ``(B, D)`` from noise ``(B, 2 D)``, group after group; exact zeros and sums."""
        self._refuse(mask)
        d = self.event_shape[0]
        choice, place = 0.5 + 0.5 * torch.erf(noise[:, :d] * math.sqrt(0.5)), noise[:, d:]
        seen, totals = self._context(context)
        stepper = self.network.stepper(seen, len(noise))
        pieces: list[Tensor] = []
        described = [noise.new_zeros((len(noise), 0, _INPUTS))]
        remainders = totals
        for group, members in enumerate(self.network.members):
            q = stepper.outputs(group)
            left = total = None
            if self.budgets is not None and totals is not None and remainders is not None:
                owner = self.budgets.block[members]
                left, total = remainders[:, owner], totals[:, owner]
            known = torch.cat(described, 1) if len(described) > 1 else described[0]
            mixture = self._mixture(q, known, context, left, total, members)
            x = self._draw(mixture, choice[:, members], place[:, members])
            if self.budgets is not None and remainders is not None and left is not None:
                x = self.budgets.spend(x, left, members)
                remainders = self.budgets.charge(remainders, x, members)
            described = [known, self._describe(x)]
            stepper.push(described[1])
            pieces.append(x)
        return torch.cat(pieces, 1)[:, self.inverse_order]

    def _draw(self, mixture: tuple[Tensor, Tensor, Tensor], choice: Tensor, place: Tensor) -> Tensor:
        """Amounts of a group before the known sums have their say; the whole remainder is infinite."""
        log_w, location, log_scale = mixture
        picked = (log_w.exp().cumsum(-1) < choice.unsqueeze(-1)).sum(-1, keepdim=True).clamp_max(log_w.shape[-1] - 1)
        component = (picked - self.atoms).clamp_min(0)
        y = location.gather(-1, component) + log_scale.gather(-1, component).exp() * place.unsqueeze(-1)
        if self.threshold is None:
            return y.squeeze(-1)
        x = torch.where((picked == 0) | (y <= 0), 0.0, self.threshold * y.clamp(0.0, 40.0).exp())
        if self.budgets is not None:
            x = torch.where(picked == 1, torch.inf, x)
        return x.squeeze(-1)

    @staticmethod
    def _refuse(mask: Tensor | None) -> None:
        if mask is not None:
            raise ValueError("a censored autoregressive density is a density of vectors; it takes no mask")


def _table(rows: list[list[int]]) -> Tensor:
    """Lists of different lengths as one table, filled up with 0."""
    longest = max((len(row) for row in rows), default=0)
    return torch.tensor([row + [0] * (longest - len(row)) for row in rows], dtype=torch.long).reshape(
        len(rows), longest
    )


def _log_cdf(u: Tensor) -> Tensor:
    """Logarithm of the standard normal distribution function; farther out its float32 derivative is wrong."""
    return torch.special.log_ndtr(u.clamp_min(-200.0))
