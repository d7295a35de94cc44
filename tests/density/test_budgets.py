"""Known sums: what is left, who may take how much."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cathode.density.budgets import Budgets

EVERYTHING = slice(0, 5)


def test_what_is_left_counts_from_the_back():
    budgets = Budgets([0, 1, 0, 1, 0], [0, 0, 1, 1, 2], 1.0)
    x = torch.tensor([[2.0, 5.0, 0.0, 0.0, 3.0], [4.0, 0.0, 0.0, 7.0, 0.0]])
    left = budgets.remainders(x)
    assert left.tolist() == [[5.0, 5.0, 3.0, 0.0, 3.0], [4.0, 7.0, 0.0, 7.0, 0.0]]
    assert budgets.last.tolist() == [False, False, False, True, True]
    assert budgets.left.tolist() == [3, 2, 2, 1, 1]


def test_the_last_positive_amount_is_the_whole_remainder_to_the_digit():
    budgets = Budgets([0] * 5, list(range(5)), 1.0)
    x = torch.rand(1000, 5, generator=torch.Generator().manual_seed(1)) * 1e5
    x[:, 3:] *= torch.tensor([1e-3, 0.0])
    left = budgets.remainders(x)
    assert torch.equal(left[:, 3], x[:, 3])
    assert (left[:, 4] == 0).all()


def test_who_takes_all():
    budgets = Budgets([0, 0], [0, 1], 1.0)
    first, last = slice(0, 1), slice(1, 2)
    wanted = torch.tensor([[0.0], [4.0], [4.5], [6.0], [np.inf]])
    assert budgets.spend(wanted, torch.full((5, 1), 5.0), first).flatten().tolist() == [0, 4, 5, 5, 5]
    assert (budgets.spend(wanted, torch.full((5, 1), 5.0), last) == 5).all()
    assert (budgets.spend(wanted, torch.zeros(5, 1), first) == 0).all()


def test_a_group_charges_each_its_own_block():
    budgets = Budgets([0, 1, 1], [0, 0, 1], 1.0)
    after = budgets.charge(torch.tensor([[5.0, 7.0]]), torch.tensor([[5.0, 3.0]]), slice(0, 2))
    assert after.tolist() == [[0.0, 4.0]]


@settings(max_examples=60, deadline=None)
@given(
    threshold=st.sampled_from([0.0151, 0.1, 1.0, 3.3]),
    total=st.floats(1.0, 1e6),
    parts=st.lists(st.floats(0.0, 1.2), min_size=4, max_size=4),
)
def test_whatever_is_wanted_amounts_are_zero_or_above_threshold_and_add_up(threshold, total, parts):
    budgets = Budgets([0] * 5, list(range(5)), threshold)
    total = torch.tensor([[max(total, threshold)]], dtype=torch.float32)
    left, taken = total, []
    for i in range(5):
        wish = torch.tensor([[parts[i] if i < 4 else 0.0]]) * left
        wish = torch.where(wish < threshold, 0.0, wish)
        x = budgets.spend(wish, left[:, :1], slice(i, i + 1))
        left = budgets.charge(left, x, slice(i, i + 1))
        taken.append(float(x))
        assert x == 0 or x >= np.float32(threshold)
        assert left == 0 or left >= np.float32(threshold)
    assert sum(taken) == pytest.approx(float(total), rel=1e-6)


@pytest.mark.parametrize(
    ("blocks", "groups", "match"),
    [([0, 2], [0, 1], "without gaps"), ([0], [0, 1], "without gaps"), ([0, 0], [0, 0], "share a block")],
)
def test_blocks_that_do_not_fit(blocks, groups, match):
    with pytest.raises(ValueError, match=match):
        Budgets(blocks, groups, 1.0)
