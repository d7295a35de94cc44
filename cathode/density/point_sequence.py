r"""Sets of points with an amount each, as a sequence of falling amounts with one transformer.

The points of a set, ordered by their amount, are a sequence, and its density factorises without approximation,

.. math:: p(x_1 \dots x_n \mid c, n) = \prod_i p(a_i \mid x_{<i}, c)\, p(f_i \mid a_i, x_{<i}, c)\,
          p(u_i, v_i \mid f_i, a_i, x_{<i}, c),

with the amount :math:`a`, an optional flag :math:`f` and the position :math:`(u, v)` of each point.  A causal
transformer sees all factors of a set at once, so training costs one pass, and each factor is a mixture of Gaussians,
whose likelihood is exact: "JetGPT" (Butter et al., arXiv 2305.10475, Sec. 2.3; the order by falling amount as in Finke
et al., arXiv 2303.07364, who use discrete tokens).  Deviations from JetGPT, each of which makes the factors simpler:

* Amounts are predicted as the fraction of the way from the previous amount down to the floor (on a logarithmic scale),
  so order and threshold hold by construction.
* Every token carries the running moments of the points so far: their sum, centroid and spread, what is left of them,
  and where the rest would have to be for the centroid to be 0.
* The position is one two-dimensional mixture with correlations, and it comes after the amount.
* Part of that mixture sits on the points so far, with widths over several orders of magnitude: points come in clusters
  within clusters, which Gaussians at freely predicted places blur.
* Points may sit on a lattice (cells of a detector): the flag tells which do.  For these the density is one of cells,
  learned through uniform noise within the cell (Theis et al., arXiv 1511.01844, eq. 5), and a sampled position is
  moved to the centre of its cell *before* the next point is drawn.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from cathode.density.base import ConditionalDensity
from cathode.density.mixtures import GaussianHead
from cathode.density.networks.causal import CausalBlock
from cathode.density.planar_mixtures import (
    Spots,
    component,
    initial_components,
    log_mixture,
    sample_mixture,
    sample_mixture_with_spots,
)
from cathode.density.registry import buildable

__all__ = ["PointSequence"]

_EDGE = 1e-5
_INSIDE = 0.9995
# Columns of noise of a point: component and value of the amount, the flag, component and values of the position.
_NOISE = 6
_TOKEN = 22
_AMOUNTS = GaussianHead()
# Around earlier points: size of queries and keys, logarithms of the first widths and logit of the first weights.
_NEAR_WIDTH = 32
_NEAR_SCALES = (math.log(0.002), math.log(0.008), math.log(0.03), math.log(0.1))
_NEAR_WEIGHT = -3.0
_NEAR_LOG_SCALE = (-9.0, 0.5)


class _Moments(NamedTuple):
    """Sums over points: of amounts ``(B, ...)``, of these times position ``(B, ..., 2)``, and times its squares."""

    total: Tensor
    first: Tensor
    second: Tensor


class _Near(NamedTuple):
    """Earlier points that others may lie close to: keys ``(B, M, 32 + S)`` and positions ``(B, M, 2)``."""

    keys: Tensor
    positions: Tensor


def _products(amount: Tensor, position: Tensor) -> _Moments:
    u, v = position[..., 0], position[..., 1]
    squares = torch.stack([u * u, u * v, v * v], dim=-1)
    return _Moments(amount, amount.unsqueeze(-1) * position, amount.unsqueeze(-1) * squares)


@buildable("point-sequence")
class PointSequence(ConditionalDensity):
    """Autoregressive density of sets of points ``(amount, u, v[, flag])``, ordered by falling amount.

    Amounts are positive and, in a complete set, of unit sum; positions are relative to the centroid.  For jets: the
    fraction of the jet's pT, and the distance to its axis in eta and phi.  Contexts are raw; they are standardised with
    statistics of the training events (:meth:`initialise`, to be called before training).

    Arguments:
        points: P, the largest number of points.
        context_features: C.
        flag: Whether a fourth column says which points are on the lattice.
        width, heads, blocks, expansion: Of the transformer.
        components: Of the mixture for positions.
        amount_components: Of the mixture for amounts.
        head_width: Hidden size of the networks between transformer and mixtures.
        position_scale: Distances well below it are seen linearly, above it logarithmically (``asinh``).
        near: Leading points that later ones may lie close to: the mixture for positions then has a Gaussian around
            each of these at each of four widths, weighted by attention.  0 for none.
        radius: Largest distance from the centroid, for example the radius of the jets; the few points beyond it are
            taken as just inside.  None: no limit.
        count_column: Context column with the number of points of the set.
        spread_column: Context column whose exponential is the root of the spread ``sum(a r^2)`` that the complete set
            will have (of a jet, m/pT to lowest order); None: not known.
        floor: Smallest amount times ``exp`` of the context column ``scale_column``; 0 for no floor.
        scale_column: Context column with the logarithm of the total that amounts are fractions of.
        pitch: Size of a cell of the lattice.
        phase_columns: Two context columns with the position of the centroid relative to the centre of its cell.
        low_precision: Run the matrix products of the transformer in bfloat16 while training.

    Raises:
        ValueError: Arguments that do not fit each other.
    """

    loss_is_nll = True
    #: Points do not depend on those after them: the leading ones can be drawn alone.
    in_order = True

    def __init__(
        self,
        points: int,
        context_features: int,
        *,
        flag: bool = False,
        width: int = 96,
        heads: int = 4,
        blocks: int = 3,
        expansion: int = 4,
        components: int = 20,
        amount_components: int = 8,
        head_width: int = 128,
        position_scale: float = 0.03,
        near: int = 0,
        radius: float | None = None,
        count_column: int = 3,
        spread_column: int | None = None,
        floor: float = 0.0,
        scale_column: int | None = None,
        pitch: float = 0.0,
        phase_columns: list[int] | None = None,
        low_precision: bool = False,
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is not a multiple of heads {heads}")
        if floor > 0 and scale_column is None:
            raise ValueError("a floor needs scale_column, the context column with the logarithm of the total")
        if pitch > 0 and (not flag or phase_columns is None or len(phase_columns) != 2):
            raise ValueError("a lattice needs the flag and two phase_columns")
        used = [count_column, spread_column, scale_column, *(phase_columns or [])]
        if any(c is not None and not 0 <= c < context_features for c in used):
            raise ValueError(f"context columns {used} do not fit {context_features} context features")
        self.event_shape, self.context_features = (points, 4 if flag else 3), context_features
        self.points, self.flag, self.width, self.heads = points, flag, width, heads
        self.components, self.amount_components = components, amount_components
        self.position_scale, self.radius, self.floor, self.pitch = position_scale, radius, floor, pitch
        self.count_column, self.spread_column, self.scale_column = count_column, spread_column, scale_column
        self.phase_columns = list(phase_columns or [])
        self.near = min(near, points)
        self.low_precision = low_precision
        self.register_buffer("context_mean", torch.zeros(context_features))
        self.register_buffer("context_std", torch.ones(context_features))
        self.register_buffer("amount_mean", torch.zeros(points))
        self.register_buffer("amount_std", torch.ones(points))
        self.token = nn.Linear(_TOKEN, width)
        self.condition = nn.Sequential(nn.Linear(context_features, width), nn.GELU(), nn.Linear(width, width))
        self.rank = nn.Parameter(0.02 * torch.randn(points, width))
        self.blocks = nn.ModuleList(CausalBlock(width, heads, expansion) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)
        self.amount_head = nn.Sequential(
            nn.Linear(width, head_width), nn.GELU(), nn.Linear(head_width, 3 * amount_components)
        )
        self.given_amount = nn.Linear(4, head_width)
        self.flag_hidden = nn.Linear(width, head_width)
        self.flag_head = nn.Linear(head_width, 1)
        self.position_hidden = nn.Linear(width, head_width)
        self.position_head = nn.Sequential(
            nn.GELU(), nn.Linear(head_width, head_width), nn.GELU(), nn.Linear(head_width, 6 * components)
        )
        if self.near:
            self.near_query = nn.Linear(head_width, _NEAR_WIDTH + 2 * len(_NEAR_SCALES))
            self.near_key = nn.Linear(width, _NEAR_WIDTH + len(_NEAR_SCALES))
            for side, start_scale in ((self.near_query, _NEAR_SCALES), (self.near_key, (0.0,) * len(_NEAR_SCALES))):
                with torch.no_grad():
                    side.weight.mul_(0.5)
                    side.bias.zero_()
                    side.bias[-len(_NEAR_SCALES) :] = torch.tensor(start_scale)
            with torch.no_grad():
                self.near_query.bias[_NEAR_WIDTH : _NEAR_WIDTH + len(_NEAR_SCALES)] = _NEAR_WEIGHT
        for head, start in (
            (self.amount_head, GaussianHead.initial(amount_components)),
            (self.position_head, initial_components(components)),
        ):
            last = head[len(head) - 1]
            assert isinstance(last, nn.Linear)
            with torch.no_grad():
                last.weight.mul_(0.1)
                last.bias.copy_(start)

    context_mean: Tensor
    context_std: Tensor
    amount_mean: Tensor
    amount_std: Tensor

    # --- what the loop calls -------------------------------------------------------------------------------------

    @torch.no_grad()
    def initialise(self, x: Tensor, context: Tensor | None = None) -> None:
        """Statistics of contexts, and of the amounts at each place; points of amount 0 are padding."""
        assert context is not None
        self.context_mean.copy_(context.mean(0))
        self.context_std.copy_(context.std(0).clamp(min=1e-6))
        mask = x[..., 0] > 0
        z, _ = self._amount_forward(x[..., 0], context, mask)
        count = mask.sum(0).clamp(min=1)
        mean = torch.where(mask, z, 0.0).sum(0) / count
        variance = torch.where(mask, (z - mean).square(), 0.0).sum(0) / count
        for place in range(self.points):
            # Places that hardly any set has take the statistics of the last one with enough.
            if int(count[place]) < 20 and place > 0:
                mean[place], variance[place] = mean[place - 1], variance[place - 1]
        self.amount_mean.copy_(mean)
        self.amount_std.copy_(variance.sqrt().clamp(min=0.05))

    def loss(
        self,
        x: Tensor,
        context: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Negative log-density ``(B,)`` of sets, with noise within the cells of the lattice."""
        context = self._given(context)
        noise = None
        if self.pitch > 0:
            device = x.device if generator is None else generator.device
            noise = torch.rand(*x.shape[:2], 2, generator=generator, device=device, dtype=x.dtype).to(x.device) - 0.5
        return -self._log_prob(x, context, mask, noise)

    def log_prob(self, x: Tensor, context: Tensor | None = None, *, mask: Tensor | None = None) -> Tensor:
        """Log-density ``(B,)`` in nats of ordered sets, in the units of ``x``; amounts must fall.

        Points on the lattice are taken as they are given: without noise in their cells it is the density at the centre.
        """
        return self._log_prob(x, self._given(context), mask, None)

    def noise(
        self, count: int, *, mask: Tensor | None = None, generator: torch.Generator, dtype: torch.dtype | None = None
    ) -> Tensor:
        """Standard normal ``(count, P, 6)``: components are chosen by some of the numbers, values by others."""
        points = self.points if mask is None else mask.shape[1]
        return torch.randn((count, points, _NOISE), generator=generator, device=generator.device, dtype=dtype)

    @torch.no_grad()
    def decode(self, noise: Tensor, context: Tensor | None = None, *, mask: Tensor | None = None) -> Tensor:
        """Points ``(B, P, F)`` by falling amount; as many as ``mask`` has, or as the context says."""
        context = self._given(context)
        rows, points = noise.shape[:2]
        if mask is None:
            count = context[:, self.count_column].round()
            mask = torch.arange(points, device=noise.device) < count.unsqueeze(1)
        condition = self._condition(context)
        shape = (rows, self.heads, points, self.width // self.heads)
        keys = [noise.new_zeros(shape) for _ in self.blocks]
        values = [noise.new_zeros(shape) for _ in self.blocks]
        out = noise.new_zeros(rows, points, self.event_shape[1])
        moments = _Moments(noise.new_zeros(rows), noise.new_zeros(rows, 2), noise.new_zeros(rows, 3))
        around = _Near(
            noise.new_zeros(rows, self.near, _NEAR_WIDTH + len(_NEAR_SCALES)), noise.new_zeros(rows, self.near, 2)
        )
        previous = noise.new_ones(rows)
        position, flag = noise.new_zeros(rows, 2), noise.new_zeros(rows)
        for place in range(int(mask.sum(1).max()) if rows else 0):
            seen = self._features(previous, position, flag, moments, context, place)
            h = (self.token(seen) + condition + self.rank[place]).unsqueeze(1)
            for block, k, v in zip(self.blocks, keys, values, strict=True):
                h = block.step(h, k, v, place)  # type: ignore[operator]
            h = self.norm(h[:, 0])
            if 0 < place <= self.near:
                around.keys[:, place - 1], around.positions[:, place - 1] = self.near_key(h), position
            z = _sample_1d(self.amount_head(h), noise[:, place, 0], noise[:, place, 1])
            amount = self._amount_inverse(z, previous, context, place)
            if self.flag:
                chance = torch.sigmoid(self._flag_logit(h, z, place))
                flag = (torch.special.ndtr(noise[:, place, 2]) < chance).to(noise.dtype)
            raw, hidden = self._position_raw(h, z, flag, place)
            seen_near = min(place, self.near)
            if seen_near:
                spots = self._spots(hidden.unsqueeze(1), _Near(*(part[:, :seen_near] for part in around)), None)
                position = self._sample_position(raw, spots, noise[:, place, 3], noise[:, place, 4:6])
            else:
                position = self._unscaled(sample_mixture(raw, noise[:, place, 3], noise[:, place, 4:6]))
            if self.pitch > 0:
                phase = context[:, self.phase_columns]
                centre = torch.round((position + phase) / self.pitch) * self.pitch - phase
                position = torch.where(flag.unsqueeze(1) > 0.5, centre, position)
            real = mask[:, place].to(noise.dtype)
            columns = [amount, position[:, 0], position[:, 1], *([flag] if self.flag else [])]
            out[:, place] = torch.stack(columns, 1) * real.unsqueeze(1)
            more = _products(amount * real, position)
            moments = _Moments(*(a + b for a, b in zip(moments, more, strict=True)))
            previous = amount
        return out

    # --- the parts -----------------------------------------------------------------------------------------------

    def _given(self, context: Tensor | None) -> Tensor:
        if context is None:
            raise ValueError("a sequence of points needs its context: it holds the number of points")
        return context

    def _condition(self, context: Tensor) -> Tensor:
        return self.condition((context - self.context_mean) / self.context_std)

    def _log_prob(self, x: Tensor, context: Tensor, mask: Tensor | None, noise: Tensor | None) -> Tensor:
        mask = x[..., 0] > 0 if mask is None else mask
        real = mask.to(x.dtype)
        amount = torch.where(mask, x[..., 0], 1.0)
        position = x[..., 1:3] * real.unsqueeze(-1)
        flag = x[..., 3] * real if self.flag else torch.zeros_like(amount)
        z, log_slope = self._amount_forward(amount, context, mask)
        z = (z - self.amount_mean[: z.shape[1]]) / self.amount_std[: z.shape[1]]
        log_slope = log_slope - torch.log(self.amount_std[: z.shape[1]])

        added = _products(amount * real, position)
        before = _Moments(*(_shifted(m.cumsum(1)) for m in added))
        seen = self._features(
            _shifted(amount, first=1.0), _shifted(position), _shifted(flag), before, context, slice(0, x.shape[1])
        )
        h = self.token(seen) + self._condition(context).unsqueeze(1) + self.rank[: x.shape[1]]
        with self._autocast(x):
            for block in self.blocks:
                h = block(h)
            h = self.norm(h.to(x.dtype))

        where = slice(0, x.shape[1])
        value = _AMOUNTS.log_prob(z, self.amount_head(h)) + log_slope
        if self.flag:
            value = value - functional.binary_cross_entropy_with_logits(
                self._flag_logit(h, z, where), flag, reduction="none"
            )
        target = position
        if noise is not None:
            target = position + flag.unsqueeze(-1) * self.pitch * noise
        w, log_det = self._scaled(target)
        raw, hidden = self._position_raw(h, z, flag, where)
        spots = None
        if self.near:
            last = min(self.near, x.shape[1] - 1)
            around = _Near(self.near_key(h[:, 1 : last + 1]), position[:, :last])
            places = torch.arange(x.shape[1], device=x.device)
            spots = self._spots(hidden, around, places[:, None] > places[None, :last])
        value = value + log_mixture(raw, w, log_det, spots, target)
        return torch.where(mask, value, 0.0).sum(1)

    def _features(
        self,
        amount: Tensor,
        position: Tensor,
        flag: Tensor,
        before: _Moments,
        context: Tensor,
        place: int | slice,
    ) -> Tensor:
        """What a token knows ``(B, [P,] 22)``: the point before, and the moments of all points before."""
        if isinstance(place, slice):
            context = context.unsqueeze(1)
            index = torch.arange(place.stop, device=amount.device, dtype=amount.dtype).expand(amount.shape)
        else:
            index = torch.full_like(amount, float(place))
        left = (1.0 - before.total).clamp(min=1e-3)
        centre = -before.first / left.unsqueeze(-1)
        spread = before.total * (before.second[..., 0] + before.second[..., 2]) - before.first.square().sum(-1)
        root = spread.clamp(min=1e-8).sqrt()
        if self.spread_column is None:
            share = torch.zeros_like(root)
        else:
            share = root * torch.exp(-context[..., self.spread_column])
        radius = position.square().sum(-1).clamp(min=1e-8).sqrt()
        count = context[..., self.count_column]
        squares = before.second / (before.total.unsqueeze(-1) + 1e-3)
        columns = [
            torch.log(amount.clamp(min=1e-7)) * 0.3 + 1.0,
            flag,
            torch.log(radius) * 0.3,
            torch.log(left) * 0.5,
            left,
            torch.log(root) * 0.3,
            share,
            share.square(),
            (count - index) / self.points,
            torch.log1p((count - index).clamp(min=0.0)) * 0.3,
        ]
        pairs = [
            self._scaled(position)[0] * 0.5,
            position * 3.0,
            torch.asinh(centre / self.position_scale) * 0.3,
            before.first * 10.0,
        ]
        roots = torch.sign(squares) * squares.abs().clamp(min=1e-10).sqrt() * 5.0
        first = (index == 0).to(amount.dtype)
        return torch.cat([torch.stack([*columns, first], dim=-1), *pairs, roots], dim=-1)

    def _amount_range(self, previous: Tensor, context: Tensor) -> Tensor | None:
        """Logarithm of the previous amount over the smallest one, None without a floor."""
        if self.floor <= 0 or self.scale_column is None:
            return None
        smallest = math.log(self.floor) - context[:, self.scale_column]
        if previous.ndim == 2:
            smallest = smallest.unsqueeze(1)
        return (torch.log(previous) - smallest).clamp(min=1e-4)

    def _amount_forward(self, amount: Tensor, context: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """From amounts ``(B, P)`` to unbounded values, and the log-derivatives; padding gives anything finite."""
        amount = torch.where(mask, amount, 1.0).clamp(min=1e-12)
        previous = _shifted(amount, first=1.0)
        drop = torch.log(previous / amount)
        reach = self._amount_range(previous, context)
        if reach is None:
            # Equal amounts (rounded data) are a drop of one part in 10^5.
            drop = drop.clamp(min=_EDGE)
            return torch.log(torch.expm1(drop)), -torch.log(-torch.expm1(-drop)) - torch.log(amount)
        part = (drop / reach).clamp(_EDGE, 1.0 - _EDGE)
        z = torch.logit(part)
        return z, -torch.log(part * (1.0 - part)) - torch.log(reach) - torch.log(amount)

    def _amount_inverse(self, z: Tensor, previous: Tensor, context: Tensor, place: int) -> Tensor:
        z = z * self.amount_std[place] + self.amount_mean[place]
        reach = self._amount_range(previous, context)
        drop = functional.softplus(z) if reach is None else torch.sigmoid(z) * reach
        return previous * torch.exp(-drop)

    def _scaled(self, position: Tensor) -> tuple[Tensor, Tensor]:
        """Positions in the plane that the disk of radius ``radius`` (or the plane itself) is stretched to; log-slopes.

        Directions stay; distances become ``asinh(r / s)`` or ``asinh(r / s / sqrt(1 - r^2 / R^2))``.
        """
        s = self.position_scale
        r = position.square().sum(-1).clamp(min=1e-12).sqrt()
        if self.radius is None:
            w = torch.asinh(r / s)
            log_slope = -0.5 * torch.log(r * r + s * s)
        else:
            # Points at or beyond the edge are taken as just inside of it.
            inside = r.clamp(max=_INSIDE * self.radius)
            position, r = position * (inside / r).unsqueeze(-1), inside
            rest = 1.0 - (r / self.radius).square()
            q = r / s / rest.sqrt()
            w = torch.asinh(q)
            log_slope = -0.5 * torch.log1p(q * q) - 1.5 * torch.log(rest) - math.log(s)
        stretch = w / r
        return position * stretch.unsqueeze(-1), log_slope + torch.log(stretch)

    def _unscaled(self, w: Tensor) -> Tensor:
        length = w.square().sum(-1, keepdim=True).clamp(min=1e-16).sqrt()
        q = self.position_scale * torch.sinh(length.clamp(max=15.0))
        r = q if self.radius is None else q / torch.sqrt(1.0 + (q / self.radius).square())
        return w * (r / length)

    def _amount_terms(self, z: Tensor, flag: Tensor, place: int | slice) -> Tensor:
        physical = z * self.amount_std[place] + self.amount_mean[place]
        return torch.stack([z, 0.2 * z.square(), 0.3 * physical, flag], dim=-1)

    def _flag_logit(self, h: Tensor, z: Tensor, place: int | slice) -> Tensor:
        given = self.given_amount(self._amount_terms(z, torch.zeros_like(z), place))
        return self.flag_head(functional.gelu(self.flag_hidden(h) + given)).squeeze(-1)

    def _position_raw(self, h: Tensor, z: Tensor, flag: Tensor, place: int | slice) -> tuple[Tensor, Tensor]:
        """Parameters of the free part of the mixture for positions, and the hidden values they come from."""
        given = self.given_amount(self._amount_terms(z, flag, place))
        with self._autocast(h):
            hidden = self.position_hidden(h) + given
            *inner, last = self.position_head
            for layer in inner:
                hidden = layer(hidden)
        # Locations and widths of narrow components need all their digits.
        hidden = hidden.to(h.dtype)
        return last(hidden), hidden

    def _spots(self, hidden: Tensor, around: _Near, allowed: Tensor | None) -> Spots:
        """Gaussians around earlier points as seen from the places ``hidden (B, P, W)``; ``allowed (P, M)``."""
        count = len(_NEAR_SCALES)
        query, weight, scale = self.near_query(hidden).split([_NEAR_WIDTH, count, count], dim=-1)
        key, wider = around.keys.split([_NEAR_WIDTH, count], dim=-1)
        match = query @ key.transpose(1, 2) / math.sqrt(_NEAR_WIDTH)
        if allowed is not None:
            match = match.masked_fill(~allowed, -torch.inf)
        logits = match.unsqueeze(-1) + weight.unsqueeze(2)
        log_scale = (scale.unsqueeze(2) + wider.unsqueeze(1)).clamp(*_NEAR_LOG_SCALE)
        return Spots(logits, log_scale, around.positions)

    def _sample_position(self, raw: Tensor, spots: Spots, choice: Tensor, value: Tensor) -> Tensor:
        """Positions ``(B, 2)`` from the whole mixture at one place."""
        free, far, near = sample_mixture_with_spots(raw, spots, choice, value)
        if self.radius is not None:
            r = near.square().sum(-1, keepdim=True).clamp(min=1e-16).sqrt()
            near = near * ((_INSIDE * self.radius) / r).clamp(max=1.0)
        return torch.where(free, self._unscaled(far), near)

    def _autocast(self, x: Tensor) -> torch.autocast:
        return torch.autocast(x.device.type, torch.bfloat16, enabled=self.low_precision and self.training)


def _shifted(values: Tensor, first: float = 0.0) -> Tensor:
    """Each place gets the value of the place before: ``(B, P, ...)``."""
    start = torch.full_like(values[:, :1], first)
    return torch.cat([start, values[:, :-1]], dim=1)


def _sample_1d(raw: Tensor, choice: Tensor, value: Tensor) -> Tensor:
    """Values ``(B,)`` of the Gaussian mixtures ``raw (B, 3K)``, the component chosen by ``choice``."""
    logits, location, log_scale = _AMOUNTS.split(raw)
    k = component(logits, choice)
    return (location.gather(1, k) + torch.exp(log_scale.gather(1, k)) * value.unsqueeze(1)).squeeze(1)
