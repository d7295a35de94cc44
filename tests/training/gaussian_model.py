"""A small conditional Gaussian, for the tests of the loop and the scripts that they start."""

from __future__ import annotations

import torch
from torch import nn

from cathode.density.base import ConditionalDensity
from cathode.density.registry import buildable
from cathode.training import TrainingData


@buildable("test-gaussian")
class Gaussian(ConditionalDensity):
    """Normal with mean and log-width from a network; optionally dropout and noise added to the data."""

    def __init__(self, features=2, hidden=16, dropout=0.0, jitter=0.0):
        super().__init__()
        self.event_shape = (features,)
        self.context_features = 1
        self.jitter = jitter
        self.net = nn.Sequential(nn.Linear(1, hidden), nn.SiLU(), nn.Dropout(dropout), nn.Linear(hidden, 2 * features))

    def log_prob(self, x, context=None):
        mean, log_width = self.net(context).chunk(2, -1)
        return torch.distributions.Normal(mean, log_width.exp(), validate_args=False).log_prob(x).sum(-1)

    def loss(self, x, context=None, *, mask=None, generator=None):
        if self.jitter:
            x = x + self.jitter * torch.randn(x.shape, generator=generator, dtype=x.dtype)
        return -self.log_prob(x, context)

    def decode(self, noise, context=None, *, mask=None):
        mean, log_width = self.net(context).chunk(2, -1)
        return mean + noise * log_width.exp()

    def encode(self, x, context=None):
        mean, log_width = self.net(context).chunk(2, -1)
        return (x - mean) / log_width.exp()


def make_density(seed=0, **options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Gaussian(**options)


def make_data(count=2000, seed=1, *, weighted=False):
    generator = torch.Generator().manual_seed(seed)
    context = torch.rand(count, 1, generator=generator)
    x = 0.5 + context + (0.5 + context) * torch.randn(count, 2, generator=generator)
    weight = 0.5 + torch.rand(count, generator=generator) if weighted else None
    return TrainingData(x, context, weight=weight)
