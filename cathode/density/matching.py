r"""Flow matching: learn the velocity that carries noise to data along straight lines.

The principle: for a pair of noise ``z ~ N(0, I)`` and event ``x`` the path is ``x_t = (1 - (1 - sigma_min) t)
z + t x``, so its velocity is ``u = x - (1 - sigma_min) z`` (Lipman et al., arXiv 2210.02747, eqs. 22 and 23).
The regression ``E |v(x_t, t) - u|^2`` (eq. 23) is minimised by the velocity field of the marginal flow,
which carries N(0, I) at ``t = 0`` to the data (blurred by ``sigma_min``) at ``t = 1``.

**Preconditioning.**  For data of variance ``sigma_data^2``, write ``a = 1 - (1 - sigma_min) t`` and ``r^2 =
a^2 + sigma_data^2 t^2``, the variance of ``x_t``. The best linear guess of ``u`` from ``x_t`` is ``c_skip
x_t`` with ``c_skip = d ln r / dt``, and what it leaves has standard deviation ``c_out = sigma_data / r``.  As
in EDM (Karras et al., arXiv 2206.00364, eq. 7, there for a denoiser) the network F supplies only the rest,

    v(x, t) = c_skip x + c_out F(x / r, t),

and its loss is weighted by ``1 / c_out^2``, so that F regresses a target of unit variance at every time.  A
zero F is then exactly right for Gaussian data of unit covariance.  In the coordinates ``y = x / r`` and
``theta = arctan(sigma_data t / a)`` the flow is simply ``dy/dtheta = F``: the linear part is solved
analytically, the solver sees only F, and the log-determinant of the linear part is exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from cathode.density.base import ConditionalDensity
from cathode.density.divergence import Trace, entries_per_event, integrate_with_divergence, standard_normal_log_prob
from cathode.density.networks.mlp import ResNet
from cathode.density.registry import buildable
from cathode.density.solvers import check_method, integrate

__all__ = ["FlowMatching", "optimal_transport_order"]

_TIME_SAMPLINGS = ("uniform", "logit_normal")
_COUPLINGS = ("independent", "optimal_transport")


def optimal_transport_order(noise: Tensor, x: Tensor) -> Tensor:
    """Order of the rows of ``noise`` that pairs them with the rows of ``x`` at the least total squared
    distance, ``(B,)``.

    Minibatch optimal transport (Tong et al., arXiv 2302.00482, Sec. 3.2.3; Pooladian et al., arXiv
    2304.14772), solved exactly.
    """
    cost = torch.cdist(x.detach().flatten(1), noise.flatten(1)).square()
    _, columns = linear_sum_assignment(cost.cpu().numpy())
    return torch.as_tensor(columns, device=noise.device)


@buildable("flow-matching")
class FlowMatching(ConditionalDensity):
    """Conditional flow matching with optimal-transport paths, for vectors and masked sets.

    Arguments:
        event_shape: D, or ``[P, F]`` for sets.
        context_features: C.
        network: Buildable network ``(x, t, context, mask=mask)``; for vectors the default is a
            :class:`ResNet`.
        sigma_min: Blur of the data at ``t = 1``, in units of ``x``.
        preconditioning: Predict the velocity as linear part plus network (see above); off: the network is the
            velocity.
        sigma_data: Standard deviation of the data that the preconditioning assumes; 1 after standardisation.
        time_sampling: ``"uniform"``, or ``"logit_normal"`` (Esser et al., arXiv 2403.03206, eq. 19), which
            trains the middle times more.
        logit_location: Location of the logit-normal times; positive values train late times (near the data)
            more.
        logit_scale: Scale of the logit-normal times.
        stratified: Spread the times of a batch evenly over their distribution, from one random offset; each
            time keeps its distribution, and the mean loss of a batch fluctuates less (Kingma et al., arXiv
            2107.00630, App. I.1).
        coupling: ``"independent"``, or ``"optimal_transport"``: noise is re-paired with the events of its
            batch.  Only the noise moves, so every event enters exactly once and event weights stay exact.
            With a context the pairing makes the noise depend on the context of its event, so conditional
            densities get a bias of the order of the batch's granularity; off by default.
        solver: Method of :func:`cathode.density.solvers.integrate` for decode and encode.  An adaptive solver
            wants a network with smooth activations: at every kink of a (leaky) ReLU its steps shrink, most of
            all in log_prob, where the trace jumps.
        steps: Steps of a fixed-step solver.  On a 4-D linear-Gaussian problem 8 steps of rk4 change no log-density by
            more than 1e-3 nats, 20 of heun by 5e-3 at a higher cost; sharp edges in the data need more.
        log_prob_solver: Method for log_prob; the same as ``solver`` if not given.
        log_prob_steps: Steps for log_prob; the same as ``steps`` if not given.
        rtol: Relative tolerance of an adaptive solver.
        atol: Absolute tolerance of an adaptive solver.
        double_state: Keep the state of the solver in float64, while the network works in its own precision.
        trace: ``"exact"``, ``"hutchinson"`` or ``"auto"``, see :class:`cathode.density.divergence.Trace`.
        probes: Hutchinson probes per event.
        probe_seed: Seed of the probes.

    Raises:
        ValueError: An argument outside its range, or a set without a network.
    """

    def __init__(
        self,
        event_shape: int | Sequence[int],
        context_features: int = 0,
        *,
        network: nn.Module | None = None,
        sigma_min: float = 0.0,
        preconditioning: bool = True,
        sigma_data: float = 1.0,
        time_sampling: str = "uniform",
        logit_location: float = 0.0,
        logit_scale: float = 1.0,
        stratified: bool = True,
        coupling: str = "independent",
        solver: str = "rk4",
        steps: int = 10,
        log_prob_solver: str | None = None,
        log_prob_steps: int | None = None,
        rtol: float = 1e-5,
        atol: float = 1e-6,
        double_state: bool = False,
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
        if not 0.0 <= sigma_min < 1.0:
            raise ValueError(f"sigma_min is {sigma_min}; give a value in [0, 1)")
        if sigma_data <= 0.0:
            raise ValueError(f"sigma_data is {sigma_data}; give a positive value")
        if time_sampling not in _TIME_SAMPLINGS:
            raise ValueError(f"unknown time_sampling {time_sampling!r}; known: {', '.join(_TIME_SAMPLINGS)}")
        if coupling not in _COUPLINGS:
            raise ValueError(f"unknown coupling {coupling!r}; known: {', '.join(_COUPLINGS)}")
        self.network = network
        self.sigma_min, self.preconditioning, self.sigma_data = sigma_min, preconditioning, sigma_data
        self.time_sampling, self.stratified, self.coupling = time_sampling, stratified, coupling
        self.logit_location, self.logit_scale = logit_location, logit_scale
        self.solver, self.steps = solver, steps
        self.log_prob_solver = solver if log_prob_solver is None else log_prob_solver
        self.log_prob_steps = steps if log_prob_steps is None else log_prob_steps
        check_method(self.solver, steps=self.steps)
        check_method(self.log_prob_solver, steps=self.log_prob_steps)
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
        """Mean squared error of the velocity over the entries of each event, ``(B,)``; padded entries do not
        count.

        Raises:
            ValueError: Optimal-transport coupling of masked sets, whose noise has the mask of its event.
        """
        if mask is not None:
            if self.coupling != "independent":
                raise ValueError(
                    "optimal_transport coupling is not defined for masked sets: use coupling='independent'"
                )
            x = x.masked_fill(~mask.unsqueeze(-1), 0.0)
        t = self._times(x, generator)
        z = torch.randn(x.shape, generator=generator, device=_device(x, generator), dtype=x.dtype).to(x.device)
        if mask is not None:
            z = z * mask.unsqueeze(-1)
        if self.coupling == "optimal_transport":
            z = z[optimal_transport_order(z, x)]
        a = _like(1.0 - (1.0 - self.sigma_min) * t, x)
        b = _like(t, x)
        if self.preconditioning:
            # (cos, sin)(theta) = (a, sigma_data t) / r, and the target is dy/dtheta along the path of the
            # pair.
            data = x / self.sigma_data
            r = torch.sqrt(a.square() + (self.sigma_data * b).square())
            cos, sin = a / r, self.sigma_data * b / r
            point, target = cos * z + sin * data, cos * data - sin * z
        else:
            point, target = a * z + b * x, x - (1.0 - self.sigma_min) * z
        squares = (self.network(point, t, context, mask=mask) - target).square()
        if mask is None:
            return squares.flatten(1).mean(1)
        squares = squares * mask.unsqueeze(-1)
        return squares.flatten(1).sum(1) / entries_per_event(x, mask).clamp(min=1.0)

    def velocity(self, x: Tensor, t: Tensor, context: Tensor | None = None, *, mask: Tensor | None = None) -> Tensor:
        """``dx/dt`` at ``x`` (shape of an event batch) and times ``t (B,)`` in [0, 1]."""
        if not self.preconditioning:
            return self.network(x, t, context, mask=mask)
        if mask is not None:
            x = x.masked_fill(~mask.unsqueeze(-1), 0.0)
        slope = 1.0 - self.sigma_min
        a = _like(1.0 - slope * t, x)
        b = _like(t, x)
        r2 = a.square() + (self.sigma_data * b).square()
        c_skip = (self.sigma_data**2 * b - slope * a) / r2
        c_in = r2.rsqrt()
        c_out = self.sigma_data * c_in
        return c_skip * x + c_out * self.network(c_in * x, t, context, mask=mask)

    def decode(self, noise: Tensor, context: Tensor | None = None, *, mask: Tensor | None = None) -> Tensor:
        """Events from noise, by the flow from ``t = 0`` to ``t = 1``; shape of ``noise``, padded entries
        0.
        """
        if mask is not None:
            noise = noise.masked_fill(~mask.unsqueeze(-1), 0.0)
        field = self._field(context, mask)
        return self._integrate(field, noise, 0.0, self._end) * self._end_scale

    def encode(self, x: Tensor, context: Tensor | None = None, *, mask: Tensor | None = None) -> Tensor:
        """Noise from events, by the flow from ``t = 1`` to ``t = 0``; shape of ``x``, padded entries 0."""
        if mask is not None:
            x = x.masked_fill(~mask.unsqueeze(-1), 0.0)
        field = self._field(context, mask)
        return self._integrate(field, x / self._end_scale, self._end, 0.0)

    def log_prob(
        self, x: Tensor, context: Tensor | None = None, *, mask: Tensor | None = None, seed: int | None = None
    ) -> Tensor:
        """Log-density of each event ``(B,)``, nats in units of ``x``; of sets, the ordered density of the
        real entries.

        Instantaneous change of variables (arXiv 1806.07366), trace exact or estimated as the constructor
        says; ``seed`` replaces ``probe_seed`` for the estimate, which is a deterministic function of the
        events in the call and the seed.
        """
        if mask is not None:
            x = x.masked_fill(~mask.unsqueeze(-1), 0.0)
        noise, trace = integrate_with_divergence(
            self._field(context, mask),
            x / self._end_scale,
            self._end,
            0.0,
            probes=self.trace.draw(x, self.event_shape, mask=mask, seed=seed),
            method=self.log_prob_solver,
            steps=self.log_prob_steps,
            rtol=self.rtol,
            atol=self.atol,
            state_dtype=self.state_dtype,
        )
        linear = entries_per_event(x, mask) * math.log(self._end_scale)
        return standard_normal_log_prob(noise, mask=mask) + trace - linear

    def _times(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        device, count = _device(x, generator), len(x)
        if self.stratified:
            offset = torch.rand((), generator=generator, device=device, dtype=x.dtype)
            u = (offset + torch.arange(count, device=device, dtype=x.dtype) / max(count, 1)) % 1.0
        else:
            u = torch.rand(count, generator=generator, device=device, dtype=x.dtype)
        if self.time_sampling == "logit_normal":
            # Half a float32 ulp inside (0, 1), so that the normal quantile stays finite.
            normal = torch.special.ndtri(u.clamp(6e-8, 1.0 - 6e-8))
            u = torch.sigmoid(self.logit_location + self.logit_scale * normal)
        return u.to(x.device)

    @property
    def _end(self) -> float:
        """The solver's variable at ``t = 1``: theta with preconditioning, t without; 0 at ``t = 0``."""
        return math.atan2(self.sigma_data, self.sigma_min) if self.preconditioning else 1.0

    @property
    def _end_scale(self) -> float:
        """``r`` at ``t = 1``; at ``t = 0`` it is 1."""
        return math.hypot(self.sigma_min, self.sigma_data) if self.preconditioning else 1.0

    def _field(self, context: Tensor | None, mask: Tensor | None) -> Callable[[float, Tensor], Tensor]:
        def field(s: float, y: Tensor) -> Tensor:
            t = s
            if self.preconditioning:
                sin, cos = math.sin(s), math.cos(s)
                t = sin / (self.sigma_data * cos + (1.0 - self.sigma_min) * sin)
            return self.network(y, y.new_full((y.shape[0],), t), context, mask=mask)

        return field

    def _integrate(self, field: Callable[[float, Tensor], Tensor], x: Tensor, start: float, end: float) -> Tensor:
        return integrate(
            field,
            x,
            start,
            end,
            method=self.solver,
            steps=self.steps,
            rtol=self.rtol,
            atol=self.atol,
            state_dtype=self.state_dtype,
        )


def _device(x: Tensor, generator: torch.Generator | None) -> torch.device:
    return x.device if generator is None else generator.device


def _like(t: Tensor, x: Tensor) -> Tensor:
    """``t (B,)`` reshaped to multiply ``x (B, ...)``."""
    return t.view(-1, *[1] * (x.dim() - 1))
