"""Standardisation place by place, and the arcsinh."""

from __future__ import annotations

import pytest
import torch

from cathode.density.bijections import Arcsinh, PlaceStandardize
from cathode.support.errors import UserError
from cathode.support.seeding import torch_generator

P, F = 4, 2


def _sets(count: int = 3000) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch_generator(0)
    x = torch.randn(count, P, F, generator=generator, dtype=torch.float64)
    x = x * torch.tensor([1.0, 2.0, 3.0, 4.0])[:, None] + torch.tensor([5.0, -1.0])
    counts = torch.randint(1, P + 1, (count,), generator=generator)
    return x, torch.arange(P) < counts[:, None]


def test_each_place_is_standard_and_padding_zero() -> None:
    x, mask = _sets()
    fitted = PlaceStandardize(F, P).fit(torch.where(mask.unsqueeze(-1), x, torch.nan).nan_to_num(1e9), mask=mask)
    y, log_det = fitted.forward_and_log_det(x, mask=mask)
    for place in range(P):
        rows = y[mask[:, place], place]
        torch.testing.assert_close(rows.mean(0), torch.zeros(F, dtype=torch.float64), atol=1e-9, rtol=0)
        torch.testing.assert_close(rows.std(0, correction=0), torch.ones(F, dtype=torch.float64))
    assert float(y[~mask].abs().max()) == 0.0
    expected = -(fitted.scale.log().sum(1) * mask).sum(1)
    torch.testing.assert_close(log_det, expected)
    back, opposite = fitted.inverse_and_log_det(y, mask=mask)
    torch.testing.assert_close(back[mask], x[mask])
    torch.testing.assert_close(opposite, -log_det)


def test_shorter_sets_and_weights() -> None:
    x, mask = _sets()
    weight = torch.rand(len(x), generator=torch_generator(1))
    weight[:1000] = 0.0
    fitted = PlaceStandardize(F, P).fit(x, mask=mask, weight=weight)
    alone = PlaceStandardize(F, P).fit(x[1000:], mask=mask[1000:], weight=weight[1000:])
    torch.testing.assert_close(fitted.shift, alone.shift)
    short, _ = fitted.forward_and_log_det(x[:, :2], mask=mask[:, :2])
    torch.testing.assert_close(short, fitted.forward_and_log_det(x, mask=mask)[0][:, :2])


def test_rare_places_take_the_statistics_of_the_one_before() -> None:
    x, mask = _sets()
    mask[:, 3] = False
    mask[:5, 3] = True
    mask[:5, :3] = True
    fitted = PlaceStandardize(F, P).fit(x, mask=mask)
    assert torch.equal(fitted.shift[3], fitted.shift[2])
    assert torch.equal(fitted.scale[3], fitted.scale[2])


def test_refuses() -> None:
    x, mask = _sets(100)
    with pytest.raises(UserError, match="at least 1"):
        PlaceStandardize(F, 0)
    with pytest.raises(ValueError, match="ordered sets"):
        PlaceStandardize(F, 3).fit(x, mask=mask)
    with pytest.raises(ValueError, match="ordered sets"):
        PlaceStandardize(F, P).fit(x[:, 0])
    with pytest.raises(UserError, match="column 1 is constant"):
        PlaceStandardize(F, P).fit(torch.cat([x[..., :1], torch.ones_like(x[..., 1:])], -1), mask=mask)


def test_arcsinh_is_linear_near_0_exact_far_away_and_checks_its_scale() -> None:
    x = torch.tensor([[-1e6], [-1.0], [-1e-6], [0.0], [1e-6], [3.0], [1e8]], dtype=torch.float64)
    bijection = Arcsinh(1, scale=0.5)
    y, forward = bijection.forward_and_log_det(x)
    torch.testing.assert_close(y, 0.5 * torch.asinh(2 * x))
    torch.testing.assert_close(y[2:5], x[2:5])
    back, backward = bijection.inverse_and_log_det(y)
    torch.testing.assert_close(back, x)
    torch.testing.assert_close(forward, -backward)
    slope = torch.autograd.functional.jacobian(lambda v: bijection.forward_and_log_det(v[None])[0][0], x[5])
    torch.testing.assert_close(forward[5], slope.flatten()[0].log())
    with pytest.raises(UserError, match="positive"):
        Arcsinh(1, scale=0.0)
