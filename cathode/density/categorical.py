r"""Classes that flow: continuous-time Markov chains from noise at ``t = 0`` to data at ``t = 1``.

Two interpolations between a class ``x1`` out of S and noise (Campbell et al., "Generative flows on discrete
state-spaces", arXiv 2402.04997, Sec. 3.1; the discrete flow matching of Gat et al., arXiv 2407.15595, with the schedule
``kappa_t = t``):

* ``"masking"``: ``x_t = x1`` with probability t, else *hidden*, an extra state with the index S;
* ``"uniform"``: ``x_t = x1`` with probability t, else any of the S classes.

With the posterior ``p(x1 | x_t)``, which a network learns by cross-entropy, the chain that jumps from i to j with the
rates of :func:`jump_rates` has the distribution of ``x_t`` at every t.  ``stochasticity`` (eta) adds jumps in detailed
balance, which change no distribution but let the chain revise classes it has chosen (their Sec. 3.2 and App. F).

Everything here is a function of its arguments; random numbers come in as uniform numbers in [0, 1).
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["INTERPOLATIONS", "corrupt", "jump", "jump_rates", "one_hot", "start", "states"]

INTERPOLATIONS = ("masking", "uniform")


def states(size: int, interpolation: str) -> int:
    """Number of states of a chain of ``size`` classes: the classes, and *hidden* where there is masking.

    Raises:
        ValueError: Unknown interpolation, or fewer than 2 classes.
    """
    if interpolation not in INTERPOLATIONS:
        raise ValueError(f"unknown interpolation {interpolation!r}; known: {', '.join(INTERPOLATIONS)}")
    if size < 2:
        raise ValueError(f"a categorical column of {size} classes: give at least 2")
    return size + (interpolation == "masking")


def one_hot(state: Tensor, size: int, dtype: torch.dtype) -> Tensor:
    """Indicator of the class, ``(...)`` to ``(..., S)``; a hidden class (index S) gives zeros."""
    return (state.unsqueeze(-1) == torch.arange(size, device=state.device)).to(dtype)


def start(uniform: Tensor, size: int, *, interpolation: str) -> Tensor:
    """States at ``t = 0`` for uniform numbers ``(...)``, int64: hidden, or any class."""
    if interpolation == "masking":
        return torch.full_like(uniform, size, dtype=torch.int64)
    return (uniform * size).long().clamp(max=size - 1)


def corrupt(classes: Tensor, t: Tensor, keep: Tensor, other: Tensor, size: int, *, interpolation: str) -> Tensor:
    """A draw of ``x_t`` given ``x1 = classes``, int64 ``(...)``.

    Args:
        classes: int64, 0 … S-1.
        t: Times, broadcastable to ``classes``.
        keep: Uniform numbers that decide whether the class is still noise.
        other: Uniform numbers that choose the noise.
        size: S.
        interpolation: See the module.
    """
    return torch.where(keep < t, classes, start(other, size, interpolation=interpolation))


def jump_rates(state: Tensor, posterior: Tensor, t: float, *, interpolation: str, stochasticity: float = 0.0) -> Tensor:
    r"""Rates of the jumps to every state, per unit of time, ``(..., states)``; 0 for staying.

    The conditional rates averaged over the posterior (arXiv 2402.04997, eqs. 5, 6 and App. F), with
    :math:`p_j = p(x_1 = j | x_t)`:

    * masking: from hidden to j at :math:`p_j (1 + \eta t) / (1 - t)`, from a class to hidden at :math:`\eta`;
    * uniform: from i to j at :math:`p_j [1 + \eta (S t + 1 - t)] / (1 - t) + \eta p_i`.

    Args:
        state: int64 ``(...)``.
        posterior: ``(..., S)``, sums to 1.
        t: Time, below 1.
        interpolation: See the module.
        stochasticity: eta, 0 or more.
    """
    size = posterior.shape[-1]
    eta = stochasticity
    if interpolation == "masking":
        hidden = (state == size).unsqueeze(-1)
        reveal = posterior * ((1.0 + eta * t) / (1.0 - t))
        hide = torch.full_like(posterior[..., :1], eta)
        return torch.cat([reveal * hidden, hide * ~hidden], dim=-1)
    own = one_hot(state, size, posterior.dtype)
    rates = posterior * ((1.0 + eta * (size * t + 1.0 - t)) / (1.0 - t))
    if eta:
        rates = rates + eta * (posterior * own).sum(-1, keepdim=True)
    return rates * (1.0 - own)


def jump(
    state: Tensor,
    posterior: Tensor,
    t: float,
    following: float,
    uniform: Tensor,
    *,
    interpolation: str,
    stochasticity: float = 0.0,
) -> Tensor:
    """States at the time ``following`` of chains that are in ``state`` at ``t``; int64 ``(...)``.

    One Euler step with the posterior frozen: j is reached with probability ``rate x step``, scaled down where the sum
    exceeds 1.  Without stochasticity and with masking this is the exact solution for a frozen posterior, because its
    rates integrate to ``(following - t) / (1 - t)``.  A step that ends at 1 has no stochasticity, and nothing stays
    hidden.

    Args:
        state: int64 ``(...)``.
        posterior: ``(..., S)``.
        t: Start, in [0, 1).
        following: End, above ``t``, at most 1.
        uniform: ``(...)`` in [0, 1), one number for each chain: it decides whether to jump and where to.
        interpolation: See the module.
        stochasticity: eta.
    """
    size = posterior.shape[-1]
    last = following >= 1.0
    eta = 0.0 if last else stochasticity
    step = min(following, 1.0) - t
    edges = (jump_rates(state, posterior, t, interpolation=interpolation, stochasticity=eta) * step).cumsum(-1)
    total = edges[..., -1:]
    scale = total.clamp(min=1.0)
    if last and interpolation == "masking":
        # Rounding must not leave a class hidden: its probabilities sum to exactly 1.
        scale = torch.where((state == size).unsqueeze(-1), total, scale)
    target = (edges / scale <= uniform.unsqueeze(-1)).sum(-1)
    return torch.where(target < edges.shape[-1], target, state)
