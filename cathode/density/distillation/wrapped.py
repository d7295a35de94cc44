"""What is around a density, taken off and put back: students learn where their teacher's network works.

A teacher may lie inside changes of variables (:class:`Preprocessed`), behind filled zeros (:class:`Dequantised`) or in
a frame of its own (:class:`Canonical`), one around the other.  Training events are brought through all of them once
(:func:`inward`), the student is fitted to the *core* of the teacher, and the same layers go around the student
(:func:`rewrapped`).
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from cathode.density.base import ConditionalDensity
from cathode.density.canonical import Canonical
from cathode.density.dequantised import Dequantised
from cathode.density.preprocessed import Preprocessed

__all__ = ["core_of", "inward", "rewrapped"]


def core_of(density: ConditionalDensity) -> ConditionalDensity:
    """The density inside everything that :func:`rewrapped` can put around another one."""
    while isinstance(density, (Canonical, Dequantised, Preprocessed)):
        density = density.density
    return density


def rewrapped(density: ConditionalDensity, core: ConditionalDensity) -> ConditionalDensity:
    """A copy of what is around ``density``, around ``core``; ``core`` itself where nothing is."""
    if isinstance(density, Preprocessed):
        inner = rewrapped(density.density, core)
        result: ConditionalDensity = Preprocessed(
            copy.deepcopy(density.bijection), inner, copy.deepcopy(density.context_bijection)
        )
    elif isinstance(density, Dequantised):
        inner = rewrapped(density.density, core)
        result = Dequantised(inner, density.threshold, density.noise_kind, density.depth)
    elif isinstance(density, Canonical):
        # Built anew, because the noise of the new core may have another shape.
        inner = rewrapped(density.density, core)
        result = Canonical(inner, density.turns, density.blocks, density.mirror, density.leaders)
    else:
        return core
    return result.train(core.training)


@torch.no_grad()
def inward(
    density: ConditionalDensity, x: Tensor, context: Tensor | None = None, *, generator: torch.Generator
) -> tuple[Tensor, Tensor | None]:
    """Events ``(B, D)`` and context as the core of ``density`` sees them; zeros are filled by ``generator``."""
    while isinstance(density, (Canonical, Dequantised, Preprocessed)):
        if isinstance(density, Preprocessed):
            x, context = density.bijection.forward_and_log_det(x, context)[0], density.transform_context(context)
        elif isinstance(density, Dequantised):
            x = density.fill(x, generator=generator)
        else:
            x = density.frame(x)
        density = density.density
    return x, context
