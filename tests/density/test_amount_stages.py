"""Sums before parts, sequences of blocks, and symmetric events."""

from __future__ import annotations

import pytest
import torch

from cathode.density.base import ConditionalDensity, noise_shape, sample
from cathode.density.censored import CensoredAutoregressive
from cathode.density.parts import SumsThenParts
from cathode.density.registry import buildable
from cathode.density.sequence import AmountSequence, CellContext
from cathode.density.symmetric import Symmetric

SMALL = {"components": 2, "hidden": 24, "layers": 1, "bottleneck": 4, "head": 12, "context_width": 8}
BLOCKS = [0, 1, 0, 1, 1]


def stream(seed):
    return torch.Generator().manual_seed(seed)


def rough(density, *, size=0.2):
    with torch.no_grad():
        for parameter in density.parameters():
            parameter += size * torch.randn(parameter.shape, generator=stream(3))
    return density


def parts(threshold=1.0, **changes):
    sums = CensoredAutoregressive(2, 1, threshold=threshold, **SMALL)
    inner = CensoredAutoregressive(5, 3, threshold=threshold, blocks=BLOCKS, totals=[1, 2], **SMALL)
    return rough(SumsThenParts(sums, inner, BLOCKS, threshold, **changes))


def test_parts_add_up_to_sums_that_come_first():
    density = parts()
    context = torch.randn(200, 1, generator=stream(1))
    noise = density.noise(200, generator=stream(2))
    assert noise.shape == (200, *noise_shape(density)) == (200, 4 + 10)
    x = density.decode(noise, context)
    sums = density.sums.decode(noise[:, :4], context)
    torch.testing.assert_close(density.block_sums(x), sums, rtol=2e-6, atol=0.0)
    assert ((x == 0) | (x >= 1.0)).all()
    assert (x == 0).any()


def test_the_loss_is_that_of_sums_and_parts():
    density = parts()
    context = torch.randn(100, 1, generator=stream(1))
    x = sample(density, context, generator=stream(4))
    sums = torch.stack([x[:, [0, 2]].sum(1), x[:, [1, 3, 4]].sum(1)], 1)
    expected = -density.sums.log_prob(sums, context) - density.parts.log_prob(x, torch.cat([context, sums], 1))
    torch.testing.assert_close(density.loss(x, context), expected, rtol=1e-5, atol=1e-4)
    assert density.loss_is_nll


@buildable("test_stages_faint")
class Faint(ConditionalDensity):
    """Sums just below and at the threshold."""

    event_shape, context_features = (2,), 1

    def decode(self, noise, context=None, *, mask=None):
        return torch.tensor([[0.99, 1.0]]).expand(len(noise), -1)


@buildable("test_stages_positive")
class Positive(ConditionalDensity):
    """Its loss is what it is shown."""

    event_shape, context_features = (1,), 0

    def loss(self, x, context=None, *, mask=None, generator=None):
        return x[:, 0]


def test_sums_below_the_threshold_are_empty():
    density = SumsThenParts(Faint(), parts().parts, BLOCKS, 1.0)
    assert not density.loss_is_nll
    x = density.decode(density.noise(3, generator=stream(1)), torch.zeros(3, 1))
    assert density.block_sums(x).tolist() == [[0.0, 1.0]] * 3


def test_sums_without_zeros_are_lifted_in_training():
    inner = CensoredAutoregressive(2, 1, threshold=1.0, blocks=[0, 0], totals=[0], **SMALL)
    x = torch.tensor([[0.0, 0.0], [2.0, 1.0]])
    parts_loss = inner.loss(x, x.sum(1, keepdim=True))
    lifted = SumsThenParts(Positive(), inner, [0, 0], 1.0, positive=True).loss(x) - parts_loss
    torch.testing.assert_close(lifted, torch.tensor([0.5, 3.0]))
    as_they_are = SumsThenParts(Positive(), inner, [0, 0], 1.0).loss(x) - parts_loss
    torch.testing.assert_close(as_they_are, torch.tensor([0.0, 3.0]))


def test_parts_that_do_not_fit():
    sums = CensoredAutoregressive(2, 1, threshold=1.0, **SMALL)
    with pytest.raises(ValueError, match="do not fit the densities"):
        SumsThenParts(sums, parts().parts, [0, 0, 0, 0, 0], 1.0)
    with pytest.raises(ValueError, match="given the context of the sums"):
        SumsThenParts(sums, CensoredAutoregressive(5, 4, threshold=1.0, **SMALL), BLOCKS, 1.0)


# -- sequences ---------------------------------------------------------------------------------------------------

SHAPE = CellContext(4, 3, 6, 2, 7)


@buildable("test_stages_cell")
class Telling(ConditionalDensity):
    """Shares its sum by its noise, and remembers what it was told."""

    def __init__(self):
        super().__init__()
        self.event_shape, self.context_features = (3,), SHAPE.columns
        self.told = []

    def loss(self, x, context=None, *, mask=None, generator=None):
        self.told.append(context)
        return x.sum(1)

    def decode(self, noise, context=None, *, mask=None):
        self.told.append(context)
        shares = torch.softmax(noise, 1) * (noise > -0.7)
        return context[:, -1:] * shares / shares.sum(1, keepdim=True).clamp_min(1e-9)


def sequence(cell=None):
    torch.manual_seed(1)
    return AmountSequence(cell or Telling(), 4, 6, threshold=0.01, window=2, memory=7)


def given(count=8):
    totals = 5 * torch.rand(count, 4, generator=stream(1))
    totals[::3, 1] = 0.0
    return torch.cat([torch.randn(count, 2, generator=stream(2)), totals], 1)


def test_blocks_are_told_the_same_in_training_and_in_sampling():
    density, context = sequence(), given()
    x = density.decode(density.noise(8, generator=stream(3)), context)
    sampled = torch.stack(density.cell.told, 1)
    density.cell.told.clear()
    torch.testing.assert_close(density.loss(x, context), x.sum(1))
    (trained,) = density.cell.told
    torch.testing.assert_close(trained.unflatten(0, (8, 4)), sampled, rtol=1e-5, atol=1e-6)


def test_blocks_are_told_about_the_ones_before_alone():
    density, context = sequence(), given(1)
    x = torch.rand(1, 12, generator=stream(5)) + 0.5
    density.loss(x, context)
    for block in range(4):
        changed = x.clone()
        changed[:, 3 * block] *= 2
        density.loss(changed, context)
        different = (density.cell.told[-1] != density.cell.told[0]).any(1)
        assert different.tolist() == [later > block for later in range(4)]


def test_columns_of_recent_blocks():
    density, context = sequence(), given(1)
    x = torch.rand(1, 12, generator=stream(5)) + 0.5
    x[0, 4] = 0.0
    density.loss(x, context)
    told = density.cell.told[0]
    assert torch.equal(told[:, SHAPE.total], context[0, 2:])
    for back, block, feature in ((1, 3, 0), (2, 3, 1), (1, 2, 1), (2, 3, 2)):
        amount = x[0, 3 * (block - back) + feature]
        assert told[block, SHAPE.recent(back, feature, positive=True)] == float(amount > 0)
        expected = torch.log(amount / 0.01) / 3 if amount > 0 else torch.tensor(0.0)
        torch.testing.assert_close(told[block, SHAPE.recent(back, feature)], expected)
    assert (told[0, SHAPE.recent(1, 0)], told[1, SHAPE.recent(2, 2)]) == (0.0, 0.0)
    with pytest.raises(ValueError, match="sees 2 blocks back, not 3"):
        SHAPE.recent(3, 0)


def test_a_sequence_of_censored_blocks_keeps_its_sums():
    inner = CensoredAutoregressive(
        3, SHAPE.columns, threshold=0.01, blocks=[0, 0, 0], totals=[SHAPE.total],
        hints=[[SHAPE.recent(1, f)] for f in range(3)], **SMALL,
    )  # fmt: skip
    density = rough(sequence(inner))
    assert density.loss_is_nll
    context = given(60)
    x = sample(density, context, generator=stream(6)).unflatten(1, (4, 3))
    torch.testing.assert_close(x.sum(2), context[:, 2:], rtol=2e-6, atol=0.0)
    assert ((x == 0) | (x >= 0.01)).all()
    losses = density.loss(x.flatten(1), context)
    assert torch.isfinite(losses).all()
    # One network for all blocks: the loss is the sum of the cell's.
    rows, told = density._rows(x.flatten(1), context)
    torch.testing.assert_close(losses, -inner.log_prob(rows, told).unflatten(0, (60, 4)).sum(1))


def test_sequences_that_do_not_fit():
    with pytest.raises(ValueError, match="at least 9 columns"):
        AmountSequence(Telling(), 9, 6, threshold=1.0)
    with pytest.raises(ValueError, match="the cell must be given"):
        AmountSequence(Telling(), 4, 6, threshold=1.0, window=1, memory=7)
    with pytest.raises(ValueError, match="threshold is 0"):
        AmountSequence(Telling(), 4, 6, threshold=0.0, window=2, memory=7)
    with pytest.raises(ValueError, match="part of the context"):
        sequence().loss(torch.ones(1, 12))


# -- symmetry ----------------------------------------------------------------------------------------------------


@buildable("test_stages_plain")
class Plain(ConditionalDensity):
    """Its loss tells the events apart."""

    def __init__(self, features):
        super().__init__()
        self.event_shape, self.context_features = (features,), 0

    def loss(self, x, context=None, *, mask=None, generator=None):
        return x @ torch.arange(1.0, x.shape[1] + 1)

    def decode(self, noise, context=None, *, mask=None):
        return 2 * noise


@pytest.mark.parametrize("mirror", [False, True])
def test_the_elements_are_a_group(mirror):
    """4 sectors of 2 and of 1 features, with one feature between and one after that stay."""
    density = Symmetric(Plain(14), 4, [[0, 2], [9, 1]], mirror=mirror)
    elements = {tuple(row) for row in density.source.tolist()}
    assert len(elements) == (8 if mirror else 4)
    assert tuple(range(14)) in elements
    for one in elements:
        assert {tuple(one[i] for i in other) for other in elements} == elements
        assert one[8] == 8
        assert one[13] == 13
    turned = next(row for row in density.source.tolist() if row[0] == 2 and row[2] == 4)
    assert turned == [2, 3, 4, 5, 6, 7, 0, 1, 8, 10, 11, 12, 9, 13]


def test_every_element_comes_as_often():
    density = Symmetric(Plain(4), 4, [[0, 1]])
    x = torch.tensor([[1.0, 2.0, 4.0, 8.0]]).expand(8000, -1)
    found, counts = density.transform(x, generator=stream(1)).unique(dim=0, return_counts=True)
    assert len(found) == 8
    assert ((counts - 1000).abs() < 150).all()
    assert (found.sum(1) == 15).all()


def test_training_sees_turned_events_and_sampling_does_not_turn():
    density = Symmetric(Plain(4), 4, [[0, 1]], mirror=False)
    x = torch.tensor([[1.0, 0.0, 0.0, 0.0]]).expand(400, -1)
    assert set(density.loss(x, generator=stream(1)).tolist()) == {1.0, 2.0, 3.0, 4.0}
    assert torch.equal(density.loss(x, generator=stream(1)), density.loss(x, generator=stream(1)))
    noise = density.noise(5, generator=stream(2))
    assert torch.equal(density.decode(noise), 2 * noise)


@pytest.mark.parametrize(("turns", "blocks"), [(1, [[0, 1]]), (3, [[2, 1]]), (2, [[-1, 1]])])
def test_turns_that_do_not_fit(turns, blocks):
    with pytest.raises(ValueError, match="do not fit 4 features"):
        Symmetric(Plain(4), turns, blocks)
