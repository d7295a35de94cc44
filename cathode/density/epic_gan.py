r"""EPiC-GAN: sets from a pair of equivariant networks that are trained against each other.

The model of Buhmann, Kasieczka and Thaler, arXiv 2301.08128.  The *generator* turns standard normal noise, some of it
for each point and some for the set as a whole, into points; the *discriminator* pools the points of a set and says
whether they are real.  Both are stacks of the paper's EPiC layers, with mean *and* sum pooling, weight normalisation
(Salimans and Kingma, arXiv 1602.07868) and leaky ReLU, and both are trained with the least-squares losses of LS-GAN
(Mao et al., arXiv 1611.04076, with labels 1 for real and 0 for generated sets).

A GAN has no density, and its losses say nothing about quality: they are those of a game.  Epochs are compared, and
the best is selected, by a proper score (:func:`energy_score`) of what describes a set as a whole (:class:`SetMoments`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from cathode.density.base import ConditionalDensity
from cathode.density.networks.embeddings import activation_module
from cathode.density.networks.epic import EPiCLayer, SplitLinear, pool
from cathode.density.registry import buildable

__all__ = ["EPiCGAN", "SetMoments", "energy_score"]

_ACTIVATION = "leaky_relu"
# Of the random frequencies of a set's moments: any fixed number makes the same ones for all.
_FREQUENCY_SEED = 2301


def energy_score(first: Tensor, second: Tensor, observed: Tensor) -> Tensor:
    r"""Energy score ``(B,)`` of two independent draws of a prediction for what was observed, all ``(B, D)``.

    :math:`\tfrac12 (|X - y| + |X' - y|) - \tfrac12 |X - X'|`: unbiased for the score of the predicted distribution,
    whose mean over observations is least for their true distribution given the context (Gneiting and Raftery, JASA 102,
    2007, eq. 21).  Averaged over events it is half the energy distance of prediction and truth, up to a constant.
    """
    distances = [_length(a - b) for a, b in ((first, observed), (second, observed), (first, second))]
    return 0.5 * (distances[0] + distances[1] - distances[2])


def _length(x: Tensor) -> Tensor:
    # A gradient at 0 exists only with something under the root.
    return (x.square().sum(1) + 1e-12).sqrt()


class SetMoments(nn.Module):
    r"""What describes a set of n points as a whole: ``(B, P, F)`` to ``(B, D)``, whatever their order and padding.

    Means over the points of all features, of their products two by two, and of cosines :math:`\cos(w_k x + b_k)` of
    ``frequencies`` random waves, times :math:`\sqrt n`, so that chance alone gives them a spread of about 1 at any size
    of the set.  Mean cosines determine the distribution of points as their number grows (Rahimi and Recht, NeurIPS
    2007).

    Args:
        features: F; of about unit variance.
        frequencies: Number of waves.
    """

    waves: Tensor
    phases: Tensor

    def __init__(self, features: int, frequencies: int = 32) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(_FREQUENCY_SEED)
        # Frequencies from coarse to fine, so that peaks and edges of the features count too.
        scales = torch.logspace(-0.5, 0.5, max(frequencies, 1))[:frequencies]
        self.register_buffer("waves", torch.randn((features, frequencies), generator=generator) * scales)
        self.register_buffer("phases", 2 * math.pi * torch.rand(frequencies, generator=generator))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Zeros for an empty set."""
        weights = x.new_ones(x.shape[:2]) if mask is None else mask.to(x.dtype)
        if mask is not None:
            x = x.masked_fill(~mask.unsqueeze(-1), 0.0)
        weights = weights.unsqueeze(-1)
        norm = weights.sum(1).clamp(min=1.0).rsqrt()
        products = torch.einsum("bpi,bpj->bij", x, x)
        first, second = torch.triu_indices(x.shape[2], x.shape[2], device=x.device)
        cosines = ((x @ self.waves + self.phases).cos() * weights).sum(1)
        return torch.cat([x.sum(1), products[:, first, second], cosines], 1) * norm


def _normalised(module: nn.Module) -> None:
    """Weight normalisation of all linear layers."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            weight_norm(layer)


class _Generator(nn.Module):
    """Noise of the points ``(B, P, F)`` and of the set ``(B, G)`` to points ``(B, P, F)``."""

    def __init__(
        self,
        features: int,
        noise: tuple[int, int],
        context: int,
        width: int,
        global_width: int,
        layers: int,
        scale: float,
    ) -> None:
        super().__init__()
        self.act = activation_module(_ACTIVATION)
        self.global1 = nn.Linear(noise[1] + context, width)
        self.global2 = nn.Linear(width, global_width)
        self.local1 = SplitLinear(noise[0], context, width)
        self.local2 = nn.Linear(width, width)
        self.layers = nn.ModuleList(EPiCLayer(width, global_width, context, _ACTIVATION, scale) for _ in range(layers))
        self.exit = nn.Linear(width, features)
        _normalised(self)

    def forward(self, local: Tensor, shared: Tensor, context: Tensor, weights: Tensor | None) -> Tensor:
        g = self.act(self.global2(self.act(self.global1(torch.cat([shared, context], 1)))))
        h = self.act(self.local1(local, context))
        h = self.act(h + self.local2(h))
        for layer in self.layers:
            h, g = layer(h, g, context, weights)
        return self.exit(h) if weights is None else self.exit(h) * weights


class _Discriminator(nn.Module):
    """Points ``(B, P, F)`` to one number per set, ``(B,)``."""

    def __init__(self, features: int, context: int, width: int, global_width: int, layers: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.act = activation_module(_ACTIVATION)
        self.local1 = SplitLinear(features, context, width)
        self.local2 = nn.Linear(width, width)
        self.global1 = nn.Linear(2 * width + context, width)
        self.global2 = nn.Linear(width, global_width)
        self.layers = nn.ModuleList(EPiCLayer(width, global_width, context, _ACTIVATION, scale) for _ in range(layers))
        self.head1 = nn.Linear(2 * width + global_width + context, width)
        self.head2 = nn.Linear(width, width)
        self.head3 = nn.Linear(width, 1)
        _normalised(self)

    def forward(self, x: Tensor, context: Tensor, weights: Tensor | None) -> Tensor:
        if weights is not None:
            x = torch.where(weights > 0, x, 0.0)
        h = self.act(self.local1(x, context))
        h = self.act(h + self.local2(h))
        pooled = torch.cat([pool(h, weights, self.scale), context], 1)
        g = self.act(self.global2(self.act(self.global1(pooled))))
        for layer in self.layers:
            h, g = layer(h, g, context, weights)
        pooled = torch.cat([pool(h, weights, self.scale), g, context], 1)
        return self.head3(self.act(self.head2(self.act(self.head1(pooled))))).squeeze(1)


@buildable("epic-gan")
class EPiCGAN(ConditionalDensity):
    r"""Generator and discriminator of masked sets; trained by :class:`cathode.training.adversarial.AdversarialStep`.

    Points should be standardised, for example by :class:`~cathode.density.preprocessed.Preprocessed` around this.

    *Noise* is ``(B, P, N + G)``: N numbers of each point, and G of which the set's own noise is made, the sum over its
    n points over :math:`\sqrt n`.  That is standard normal, knows no order of the points, and padding does not
    change it.

    *Loss.* :meth:`loss` is the energy score of the moments of a set, for validation (as a training loss it would be
    proper too, without any discriminator); what the adversarial step descends are :meth:`discriminator_loss` and
    :meth:`generator_loss`.

    Deviations from the paper: the context of a set is given to every layer of both networks, as in EPiC-FM (arXiv
    2310.00049), and is how the multiplicity can be known; sums over points are scaled by ``sum_scale``.

    Args:
        points: P, the padded size.
        features: F.
        context_features: C.
        noise_features: N; F by default, as in the paper.
        global_noise: G.
        width: Size of the local vectors, 128 in the paper.
        global_width: Size of the global vector, 10 in the paper.
        layers: EPiC layers of the generator, 6 in the paper.
        discriminator_layers: EPiC layers of the discriminator, 3 in the paper.
        sum_scale: Factor on sum pooling; 1 is the plain sum of the paper.
        moment_frequencies: Waves among the moments that epochs are compared by.

    Raises:
        ValueError: A size that is not positive.
    """

    def __init__(
        self,
        points: int,
        features: int,
        context_features: int = 0,
        *,
        noise_features: int | None = None,
        global_noise: int = 10,
        width: int = 128,
        global_width: int = 10,
        layers: int = 6,
        discriminator_layers: int = 3,
        sum_scale: float = 0.01,
        moment_frequencies: int = 32,
    ) -> None:
        super().__init__()
        local = features if noise_features is None else noise_features
        sizes = (points, features, local, global_noise, width, global_width, layers, discriminator_layers)
        if min(sizes) < 1 or context_features < 0:
            raise ValueError("an EPiC-GAN needs points, features, noise, widths and layers of at least 1")
        self.event_shape = (points, features)
        self.context_features = context_features
        self._noise = (local, global_noise)
        # A layer of no columns cannot be normalised: without a context there is one column of zeros.
        common = (max(context_features, 1), width, global_width)
        self.generator = _Generator(features, self._noise, *common, layers, sum_scale)
        self.discriminator = _Discriminator(features, *common, discriminator_layers, sum_scale)
        self.moments = SetMoments(features, moment_frequencies)

    def noise(
        self, count: int, *, mask: Tensor | None = None, generator: torch.Generator, dtype: torch.dtype | None = None
    ) -> Tensor:
        """``(count, P, N + G)``; P is that of the mask if there is one."""
        points = self.event_shape[0] if mask is None else mask.shape[1]
        shape = (count, points, sum(self._noise))
        noise = torch.randn(shape, generator=generator, device=generator.device, dtype=dtype)
        return noise if mask is None else noise * mask.unsqueeze(-1)

    def decode(self, noise: Tensor, context: Tensor | None = None, *, mask: Tensor | None = None) -> Tensor:
        """Points ``(B, P, F)`` from noise ``(B, P, N + G)``, 0 in padded entries."""
        if mask is not None:
            noise = noise.masked_fill(~mask.unsqueeze(-1), 0.0)
        local, shared = noise.split(self._noise, 2)
        weights = None if mask is None else mask.unsqueeze(-1).to(noise.dtype)
        count = noise.new_tensor(noise.shape[1]) if weights is None else weights.sum(1).clamp(min=1.0)
        return self.generator(local, shared.sum(1) * count.rsqrt(), self._given(noise, context), weights)

    def judge(self, x: Tensor, context: Tensor | None = None, *, mask: Tensor | None = None) -> Tensor:
        """The discriminator's opinion ``(B,)``: near 1 for sets it takes for real, near 0 for others."""
        weights = None if mask is None else mask.unsqueeze(-1).to(x.dtype)
        return self.discriminator(x, self._given(x, context), weights)

    def draw(
        self, count: int, context: Tensor | None, mask: Tensor | None, generator: torch.Generator | None
    ) -> Tensor:
        """Sets on the device of the model, from fresh noise."""
        parameter = next(self.parameters())
        stream = torch.default_generator if generator is None else generator
        here = None if mask is None else mask.to(stream.device)
        noise = self.noise(count, mask=here, generator=stream, dtype=parameter.dtype).to(parameter.device)
        return self.decode(noise, context, mask=mask)

    def discriminator_loss(
        self,
        x: Tensor,
        context: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """``((D(x) - 1)^2 + D(G(z))^2) / 2`` of each event, ``(B,)``; generated sets have its context and mask."""
        with torch.no_grad():
            made = self.draw(len(x), context, mask, generator)
        real, fake = (self.judge(sets, context, mask=mask) for sets in (x, made))
        return 0.5 * ((real - 1.0).square() + fake.square())

    def generator_loss(
        self,
        x: Tensor,
        context: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """``(D(G(z)) - 1)^2 / 2``, ``(B,)``; of ``x`` only the number of events is used."""
        made = self.draw(len(x), context, mask, generator)
        return 0.5 * (self.judge(made, context, mask=mask) - 1.0).square()

    def adversaries(self) -> tuple[Sequence[nn.Parameter], Sequence[nn.Parameter]]:
        """Parameters of the generator, and of the discriminator."""
        return list(self.generator.parameters()), list(self.discriminator.parameters())

    def loss(
        self,
        x: Tensor,
        context: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Energy score of the moments of each set, ``(B,)``, from two sets drawn for it."""
        draws = [self.moments(self.draw(len(x), context, mask, generator), mask) for _ in range(2)]
        return energy_score(draws[0], draws[1], self.moments(x, mask))

    def _given(self, like: Tensor, context: Tensor | None) -> Tensor:
        columns = 0 if context is None else context.shape[-1]
        if columns != self.context_features:
            raise ValueError(f"context has {columns} columns, the network was built for {self.context_features}")
        return like.new_zeros((len(like), 1)) if context is None else context
