"""PointSequence: exact density, order, thresholds, lattice, and that sampling and training see the same network."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cathode.density.base import sample
from cathode.density.point_sequence import PointSequence
from cathode.density.registry import build, describe
from cathode.training import FitConfig, TrainingData, fit

SMALL = {"width": 16, "heads": 2, "blocks": 2, "components": 3, "amount_components": 2, "head_width": 16}


def _model(points: int = 4, seed: int = 0, *, context_features: int = 4, **settings: object) -> PointSequence:
    torch.manual_seed(seed)
    model = PointSequence(points, context_features, **{**SMALL, **settings})  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        model.amount_std.fill_(1.3)
    return model.eval()


def _context(rows: int, counts: torch.Tensor | int, *, scale: float = 6.0, extra: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(rows)
    context = torch.randn(rows, 4 + extra, generator=generator)
    context[:, 0] = scale
    context[:, 2] = -2.0
    context[:, 3] = counts
    return context


def _draw(model: PointSequence, context: torch.Tensor, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    mask = torch.arange(model.points) < context[:, 3:4]
    return sample(model, context, mask=mask, generator=torch.Generator().manual_seed(seed)), mask


@pytest.mark.parametrize("radius", [None, 1.0])
@pytest.mark.parametrize("floor", [0.0, 0.5])
def test_with_single_components_decode_is_a_bijection_whose_jacobian_gives_the_density(
    floor: float, radius: float | None
) -> None:
    model = _model(
        3, components=1, amount_components=1, floor=floor, scale_column=0, spread_column=2, radius=radius
    ).double()
    context = _context(1, 3).double()
    used = torch.tensor([1, 4, 5])
    noise = torch.randn(1, 3, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)

    def events(values: torch.Tensor) -> torch.Tensor:
        full = noise.clone()
        full[0][:, used] = values.reshape(3, 3)
        return model.decode(full, context).flatten()

    start = noise[0][:, used].flatten()
    step = 1e-6
    columns = [
        (events(start + step * e) - events(start - step * e)) / (2 * step) for e in torch.eye(9, dtype=torch.float64)
    ]
    log_det = torch.linalg.slogdet(torch.stack(columns, 1)).logabsdet
    expected = -0.5 * start.square().sum() - 4.5 * math.log(2 * math.pi) - log_det
    found = model.log_prob(events(start).reshape(1, 3, 3), context)
    torch.testing.assert_close(found[0], expected, atol=1e-5, rtol=0)


def test_density_of_a_point_near_others_integrates_to_one() -> None:
    model = _model(3, near=2).double()
    with torch.no_grad():
        model.near_query.bias[32:] = torch.tensor([1.0] * 4 + [-4.0, -3.5, -3.0, -2.5])
    start = torch.tensor([[[0.5, 0.05, -0.02], [0.3, -0.08, 0.04]]], dtype=torch.float64)
    context = _context(1, 3).double()
    with torch.no_grad():
        before = model.log_prob(start, context)
    drops = torch.linspace(-12.0, 6.0, 121, dtype=torch.float64)
    drop = torch.nn.functional.softplus(0.5 * (drops[1:] + drops[:-1]))
    grid = torch.linspace(-6.0, 6.0, 161, dtype=torch.float64)
    positions = 0.05 * torch.sinh(grid)
    slope = 0.05 * torch.cosh(grid) * (grid[1] - grid[0])
    # One amount is enough for the integral over positions, once that over amounts is known to be one.
    amount = 0.3 * torch.exp(-drop[60])
    u, v = torch.meshgrid(positions, positions, indexing="ij")
    third = torch.stack([torch.full_like(u, float(amount)), u, v], -1).reshape(-1, 1, 3)
    x = torch.cat([start.expand(len(third), -1, -1), third], 1)
    with torch.no_grad():
        value = model.log_prob(x, context.expand(len(x), -1)) - before
        one = torch.log((value.exp() * torch.outer(slope, slope).flatten()).sum())
        only_amount = _amount_density(model, x[:1], context)
    torch.testing.assert_close(one, only_amount, atol=0.02, rtol=0)


def _amount_density(model: PointSequence, x: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
    """Log-density of the amount of the last point alone: the positions' mixture is replaced by a single wide one."""
    other = _model(3).double()
    other.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("near")})
    other.amount_std.copy_(model.amount_std)
    grid = torch.linspace(-9.0, 9.0, 161, dtype=torch.float64)
    positions = 0.03 * torch.sinh(grid)
    slope = 0.03 * torch.cosh(grid) * (grid[1] - grid[0])
    u, v = torch.meshgrid(positions, positions, indexing="ij")
    third = torch.stack([x[0, 2, 0].expand_as(u), u, v], -1).reshape(-1, 1, 3)
    events = torch.cat([x[:, :2].expand(len(third), -1, -1), third], 1)
    value = other.log_prob(events, context.expand(len(events), -1)) - other.log_prob(x[:, :2], context)
    return torch.log((value.exp() * torch.outer(slope, slope).flatten()).sum())


def test_points_near_others_are_drawn_as_their_density_says() -> None:
    """The mean log-density of drawn points is minus the entropy: it exceeds that under any other model."""
    model = _model(4, near=3)
    with torch.no_grad():
        model.near_query.bias[32:36] = 2.0
    context = _context(3000, 4)
    x, mask = _draw(model, context)
    distance = (x[:, 1:, None, 1:3] - x[:, None, :3, 1:3]).square().sum(-1).sqrt()
    earlier = torch.tril(torch.ones(3, 3, dtype=torch.bool))
    closest = distance.masked_fill(~earlier, torch.inf).min(-1).values
    assert (closest < 0.03).float().mean() > 0.4
    with torch.no_grad():
        own = model.log_prob(x, context, mask=mask)
        moved = x.clone()
        moved[..., 1:3] += 0.01 * torch.randn(x[..., 1:3].shape, generator=torch.Generator().manual_seed(2))
        assert own.mean() > model.log_prob(moved, context, mask=mask).mean() + 0.5


@pytest.mark.parametrize("flag", [False, True])
def test_density_of_one_point_integrates_to_one(flag: bool) -> None:
    model = _model(1, flag=flag, floor=0.5, scale_column=0).double()
    lowest = math.log(0.5) - 6.0
    # Midpoints of the stretched amount, and of asinh of the positions.
    amounts = torch.linspace(lowest, 0.0, 41, dtype=torch.float64)
    centres, width = 0.5 * (amounts[1:] + amounts[:-1]), amounts[1] - amounts[0]
    grid = torch.linspace(-8.0, 8.0, 65, dtype=torch.float64)
    spacing = grid[1] - grid[0]
    a, u, v = torch.meshgrid(centres.exp(), 0.03 * torch.sinh(grid), 0.03 * torch.sinh(grid), indexing="ij")
    slope = a * width * (0.03 * spacing) ** 2 * torch.sqrt(1 + (u / 0.03) ** 2) * torch.sqrt(1 + (v / 0.03) ** 2)
    total = 0.0
    for value in (0.0, 1.0) if flag else (None,):
        columns = [a, u, v] if value is None else [a, u, v, torch.full_like(a, value)]
        x = torch.stack([c.flatten() for c in columns], 1).unsqueeze(1)
        context = _context(1, 1).double().expand(len(x), -1)
        with torch.no_grad():
            total += float((model.log_prob(x, context).exp() * slope.flatten()).sum())
    assert total == pytest.approx(1.0, abs=0.01)


def test_points_stay_within_the_radius() -> None:
    x, _ = _draw(_model(6, radius=0.4, near=4), _context(400, 6))
    distance = x[..., 1:3].square().sum(-1).sqrt()
    assert distance.max() <= 0.4
    assert distance.max() > 0.3


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), floor=st.sampled_from([0.0, 0.5]))
def test_amounts_fall_stay_above_the_floor_and_padding_is_zero(seed: int, floor: float) -> None:
    model = _model(6, seed % 7, floor=floor, scale_column=0)
    counts = torch.randint(0, 7, (32,), generator=torch.Generator().manual_seed(seed))
    context = _context(32, counts)
    x, mask = _draw(model, context, seed)
    assert torch.equal(x[..., 0] > 0, mask)
    assert torch.all(x[~mask] == 0)
    both = mask[:, 1:]
    assert torch.all((x[:, 1:, 0] <= x[:, :-1, 0])[both])
    assert torch.all(x[..., 0] <= 1)
    if floor:
        assert torch.all(x[..., 0][mask] * math.exp(6.0) >= floor * (1 - 1e-3))


def test_what_follows_or_pads_changes_nothing_before_it() -> None:
    model = _model(6, near=3)
    context = _context(8, 4)
    x, mask = _draw(model, context)
    wide = torch.cat([x[:, :4], torch.zeros(8, 2, 3)], 1)
    torch.testing.assert_close(
        model.log_prob(wide, context, mask=mask), model.log_prob(wide[:, :4], context, mask=mask[:, :4]),
        atol=1e-5, rtol=1e-5,
    )  # fmt: skip
    broken = wide.clone()
    broken[:, 4:] = 7.0
    torch.testing.assert_close(
        model.log_prob(broken, context, mask=mask), model.log_prob(wide, context, mask=mask), atol=1e-5, rtol=1e-5
    )


def test_points_on_the_lattice_come_out_at_centres_of_cells() -> None:
    model = _model(5, context_features=6, flag=True, pitch=0.1, phase_columns=[4, 5])
    context = _context(200, 5, extra=2)
    context[:, 4:] = 0.05 * torch.tanh(context[:, 4:])
    x, _ = _draw(model, context)
    flagged = x[..., 3] == 1
    assert 0.05 < flagged.float().mean() < 0.95
    cells = (x[..., 1:3] + context[:, None, 4:6]) / 0.1
    away = (cells - cells.round()).abs()
    assert away[flagged].max() < 2e-4
    assert away[~flagged].max() > 0.2


def test_same_noise_same_points_and_the_description_rebuilds_the_model() -> None:
    model = _model(4, flag=True, floor=0.5, scale_column=0, near=2)
    twin = build(describe(model))
    twin.load_state_dict(model.state_dict())
    context = _context(16, 3)
    noise = model.noise(16, generator=torch.Generator().manual_seed(5))
    torch.testing.assert_close(model.decode(noise, context), twin.eval().decode(noise, context), rtol=0, atol=0)


def _toy(rows: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sets of 1 to 3 points: each amount is a uniform fraction of the one before, positions are normal around it."""
    generator = torch.Generator().manual_seed(seed)
    counts = torch.randint(1, 4, (rows,), generator=generator)
    amounts = torch.rand(rows, 3, generator=generator).clamp(min=1e-4).cumprod(1)
    width = 0.02 + 0.1 * (1 - amounts)
    position = width.unsqueeze(-1) * torch.randn(rows, 3, 2, generator=generator)
    mask = torch.arange(3) < counts.unsqueeze(1)
    x = torch.cat([amounts.unsqueeze(-1), position], -1) * mask.unsqueeze(-1)
    context = torch.zeros(rows, 4)
    context[:, 3] = counts
    return x, context, mask


def test_learns_a_known_density() -> None:
    x, context, mask = _toy(12_000, 0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = PointSequence(
            3, 4, width=32, heads=2, blocks=1, components=4, amount_components=4, head_width=32, position_scale=0.1
        )
    model.initialise(x, context)
    config = FitConfig(epochs=12, batch_size=256, learning_rate=3e-3, ema_halflife_events=10_000.0)
    held = slice(10_000, None)
    trained = fit(
        model,
        TrainingData(x[:10_000], context[:10_000], mask[:10_000]),
        TrainingData(x[held], context[held], mask[held]),
        config,
        seed=1,
    ).density
    test, test_context, test_mask = _toy(8_000, 99)
    with torch.no_grad():
        found = trained.log_prob(test, test_context, mask=test_mask)  # type: ignore[operator]
    amounts = torch.where(test_mask, test[..., 0], 1.0)
    previous = torch.cat([torch.ones(len(test), 1), amounts[:, :-1]], 1)
    width = 0.02 + 0.1 * (1 - amounts)
    position = (
        -0.5 * (test[..., 1:] / width.unsqueeze(-1)).square().sum(-1) - 2 * torch.log(width) - math.log(2 * math.pi)
    )
    exact = torch.where(test_mask, position - torch.log(previous), 0.0).sum(1)
    gap = (exact - found).mean()
    assert -0.01 < gap < 0.06, f"{gap:.3f} nats from the truth"


def test_unusable_arguments() -> None:
    with pytest.raises(ValueError, match="multiple of heads"):
        PointSequence(3, 4, width=30, heads=4)
    with pytest.raises(ValueError, match="scale_column"):
        PointSequence(3, 4, floor=0.5)
    with pytest.raises(ValueError, match="lattice needs the flag"):
        PointSequence(3, 6, pitch=0.1, phase_columns=[4, 5])
    with pytest.raises(ValueError, match="do not fit 2"):
        PointSequence(3, 2)
    with pytest.raises(ValueError, match="needs its context"):
        _model().log_prob(torch.ones(1, 4, 3))
