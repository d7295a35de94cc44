r"""EDM diffusion: learn the denoiser of data blurred by Gaussian noise, sample by the probability-flow
equation.

The principle: ``D(x; sigma)`` minimises ``E lambda(sigma) |D(y + n; sigma) - y|^2`` over events ``y`` and
noise ``n ~ N(0, sigma^2 I)`` with ``ln sigma ~ N(P_mean, P_std^2)`` (Karras et al., arXiv 2206.00364, eq. 2
and Table 1, column "Ours").  The noise level then falls along

    dx/dsigma = (x - D(x; sigma)) / sigma                                                 (eqs. 1 and 3, with
    sigma(t) = t).

Symbols are the paper's; its time is the noise level ``sigma``, which falls from ``sigma_max`` (noise) to
``sigma_min`` (data), the opposite direction of the package's ``t``.

**Coordinates.**  With ``s^2 = sigma^2 + sigma_data^2``, ``y = x / s`` and ``theta = arctan(sigma /
sigma_data)`` the preconditioned equation becomes ``dy/dtheta = -F``, F the raw network, as substituting eq. 7
shows (Lu and Song, arXiv 2410.11081, Sec. 3, use the same coordinates).  ``encode`` and ``log_prob`` solve
this form: it is the same equation, but its linear part and that part's log-determinant, large at large sigma,
are exact.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from cathode.density.base import ConditionalDensity
from cathode.density.divergence import Trace, entries_per_event, integrate_with_divergence, standard_normal_log_prob
from cathode.density.networks.mlp import ResNet
from cathode.density.registry import buildable
from cathode.density.solvers import ADAPTIVE_METHODS, check_method, integrate

__all__ = ["EDM", "stochastic_sample"]


@buildable("edm")
class EDM(ConditionalDensity):
    """EDM diffusion with its preconditioning, training distribution and deterministic Heun sampler.

    Deviation from the paper's defaults: ``sigma_data = 1``, because events are standardised (its images have
    0.5).

    Arguments:
        event_shape: D, or ``[P, F]`` for sets.
        context_features: C.
        network: Buildable network ``(x, t, context, mask=mask)``, given ``c_noise`` as ``t``; for vectors the
            default is a :class:`ResNet`.
        sigma_data: Standard deviation of the data; kept in a buffer.
        sigma_min: Smallest noise level.
        sigma_max: Largest noise level, which must be far above the size of the data: noise is decoded from
            ``N(0, sigma_max^2)``.
        rho: Curvature of the noise levels of the solver (eq. 5).
        P_mean: Mean of ``ln sigma`` in training.
        P_std: Standard deviation of ``ln sigma`` in training.
        stratified: Spread the noise levels of a batch evenly over their distribution, from one random offset.
        solver: Method for decode, encode and log_prob.  ``"heun"`` decodes by Algorithm 1.
        steps: N, the number of noise levels above 0.
        log_prob_solver: Method for log_prob; the same as ``solver`` if not given.
        log_prob_steps: Steps for log_prob; the same as ``steps`` if not given.
        rtol: Relative tolerance of an adaptive solver.
        atol: Absolute tolerance of an adaptive solver.
        double_state: Keep the state of the solver in float64 as the authors do; the network works in its own
            precision.
        trace: ``"exact"``, ``"hutchinson"`` or ``"auto"``, see :class:`cathode.density.divergence.Trace`.
        probes: Hutchinson probes per event.
        probe_seed: Seed of the probes.

    Raises:
        ValueError: An argument outside its range, or a set without a network.
    """

    sigma_data: Tensor

    def __init__(
        self,
        event_shape: int | Sequence[int],
        context_features: int = 0,
        *,
        network: nn.Module | None = None,
        sigma_data: float = 1.0,
        sigma_min: float = 0.002,
        sigma_max: float = 80.0,
        rho: float = 7.0,
        P_mean: float = -1.2,
        P_std: float = 1.2,
        stratified: bool = True,
        solver: str = "heun",
        steps: int = 18,
        log_prob_solver: str | None = None,
        log_prob_steps: int | None = None,
        rtol: float = 1e-5,
        atol: float = 1e-6,
        double_state: bool = True,
        trace: str = "auto",
        probes: int = 1,
        probe_seed: int = 0,
    ) -> None:
        super().__init__()
        self.event_shape = (event_shape,) if isinstance(event_shape, int) else tuple(event_shape)
        self.context_features = context_features
        if network is None:
            if len(self.event_shape) != 1:
                raise ValueError("sets have no default network: give SetTransformer or EPiC")
            network = ResNet(self.event_shape[0], context_features)
        if not 0.0 < sigma_min < sigma_max:
            raise ValueError(f"need 0 < sigma_min < sigma_max, not {sigma_min} and {sigma_max}")
        if sigma_data <= 0.0:
            raise ValueError(f"sigma_data is {sigma_data}; give a positive value")
        self.network = network
        self.register_buffer("sigma_data", torch.tensor(float(sigma_data)))
        self.sigma_min, self.sigma_max, self.rho = sigma_min, sigma_max, rho
        self.P_mean, self.P_std, self.stratified = P_mean, P_std, stratified
        self.solver, self.steps = solver, steps
        self.log_prob_solver = solver if log_prob_solver is None else log_prob_solver
        self.log_prob_steps = steps if log_prob_steps is None else log_prob_steps
        # N noise levels are joined by N - 1 solver steps.
        check_method(self.solver, steps=self.steps - 1)
        check_method(self.log_prob_solver, steps=self.log_prob_steps - 1)
        self.rtol, self.atol = rtol, atol
        self.state_dtype = torch.float64 if double_state else None
        self.trace = Trace(trace, probes, probe_seed)

    def loss(
        self,
        x: Tensor,
        context: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """``lambda(sigma) |D(x + n) - x|^2``, mean over the entries of each event, ``(B,)``; padded entries
        do not count.

        With ``lambda = 1 / c_out^2`` (Table 1) this is ``|F - (x - c_skip (x + n)) / c_out|^2`` (eq. 8).
        """
        if mask is not None:
            x = x.masked_fill(~mask.unsqueeze(-1), 0.0)
        sigma = self._training_sigmas(x, generator)
        device = x.device if generator is None else generator.device
        n = torch.randn(x.shape, generator=generator, device=device, dtype=x.dtype).to(x.device)
        if mask is not None:
            n = n * mask.unsqueeze(-1)
        wide = sigma.view(-1, *[1] * (x.dim() - 1))
        s = torch.sqrt(wide.square() + self.sigma_data.square())
        # c_skip, c_out in closed form: (x - c_skip (x + n)) / c_out = (sigma x / sigma_data - sigma_data n /
        # sigma) / s, where the noise of variance sigma^2 is sigma times the n drawn here.
        target = (wide * x / self.sigma_data - self.sigma_data * n) / s
        squares = (self.network((x + n * wide) / s, self.c_noise(sigma), context, mask=mask) - target).square()
        if mask is None:
            return squares.flatten(1).mean(1)
        squares = squares * mask.unsqueeze(-1)
        return squares.flatten(1).sum(1) / entries_per_event(x, mask).clamp(min=1.0)

    def c_skip(self, sigma: Tensor) -> Tensor:
        """Table 1, "Skip scaling"."""
        return self.sigma_data.square() / (sigma.square() + self.sigma_data.square())

    def c_out(self, sigma: Tensor) -> Tensor:
        """Table 1, "Output scaling"."""
        return sigma * self.sigma_data / torch.sqrt(sigma.square() + self.sigma_data.square())

    def c_in(self, sigma: Tensor) -> Tensor:
        """Table 1, "Input scaling"."""
        return 1.0 / torch.sqrt(sigma.square() + self.sigma_data.square())

    def c_noise(self, sigma: Tensor) -> Tensor:
        """Table 1, "Noise cond."."""
        return 0.25 * sigma.log()

    def denoise(self, x: Tensor, sigma: Tensor, context: Tensor | None = None, *, mask: Tensor | None = None) -> Tensor:
        """``D(x; sigma) = c_skip x + c_out F(c_in x; c_noise)`` (eq. 7), the expected event; ``sigma
        (B,)``.
        """
        if mask is not None:
            x = x.masked_fill(~mask.unsqueeze(-1), 0.0)
        wide = sigma.view(-1, *[1] * (x.dim() - 1))
        raw = self.network(self.c_in(wide) * x, self.c_noise(sigma), context, mask=mask)
        return self.c_skip(wide) * x + self.c_out(wide) * raw

    def sigmas(self, steps: int | None = None) -> list[float]:
        """The N noise levels of the solvers, falling from ``sigma_max`` to ``sigma_min`` (eq. 5)."""
        count = self.steps if steps is None else steps
        high, low = self.sigma_max ** (1 / self.rho), self.sigma_min ** (1 / self.rho)
        inner = [(high + i / (count - 1) * (low - high)) ** self.rho for i in range(1, count - 1)]
        return [self.sigma_max, *inner, self.sigma_min]

    def decode(self, noise: Tensor, context: Tensor | None = None, *, mask: Tensor | None = None) -> Tensor:
        """Events from standard normal noise: Algorithm 1 with ``x_0 = sigma_max noise``; shape of ``noise``,
        padded entries 0.

        The last step, from ``sigma_min`` to 0, is an Euler step, which is the denoiser itself.
        """
        if mask is not None:
            noise = noise.masked_fill(~mask.unsqueeze(-1), 0.0)
        if self.solver in ADAPTIVE_METHODS:
            x = self._flow(noise * self.sigma_max, self.sigma_max, self.sigma_min, context, mask)
        else:
            x = integrate(
                lambda sigma, x: self._slope(x, sigma, context, mask),
                noise * self.sigma_max,
                self.sigma_max,
                self.sigma_min,
                method=self.solver,
                times=self.sigmas(),
                state_dtype=self.state_dtype,
            )
        return self.denoise(x, x.new_full((x.shape[0],), self.sigma_min), context, mask=mask)

    def encode(self, x: Tensor, context: Tensor | None = None, *, mask: Tensor | None = None) -> Tensor:
        """Standard normal noise from events taken as ``x(sigma_min)``; shape of ``x``, padded entries 0."""
        if mask is not None:
            x = x.masked_fill(~mask.unsqueeze(-1), 0.0)
        return self._flow(x, self.sigma_min, self.sigma_max, context, mask) / self.sigma_max

    def log_prob(
        self, x: Tensor, context: Tensor | None = None, *, mask: Tensor | None = None, seed: int | None = None
    ) -> Tensor:
        """Log-density of each event ``(B,)``, nats in units of ``x``; of sets, the ordered density of the
        real entries.

        Instantaneous change of variables (arXiv 1806.07366) from ``sigma_min`` to ``sigma_max``, where the
        density is N(0, sigma_max^2 I), as ``decode`` assumes.  It is the density at ``sigma_min``: blurred by
        it.  ``seed`` replaces ``probe_seed``.
        """
        if mask is not None:
            x = x.masked_fill(~mask.unsqueeze(-1), 0.0)
        s_min, s_max = self._s(self.sigma_min), self._s(self.sigma_max)
        times = self._angles(self.sigma_min, self.sigma_max, self.log_prob_steps)
        y, trace = integrate_with_divergence(
            self._field(context, mask),
            x / s_min,
            times[0],
            times[-1],
            probes=self.trace.draw(x, self.event_shape, mask=mask, seed=seed),
            method=self.log_prob_solver,
            times=times,
            rtol=self.rtol,
            atol=self.atol,
            state_dtype=self.state_dtype,
        )
        linear = entries_per_event(x, mask) * math.log(s_max / self.sigma_max / s_min)
        return standard_normal_log_prob(y * (s_max / self.sigma_max), mask=mask) + trace + linear

    def _training_sigmas(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        device = x.device if generator is None else generator.device
        if self.stratified:
            offset = torch.rand((), generator=generator, device=device, dtype=x.dtype)
            u = (offset + torch.arange(len(x), device=device, dtype=x.dtype) / max(len(x), 1)) % 1.0
            # Half a float32 ulp inside (0, 1), so that the normal quantile stays finite.
            normal = torch.special.ndtri(u.clamp(6e-8, 1.0 - 6e-8))
        else:
            normal = torch.randn(len(x), generator=generator, device=device, dtype=x.dtype)
        return torch.exp(self.P_mean + self.P_std * normal).to(x.device)

    def _slope(self, x: Tensor, sigma: float, context: Tensor | None, mask: Tensor | None) -> Tensor:
        """``(x - D) / sigma`` with eq. 7 inserted, which cancels nothing at small sigma."""
        s = self._s(sigma)
        level = x.new_full((x.shape[0],), sigma)
        raw = self.network(x / s, self.c_noise(level), context, mask=mask)
        return (sigma / s**2) * x - (self.sigma_data / s) * raw

    def _s(self, sigma: float) -> float:
        return math.hypot(sigma, float(self.sigma_data))

    def _angles(self, start: float, end: float, steps: int) -> list[float]:
        sigma_data = float(self.sigma_data)
        angles = [math.atan2(sigma, sigma_data) for sigma in self.sigmas(steps)]
        return angles if start > end else angles[::-1]

    def _field(self, context: Tensor | None, mask: Tensor | None) -> Callable[[float, Tensor], Tensor]:
        """``dy/dtheta = -F(y; c_noise)``."""
        sigma_data = float(self.sigma_data)

        def field(theta: float, y: Tensor) -> Tensor:
            level = y.new_full((y.shape[0],), sigma_data * math.tan(theta))
            return -self.network(y, self.c_noise(level), context, mask=mask)

        return field

    def _flow(self, x: Tensor, start: float, end: float, context: Tensor | None, mask: Tensor | None) -> Tensor:
        times = self._angles(start, end, self.steps)
        y = integrate(
            self._field(context, mask),
            x / self._s(start),
            times[0],
            times[-1],
            method=self.solver,
            times=times,
            rtol=self.rtol,
            atol=self.atol,
            state_dtype=self.state_dtype,
        )
        return y * self._s(end)


def stochastic_sample(
    density: EDM,
    noise: Tensor,
    context: Tensor | None = None,
    *,
    mask: Tensor | None = None,
    generator: torch.Generator,
    S_churn: float = 40.0,
    S_min: float = 0.05,
    S_max: float = 50.0,
    S_noise: float = 1.003,
) -> Tensor:
    """Events from noise by the stochastic sampler, Algorithm 2 of arXiv 2206.00364; with its Table 5 settings
    for ImageNet-64.

    Fresh noise at intermediate levels corrects errors of earlier steps, at the price of more steps; the event
    is no longer a function of ``noise`` alone.

    Args:
        density: The trained diffusion.
        noise: Standard normal, shape of the events.
        context: ``(B, C)``.
        mask: ``(B, P)`` for sets.
        generator: Source of the fresh noise.
        S_churn: Amount of fresh noise over all steps; 0 gives Algorithm 1.
        S_min: Lowest noise level with fresh noise.
        S_max: Highest noise level with fresh noise.
        S_noise: Standard deviation of the fresh noise, slightly above 1 against the loss of variance.

    Returns:
        Events, shape of ``noise``.
    """
    if mask is not None:
        noise = noise.masked_fill(~mask.unsqueeze(-1), 0.0)

    def slope(x: Tensor, sigma: float) -> Tensor:
        return density._slope(x.to(noise.dtype), sigma, context, mask).to(x.dtype)

    levels = [*density.sigmas(), 0.0]
    gamma_max = min(S_churn / density.steps, math.sqrt(2.0) - 1.0)
    x = (noise * density.sigma_max).to(density.state_dtype or noise.dtype)
    for t, following in itertools.pairwise(levels):
        gamma = gamma_max if S_min <= t <= S_max else 0.0
        t_hat = t + gamma * t
        if gamma > 0.0:
            epsilon = torch.randn(noise.shape, generator=generator, device=generator.device, dtype=noise.dtype)
            epsilon = epsilon.to(x) if mask is None else epsilon.to(x) * mask.unsqueeze(-1)
            x = x + math.sqrt(t_hat**2 - t**2) * S_noise * epsilon
        d = slope(x, t_hat)
        euler = x + (following - t_hat) * d
        x = euler if following == 0.0 else x + (following - t_hat) * 0.5 * (d + slope(euler, following))
    return x.to(noise.dtype)
