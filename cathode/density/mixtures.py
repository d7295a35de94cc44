r"""One-dimensional mixtures as heads of an autoregressive density.

Each conditional is :math:`p(x_i \mid x_{<i}, c) = \sum_k w_k f((x_i - \mu_k) / s_k) / s_k` with K components.  The
distribution function :math:`F` turns the mixture into a bijection with standard-normal noise,
:math:`z = \Phi^{-1}(F(x))`, so that it samples and encodes like any flow.

Inverting :math:`F` is a bracketed Newton iteration in :math:`z`, where the function is nearly linear: the solution
always lies between the smallest and the largest component quantile.  It runs in float64 on the smaller tail, so that
noise of 8 standard deviations and more still inverts.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["HEADS", "DiscretisedLogisticHead", "GaussianHead", "LogisticHead", "MixtureHead"]

# Wide enough for inputs of unit scale; beyond it exp overflows on inputs far from anything seen in training.
_LOG_SCALE = (-7.0, 7.0)
_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


class MixtureHead:
    """Base: unpacks raw network outputs ``(..., 3K)`` into log-weights, locations and log-scales ``(..., K)``."""

    discrete = False

    def split(self, raw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits, location, log_scale = raw.chunk(3, dim=-1)
        return torch.log_softmax(logits, -1), location, log_scale.clamp(*_LOG_SCALE)

    @staticmethod
    def initial(components: int) -> Tensor:
        """Starting bias ``(3K,)``: locations spread over +-2 standard deviations, scales to match their distance."""
        location = torch.linspace(-2.0, 2.0, components) if components > 1 else torch.zeros(1)
        scale = math.log(max(1.0 / math.sqrt(components), 0.3))
        weights = -0.25 * location**2
        return torch.cat([weights, location, torch.full((components,), scale)])

    def log_prob(self, x: Tensor, raw: Tensor) -> Tensor:
        """Log-density of ``x (...)`` under ``raw (..., 3K)``."""
        raise NotImplementedError

    def component_tail(self, u: Tensor) -> Tensor:
        """Lower-tail probability of the standard component at ``u``."""
        raise NotImplementedError

    def component_density(self, u: Tensor) -> Tensor:
        """Density of the standard component at ``u``."""
        raise NotImplementedError

    def component_quantile(self, z: Tensor) -> Tensor:
        """Standardised component quantile at probability Phi(z)."""
        raise NotImplementedError

    def encode(self, x: Tensor, raw: Tensor) -> Tensor:
        """Noise ``z = Phi^-1(F(x))``, computed in float64 on the smaller tail."""
        log_w, location, log_scale = (t.double() for t in self.split(raw))
        u = (x.double().unsqueeze(-1) - location) * torch.exp(-log_scale)
        lower = (log_w.exp() * self.component_tail(u)).sum(-1)
        upper = (log_w.exp() * self.component_tail(-u)).sum(-1)
        tiny = torch.finfo(torch.float64).tiny
        z = torch.where(
            lower < upper,
            torch.special.ndtri(lower.clamp_min(tiny)),
            -torch.special.ndtri(upper.clamp_min(tiny)),
        )
        return z.to(x.dtype)

    def decode(self, z: Tensor, raw: Tensor, *, iterations: int = 120) -> Tensor:
        """The ``x`` with ``F(x) = Phi(z)``: Newton in z with bisection as the fallback."""
        log_w, location, log_scale = (t.double().reshape(-1, t.shape[-1]) for t in self.split(raw))
        w, inverse_scale = log_w.exp(), torch.exp(-log_scale)
        target = z.double().reshape(-1)
        quantiles = location + self.component_quantile(target).unsqueeze(-1) / inverse_scale
        low, high = quantiles.amin(-1), quantiles.amax(-1)
        # The weighted mean of the component quantiles is exact for one component and a fair start otherwise.
        x = (w * quantiles).sum(-1)
        active = torch.arange(len(x), device=x.device)
        last = high - low
        tiny = torch.finfo(torch.float64).tiny
        for _ in range(iterations):
            xa, wa, mu, inv, za = x[active], w[active], location[active], inverse_scale[active], target[active]
            u = (xa.unsqueeze(-1) - mu) * inv
            # One-sided evaluation on the side where the target probability is small keeps all digits.
            sign = torch.where(za < 0, 1.0, -1.0).to(u)
            tail = (wa * self.component_tail(sign.unsqueeze(-1) * u)).sum(-1).clamp_min(tiny)
            density = (wa * inv * self.component_density(u)).sum(-1)
            current = sign * torch.special.ndtri(tail)
            error = current - za
            low[active] = torch.where(error < 0, xa, low[active])
            high[active] = torch.where(error > 0, xa, high[active])
            slope = density * torch.exp(0.5 * current**2 + _HALF_LOG_2PI)
            step = xa - error / slope
            # Newton steps that stay inside but do not halve may cycle between two points for ever.
            shrinks = (step - xa).abs() < 0.5 * last[active]
            inside = (step > low[active]) & (step < high[active]) & torch.isfinite(step) & shrinks
            new = torch.where(inside, step, 0.5 * (low[active] + high[active]))
            solved = error.abs() < 1e-13
            # A solved row is its own bracket edge, so its next step would be a bisection away from the solution.
            x[active] = torch.where(solved, xa, new)
            last[active] = (new - xa).abs()
            width = high[active] - low[active]
            done = solved | (width <= 1e-14 * (1 + xa.abs()))
            active = active[~done]
            if len(active) == 0:
                break
        return x.reshape(z.shape).to(z.dtype)


def _phi(z: Tensor) -> Tensor:
    # torch.special.ndtr is 0.5 (1 + erf), which has no digits left below -6.
    return 0.5 * torch.special.erfc(z * -math.sqrt(0.5))


class GaussianHead(MixtureHead):
    """Mixture of Gaussians."""

    def log_prob(self, x: Tensor, raw: Tensor) -> Tensor:
        logits, location, log_scale = raw.chunk(3, dim=-1)
        log_scale = log_scale.clamp(*_LOG_SCALE)
        u = (x.unsqueeze(-1) - location) * torch.exp(-log_scale)
        # The softmax normalisation is taken out of the sum: one pass less over (B, D, K).
        joint = torch.logsumexp(logits - 0.5 * u * u - log_scale, -1)
        return joint - torch.logsumexp(logits, -1) - _HALF_LOG_2PI

    def component_tail(self, u: Tensor) -> Tensor:
        return _phi(u)

    def component_density(self, u: Tensor) -> Tensor:
        return torch.exp(-0.5 * u * u - _HALF_LOG_2PI)

    def component_quantile(self, z: Tensor) -> Tensor:
        return z


class LogisticHead(MixtureHead):
    """Mixture of logistic distributions: tails that fall exponentially instead of Gaussian."""

    def log_prob(self, x: Tensor, raw: Tensor) -> Tensor:
        log_w, location, log_scale = self.split(raw)
        u = (x.unsqueeze(-1) - location) * torch.exp(-log_scale)
        log_density = -u.abs() - 2 * torch.nn.functional.softplus(-u.abs()) - log_scale
        return torch.logsumexp(log_w + log_density, -1)

    def component_tail(self, u: Tensor) -> Tensor:
        return torch.sigmoid(u)

    def component_density(self, u: Tensor) -> Tensor:
        return torch.sigmoid(u) * torch.sigmoid(-u)

    def component_quantile(self, z: Tensor) -> Tensor:
        return torch.special.log_ndtr(z) - torch.special.log_ndtr(-z)


class DiscretisedLogisticHead(LogisticHead):
    """Logistic mixture integrated over unit bins, for integer features (multiplicities); PixelCNN++, arXiv 1701.05517.

    ``log_prob`` is the log-probability of the integer nearest to ``x``.  Decoding rounds to an integer; encoding gives
    the noise in the middle of the integer's probability, so ``decode(encode(x)) = x`` while the reverse holds only up
    to the width of the step.
    """

    discrete = True

    def log_prob(self, x: Tensor, raw: Tensor) -> Tensor:
        log_w, location, log_scale = self.split(raw)
        centre = (torch.round(x).unsqueeze(-1) - location) * torch.exp(-log_scale)
        half = 0.5 * torch.exp(-log_scale)
        upper, lower = centre + half, centre - half
        # On the far side of the centre both sigmoids are near 1 and cancel; mirror them to the small side.
        flip = torch.where(centre > 0, -1.0, 1.0).to(x)
        a, b = torch.where(flip > 0, upper, -lower), torch.where(flip > 0, lower, -upper)
        # log(sigmoid(a) - sigmoid(b)) = logsig(a) + logsig(-b) + log(1 - exp(-(a - b))): no cancellation left.
        gap = torch.log(-torch.expm1(-(a - b)))
        log_mass = torch.nn.functional.logsigmoid(a) + torch.nn.functional.logsigmoid(-b) + gap
        return torch.logsumexp(log_w + log_mass, -1)

    def encode(self, x: Tensor, raw: Tensor) -> Tensor:
        below = super().encode(torch.round(x) - 0.5, raw).double()
        above = super().encode(torch.round(x) + 0.5, raw).double()
        middle = 0.5 * (_phi(below) + _phi(above))
        z = torch.special.ndtri(middle)
        # Beyond 8 sigma the probabilities round to 0 or 1; the middle in z still lies within the step.
        return torch.where(torch.isfinite(z), z, 0.5 * (below + above)).to(x.dtype)

    def decode(self, z: Tensor, raw: Tensor, *, iterations: int = 120) -> Tensor:
        return torch.round(super().decode(z, raw, iterations=iterations))


HEADS: dict[str, type[MixtureHead]] = {
    "gaussian": GaussianHead,
    "logistic": LogisticHead,
    "discretised": DiscretisedLogisticHead,
}
