r"""A Gaussian copula of values with many exact zeros on sectors that are all alike, with sums that are given.

A vector holds n equal sectors of F features; turning the sectors (and mirroring them) leaves its distribution as it is.
Each feature has its own distribution given a column of the context (:class:`ConditionalGaussianize`, the same in every
sector); the transformed features are jointly Gaussian given the whole context,

.. math:: z = m(c) + s(c) \sum_b h_b(c)\, U^T R_b\, U\, \varepsilon ,

where ``U`` is the real Fourier transform along the sectors, in which a covariance that does not change under turns
falls into one F x F block for each frequency, :math:`R_b` holds the symmetric square roots of these blocks,
:math:`h_b` are piecewise linear weights of one context column, and ``m`` is a regression on the context as in
:class:`ConditionalWhiten`.  The full covariance of nF features costs F x F numbers for each of n / 2 + 1 frequencies.

Blocks of features add up to columns of the context.  A block without any feature above the threshold gets the one that
is closest to it; then the latent values of each block are shifted by one number, found by bisection, such that the
logarithm of its sum comes a given part of the way to what it should be.  Both steps matter where few features are above
the threshold: shifted all the way, blocks light too many features, and scaled all the way, sums are made by a single
one too often.  What is left to the sum is for the caller to scale away.

The fit is in :mod:`cathode.density.cyclic_fit`; the model has no network and nothing that is trained by gradients.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cathode.density.base import ConditionalDensity
from cathode.density.bijections.conditional_quantile import ConditionalGaussianize
from cathode.density.bijections.conditional_whiten import hat_weights
from cathode.density.registry import buildable
from cathode.support.errors import UserError

__all__ = ["CyclicCopula", "fourier_basis"]

#: Regressors reach no further than this many standard deviations.
_REACH = 5.0
#: Latent values are shifted by at most this to give a block its sum.
_SHIFT = 4.0
#: The one feature of a block that would be empty is this far above its bound.
_JUST_ABOVE = 0.02


def fourier_basis(turns: int) -> tuple[Tensor, Tensor]:
    """Orthonormal real Fourier transform ``(turns, turns)``, a row for each component, and the rows' frequencies."""
    angle = 2 * math.pi * torch.arange(turns, dtype=torch.float64) / turns
    rows, frequencies = [torch.full_like(angle, turns**-0.5)], [0]
    for k in range(1, (turns - 1) // 2 + 1):
        rows += [torch.cos(k * angle) * math.sqrt(2 / turns), torch.sin(k * angle) * math.sqrt(2 / turns)]
        frequencies += [k, k]
    if turns % 2 == 0:
        rows.append(torch.cos(turns // 2 * angle) * turns**-0.5)
        frequencies.append(turns // 2)
    return torch.stack(rows), torch.tensor(frequencies)


@buildable("cyclic-copula")
class CyclicCopula(ConditionalDensity):
    """Censored Gaussian copula on ``turns`` equal sectors; see the module.

    Args:
        marginals: Of the F features of a sector, block after block; its columns say which sum each belongs to.
        turns: n, number of sectors.
        blocks: Parts of the vector, ``[first feature, features within a sector]``, sector after sector inside a part;
            together the whole vector.
        sums: Context column with the sum of each block.
        context_features: C.
        column: Context column of the nodes.
        nodes: Nodes, evenly spaced in the logarithm of that column between its fitted extremes.
        plain: Context columns that enter the regression as they are, not by their logarithm.
        firmness: Part of the way, in the logarithm, that shifting brings the sum of a block to its column; 0 to 1.
            About 0.3 keeps the number of features above the threshold right.
        bisections: Steps of the search for the shift.

    Raises:
        UserError: Blocks that do not make up the vector, or columns outside the context.
    """

    ends: Tensor
    location: Tensor
    width: Tensor
    coefficients: Tensor
    scales: Tensor
    roots: Tensor
    basis: Tensor
    order: Tensor
    natural: Tensor
    block_of: Tensor

    def __init__(
        self,
        marginals: ConditionalGaussianize,
        turns: int,
        blocks: list[list[int]],
        sums: list[int],
        context_features: int,
        column: int = 0,
        nodes: int = 5,
        plain: list[int] | None = None,
        firmness: float = 0.3,
        bisections: int = 8,
    ) -> None:
        super().__init__()
        inner = sum(width for _, width in blocks)
        ends = [(first, first + turns * width) for first, width in blocks]
        if turns < 2 or [a for a, _ in ends] != [0, *[b for _, b in ends[:-1]]] or inner != marginals.features:
            raise UserError(f"{turns} sectors of blocks {blocks} do not make up a vector of {marginals.features} each")
        if len(sums) != len(blocks) or any(not 0 <= k < context_features for k in [*sums, column]) or nodes < 2:
            raise UserError("need a context column for each block and for the nodes, and 2 nodes at least")
        self.marginals, self.turns, self.blocks = marginals, turns, [list(b) for b in blocks]
        if not 0 <= firmness <= 1 or bisections < 1:
            raise UserError(f"firmness {firmness} must lie between 0 and 1, and bisections {bisections} be at least 1")
        self.sums, self.column, self.nodes = list(sums), column, nodes
        self.firmness, self.bisections = firmness, bisections
        self.plain = list(plain or [])
        self.logarithmic = [k for k in range(context_features) if k not in self.plain]
        self.context_features, self.event_shape = context_features, (turns * inner,)
        self.threshold, self.inner = marginals.threshold, inner
        # Features of a block are side by side in every sector, and blocks are often equally wide.
        self.widths = [width for _, width in blocks]
        basis, frequencies = fourier_basis(turns)
        self.frequencies: list[int] = frequencies.tolist()
        regressors = context_features + len(self.logarithmic)
        self.register_buffer("ends", torch.tensor([0.0, 1.0]))
        self.register_buffer("location", torch.zeros(regressors))
        self.register_buffer("width", torch.ones(regressors))
        self.register_buffer("coefficients", torch.zeros(nodes, regressors + 1, inner))
        self.register_buffer("scales", torch.ones(nodes, inner))
        self.register_buffer("roots", torch.eye(inner).repeat(nodes, self.frequencies[-1] + 1, 1, 1))
        self.register_buffer("basis", basis.float(), persistent=False)
        block_of = torch.repeat_interleave(torch.arange(len(blocks)), torch.tensor(self.widths))
        self.register_buffer("block_of", block_of, persistent=False)
        sector = torch.arange(turns).unsqueeze(1)
        order = torch.cat([first + sector * width + torch.arange(width) for first, width in blocks], 1)
        self.register_buffer("order", order.flatten(), persistent=False)
        self.register_buffer("natural", order.flatten().argsort(), persistent=False)

    def extra_repr(self) -> str:
        return f"turns={self.turns}, features={self.inner}, nodes={self.nodes}"

    # What the context says.

    def weights(self, context: Tensor) -> Tensor:
        """``h (B, nodes)``."""
        s = context[:, self.column].clamp(min=self.marginals.floor).log()
        return hat_weights((s - self.ends[0]) / (self.ends[1] - self.ends[0]) * (self.nodes - 1), self.nodes)

    def regressors(self, context: Tensor) -> Tensor:
        """Logarithms, 1 where a column is not empty, and the plain columns: ``(B, R)``."""
        positive = context[:, self.logarithmic]
        logarithms = positive.clamp(min=self.marginals.floor).log()
        return torch.cat([logarithms, (positive >= self.marginals.floor).to(context.dtype), context[:, self.plain]], 1)

    def design(self, context: Tensor) -> Tensor:
        """Standardised regressors and a constant column, ``(B, R + 1)``."""
        scaled = ((self.regressors(context) - self.location) / self.width).clamp(-_REACH, _REACH)
        return torch.cat([scaled, torch.ones_like(scaled[:, :1])], 1)

    def mean(self, context: Tensor) -> Tensor:
        """``m (B, F)``, the same in all sectors."""
        spread = self.weights(context).unsqueeze(2) * self.design(context).unsqueeze(1)
        return spread.flatten(1) @ self.coefficients.flatten(0, 1)

    def tables(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """Probability of zero ``(B, F)`` and quantiles of ln(x / T) above the threshold, ``(B, F, knots)``."""
        zeros, quantiles = [], []
        first = 0
        m = self.marginals
        for width in self.widths:
            part = slice(first, first + width)
            grid = m.grid[first].to(context.dtype)
            s = context[:, m.columns[first]].clamp(min=m.floor).log()
            weights = hat_weights((s - grid[0]) / (grid[-1] - grid[0]) * (m.nodes - 1), m.nodes)
            zeros.append(weights @ m.logit_zero[part].to(context.dtype).T)
            table = m.quantiles[part].to(context.dtype).transpose(0, 1).flatten(1)
            quantiles.append((weights @ table).unflatten(1, (width, m.knots)))
            first += width
        return torch.sigmoid(torch.cat(zeros, 1)), torch.cat(quantiles, 1)

    # Decoding.

    def latent(self, noise: Tensor, context: Tensor) -> Tensor:
        """Latent values ``(B, F, turns)`` before blocks are given their sums."""
        weights = self.weights(context)
        components = noise.unflatten(1, (self.turns, self.inner))
        spread = components.unsqueeze(2) * weights[:, None, :, None]
        mixed = []
        for k in range(self.frequencies[-1] + 1):
            rows = [i for i, f in enumerate(self.frequencies) if f == k]
            part = spread[:, rows[0] : rows[-1] + 1].reshape(-1, self.nodes * self.inner)
            mixed.append((part @ self.roots[:, k].flatten(0, 1)).unflatten(0, (-1, len(rows))))
        smooth = torch.cat(mixed, 1).transpose(1, 2) @ self.basis
        return self.mean(context).unsqueeze(2) + (weights @ self.scales).unsqueeze(2) * smooth

    def values(self, latent: Tensor, zero: Tensor, quantiles: Tensor) -> Tensor:
        """Features ``(B, F, turns)`` of latent values; zeros are exact."""
        m = self.marginals
        survival = 0.5 * torch.erfc(latent.clamp(-5.0, 5.0) * math.sqrt(0.5))
        above = 1.0 - survival - zero.unsqueeze(2)
        logit = above.clamp(min=1e-9).log() - survival.log()
        place = (logit + m.reach) / m.step
        knot = place.floor().clamp(0, m.knots - 2)
        index = knot.long()
        left, right = quantiles.gather(2, index), quantiles.gather(2, index + 1)
        slope = right - left
        beyond = place - knot
        inside = left + beyond * slope
        # Below the first knot it falls exponentially to the threshold.
        first = left * torch.exp((beyond * slope / left).clamp(max=0.0))
        w = torch.where(place < 0, first, inside).clamp(max=60.0)
        return torch.where(above > 0, self.threshold * w.exp(), torch.zeros_like(w))

    def latent_values(self, x: Tensor, context: Tensor) -> Tensor:
        """Latent values ``(B, turns, F)`` of events ``(B, D)``; those of zeros are 0 and mean nothing."""
        m = self.marginals
        zero, quantiles = self.tables(context)
        sectors = x[:, self.order].unflatten(1, (self.turns, -1))
        event, sector, feature = (sectors >= self.threshold).nonzero(as_tuple=True)
        w = (sectors[event, sector, feature] / self.threshold).log().clamp(min=1e-6)
        table = quantiles[event, feature]
        knot = torch.searchsorted(table, w.unsqueeze(1), right=True)[:, 0] - 1
        inside = knot.clamp(0, m.knots - 2).unsqueeze(1)
        left, right = table.gather(1, inside)[:, 0], table.gather(1, inside + 1)[:, 0]
        slope = (right - left) / m.step
        first = -m.reach + (w / left).log() * left / slope
        logit = torch.where(knot < 0, first, -m.reach + inside[:, 0] * m.step + (w - left) / slope).double()
        p = zero[event, feature].double()
        below, survival = p + (1 - p) * torch.sigmoid(logit), (1 - p) * torch.sigmoid(-logit)
        lower = torch.special.ndtri(below.clamp(1e-12, 0.5))
        upper = -torch.special.ndtri(survival.clamp(1e-12, 0.5))
        latent = torch.zeros_like(sectors)
        latent[event, sector, feature] = torch.where(below < 0.5, lower, upper).to(latent.dtype)
        return latent

    def _block_sums(self, values: Tensor) -> Tensor:
        """``(B, F, turns)`` to ``(B, blocks)``."""
        return torch.stack([part.sum((1, 2)) for part in values.split(self.widths, 1)], 1)

    def _spread(self, blocks: Tensor) -> Tensor:
        """``(B, blocks)`` to ``(B, F, 1)``."""
        return blocks[:, self.block_of].unsqueeze(2)

    def solved(self, noise: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Latent values brought near the sums of the blocks, and their features, both ``(B, F, turns)``."""
        latent = self.latent(noise, context)
        zero, quantiles = self.tables(context)
        totals = context[:, self.sums].clamp(min=self.threshold)
        bound = _about_normal_quantile(zero).unsqueeze(2)
        missing = [part.amin((1, 2)) for part in (bound - latent).split(self.widths, 1)]
        latent = latent + self._spread((torch.stack(missing, 1) + _JUST_ABOVE).clamp(min=0.0))
        if self.firmness > 0:
            found = self._block_sums(self.values(latent, zero, quantiles)).clamp(min=self.threshold)
            wanted = found * (totals / found) ** self.firmness
            upper = torch.full_like(totals, _SHIFT)
            lower = -upper
            for _ in range(self.bisections):
                middle = 0.5 * (lower + upper)
                enough = self._block_sums(self.values(latent + self._spread(middle), zero, quantiles)) >= wanted
                upper, lower = torch.where(enough, middle, upper), torch.where(enough, lower, middle)
            latent = latent + self._spread(upper)
        x = self.values(latent, zero, quantiles)
        lit = (x >= self.threshold) & (self._spread(context[:, self.sums]) >= self.threshold)
        return latent, torch.where(lit, x, torch.zeros_like(x))

    def decode(self, noise: Tensor, context: Tensor | None = None, *, mask: Tensor | None = None) -> Tensor:
        if context is None:
            raise ValueError("CyclicCopula needs a context")
        x = self.solved(noise, context)[1]
        return x.transpose(1, 2).flatten(1)[:, self.natural]

    def loss(
        self,
        x: Tensor,
        context: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Nothing here is trained by gradients.

        Raises:
            UserError: Always.
        """
        raise UserError("a cyclic copula has no loss: it is fitted in closed form by fit_cyclic_copula")


def _about_normal_quantile(p: Tensor) -> Tensor:
    """Normal quantile to 5e-4 from elementary operations (Abramowitz & Stegun 26.2.23), within 4.8 of 0."""
    tail = torch.minimum(p, 1.0 - p).clamp(min=1e-6)
    t = (-2.0 * tail.log()).sqrt()
    upper = ((0.010328 * t + 0.802853) * t + 2.515517) / (((0.001308 * t + 0.189269) * t + 1.432788) * t + 1.0)
    return torch.where(p < 0.5, upper - t, t - upper)
