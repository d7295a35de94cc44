from __future__ import annotations

import math

import pytest
import torch

from cathode.density import StandardNormal, build, describe, sample
from cathode.density.base import ConditionalDensity
from cathode.density.canonical import Canonical, sector_sources
from cathode.density.registry import buildable

TURNS, BLOCKS, D = 5, [[1, 2], [12, 1]], 17  # feature 0 and feature 11 do not turn


@buildable("test-recorder")
class Recorder(ConditionalDensity):
    """Keeps the events of its loss, decodes to a fixed event."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.event_shape, self.context_features = (features,), 0

    def loss(self, x, context=None, *, mask=None, generator=None):
        self.seen = x
        return x.sum(1)

    def decode(self, noise, context=None, *, mask=None):
        return torch.arange(float(self.event_shape[0])).expand_as(noise)


def events(count=50):
    return torch.rand(count, D, generator=torch.Generator().manual_seed(0)) ** 3


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("leaders", [None, [0], [1, 0]])
def test_all_turned_and_mirrored_copies_share_one_frame(mirror, leaders):
    density = Canonical(Recorder(D), TURNS, BLOCKS, mirror=mirror, leaders=leaders)
    x = events()
    frames = [density.frame(x[:, row]) for row in density.sources]
    assert len(frames) == (2 * TURNS if mirror else TURNS)
    for other in frames[1:]:
        assert torch.equal(other, frames[0])
    assert torch.equal(density.frame(frames[0]), frames[0])


def test_the_frame_is_what_it_says():
    density = Canonical(Recorder(D), TURNS, BLOCKS, leaders=[0])
    framed = density.frame(events())
    sectors = framed[:, 1:11].view(-1, TURNS, 2).sum(2)
    assert (sectors.argmax(1) == 0).all()
    assert (sectors[:, 1] >= sectors[:, -1]).all()
    assert torch.equal(framed[:, [0, 11]], events()[:, [0, 11]])
    assert torch.equal(framed.sort(1).values, events().sort(1).values)


def test_blocks_turn_together():
    x = torch.zeros(1, D)
    x[0, 1 + 2 * 3] = 1.0  # sector 3 of the first block
    x[0, 12 + 4] = 0.5  # sector 4 of the second: next to it
    framed = Canonical(Recorder(D), TURNS, BLOCKS, mirror=False, leaders=[0]).frame(x)
    assert framed[0, 1] == 1.0
    assert framed[0, 12 + 1] == 0.5


def test_an_empty_leader_leaves_the_choice_to_the_next():
    x = torch.zeros(1, D)
    x[0, 12 + 3] = 2.0
    assert Canonical(Recorder(D), TURNS, BLOCKS, leaders=[0, 1]).frame(x)[0, 12] == 2.0
    assert torch.isfinite(Canonical(Recorder(D), TURNS, BLOCKS, leaders=[0, 1]).frame(torch.zeros(2, D))).all()


def test_loss_sees_the_frame_and_samples_are_turned_evenly():
    density = Canonical(Recorder(D), TURNS, BLOCKS)
    density.loss(events())
    assert torch.equal(density.density.seen, density.frame(events()))
    x = sample(density, count=20_000, generator=torch.Generator().manual_seed(1))
    keys, counts = torch.unique(x, dim=0, return_counts=True)
    assert len(keys) == 2 * TURNS
    assert (counts.double() / 20_000 * 2 * TURNS - 1).abs().max() < 0.1
    assert {tuple(row.tolist()) for row in keys} == {tuple(row.double().tolist()) for row in density.sources}


def test_a_negative_log_density_is_shared_among_the_symmetries():
    density = Canonical(StandardNormal(D), TURNS, BLOCKS)
    assert density.loss_is_nll
    x = events(3)
    torch.testing.assert_close(density.loss(x), StandardNormal(D).loss(x) + math.log(10))


def test_sources_form_a_group():
    table = sector_sources(D, TURNS, BLOCKS, mirror=True)
    rows = {tuple(row.tolist()) for row in table}
    for one in table:
        for other in table:
            assert tuple(one[other].tolist()) in rows


def test_described_and_refused():
    density = Canonical(StandardNormal(D), TURNS, BLOCKS, leaders=[1])
    again = build(describe(density))
    noise = density.noise(4, generator=torch.Generator().manual_seed(0))
    assert noise.shape == (4, D + 2)
    assert torch.equal(again.decode(noise), density.decode(noise))
    with pytest.raises(ValueError, match="do not fit"):
        Canonical(StandardNormal(D), TURNS, [[10, 2]])
    with pytest.raises(ValueError, match="do not fit"):
        Canonical(StandardNormal(D), TURNS, [[0, 2], [5, 1]])
    with pytest.raises(ValueError, match="leaders"):
        Canonical(StandardNormal(D), TURNS, BLOCKS, leaders=[2])
