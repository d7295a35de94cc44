"""The censored density against integrals, frequencies and a toy whose density is known."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cathode.density.base import sample
from cathode.density.censored import CensoredAutoregressive
from cathode.density.folder import load_density, save_density

SMALL = {"components": 2, "hidden": 24, "layers": 1, "bottleneck": 4, "head": 12, "context_width": 8}


def stream(seed):
    return torch.Generator().manual_seed(seed)


def rough(density, *, seed=3, size=0.4):
    """The same with weights far from their start, so that everything depends on everything."""
    with torch.no_grad():
        for parameter in density.parameters():
            parameter += size * torch.randn(parameter.shape, generator=stream(seed))
    return density


def line(low, high, nodes):
    """Nodes and weights of Gauss and Legendre between two numbers."""
    x, w = np.polynomial.legendre.leggauss(nodes)
    return low + (high - low) * (x + 1) / 2, w * (high - low) / 2


def total_probability(density, total, threshold, context, *, nodes):
    """Probabilities of the patterns (zero, between, whole) of the first two of three amounts with a known sum."""
    patterns: dict[tuple[str, str], float] = {}

    def add(name, first, second, weight):
        first, second = np.broadcast_arrays(np.asarray(first, dtype=float), np.asarray(second, dtype=float))
        x = torch.from_numpy(np.stack([first.ravel(), second.ravel(), (total - first - second).ravel()], 1))
        with torch.no_grad():
            p = density.log_prob(x, context.expand(len(x), -1)).exp().numpy()
        patterns[name] = patterns.get(name, 0.0) + float((p * np.broadcast_to(weight, first.shape).ravel()).sum())

    def between(left):
        """Amounts from the threshold to what leaves the threshold, with the weight of dx."""
        if left < 2 * threshold:
            return np.array([]), np.array([])
        y, w = line(0.0, math.log((left - threshold) / threshold), nodes)
        return threshold * np.exp(y), w * threshold * np.exp(y)

    inner, weight = between(total)
    for name, x, w in (("zero", [0.0], [1.0]), ("between", inner, weight), ("whole", [total], [1.0])):
        for one, share in zip(x, w, strict=True):
            left = total - one
            if left == 0:
                add((name, "nothing"), one, 0.0, share)
                continue
            add((name, "zero"), one, 0.0, share)
            add((name, "whole"), one, left, share)
            second, factor = between(left)
            if len(second):
                add((name, "between"), one, second, share * factor)
    return patterns


@pytest.fixture(scope="module")
def summed():
    """Three amounts with a known sum, which is the last of two context columns."""
    torch.manual_seed(1)
    return rough(
        CensoredAutoregressive(
            3, 2, threshold=0.5, blocks=[0, 0, 0], totals=[1], neighbours=[[], [0], [0, 1]], hints=[[0]] * 3, **SMALL
        ),
        size=0.2,
    ).double()


@pytest.mark.parametrize("total", [0.5, 0.9, 1.2, 6.0])
def test_with_a_known_sum_the_probabilities_add_up_to_one(summed, total):
    context = torch.tensor([[0.3, total]], dtype=torch.float64)
    patterns = total_probability(summed, total, 0.5, context, nodes=60)
    assert sum(patterns.values()) == pytest.approx(1.0, abs=2e-5)
    if total == 6.0:
        assert min(patterns.values()) > 1e-4


def test_samples_are_as_frequent_as_the_density_says(summed):
    total, count = 6.0, 60_000
    context = torch.tensor([[0.3, total]], dtype=torch.float64)
    expected = total_probability(summed, total, 0.5, context, nodes=60)
    x = sample(summed, context.expand(count, -1), generator=stream(5)).numpy()

    def kind(amount, left):
        return np.where(
            left <= 1e-9, "nothing", np.where(amount == 0, "zero", np.where(left - amount < 1e-9, "whole", "between"))
        )

    found = list(zip(kind(x[:, 0], np.full(count, total)), kind(x[:, 1], total - x[:, 0]), strict=True))
    for name, probability in expected.items():
        seen = sum(one == name for one in found)
        error = math.sqrt(probability * (1 - probability) / count)
        assert abs(seen / count - probability) < 4.5 * error + 2e-5, name
    # And between the atoms the first amount follows its density.
    edges = np.exp(np.linspace(math.log(0.5), math.log(total - 0.5), 7))
    for low, high in itertools.pairwise(edges):
        y, w = line(math.log(low), math.log(high), 24)
        inside = 0.0
        for amount, weight in zip(np.exp(y), w * np.exp(y), strict=True):
            with torch.no_grad():
                inside += weight * marginal(summed, amount, total, context)
        seen = ((x[:, 0] > low) & (x[:, 0] < high)).mean()
        assert seen == pytest.approx(inside, abs=4.5 * math.sqrt(inside / count) + 1e-4)


def marginal(density, first, total, context):
    """Density of the first amount: all ways to share what is left, added up."""
    left = total - first
    events, weights = [[first, 0.0, left], [first, left, 0.0]], [1.0, 1.0]
    if left > 1.0:
        y, w = line(0.0, math.log((left - 0.5) / 0.5), 40)
        events += [[first, 0.5 * math.exp(v), left - 0.5 * math.exp(v)] for v in y]
        weights += list(w * 0.5 * np.exp(y))
    x = torch.tensor(events, dtype=torch.float64)
    return float(density.log_prob(x, context.expand(len(x), -1)).exp() @ torch.tensor(weights, dtype=torch.float64))


@pytest.mark.parametrize("threshold", [0.5, None])
def test_without_known_sums_the_probabilities_add_up_to_one(threshold):
    torch.manual_seed(2)
    density = rough(CensoredAutoregressive(2, 1, threshold=threshold, order=[1, 0], **SMALL), size=0.2).double()
    y, w = line(0.0 if threshold else -60.0, 60.0, 700)
    x, w = (y, w) if threshold is None else (threshold * np.exp(y), w * threshold * np.exp(y))
    if threshold is not None:
        x, w = np.append(x, 0.0), np.append(w, 1.0)
    grid = torch.from_numpy(np.stack(np.meshgrid(x, x), -1).reshape(-1, 2))
    with torch.no_grad():
        p = density.log_prob(grid, torch.full((len(grid), 1), 0.7, dtype=torch.float64)).exp().numpy()
    assert float(p @ np.outer(w, w).ravel()) == pytest.approx(1.0, abs=1e-5)
    if threshold is not None:
        count = 40_000
        drawn = sample(density, torch.full((count, 1), 0.7, dtype=torch.float64), generator=stream(1)).numpy()
        both = float(p[-1])
        assert (drawn == 0).all(1).mean() == pytest.approx(both, abs=4.5 * math.sqrt(both / count))
        assert ((drawn == 0) | (drawn >= threshold)).all()


@st.composite
def layouts(draw):
    """Blocks of features, an order, and groups in which no block comes twice."""
    features = draw(st.integers(1, 9))
    count = draw(st.integers(1, features))
    blocks = list(range(count)) + [draw(st.integers(0, count - 1)) for _ in range(features - count)]
    blocks = draw(st.permutations(blocks))
    order = draw(st.permutations(range(features)))
    groups, inside, group = [], set(), 0
    for feature in order:
        if groups and (blocks[feature] in inside or draw(st.booleans())):
            group, inside = group + 1, set()
        inside.add(blocks[feature])
        groups.append(group)
    return list(blocks), list(order), groups


@settings(max_examples=40, deadline=None)
@given(layout=layouts(), threshold=st.sampled_from([0.0151, 1.0]), size=st.floats(0.0, 1.0), seed=st.integers(0, 99))
def test_samples_are_zero_or_above_threshold_and_add_up(layout, threshold, size, seed):
    blocks, order, groups = layout
    count = max(blocks) + 1
    density = rough(
        CensoredAutoregressive(
            len(blocks), 1 + count, threshold=threshold, order=order, groups=groups, blocks=blocks,
            totals=list(range(1, 1 + count)), **SMALL,
        ),
        seed=seed, size=size,
    )  # fmt: skip
    totals = threshold * torch.exp(8 * torch.rand(50, count, generator=stream(seed)))
    totals[torch.rand(50, count, generator=stream(seed + 1)) < 0.2] = 0.0
    context = torch.cat([torch.randn(50, 1, generator=stream(seed)), totals], 1)
    x = sample(density, context, generator=stream(seed))
    assert ((x == 0) | (x >= threshold)).all()
    sums = torch.zeros(50, count).index_add(1, torch.tensor(blocks), x)
    torch.testing.assert_close(sums, totals, rtol=2e-6, atol=0.0)
    assert torch.isfinite(density.log_prob(x, context)).all()


def test_the_order_is_kept():
    """What comes later in the order never changes what comes earlier, and features of one group ignore each other."""
    order, groups = [3, 0, 2, 1], [0, 1, 1, 2]
    density = rough(CensoredAutoregressive(4, 0, threshold=0.1, order=order, groups=groups, **SMALL))
    noise = density.noise(64, generator=stream(1))
    x = density.decode(noise)
    for place, feature in enumerate(order):
        changed = noise.clone()
        changed[:, [place, 4 + place]] += 1.0
        moved = (density.decode(changed) != x).any(0)
        allowed = {feature} | {f for f, g in zip(order, groups, strict=True) if g > groups[place]}
        assert moved[feature]
        assert set(moved.nonzero().flatten().tolist()) <= allowed


def test_amounts_and_hints_are_seen():
    density = rough(
        CensoredAutoregressive(2, 3, threshold=1.0, amounts=[1], hints=[[], [2]], blocks=[0, 0], totals=[0], **SMALL)
    )
    base = torch.tensor([[50.0, 20.0, 0.1]])
    x = torch.tensor([[20.0, 30.0]])
    for column in (1, 2):
        other = base.clone()
        other[:, column] *= 3
        assert density.log_prob(x, other) != density.log_prob(x, base)
    # Amounts in units of the threshold, large as they may be, arrive at about unit scale.
    seen, totals = density._context(torch.tensor([[1e6, 1e6, 0.1]]))
    assert seen.abs().max() < 4
    assert totals.tolist() == [[1e6]]


def test_saved_and_loaded(tmp_path):
    density = rough(
        CensoredAutoregressive(
            3, 3, threshold=1.0, order=[2, 0, 1], blocks=[0, 1, 0], totals=[0, 1], amounts=[2], groups=[0, 1, 1],
            neighbours=[[2], [2], []], **SMALL,
        )
    ).eval()  # fmt: skip
    save_density(density, tmp_path / "model")
    again = load_density(tmp_path / "model")
    context = torch.tensor([[10.0, 0.0, 5.0], [3.0, 8.0, 0.0]])
    noise = density.noise(2, generator=stream(1))
    assert torch.equal(again.decode(noise, context), density.decode(noise, context))


def truth(count, seed):
    """Two amounts: Gaussians in the logarithm, the second moved by the first, both censored at 0; and their density."""
    first = 1.0 + torch.randn(count, generator=stream(seed))
    x1 = torch.where(first > 0, first.exp(), 0.0)
    mean = 0.6 * torch.log1p(x1) - 0.5
    second = mean + 0.5 * torch.randn(count, generator=stream(seed + 1))
    x = torch.stack([x1, torch.where(second > 0, second.exp(), 0.0)], 1)
    parts = []
    for value, centre, width in ((x[:, 0], torch.ones(count), 1.0), (x[:, 1], mean, 0.5)):
        y = value.clamp_min(1e-30).log()
        inside = torch.distributions.Normal(centre, width).log_prob(y) - y
        parts.append(torch.where(value > 0, inside, torch.special.log_ndtr(-centre / width)))
    return x, parts[0] + parts[1]


def test_training_recovers_a_censored_toy():
    torch.manual_seed(1)
    density = CensoredAutoregressive(2, 0, threshold=1.0, **{**SMALL, "hidden": 32})
    x, _ = truth(20_000, 1)
    density.initialise(x[:2000])
    optimizer = torch.optim.Adam(density.parameters(), 5e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 250)
    for step in range(250):
        rows = torch.randint(len(x), (1000,), generator=stream(step))
        loss = density.loss(x[rows]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    held_out, exact = truth(20_000, 11)
    with torch.no_grad():
        difference = exact - density.log_prob(held_out)
    # The Kullback-Leibler divergence, which is never negative but for the noise of the sample.
    assert -0.004 < float(difference.mean()) < 0.012
    drawn = sample(density, count=40_000, generator=stream(3))
    for of in (lambda v: (v == 0).float(), lambda v: (v > 0).all(1, keepdim=True).float(), torch.log1p):
        torch.testing.assert_close(of(drawn).mean(0), of(held_out).mean(0), atol=0.02, rtol=0.0)


def test_the_start_is_close_to_the_marginals():
    x, exact = truth(4000, 1)
    torch.manual_seed(1)
    plain = CensoredAutoregressive(2, 0, threshold=1.0, **SMALL)
    with torch.no_grad():
        before = plain.loss(x).mean()
        plain.initialise(x)
        after = plain.loss(x).mean()
    assert after < before
    assert after < -exact.mean() + 0.8


def test_features_that_are_never_positive_can_be_learned_from():
    density = CensoredAutoregressive(3, 1, threshold=1.0, blocks=[0, 0, 0], totals=[0], **SMALL)
    x = torch.tensor([[0.0, 5.0, 0.0]]).repeat(50, 1)
    context = torch.full((50, 1), 5.0)
    density.initialise(x, context)
    density.loss(x, context).mean().backward()
    assert all(torch.isfinite(p.grad).all() for p in density.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"order": [0, 0]}, "permutation"),
        ({"groups": [0]}, "permutation"),
        ({"threshold": 0.0}, "threshold is 0"),
        ({"blocks": [0, 0]}, "go together"),
        ({"blocks": [0, 1], "totals": [0]}, "go together"),
        ({"blocks": [0, 0], "totals": [0], "threshold": None}, "need a threshold"),
        ({"amounts": [0], "threshold": None}, "need a threshold"),
        ({"blocks": [0, 0], "totals": [7]}, "context columns"),
        ({"hints": [[2], []]}, "context columns"),
        ({"hints": [[0]]}, "one entry for each feature"),
        ({"neighbours": [[1], []]}, "earlier groups"),
        ({"groups": [0, 0], "blocks": [0, 0], "totals": [0]}, "share a block"),
    ],
)
def test_arguments_that_do_not_fit(changes, match):
    with pytest.raises(ValueError, match=match):
        CensoredAutoregressive(2, 2, **{"threshold": 1.0, **changes})


def test_sets_are_refused():
    density = CensoredAutoregressive(2, threshold=1.0, **SMALL)
    mask = torch.ones(1, 2, dtype=torch.bool)
    for call in (
        lambda: density.noise(1, mask=mask, generator=stream(1)),
        lambda: density.loss(torch.ones(1, 2), mask=mask),
        lambda: density.decode(torch.ones(1, 4), mask=mask),
    ):
        with pytest.raises(ValueError, match="takes no mask"):
            call()
