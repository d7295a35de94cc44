from __future__ import annotations

import pytest
import torch

from cathode.support.errors import UserError
from cathode.training import FitConfig, TrainingData


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"x": torch.zeros(3)}, r"must be floats \(N, D\) or \(N, P, F\), got torch.float32 \(3,\)"),
        ({"x": torch.zeros(3, 2, dtype=torch.int64)}, "must be floats"),
        ({"x": torch.zeros(3, 2), "context": torch.zeros(4, 1)}, "context has 4 rows, x has 3"),
        ({"x": torch.zeros(3, 2), "context": torch.zeros(3)}, r"context must be floats \(N, C\)"),
        ({"x": torch.zeros(3, 2), "mask": torch.ones(3, 2, dtype=torch.bool)}, "mask must be boolean"),
        ({"x": torch.zeros(3, 4, 2), "mask": torch.ones(3, 4)}, "mask must be boolean"),
        ({"x": torch.zeros(3, 2), "weight": torch.ones(3, 1)}, "weight must be floats"),
        ({"x": torch.zeros(3, 2), "weight": torch.tensor([1.0, -1.0, 0.0])}, "sum of the weights is not positive"),
        ({"x": torch.tensor([[1.0, torch.nan], [torch.inf, 0], [1, 1]])}, "2 of 3 rows of x are NaN or infinite"),
        ({"x": torch.zeros(2, 1), "weight": torch.tensor([1.0, torch.nan])}, "1 of 2 rows of weight"),
    ],
)
def test_unusable_tensors_are_refused(fields, message):
    with pytest.raises(UserError, match=message):
        TrainingData(**fields)


def test_split_is_a_partition_that_keeps_rows_together():
    index = torch.arange(100.0)
    data = TrainingData(
        index[:, None, None].expand(100, 3, 2), index[:, None], mask=torch.ones(100, 3, dtype=torch.bool), weight=index
    )
    first, second = data.split(0.3, torch.Generator().manual_seed(0))
    assert (len(first), len(second)) == (30, 70)
    together = torch.cat([first.weight, second.weight])
    assert torch.equal(together.sort().values, index)
    assert not torch.equal(together, index)
    for part in (first, second):
        assert torch.equal(part.context[:, 0], part.weight)
        assert torch.equal(part.x[:, 1, 1], part.weight)
        assert part.mask.shape == (len(part), 3)
    again, _ = data.split(0.3, torch.Generator().manual_seed(0))
    assert torch.equal(again.weight, first.weight)


def test_split_refuses_an_empty_part():
    with pytest.raises(UserError, match="one part would be empty"):
        TrainingData(torch.zeros(3, 1)).split(0.1, torch.Generator())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "epochs: must be at least 1, got 0"),
        ({"learning_rate": 0.0}, "learning_rate: must be positive"),
        ({"optimizer": "sgd"}, "optimizer: must be one of adamw, adam, got 'sgd'"),
        ({"ema_halflife_events": 0}, "ema_halflife_events: must be positive, or none"),
        ({"plateau_factor": 2.0}, "plateau_factor: must be between 0 and 1"),
        ({"device": "abacus"}, "device: 'abacus' is unknown"),
    ],
)
def test_unusable_settings_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        FitConfig(**settings)
