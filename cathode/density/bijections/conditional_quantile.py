r"""A monotone map of each feature onto a standard normal whose quantiles depend on a context column.

For a feature ``x`` and a covariate ``s = ln(c)``, ``c`` the context column of that feature, the map is the probability
integral transform of a distribution with a part below a threshold ``T`` and a part above it,

.. math:: U = p_0(s)\, x / T \quad (0 < x < T), \qquad
          U = p_0(s) + (1 - p_0(s))\, A_s(\ln(x / T)) \quad (x \ge T), \qquad z = \Phi^{-1}(U).

The part below the threshold stands for zeros that were filled with uniform noise
(:class:`cathode.density.dequantised.Dequantised`).  :math:`\mathrm{logit}\, p_0` is linear in ``s`` between nodes,
fitted by penalised likelihood.  The distribution ``A`` above the threshold is given by its quantiles
:math:`w = \ln(x / T)` at knots evenly spaced in :math:`\ell = \mathrm{logit}\, A`, which are linear in ``s`` between
nodes too; between knots ``w`` is linear in :math:`\ell`, beyond the last knot it goes on with the last slope, and below
the first knot it falls exponentially to the threshold.  Every marginal distribution is then right, at every value of
the covariate, whatever smooth density of the transformed features is learned with standard normal marginals.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cathode.density.bijections.base import Bijection
from cathode.density.registry import buildable
from cathode.support.errors import UserError

__all__ = ["ConditionalGaussianize"]

#: A value exactly at the threshold counts as this little above it, in ln(x / T).
_JUST_ABOVE = 1e-7
#: Probabilities stay this far from 0 and 1, and normal values within about 9.
_TINY = 1e-18
_FEATURES_AT_ONCE = 256


@buildable("conditional-gaussianize")
class ConditionalGaussianize(Bijection):
    """Bring each positive feature to a standard normal, given a context column; see the module for the formula.

    Warning:
        Values must be positive: fill zeros first.  Values at or below 0 are moved to just above it, never NaN.

    Args:
        features: F.
        columns: F numbers: which context column each feature depends on.
        threshold: T, in the unit of ``x``.
        nodes: Nodes in the logarithm of the context column, at evenly spaced values between its fitted extremes.
        knots: Quantiles kept at each node, evenly spaced in the logit of the probability.
        reach: Logit of the outermost quantile; 6.5 is a probability of 0.0015.
        floor: Smallest context value that is told apart, in its unit; smaller ones (empty) count as this.
    """

    grid: Tensor
    logit_zero: Tensor
    quantiles: Tensor

    def __init__(
        self,
        features: int,
        columns: list[int],
        threshold: float,
        nodes: int = 12,
        knots: int = 27,
        reach: float = 6.5,
        floor: float = 1.0,
    ) -> None:
        super().__init__(features)
        if len(columns) != features or min(columns) < 0:
            raise UserError(f"columns must be {features} indices of context columns, one for each feature")
        if not (math.isfinite(threshold) and threshold > 0 and math.isfinite(floor) and floor > 0):
            raise UserError(f"threshold {threshold} and floor {floor} must be positive and finite")
        if nodes < 2 or knots < 4 or not reach > 0:
            raise UserError(f"need 2 nodes, 4 knots and a positive reach at least; got {nodes}, {knots} and {reach}")
        self.columns, self.threshold, self.nodes, self.knots = list(columns), threshold, nodes, knots
        self.reach, self.floor = reach, floor
        self.step = 2 * reach / (knots - 1)
        self.register_buffer("grid", torch.linspace(0.0, 1.0, nodes, dtype=torch.float64).repeat(features, 1))
        self.register_buffer("logit_zero", torch.zeros(features, nodes, dtype=torch.float64))
        start = torch.nn.functional.softplus(torch.linspace(-reach, reach, knots, dtype=torch.float64))
        self.register_buffer("quantiles", start.expand(features, nodes, knots).clone())

    def extra_repr(self) -> str:
        return f"features={self.features}, threshold={self.threshold:g}, nodes={self.nodes}, knots={self.knots}"

    # The fit.

    def _learn_given(self, rows: Tensor, context: Tensor | None, weight: Tensor) -> None:
        if context is None:
            raise ValueError("ConditionalGaussianize needs the context to be fitted on")
        if context.shape[1] <= max(self.columns):
            raise ValueError(f"context has {context.shape[1]} columns, column {max(self.columns)} is asked for")
        for column in sorted(set(self.columns)):
            covariate = context[:, column].clamp(min=self.floor).log()
            # Events without anything in this column would pull the first node down to the floor.
            filled = covariate[context[:, column] > self.floor]
            if len(filled) < 20 * self.nodes:
                filled = covariate
            # Outside these quantiles the end nodes are taken: a few extreme rows must not own a node.
            low, high = torch.quantile(_thin(filled), torch.tensor([0.002, 0.998], dtype=torch.float64)).tolist()
            grid = torch.linspace(low, max(high, low + 1e-3), self.nodes, dtype=torch.float64, device=rows.device)
            hats = _hats(covariate, grid)
            members = [i for i, c in enumerate(self.columns) if c == column]
            pooled = self._pooled(rows, hats, weight, members)
            for start in range(0, len(members), _FEATURES_AT_ONCE):
                part = members[start : start + _FEATURES_AT_ONCE]
                values = rows[:, part]
                self.grid[part] = grid
                self.logit_zero[part] = _fit_logit(hats, (values < self.threshold).double(), weight)
                self.quantiles[part] = self._fit_quantiles(values, covariate, grid, hats, weight, pooled)

    def _levels(self) -> Tensor:
        return torch.sigmoid(torch.linspace(-self.reach, self.reach, self.knots, dtype=torch.float64))

    def _pooled(self, rows: Tensor, hats: Tensor, weight: Tensor, members: list[int]) -> Tensor:
        """Quantiles of all features of a column together at each node ``(nodes, knots)``: what few values lean on."""
        found = []
        for node in range(self.nodes):
            events = (hats[:, node] > 0).nonzero()[:, 0][:2000]
            values = rows[events][:, members]
            w = (hats[events, node] * weight[events]).unsqueeze(1).expand_as(values)
            above = values >= self.threshold
            if int(above.sum()) < 2 * self.knots:
                found.append(-torch.log1p(-self._levels()) * 0.5)  # a power law with index 2 in x
                continue
            w_above = (values[above] / self.threshold).log()
            found.append(_weighted_quantiles(w_above.unsqueeze(1), w[above].unsqueeze(1), self._levels())[:, 0])
        return torch.stack(found)

    def _fit_quantiles(
        self, values: Tensor, covariate: Tensor, grid: Tensor, hats: Tensor, weight: Tensor, pooled: Tensor
    ) -> Tensor:
        """``(features, nodes, knots)`` quantiles of ln(x / T) above the threshold."""
        result = values.new_empty(values.shape[1], self.nodes, self.knots)
        for node in range(self.nodes):
            events = hats[:, node] > 0
            x = values[events]
            above = x >= self.threshold
            w = torch.where(above, (hats[events, node] * weight[events]).unsqueeze(1), 0.0)
            log_x = torch.where(above, (x / self.threshold).clamp(min=1.0).log(), 0.0)
            total = w.sum(0).clamp(min=1e-12)
            # Shifted along its own trend to the node, or the slope inside the window would widen the distribution.
            s = (covariate[events] - grid[node]).clamp(*_window(grid, node)).unsqueeze(1)
            mean_s, mean_w = (w * s).sum(0) / total, (w * log_x).sum(0) / total
            variance = (w * (s - mean_s).square()).sum(0) / total
            slope = (w * (s - mean_s) * (log_x - mean_w)).sum(0) / total / (variance + 1e-3)
            count = w.sum(0).square() / w.square().sum(0).clamp(min=1e-12)
            slope = slope * (count / (count + 50))
            # Scaled rather than shifted: nothing crosses the threshold.
            moved = log_x * torch.exp((-slope * s / mean_w.clamp(min=0.2)).clamp(-1.0, 1.0))
            measured = _weighted_quantiles(moved, w, self._levels()).T
            share = (count / (count + 20)).unsqueeze(1)
            result[:, node] = share * measured + (1 - share) * pooled[node]
        return _increasing(result, self.step)

    # The map.

    def _at(self, context: Tensor | None, shape: torch.Size) -> tuple[Tensor, Tensor]:
        """Index of the node to the left ``(B, F)`` and the fraction of the way to the next."""
        if context is None:
            raise ValueError("ConditionalGaussianize needs a context")
        if len(shape) != 2:
            raise ValueError("ConditionalGaussianize acts on vectors (B, F)")
        s = context.double()[:, self.columns].clamp(min=self.floor).log()
        grid = self.grid.double()
        position = (s - grid[:, 0]) / (grid[:, -1] - grid[:, 0]) * (self.nodes - 1)
        position = position.clamp(0.0, self.nodes - 1.0)
        node = position.floor().clamp(max=self.nodes - 2)
        return node.long(), position - node

    def _look_up(self, table: Tensor, node: Tensor, fraction: Tensor, knot: Tensor | None = None) -> Tensor:
        """Entry of a ``(F, nodes[, knots])`` table, linear between nodes: ``(B, F)``."""
        feature = torch.arange(self.features, device=node.device)
        index = feature * self.nodes + node
        stride = 1
        if knot is not None:
            index, stride = index * self.knots + knot, self.knots
        flat = table.double().flatten()
        left, right = flat[index], flat[index + stride]
        return left + fraction * (right - left)

    def bounds(self, context: Tensor) -> Tensor:
        """The value of ``z`` at the threshold, ``(B, F)``: whatever lies below is a zero."""
        node, fraction = self._at(context, torch.Size([len(context), self.features]))
        logit_zero = self._look_up(self.logit_zero, node, fraction)
        return _normal_quantile(_log_sigmoid(logit_zero), _log_sigmoid(-logit_zero))

    def _piece(self, node: Tensor, fraction: Tensor, knot: Tensor) -> tuple[Tensor, Tensor]:
        left = self._look_up(self.quantiles, node, fraction, knot)
        return left, self._look_up(self.quantiles, node, fraction, knot + 1)

    def _map(self, x: Tensor, context: Tensor | None, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        node, fraction = self._at(context, x.shape)
        logit_zero = self._look_up(self.logit_zero, node, fraction)
        log_zero, log_rest = _log_sigmoid(logit_zero), _log_sigmoid(-logit_zero)
        ratio = torch.nan_to_num(x.double() / self.threshold, nan=1.0).clamp(1e-12, 1e30)
        w = ratio.log().clamp(min=_JUST_ABOVE)
        low = torch.zeros_like(node)
        high = torch.full_like(node, self.knots - 1)
        for _ in range(math.ceil(math.log2(self.knots - 1))):
            middle = (low + high) // 2
            below = self._look_up(self.quantiles, node, fraction, middle) <= w
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        knot = low.clamp(max=self.knots - 2)
        left, right = self._piece(node, fraction, knot)
        slope = (right - left) / self.step  # dw/dl
        first = self._first(left, slope, knot, w < left)
        start = -self.reach + knot * self.step
        logit = torch.where(first, -self.reach + (w / left).log() * left / slope, start + (w - left) / slope)
        log_dw = torch.where(first, (w * slope / left).log(), slope.log())
        above = ratio >= 1.0
        # Survival probability, so that the upper tail keeps its digits; U below one half is used directly.
        log_survival = log_rest + _log_sigmoid(-logit)
        log_below = torch.logaddexp(log_zero, log_rest + _log_sigmoid(logit))
        inside = ratio.clamp(max=1.0 - 1e-12)
        log_below = torch.where(above, log_below, log_zero + inside.log())
        log_survival = torch.where(above, log_survival, torch.log1p(-log_below.exp().clamp(max=1 - 1e-16)))
        z = _normal_quantile(log_below, log_survival)
        density_above = (
            log_rest + _log_sigmoid(logit) + _log_sigmoid(-logit) - log_dw - (x.double().clamp(min=1e-300)).log()
        )
        log_density = torch.where(above, density_above, log_zero - math.log(self.threshold))
        log_det = log_density + 0.5 * z.square() + 0.5 * math.log(2 * math.pi)
        return z.to(x.dtype), log_det.sum(1).to(x.dtype)

    def _unmap(self, y: Tensor, context: Tensor | None, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        node, fraction = self._at(context, y.shape)
        logit_zero = self._look_up(self.logit_zero, node, fraction)
        log_zero, log_rest = _log_sigmoid(logit_zero), _log_sigmoid(-logit_zero)
        z = torch.nan_to_num(y.double(), nan=0.0).clamp(-8.0, 8.0)
        below, survival = 0.5 * torch.erfc(-z / math.sqrt(2)), 0.5 * torch.erfc(z / math.sqrt(2))
        zero, rest = log_zero.exp(), log_rest.exp()
        above = below >= zero
        # a = (U - p0) / (1 - p0) from whichever side keeps the digits.
        a = torch.where(below < 0.5, below - zero, rest - survival).clamp(min=_TINY)
        logit = (a.log() - survival.clamp(min=_TINY).log()).clamp(-40.0, 40.0)
        knot = ((logit + self.reach) / self.step).floor().clamp(0, self.knots - 2).long()
        left, right = self._piece(node, fraction, knot)
        slope = (right - left) / self.step
        first = self._first(left, slope, knot, logit < -self.reach)
        start = -self.reach + knot * self.step
        w_first = left * torch.exp((logit + self.reach).clamp(max=0.0) * slope / left)
        w = torch.where(first, w_first, left + (logit - start) * slope).clamp(_JUST_ABOVE, 60.0)
        x = torch.where(above, self.threshold * w.exp(), self.threshold * (below / zero).clamp(1e-12, 1.0 - 1e-12))
        log_dw = torch.where(first, (w * slope / left).log(), slope.log())
        above_det = log_dw + x.log() - log_rest - _log_sigmoid(logit) - _log_sigmoid(-logit)
        log_det = torch.where(above, above_det, math.log(self.threshold) - log_zero)
        log_det = log_det - 0.5 * z.square() - 0.5 * math.log(2 * math.pi)
        return x.to(y.dtype), log_det.sum(1).to(y.dtype)

    @staticmethod
    def _first(left: Tensor, slope: Tensor, knot: Tensor, beyond: Tensor) -> Tensor:
        """Where the exponential piece below the first knot applies."""
        return beyond & (knot == 0)


def _thin(values: Tensor, limit: int = 200_000) -> Tensor:
    return values[:: max(1, len(values) // limit)]


def _window(grid: Tensor, node: int) -> tuple[float, float]:
    width = float(grid[1] - grid[0])
    return (-width, width)


def _hats(covariate: Tensor, grid: Tensor) -> Tensor:
    """Piecewise linear basis ``(N, nodes)``: rows sum to 1."""
    nodes = len(grid)
    position = ((covariate - grid[0]) / (grid[-1] - grid[0]) * (nodes - 1)).clamp(0.0, nodes - 1.0)
    return (1.0 - (position.unsqueeze(1) - torch.arange(nodes, device=grid.device)).abs()).clamp(min=0.0)


def _fit_logit(hats: Tensor, zero: Tensor, weight: Tensor, *, rounds: int = 25) -> Tensor:
    """Logit of P(zero) at the nodes ``(F, nodes)``: Newton's method on the penalised likelihood, all features at once.

    Each node has half a pseudo-event of either kind, so that the estimate is finite where all or none are zero.
    """
    w = weight.unsqueeze(1)
    beta = zero.new_zeros(hats.shape[1], zero.shape[1])
    overlap = hats[:, :-1] * hats[:, 1:]
    for _ in range(rounds):
        p = torch.sigmoid(hats @ beta)
        pseudo = torch.sigmoid(beta)
        gradient = hats.T @ (w * (zero - p)) + 0.5 - pseudo
        curvature = w * p * (1 - p)
        diagonal = (hats.square().T @ curvature + pseudo * (1 - pseudo)).T
        side = (overlap.T @ curvature).T
        hessian = torch.diag_embed(diagonal + 1e-9)
        hessian = hessian + torch.diag_embed(side, offset=1) + torch.diag_embed(side, offset=-1)
        step = torch.linalg.solve(hessian, gradient.T.unsqueeze(-1)).squeeze(-1).T.clamp(-2.0, 2.0)
        beta = (beta + step).clamp(-25.0, 25.0)
        if float(step.abs().max()) < 1e-6:
            break
    return beta.T


def _weighted_quantiles(values: Tensor, weight: Tensor, levels: Tensor) -> Tensor:
    """Quantiles of each column of ``(N, F)`` under weights of the same shape, ``(len(levels), F)``."""
    order = values.argsort(dim=0)
    x, w = values.gather(0, order), weight.gather(0, order)
    total = w.sum(0).clamp(min=1e-300)
    position = ((w.cumsum(0) - 0.5 * w) / total).T.contiguous()
    wanted = levels.to(values.device).expand(values.shape[1], -1).contiguous()
    upper = torch.searchsorted(position, wanted).clamp(1, len(x) - 1)
    p0, p1 = position.gather(1, upper - 1), position.gather(1, upper)
    x = x.T
    x0, x1 = x.gather(1, upper - 1), x.gather(1, upper)
    fraction = ((wanted - p0) / (p1 - p0).clamp(min=1e-300)).clamp(0.0, 1.0)
    return (x0 + fraction * (x1 - x0)).T


def _increasing(quantiles: Tensor, step: float) -> Tensor:
    """Positive quantiles that rise by at least a little from knot to knot: ``(…, knots)``."""
    spread = (quantiles[..., -1:] - quantiles[..., :1]).clamp(min=0.05)
    least = 1e-3 * spread * step
    rises = torch.maximum(quantiles.diff(dim=-1), least)
    first = quantiles[..., :1].clamp(min=1e-4)
    return torch.cat([first, first + rises.cumsum(-1)], dim=-1)


def _log_sigmoid(x: Tensor) -> Tensor:
    return -torch.nn.functional.softplus(-x)


def _normal_quantile(log_below: Tensor, log_survival: Tensor) -> Tensor:
    lower = torch.special.ndtri(log_below.exp().clamp(_TINY, 0.5))
    upper = -torch.special.ndtri(log_survival.exp().clamp(_TINY, 0.5))
    return torch.where(log_below < log_survival, lower, upper)
