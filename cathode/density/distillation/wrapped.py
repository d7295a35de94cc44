"""What is around a density, taken off and put back: students learn where their teacher's network works.

A teacher may lie inside changes of variables (:class:`Preprocessed`), behind filled zeros (:class:`Dequantised`),
behind points spread over the cells of a lattice (:class:`LatticePoints`), among mirror images (:class:`Mirrored`) or in
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
from cathode.density.lattice import LatticePoints
from cathode.density.mirrored import Mirrored
from cathode.density.preprocessed import Preprocessed

__all__ = ["core_of", "inward", "rewrapped"]

_LAYERS = (Canonical, Dequantised, LatticePoints, Mirrored, Preprocessed)


def core_of(density: ConditionalDensity) -> ConditionalDensity:
    """The density inside everything that :func:`rewrapped` can put around another one."""
    while isinstance(density, _LAYERS):
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
    elif isinstance(density, LatticePoints):
        result = LatticePoints(rewrapped(density.density, core), density.pitch, density.columns, density.flag)
    elif isinstance(density, Mirrored):
        result = Mirrored(rewrapped(density.density, core), density.events, density.contexts)
    elif isinstance(density, Canonical):
        # Built anew, because the noise of the new core may have another shape.
        inner = rewrapped(density.density, core)
        result = Canonical(inner, density.turns, density.blocks, density.mirror, density.leaders)
    else:
        return core
    return result.train(core.training)


@torch.no_grad()
def inward(
    density: ConditionalDensity,
    x: Tensor,
    context: Tensor | None = None,
    *,
    mask: Tensor | None = None,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor | None]:
    """Events ``(B, D)`` or sets ``(B, P, F)`` and context as the core of ``density`` sees them.

    What is random in the layers (filled zeros, positions in cells, mirror images) is drawn from ``generator``.
    """
    while isinstance(density, _LAYERS):
        if isinstance(density, Preprocessed):
            x = density.bijection.forward_and_log_det(x, context, mask=mask)[0]
            context = density.transform_context(context)
        elif isinstance(density, Dequantised):
            x = density.fill(x, generator=generator)
        elif isinstance(density, LatticePoints):
            x = density.fill(x, mask=mask, generator=generator)
        elif isinstance(density, Mirrored):
            x, context = density.mirror(x, context, generator=generator)
        else:
            x = density.frame(x)
        density = density.density
    return x, context
