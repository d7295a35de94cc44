r"""Densities that are known in closed form: solvers, metrics and wrappers are tested against them, without training.

All numbers are given to the constructor and kept in float64; results come back in the dtype of ``x``.  For a Gaussian
mixture :math:`p(x \mid c) = \sum_k w_k N(x; \mu_k + S c, \Sigma_k)` the velocity of flow matching and the denoiser of
diffusion are conditional expectations of jointly Gaussian variables, and so are exact as well.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from cathode.density.base import ConditionalDensity
from cathode.density.mixtures import GaussianHead
from cathode.density.registry import buildable
from cathode.support.errors import UserError

__all__ = ["GaussianMixture", "GaussianMixtureDenoiser", "GaussianMixtureVelocity", "LinearGaussian"]

_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


def _cholesky(matrix: Tensor, name: str) -> Tensor:
    """Check lower-triangular factors ``(…, D, D)`` with positive diagonal."""
    if matrix.shape[-1] != matrix.shape[-2] or not torch.equal(matrix, matrix.tril()):
        raise UserError(f"{name} must be lower triangular")
    if not bool((matrix.diagonal(dim1=-2, dim2=-1) > 0).all()):
        raise UserError(f"{name} must have a positive diagonal")
    return matrix


def _solve(lower: Tensor, x: Tensor) -> Tensor:
    """``L⁻¹ x`` for rows ``x (…, D)``."""
    return torch.linalg.solve_triangular(lower, x.unsqueeze(-1), upper=False).squeeze(-1)


class _Analytic(ConditionalDensity):
    loss_is_nll = True

    def log_prob(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        raise NotImplementedError

    def loss(
        self,
        x: Tensor,
        context: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """``-log p(x | c)``, nats."""
        self._vectors_only(mask)
        return -self.log_prob(x, context)

    def _vectors_only(self, mask: Tensor | None) -> None:
        if mask is not None:
            raise ValueError(f"{type(self).__name__} is a density of vectors and takes no mask")

    def _columns(self, context: Tensor | None, rows: int, like: Tensor) -> Tensor:
        """The context in float64, ``(B, C)``, also for C = 0."""
        if self.context_features == 0:
            return torch.zeros((rows, 0), dtype=torch.float64, device=like.device)
        if context is None or context.shape != (rows, self.context_features):
            shape = None if context is None else tuple(context.shape)
            raise ValueError(f"context has shape {shape}, expected ({rows}, {self.context_features})")
        return context.double()


@buildable("linear-gaussian")
class LinearGaussian(_Analytic):
    r"""``x = A c + b + (1 + s·c) L z`` with standard-normal ``z``: mean linear and scale linear in the context.

    Args:
        bias: b, D numbers.
        cholesky: L, D x D, lower triangular with positive diagonal.
        weight: A, D x C; without it the density has no context.
        scale: s, C numbers; the scale is constant without it.
        scale_bias: The 1 in ``1 + s·c``.

    Raises:
        UserError: Shapes that do not fit; at evaluation, contexts at which the scale is not positive.
    """

    bias: Tensor
    weight: Tensor
    cholesky: Tensor
    scale: Tensor

    def __init__(
        self,
        bias: list[float],
        cholesky: list[list[float]],
        weight: list[list[float]] | None = None,
        scale: list[float] | None = None,
        scale_bias: float = 1.0,
    ) -> None:
        super().__init__()
        b = torch.tensor(bias, dtype=torch.float64)
        lower = _cholesky(torch.tensor(cholesky, dtype=torch.float64), "cholesky")
        a = (
            torch.zeros((len(b), 0), dtype=torch.float64)
            if weight is None
            else torch.tensor(weight, dtype=torch.float64)
        )
        s = torch.zeros(a.shape[1], dtype=torch.float64) if scale is None else torch.tensor(scale, dtype=torch.float64)
        if lower.shape != (len(b), len(b)) or a.shape[0] != len(b) or len(s) != a.shape[1]:
            raise UserError(
                f"shapes do not fit: bias {tuple(b.shape)}, cholesky {tuple(lower.shape)}, "
                f"weight {tuple(a.shape)}, scale {tuple(s.shape)}"
            )
        self.event_shape = (len(b),)
        self.context_features = a.shape[1]
        self.scale_bias = scale_bias
        for name, value in (("bias", b), ("weight", a), ("cholesky", lower), ("scale", s)):
            self.register_buffer(name, value)

    def mean_and_scale(self, context: Tensor | None, rows: int) -> tuple[Tensor, Tensor]:
        """Mean ``(B, D)`` and factor of L ``(B, 1)`` at each context, float64."""
        c = self._columns(context, rows, self.bias)
        scale = self.scale_bias + c @ self.scale.double()
        bad = int((scale <= 0).sum())
        if bad:
            raise UserError(f"the scale of the linear Gaussian is not positive at {bad} of {rows} contexts")
        return c @ self.weight.double().T + self.bias.double(), scale.unsqueeze(1)

    def log_prob(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        mean, scale = self.mean_and_scale(context, len(x))
        lower = self.cholesky.double()
        z = _solve(lower, (x.double() - mean) / scale)
        log_det = lower.diagonal().log().sum() + len(lower) * scale.squeeze(1).log()
        return (-0.5 * z.square().sum(1) - len(lower) * _HALF_LOG_2PI - log_det).to(x.dtype)

    def encode(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        mean, scale = self.mean_and_scale(context, len(x))
        return _solve(self.cholesky.double(), (x.double() - mean) / scale).to(x.dtype)

    def decode(self, noise: Tensor, context: Tensor | None = None, *, mask: Tensor | None = None) -> Tensor:
        self._vectors_only(mask)
        mean, scale = self.mean_and_scale(context, noise.shape[0])
        return (mean + scale * (noise.double() @ self.cholesky.double().T)).to(noise.dtype)


@buildable("gaussian-mixture")
class GaussianMixture(_Analytic):
    r""":math:`p(x \mid c) = \sum_k w_k N(x; \mu_k + S c, L_k L_k^T)`.

    Noise and events are linked by the Knothe-Rosenblatt map, feature after feature: each conditional of a Gaussian
    mixture is a one-dimensional Gaussian mixture, whose distribution function is inverted numerically in float64.

    Args:
        weights: K positive numbers, normalised here.
        means: K x D.
        choleskys: K x D x D, lower triangular with positive diagonal.
        shift: S, D x C: how all means move with the context; without it the density has no context.
    """

    log_weights: Tensor
    means: Tensor
    choleskys: Tensor
    shift: Tensor

    def __init__(
        self,
        weights: list[float],
        means: list[list[float]],
        choleskys: list[list[list[float]]],
        shift: list[list[float]] | None = None,
    ) -> None:
        super().__init__()
        w = torch.tensor(weights, dtype=torch.float64)
        mu = torch.tensor(means, dtype=torch.float64)
        lower = _cholesky(torch.tensor(choleskys, dtype=torch.float64), "choleskys")
        features = mu.shape[-1]
        s = (
            torch.zeros((features, 0), dtype=torch.float64)
            if shift is None
            else torch.tensor(shift, dtype=torch.float64)
        )
        if mu.shape != (len(w), features) or lower.shape != (len(w), features, features) or s.shape[0] != features:
            raise UserError(
                f"shapes do not fit: weights {tuple(w.shape)}, means {tuple(mu.shape)}, "
                f"choleskys {tuple(lower.shape)}, shift {tuple(s.shape)}"
            )
        if not bool((w > 0).all()):
            raise UserError("mixture weights must be positive")
        self.event_shape = (features,)
        self.context_features = s.shape[1]
        for name, value in (("log_weights", (w / w.sum()).log()), ("means", mu), ("choleskys", lower), ("shift", s)):
            self.register_buffer(name, value)

    def offset(self, context: Tensor | None, rows: int) -> Tensor:
        """``S c``, ``(B, D)``, float64."""
        return self._columns(context, rows, self.means) @ self.shift.double().T

    def log_prob(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        centred = (x.double() - self.offset(context, len(x))).unsqueeze(1) - self.means.double()
        lower = self.choleskys.double()
        z = _solve(lower, centred)
        log_det = lower.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        parts = self.log_weights.double() - 0.5 * z.square().sum(-1) - log_det - x.shape[1] * _HALF_LOG_2PI
        return torch.logsumexp(parts, dim=1).to(x.dtype)

    def encode(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        centred = x.double() - self.offset(context, len(x))
        return self._walk(centred, decode=False).to(x.dtype)

    def decode(self, noise: Tensor, context: Tensor | None = None, *, mask: Tensor | None = None) -> Tensor:
        self._vectors_only(mask)
        x = self._walk(noise.double(), decode=True)
        return (x + self.offset(context, noise.shape[0])).to(noise.dtype)

    def _walk(self, given: Tensor, *, decode: bool) -> Tensor:
        """Feature after feature, from noise to centred events or back; all ``(B, D)`` float64."""
        head = GaussianHead()
        lower, means = self.choleskys.double(), self.means.double()
        log_weights = self.log_weights.double().expand(len(given), -1)
        whitened = given.new_zeros((len(given), *means.shape))  # u of each component, (B, K, D)
        result = []
        for i in range(means.shape[1]):
            location = means[:, i] + (lower[:, i, :i] * whitened[..., :i]).sum(-1)
            log_scale = lower[:, i, i].log().expand_as(location)
            raw = torch.cat([log_weights, location, log_scale], dim=-1)
            column = head.decode(given[:, i], raw) if decode else head.encode(given[:, i], raw)
            x = column if decode else given[:, i]
            u = (x.unsqueeze(1) - location) / lower[:, i, i]
            whitened = torch.cat([whitened[..., :i], u.unsqueeze(-1), whitened[..., i + 1 :]], dim=-1)
            log_weights = log_weights - 0.5 * u.square() - log_scale
            result.append(column)
        return torch.stack(result, dim=1)

    def noisy_posterior(
        self, x: Tensor, signal: Tensor, noise: Tensor, context: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        r"""Components given ``y = signal * X + noise * Z`` with X from this mixture and Z standard normal.

        Args:
            x: The observed ``y``, ``(B, D)``.
            signal: ``(B,)``.
            noise: ``(B,)``.
            context: ``(B, C)``.

        Returns:
            Responsibilities ``(B, K)``; component means of X ``(B, K, D)``; variances ``(K, D)`` and axes ``(K, D, D)``
            (columns) of :math:`\Sigma_k`; and :math:`C_k^{-1} (y - signal \mu_k)` in these axes ``(B, K, D)``.
        """
        lower = self.choleskys.double()
        variances, axes = torch.linalg.eigh(lower @ lower.mT)
        means = self.means.double() + self.offset(context, len(x)).unsqueeze(1)
        s, n = signal.double()[:, None, None], noise.double()[:, None, None]
        rotated = torch.einsum("kij,bki->bkj", axes, x.double().unsqueeze(1) - s * means)
        total = s.square() * variances + n.square()
        logits = self.log_weights.double() - 0.5 * (rotated.square() / total + total.log()).sum(-1)
        return torch.softmax(logits, dim=1), means, variances, axes, rotated / total


@buildable("gaussian-mixture-velocity")
class GaussianMixtureVelocity(nn.Module):
    r"""The velocity that flow matching would learn for a Gaussian mixture.

    For the path :math:`x_t = a z + t x`, :math:`a = 1 - (1 - \sigma_\min) t` (arXiv:2210.02747, eq. 20; time as in
    :mod:`cathode.density.base`) it is

    .. math:: v(x_t, t) = E[x - (1 - \sigma_\min) z \mid x_t] = \sum_k r_k \left[ \mu_k +
        (t \Sigma_k - (1 - \sigma_\min) a)\, C_k^{-1} (x_t - t \mu_k) \right], \quad C_k = a^2 + t^2 \Sigma_k .

    Args:
        mixture: The density of the data.
        sigma_min: Width of the path at ``t = 1``.
    """

    mixture: GaussianMixture

    def __init__(self, mixture: GaussianMixture, sigma_min: float = 0.0) -> None:
        super().__init__()
        self.mixture = mixture
        self.sigma_min = sigma_min

    def velocity(self, x: Tensor, t: Tensor | float, context: Tensor | None = None) -> Tensor:
        """``dx/dt`` at ``x (B, D)`` and time ``t`` (a number or ``(B,)``)."""
        time = torch.as_tensor(t, dtype=torch.float64, device=x.device).expand(len(x))
        slope = 1.0 - self.sigma_min
        a = 1.0 - slope * time
        r, means, variances, axes, pull = self.mixture.noisy_posterior(x, time, a, context)
        gain = time[:, None, None] * variances - slope * a[:, None, None]
        each = means + torch.einsum("kij,bkj->bki", axes, gain * pull)
        return (r.unsqueeze(-1) * each).sum(1).to(x.dtype)

    def forward(self, x: Tensor, t: Tensor | float, context: Tensor | None = None) -> Tensor:
        return self.velocity(x, t, context)


@buildable("gaussian-mixture-denoiser")
class GaussianMixtureDenoiser(nn.Module):
    r"""The ideal denoiser of a Gaussian mixture, :math:`D(y; \sigma) = E[x \mid x + \sigma z = y]`.

    .. math:: D(y; \sigma) = \sum_k r_k \left[ \mu_k + \Sigma_k (\Sigma_k + \sigma^2)^{-1} (y - \mu_k) \right]

    (Karras et al., arXiv:2206.00364, appendix B.3, for Gaussians in place of points.)

    Args:
        mixture: The density of the data.
    """

    mixture: GaussianMixture

    def __init__(self, mixture: GaussianMixture) -> None:
        super().__init__()
        self.mixture = mixture

    def denoise(self, x: Tensor, sigma: Tensor | float, context: Tensor | None = None) -> Tensor:
        """Expected clean event for noisy ``x (B, D)`` and ``sigma`` (a number or ``(B,)``)."""
        width = torch.as_tensor(sigma, dtype=torch.float64, device=x.device).expand(len(x))
        r, means, variances, axes, pull = self.mixture.noisy_posterior(x, torch.ones_like(width), width, context)
        each = means + torch.einsum("kij,bkj->bki", axes, variances * pull)
        return (r.unsqueeze(-1) * each).sum(1).to(x.dtype)

    def forward(self, x: Tensor, sigma: Tensor | float, context: Tensor | None = None) -> Tensor:
        return self.denoise(x, sigma, context)
