r"""A density behind a change of variables.

With the bijection :math:`z = f(x)` and a density :math:`q(z \mid c)`,

.. math:: \log p(x \mid c) = \log q(f(x) \mid c) + \log |\det f'(x)|

so log-densities are always in the units of ``x``, whatever the network sees.
"""

from __future__ import annotations

import copy
import logging
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from cathode.density.base import ConditionalDensity, Tractable
from cathode.density.bijections import Bijection
from cathode.density.registry import buildable
from cathode.support.errors import UserError

__all__ = ["FittedPreprocessing", "Preprocessed", "fit_preprocessing"]

logger = logging.getLogger(__name__)


@buildable("preprocessed")
class Preprocessed(ConditionalDensity):
    """``density`` of ``bijection(x)``, seen as a density of ``x``; :class:`Tractable` if ``density`` is.

    *Loss.* The loss of ``density`` at the transformed event.  Where that loss is the negative log-density (the density
    says so by ``loss_is_nll = True``), the log-determinant is subtracted: the loss is then ``-log p(x | c)`` in the
    units of ``x``, comparable between preprocessings, and its gradients are unchanged.

    *Domain.* Events that a member with the policy ``mask`` rejects have ``log_prob`` minus infinity; their loss is
    finite (at the edge of the domain), so leave them out of training by :func:`fit_preprocessing` or :meth:`rejects`.

    Args:
        bijection: Acts on ``x``; fitted.
        density: Density of the transformed events.
        context_bijection: Acts on the context before ``density`` sees it.  A change of variables of the condition has
            no Jacobian in ``p(x | c)``.
    """

    bijection: Bijection
    density: ConditionalDensity
    context_bijection: Bijection | None

    def __init__(
        self, bijection: Bijection, density: ConditionalDensity, context_bijection: Bijection | None = None
    ) -> None:
        super().__init__()
        if bijection.features != density.event_shape[-1]:
            raise ValueError(
                f"the bijection has {bijection.features} features, the density's events have {density.event_shape[-1]}"
            )
        if context_bijection is not None and context_bijection.features != density.context_features:
            raise ValueError(
                f"the context bijection has {context_bijection.features} features, "
                f"the density was built for {density.context_features} context columns"
            )
        self.event_shape = density.event_shape
        self.context_features = density.context_features
        self.bijection = bijection
        self.density = density
        self.context_bijection = context_bijection
        if isinstance(density, Tractable):
            # On the instance, so that isinstance(…, Tractable) tells the truth about this density.
            self.log_prob = self._log_prob  # type: ignore[method-assign]
            self.encode = self._encode  # type: ignore[method-assign]

    if TYPE_CHECKING:

        def log_prob(self, x: Tensor, context: Tensor | None = None) -> Tensor: ...
        def encode(self, x: Tensor, context: Tensor | None = None) -> Tensor: ...

    @property
    def loss_is_nll(self) -> bool:
        """Whether :meth:`loss` is ``-log p(x | c)``."""
        return bool(getattr(self.density, "loss_is_nll", False))

    def transform_context(self, context: Tensor | None) -> Tensor | None:
        """The context as ``density`` sees it, ``(B, C)``."""
        if self.context_bijection is None or context is None:
            return context
        return self.context_bijection.forward_and_log_det(context)[0]

    def rejects(self, x: Tensor, *, mask: Tensor | None = None, context: Tensor | None = None) -> Tensor:
        """``(B,)``, True for events outside the domain under the policy ``mask``."""
        return self.bijection.rejects(x, mask=mask, context=context)

    def noise(
        self, count: int, *, mask: Tensor | None = None, generator: torch.Generator, dtype: torch.dtype | None = None
    ) -> Tensor:
        return self.density.noise(count, mask=mask, generator=generator, dtype=dtype)

    def loss(
        self,
        x: Tensor,
        context: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        c = self.transform_context(context)
        z, log_det = self.bijection.forward_and_log_det(x, context, mask=mask)
        losses = self.density.loss(z, c, mask=mask, generator=generator)
        return losses - log_det if self.loss_is_nll else losses

    def decode(self, noise: Tensor, context: Tensor | None = None, *, mask: Tensor | None = None) -> Tensor:
        z = self.density.decode(noise, self.transform_context(context), mask=mask)
        return self.bijection.inverse_and_log_det(z, context, mask=mask)[0]

    def before_evaluation(self, x: Tensor, context: Tensor | None = None) -> None:
        """Pass the transformed training events on to a density that keeps statistics of them; called between epochs."""
        hook = getattr(self.density, "before_evaluation", None)
        if hook is not None:
            with torch.no_grad():
                z, _ = self.bijection.forward_and_log_det(x, context)
                hook(z, self.transform_context(context))

    def _log_prob(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        assert isinstance(self.density, Tractable)
        z, log_det = self.bijection.forward_and_log_det(x, context)
        value = self.density.log_prob(z, self.transform_context(context)) + log_det
        return value.masked_fill(self.bijection.rejects(x, context=context), -torch.inf)

    def _encode(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        assert isinstance(self.density, Tractable)
        z, _ = self.bijection.forward_and_log_det(x, context)
        return self.density.encode(z, self.transform_context(context))


class FittedPreprocessing(NamedTuple):
    """What :func:`fit_preprocessing` returns.

    Attributes:
        bijection: Fitted on the training events.
        context_bijection: Fitted on their contexts, or None.
        keep: ``(N,)``, True for training events inside the domain: train on ``x[keep]``.
        rejected: Number of the others.
    """

    bijection: Bijection
    context_bijection: Bijection | None
    keep: Tensor
    rejected: int

    def wrap(self, density: ConditionalDensity) -> Preprocessed:
        """``density`` of preprocessed events as a density of events."""
        context_bijection = None if self.context_bijection is None else copy.deepcopy(self.context_bijection)
        return Preprocessed(copy.deepcopy(self.bijection), density, context_bijection)


def fit_preprocessing(
    bijection: Bijection,
    x: Tensor,
    *,
    context_bijection: Bijection | None = None,
    context: Tensor | None = None,
    weight: Tensor | None = None,
    mask: Tensor | None = None,
) -> FittedPreprocessing:
    """Fit the bijections on training events only, and say which of these events the domain leaves.

    Args:
        bijection: Unfitted chain for ``x``.
        x: ``(N, D)`` or ``(N, P, F)`` training events.
        context_bijection: Unfitted chain for the context.
        context: ``(N, C)``; needed with ``context_bijection``, and by bijections that depend on the context.
        weight: ``(N,)``.
        mask: ``(N, P)`` for sets.

    Raises:
        UserError: The events cannot be used, or none is left.
    """
    fitted = bijection.fit(x, context=context, weight=weight, mask=mask)
    keep = ~fitted.rejects(x, mask=mask, context=context)
    rejected = int((~keep).sum())
    if rejected == len(keep):
        raise UserError(f"all {len(keep)} training events are outside the domain of the preprocessing: check the units")
    fitted_context = None
    if context_bijection is not None:
        if context is None:
            raise ValueError("a context bijection needs the context to be fitted on")
        fitted_context = context_bijection.fit(context[keep], weight=None if weight is None else weight[keep])
        outside = fitted_context.rejects(context)
        keep &= ~outside
        rejected = int((~keep).sum())
    if rejected:
        logger.info("%d of %d training events are outside the domain of the preprocessing", rejected, len(keep))
    return FittedPreprocessing(fitted, fitted_context, keep, rejected)
