r"""The transformer encoder of sets, and the network that gives an event its logits.

Pre-norm blocks of multi-head self-attention and feed-forward layers act on the points of a set and a class token,
which alone is read out (Touvron et al., arXiv 2103.17239; for jets the Particle Transformer, arXiv 2202.03772).  There
is no positional encoding, so the output does not depend on the order of the points.  In the last block only the class
token asks: what that block would do to the points, nobody reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cathode.classifiers.transformer.attention import PairBias, packed_attention
from cathode.classifiers.transformer.packing import Bucket, Packing, pack, single_bucket
from cathode.support.errors import UserError

__all__ = ["Architecture", "Block", "SetEncoder", "SetNetwork"]


@dataclass(frozen=True)
class Architecture:
    """Everything that decides the shapes of a :class:`SetNetwork`.

    Args:
        features: F, columns of a point.
        global_features: G, columns of an event.
        groups: Number of jets of an event.
        momentum_columns: 3 (massless) or 4; 0: attention has no bias from pairs.
        event: ``tokens``: the points of all jets attend to each other, told apart by an embedding of their jet.
            ``jets``: each jet is encoded by itself, and its class tokens are then mixed by ``mixing`` blocks.
        width: Columns of a token.
        heads: Attention heads.
        blocks: Blocks of the encoder.
        expansion: Width of the feed-forward layers over ``width``.
        mixing: Blocks between the class tokens of jets.
        dropout: Of the results of attention and feed-forward layers.
        outputs: Logits of an event.

    Raises:
        UserError: Values that do not fit.
    """

    features: int
    global_features: int = 0
    groups: int = 1
    momentum_columns: int = 0
    event: str = "tokens"
    width: int = 64
    heads: int = 4
    blocks: int = 3
    expansion: int = 2
    mixing: int = 2
    dropout: float = 0.0
    outputs: int = 1

    def __post_init__(self) -> None:
        for name in ("features", "groups", "width", "heads", "blocks", "expansion", "mixing", "outputs"):
            if getattr(self, name) < 1:
                raise UserError(f"transformer: {name}={getattr(self, name)} must be at least 1")
        if self.width % self.heads:
            raise UserError(f"transformer: width={self.width} is not a multiple of heads={self.heads}")
        if self.event not in ("tokens", "jets"):
            raise UserError(f"transformer: event={self.event!r} is unknown; use tokens or jets")
        if self.momentum_columns and self.blocks < 2:
            raise UserError("transformer: a bias from pairs needs at least 2 blocks, as the last one reads out only")
        if not 0 <= self.dropout < 1:
            raise UserError(f"transformer: dropout={self.dropout} must be in [0, 1)")

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


class Block(nn.Module):
    """Pre-norm block: ``h + attention(norm(h))``, then ``h + feed_forward(norm(h))``."""

    def __init__(self, width: int, heads: int, expansion: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, expansion * width), nn.GELU(), nn.Linear(expansion * width, width)
        )
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()

    def forward(
        self,
        h: Tensor,
        buckets: Sequence[Bucket],
        pair_biases: Sequence[Tensor] | None = None,
        *,
        readers: Tensor | None = None,
    ) -> Tensor:
        """Rows ``(T, W)`` to rows ``(T, W)``, or to those of the class tokens alone, ``(S, W)``, if ``readers`` has
        their rows ``(S,)``.
        """
        n = self.norm1(h)
        keys_values = self.key_value(n)
        if readers is not None:
            # The class token attends without a bias from pairs, as it has no momentum.
            h, n, pair_biases = h.index_select(0, readers), n.index_select(0, readers), None
        attended = packed_attention(
            self.query(n), keys_values, self.heads, buckets, pair_biases, readers=readers is not None
        )
        h = h + self.dropout(self.out(attended))
        return h + self.dropout(self.feed_forward(self.norm2(h)))


class SetEncoder(nn.Module):
    """What points become in the context of their set, and a summary of the set.

    Points are standardised with stored means and standard deviations (:meth:`standardise`), so inputs may be in any
    unit.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        a = architecture
        self.register_buffer("mean", torch.zeros(a.features))
        self.register_buffer("scale", torch.ones(a.features))
        self.embed = nn.Sequential(nn.Linear(a.features, a.width), nn.GELU(), nn.Linear(a.width, a.width))
        self.class_token = nn.Parameter(0.02 * torch.randn(a.width))
        self.pair_bias = PairBias(a.heads) if a.momentum_columns else None
        self.blocks = nn.ModuleList(Block(a.width, a.heads, a.expansion, a.dropout) for _ in range(a.blocks))
        self.norm = nn.LayerNorm(a.width)

    @torch.no_grad()
    def standardise(self, points: Tensor, mask: Tensor, momenta: Tensor | None = None) -> None:
        """Take the scales of the inputs from events ``(B, P, F)``; without any point they stay as they are."""
        real = points[mask].double()
        if not len(real):
            return
        self.mean.copy_(real.mean(0))
        self.scale.copy_(_spread(real))
        if self.pair_bias is not None and momenta is not None and bool(mask[:_PAIR_EVENTS].any()):
            self.pair_bias.standardise(momenta[:_PAIR_EVENTS], mask[:_PAIR_EVENTS])

    def tokens(self, packing: Packing, points: Tensor, shift: Tensor | None = None) -> Tensor:
        """Embedded points and class tokens as rows ``(T, W)``.

        Args:
            packing: Where they go.
            points: Standardised features of the points, ``(T, F)``.
            shift: Added to the class tokens, in the order of the packing, ``(S, W)``.
        """
        h = self.embed(points)
        classes = self.class_token.expand(len(packing.class_rows), -1)
        return h.index_copy(0, packing.class_rows, classes if shift is None else classes + shift)

    def biases(self, packing: Packing, momenta: Tensor | None) -> list[Tensor] | None:
        """Biases of the attention from momenta ``(events, P, 3 | 4)``; None without them."""
        if self.pair_bias is None or momenta is None:
            return None
        return self.pair_bias(packing.rows(momenta), packing.buckets)

    def points(self, packing: Packing, points: Tensor) -> Tensor:
        """Standardised features ``(T, F)`` of the points ``(events, P, F)``."""
        return packing.rows((points - self.mean) / self.scale)

    def forward(self, h: Tensor, packing: Packing, biases: Sequence[Tensor] | None, *, summary: bool = True) -> Tensor:
        """Tokens ``(T, W)`` through all blocks: the class token of each set of the batch ``(S, W)``, or without
        ``summary`` all rows ``(T, W)``.
        """
        for i, block in enumerate(self.blocks):
            last = summary and i == len(self.blocks) - 1
            h = block(h, packing.buckets, biases, readers=packing.class_rows if last else None)
        h = self.norm(h)
        return h.index_select(0, packing.place) if summary else h


class SetNetwork(nn.Module):
    """Logits of events: the encoder, what it is told of the event, and a head.

    The columns of the event enter the class token, through a small network.
    """

    global_mean: Tensor
    global_scale: Tensor

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        a = self.architecture = architecture
        self.encoder = SetEncoder(a)
        self.register_buffer("global_mean", torch.zeros(a.global_features))
        self.register_buffer("global_scale", torch.ones(a.global_features))
        self.embed_globals = (
            nn.Sequential(nn.Linear(a.global_features, a.width), nn.GELU(), nn.Linear(a.width, a.width))
            if a.global_features
            else None
        )
        self.group = nn.Parameter(0.02 * torch.randn(a.groups, a.width)) if a.groups > 1 else None
        self.mixers = nn.ModuleList()
        if self.by_jet:
            self.event_token = nn.Parameter(0.02 * torch.randn(a.width))
            self.mixers.extend(Block(a.width, a.heads, a.expansion, a.dropout) for _ in range(a.mixing))
            self.mixed_norm = nn.LayerNorm(a.width)
        self.head = nn.Sequential(nn.Linear(a.width, a.width), nn.GELU(), nn.Linear(a.width, a.outputs))

    @property
    def by_jet(self) -> bool:
        """Whether jets are encoded one by one."""
        return self.architecture.event == "jets" and self.architecture.groups > 1

    @torch.no_grad()
    def standardise(
        self, points: Tensor, mask: Tensor, momenta: Tensor | None, columns: Tensor | None, *, encoder: bool = True
    ) -> None:
        """Take the scales of all inputs from training events; those of the encoder only if told."""
        if encoder:
            self.encoder.standardise(points, mask, momenta)
        if columns is not None:
            self.global_mean.copy_(columns.double().mean(0))
            self.global_scale.copy_(_spread(columns.double()))

    def forward(
        self,
        points: Tensor,
        mask: Tensor,
        *,
        group: Tensor | None = None,
        momenta: Tensor | None = None,
        columns: Tensor | None = None,
    ) -> Tensor:
        """Logits ``(B, outputs)`` of events ``points (B, P, F)``, ``mask (B, P)``, ``group (B, P)``, ``momenta
        (B, P, 3 | 4)``, ``columns (B, G)``.
        """
        return self.head(self.summary(points, mask, group=group, momenta=momenta, columns=columns))

    def summary(
        self,
        points: Tensor,
        mask: Tensor,
        *,
        group: Tensor | None = None,
        momenta: Tensor | None = None,
        columns: Tensor | None = None,
    ) -> Tensor:
        """What the head sees, ``(B, W)``; arguments as :meth:`forward`."""
        jets = self.architecture.groups if self.by_jet else 1
        of_event = None
        if self.embed_globals is not None and columns is not None:
            of_event = self.embed_globals((columns - self.global_mean) / self.global_scale)
        if jets > 1 and group is not None:
            numbers = torch.arange(jets, device=mask.device)
            mask = (mask.unsqueeze(1) & (group.unsqueeze(1) == numbers[:, None])).flatten(0, 1)
        packing = pack(mask, sets_per_event=jets)
        h = self.encoder.tokens(packing, self.encoder.points(packing, points), self._shift(packing, of_event, jets))
        if self.group is not None and group is not None and jets == 1:
            numbers = torch.arange(len(self.group), device=mask.device)
            of_group = (packing.rows(group.unsqueeze(2)) == numbers) & packing.real
            h = h + of_group.to(h.dtype) @ self.group
        summary = self.encoder(h, packing, self.encoder.biases(packing, momenta))
        return summary if jets == 1 else self._mixed(summary.unflatten(0, (-1, jets)), of_event)

    def _shift(self, packing: Packing, of_event: Tensor | None, jets: int) -> Tensor | None:
        """What the class tokens are told of their event and jet, in the order of the packing."""
        shift = None if of_event is None else of_event.index_select(0, packing.order // jets)
        if jets > 1 and self.group is not None:
            of_jet = self.group.index_select(0, packing.order % jets)
            shift = of_jet if shift is None else shift + of_jet
        return shift

    def _mixed(self, of_jets: Tensor, of_event: Tensor | None) -> Tensor:
        """Summaries of the jets ``(B, J, W)`` to one of the event ``(B, W)``."""
        assert self.group is not None
        event = self.event_token.expand(len(of_jets), -1)
        event = event if of_event is None else event + of_event
        tokens = torch.cat([event.unsqueeze(1), of_jets + self.group], dim=1)
        sets, count, width = tokens.shape
        buckets = single_bucket(sets, count)
        h = tokens.reshape(sets * count, width)
        readers = torch.arange(sets, device=h.device) * count
        for i, block in enumerate(self.mixers):
            h = block(h, buckets, readers=readers if i == len(self.mixers) - 1 else None)
        return self.mixed_norm(h)


_PAIR_EVENTS = 256


def _spread(values: Tensor) -> Tensor:
    """Standard deviation of each column, 1 where it is 0."""
    spread = values.std(0, correction=0)
    return torch.where(spread > 1e-6 * (1 + values.abs().amax(0)), spread, torch.ones_like(spread))
