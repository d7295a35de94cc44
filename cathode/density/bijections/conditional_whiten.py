r"""Whitening that depends on the context: a conditional Gaussian taken out of the data.

With :math:`g(c)` the logarithms of the context columns and a flag for each that is empty, and piecewise linear weights
:math:`h_b(\ln c_k)` of one column (the nodes),

.. math:: x = \sum_b h_b(c)\, \left[ m_b + A_b\, g(c) + L_b\, y \right],

where :math:`m_b, A_b` is a ridge regression and :math:`L_b` the Cholesky factor of the covariance of its residuals,
both weighted with :math:`h_b`.  Interpolated factors are lower triangular with a positive diagonal, so the map is a
bijection at every context.  A density of ``y`` that starts as the standard normal starts as this conditional Gaussian.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cathode.density.bijections.base import Bijection
from cathode.density.registry import buildable
from cathode.support.errors import UserError

__all__ = ["ConditionalWhiten", "hat_weights"]

#: Rows whose interpolated factors are in memory at once.
_ROWS = 128
#: Up to this many different contexts per call are solved together, context by context.
_DISTINCT = 64


def _gaps(weights: Tensor) -> list[tuple[int, int, int, float]]:
    """Nodes without events, the nearest ones with events on either side, and the fraction of the way between these."""
    total = weights.sum(0)
    filled = (total > 1e-6 * total.sum()).nonzero()[:, 0].tolist()
    found = []
    for node in range(len(total)):
        if node in filled or not filled:
            continue
        left = max((k for k in filled if k < node), default=filled[0])
        right = min((k for k in filled if k > node), default=filled[-1])
        found.append((node, left, right, (node - left) / (right - left) if right > left else 0.0))
    return found


def hat_weights(position: Tensor, nodes: int) -> Tensor:
    """Piecewise linear weights ``(B, nodes)`` of positions in [0, nodes - 1]; rows sum to 1."""
    index = torch.arange(nodes, device=position.device, dtype=position.dtype)
    return (1.0 - (position.clamp(0.0, nodes - 1.0).unsqueeze(1) - index).abs()).clamp(min=0.0)


@buildable("conditional-whiten")
class ConditionalWhiten(Bijection):
    """Take a conditional Gaussian out of the data; see the module for the formula.

    Size: ``nodes * F^2`` numbers; meant for some hundred features.

    Args:
        features: F.
        context_features: C; columns are not negative, but for those in ``plain``.
        column: Context column of the nodes.
        nodes: Nodes, evenly spaced in the logarithm of that column between its fitted extremes.
        floor: Smallest context value that is told apart, in its unit.
        ridge: Pseudo-events that pull the regression (of standardised columns) to 0.
        shrinkage: Fraction of the covariance that is moved to its diagonal.
        plain: Context columns that enter as they are, not by their logarithm; they may have any sign.
    """

    ends: Tensor
    location: Tensor
    width: Tensor
    coefficients: Tensor
    factors: Tensor

    def __init__(
        self,
        features: int,
        context_features: int,
        column: int = 0,
        nodes: int = 8,
        floor: float = 1.0,
        ridge: float = 3.0,
        shrinkage: float = 0.01,
        plain: list[int] | None = None,
    ) -> None:
        super().__init__(features)
        plain = [] if plain is None else list(plain)
        if any(not 0 <= k < context_features for k in plain) or column in plain:
            raise UserError(f"plain columns {plain} must lie below {context_features} and leave out the node column")
        if not 0 <= column < context_features or nodes < 2:
            raise UserError(f"need a node column below {context_features} and 2 nodes at least, got {column}, {nodes}")
        if not (math.isfinite(floor) and floor > 0) or ridge <= 0 or not 0 <= shrinkage <= 1:
            raise UserError(f"floor {floor} and ridge {ridge} must be positive, shrinkage {shrinkage} between 0 and 1")
        self.context_features, self.column, self.nodes, self.floor = context_features, column, nodes, floor
        self.ridge, self.shrinkage = ridge, shrinkage
        self.plain = plain
        self.logarithmic = [k for k in range(context_features) if k not in plain]
        regressors = context_features + len(self.logarithmic)
        self.register_buffer("ends", torch.tensor([0.0, 1.0], dtype=torch.float64))
        self.register_buffer("location", torch.zeros(nodes, regressors, dtype=torch.float64))
        self.register_buffer("width", torch.ones(nodes, regressors, dtype=torch.float64))
        self.register_buffer("coefficients", torch.zeros(nodes, regressors + 1, features, dtype=torch.float64))
        self.register_buffer("factors", torch.eye(features, dtype=torch.float64).repeat(nodes, 1, 1))

    def extra_repr(self) -> str:
        return f"features={self.features}, context_features={self.context_features}, nodes={self.nodes}"

    def _check(self, x: Tensor) -> None:
        if x.ndim != 2 or x.shape[-1] != self.features:
            raise ValueError(f"x has shape {tuple(x.shape)}, expected (B, {self.features})")

    def weights(self, context: Tensor | None) -> Tensor:
        """``h (B, nodes)``."""
        if context is None or context.shape[-1] != self.context_features:
            raise ValueError(f"ConditionalWhiten needs a context of {self.context_features} columns")
        s = context[:, self.column].double().clamp(min=self.floor).log()
        return hat_weights((s - self.ends[0]) / (self.ends[1] - self.ends[0]) * (self.nodes - 1), self.nodes)

    def regressors(self, context: Tensor) -> Tensor:
        """``g (B, R)``: logarithms, 1 where a column is not empty, and the plain columns."""
        values = context.double()
        positive = values[:, self.logarithmic]
        logarithms = positive.clamp(min=self.floor).log()
        return torch.cat([logarithms, (positive >= self.floor).double(), values[:, self.plain]], dim=1)

    def design(self, context: Tensor, node: int) -> Tensor:
        """Standardised regressors of a node and a constant column, ``(B, R + 1)``."""
        scaled = ((self.regressors(context) - self.location[node]) / self.width[node]).clamp(-8.0, 8.0)
        return torch.cat([scaled, torch.ones_like(scaled[:, :1])], dim=1)

    def fit_nodes(self, context: Tensor) -> None:
        """Set where the nodes are and the scale of the regressors at each; the first half of the fit."""
        s = context[:, self.column].double().clamp(min=self.floor).log()
        low, high = float(s.min()), float(s.max())
        self.ends.copy_(torch.tensor([low, max(high, low + 1e-3)], dtype=torch.float64))
        weights, g = self.weights(context), self.regressors(context)
        for node in range(self.nodes):
            w = weights[:, node : node + 1] / weights[:, node].sum().clamp(min=1e-12)
            mean = (w * g).sum(0)
            self.location[node] = mean
            # A column that does not vary at a node must not become a column of noise.
            self.width[node] = (w * (g - mean).square()).sum(0).sqrt().clamp(min=0.02)
        for node, left, right, share in _gaps(weights):
            for table in (self.location, self.width):
                table[node] = torch.lerp(table[left], table[right], share)

    def fit_gaussian(self, rows: Tensor, context: Tensor, weight: Tensor) -> None:
        """Regression and covariance at every node; the second half of the fit.

        A node with few events of its own takes its neighbours' as well.  One in a gap of the data (an incident energy
        that was left out) is interpolated between the nodes around it: a regression on events of both sides would
        mistake the difference between the sides for the dependence at one energy.
        """
        weights = self.weights(context) * weight.unsqueeze(1)
        gaps = _gaps(weights)
        for node in range(self.nodes):
            if any(node == gap for gap, *_ in gaps):
                continue
            w = weights[:, node]
            spread = 1
            while float((w > 1e-3 * w.max().clamp(min=1e-12)).sum()) < 2 * self.features and spread < self.nodes:
                near = weights[:, max(0, node - spread) : node + spread + 1]
                w, spread = w + 0.1 * near.sum(1), spread + 1
            used = w > 0
            w, x, f = w[used].unsqueeze(1), rows[used], self.design(context[used], node)
            gram = f.T @ (w * f) + self.ridge * torch.eye(f.shape[1], dtype=f.dtype, device=f.device)
            solution = torch.linalg.solve(gram, f.T @ (w * x))
            residual = x - f @ solution
            covariance = residual.T @ (w * residual) / w.sum()
            diagonal = covariance.diagonal().clamp(min=1e-6)
            shrink = max(self.shrinkage, min(1.0, self.features / float(4 * used.sum())) * 0.1)
            covariance = (1 - shrink) * covariance + shrink * torch.diag(diagonal)
            self.coefficients[node] = solution
            self.factors[node] = torch.linalg.cholesky(covariance + 1e-6 * torch.diag(diagonal))
        for node, left, right, share in gaps:
            for table in (self.coefficients, self.factors):
                table[node] = torch.lerp(table[left], table[right], share)

    def _learn_given(self, rows: Tensor, context: Tensor | None, weight: Tensor) -> None:
        if context is None:
            raise ValueError("ConditionalWhiten needs the context to be fitted on")
        self.fit_nodes(context)
        self.fit_gaussian(rows, context, weight)

    def mean(self, context: Tensor, weights: Tensor) -> Tensor:
        """``sum_b h_b (m_b + A_b g)``, ``(B, F)``."""
        g = self.regressors(context).unsqueeze(1)
        scaled = ((g - self.location.double()) / self.width.double()).clamp(-8.0, 8.0)
        design = torch.cat([scaled, torch.ones_like(scaled[..., :1])], dim=2) * weights.unsqueeze(2)
        return design.flatten(1) @ self.coefficients.double().flatten(0, 1)

    def _log_diagonal(self, weights: Tensor) -> Tensor:
        return (weights @ self.factors.double().diagonal(dim1=1, dim2=2)).log().sum(1)

    def _map(self, x: Tensor, context: Tensor | None, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        weights = self.weights(context)
        assert context is not None
        residual = x.double() - self.mean(context, weights)
        return self._solve(residual, weights).to(x.dtype), -self._log_diagonal(weights).to(x.dtype)

    def _solve(self, residual: Tensor, weights: Tensor) -> Tensor:
        factors = self.factors.double()
        distinct, group = torch.unique(weights.detach(), dim=0, return_inverse=True)
        if len(distinct) <= _DISTINCT and not weights.requires_grad:
            y = torch.empty_like(residual)
            for number, row in enumerate(distinct):
                members = (group == number).nonzero()[:, 0]
                factor = torch.einsum("n,nij->ij", row, factors)
                y = y.index_copy(0, members, torch.linalg.solve_triangular(factor, residual[members].T, upper=False).T)
            return y
        pieces = [
            torch.linalg.solve_triangular(
                torch.einsum("bn,nij->bij", w, factors), r.unsqueeze(-1), upper=False
            ).squeeze(-1)
            for w, r in zip(weights.split(_ROWS), residual.split(_ROWS), strict=True)
        ]
        return torch.cat(pieces)

    def _unmap(self, y: Tensor, context: Tensor | None, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        weights = self.weights(context)
        assert context is not None
        # (h_b y) for all nodes side by side times the stacked transposed factors: one matrix product.
        spread = (weights.unsqueeze(2) * y.double().unsqueeze(1)).flatten(1)
        x = self.mean(context, weights) + spread @ self.factors.double().transpose(1, 2).flatten(0, 1)
        return x.to(y.dtype), self._log_diagonal(weights).to(y.dtype)
