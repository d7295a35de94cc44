from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cathode.classifiers.transformer.attention import fused_attention, packed_attention, pair_interactions
from cathode.classifiers.transformer.network import Architecture, SetNetwork
from cathode.classifiers.transformer.packing import pack
from cathode.classifiers.transformer.training import network_with_seed
from cathode.support.errors import UserError

F, G = 3, 2
VARIANTS = {
    "plain": {},
    "globals": {"global_features": G},
    "pairs": {"momentum_columns": 3},
    "massive pairs": {"momentum_columns": 4},
    "two jets as tokens": {"groups": 2, "global_features": G},
    "two jets by jet": {"groups": 2, "event": "jets", "global_features": G, "mixing": 1},
    "by jet with pairs": {"groups": 2, "event": "jets", "momentum_columns": 3},
}
every = pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS.keys())


def network(variant):
    return network_with_seed(Architecture(F, **{"width": 16, "heads": 2, "blocks": 2, **variant}), 3).eval()


def events(variant, n=40, size=9, seed=0):
    g = torch.Generator().manual_seed(seed)
    lengths = torch.randint(0, size + 1, (n, 1), generator=g)
    lengths[0] = 0
    mask = torch.arange(size) < lengths
    columns = variant.get("momentum_columns", 0)
    momenta = torch.rand(n, size, max(columns, 1), generator=g) + 0.1
    return {
        "points": torch.randn(n, size, F, generator=g),
        "mask": mask,
        "group": torch.randint(0, 2, (n, size), generator=g) if variant.get("groups", 1) > 1 else None,
        "momenta": momenta if columns else None,
        "columns": torch.randn(n, G, generator=g) if "global_features" in variant else None,
    }


def all_pairs(momenta):
    return pair_interactions(momenta.unsqueeze(2), momenta.unsqueeze(1))


def changed(batch, change):
    """The batch with ``change`` applied to everything that points have."""
    per_point = ("points", "mask", "group", "momenta")
    return {k: change(v) if k in per_point and v is not None else v for k, v in batch.items()}


def outputs_and_gradients(net, batch):
    net.zero_grad()
    out = net(**batch)
    (out * torch.linspace(-1, 1, len(out)).unsqueeze(1)).sum().backward()
    return out.detach(), {name: p.grad for name, p in net.named_parameters() if p.grad is not None}


def same(first, second, tolerance=1e-5):
    torch.testing.assert_close(first[0], second[0], atol=tolerance, rtol=0)
    assert first[1].keys() == second[1].keys()
    for name, gradient in first[1].items():
        assert torch.isfinite(gradient).all(), name
        torch.testing.assert_close(second[1][name], gradient, atol=1e-4, rtol=1e-4)


@every
@pytest.mark.parametrize("extra", [1, 3, 40])
def test_the_amount_and_content_of_padding_changes_nothing(variant, extra):
    net, batch = network(variant), events(variant)

    def padded(v):
        more = v.new_zeros(len(v), extra, *v.shape[2:])
        filled = more if v.dtype == torch.bool else more + (torch.nan if v.is_floating_point() else 77)
        return torch.cat([v, filled], dim=1)

    broken = changed(batch, padded)
    for name in ("points", "momenta"):
        if broken[name] is not None:
            broken[name][~broken["mask"]] = torch.nan
    same(outputs_and_gradients(net, batch), outputs_and_gradients(net, broken))


@every
def test_order_of_points_and_of_events_means_nothing(variant):
    net, batch = network(variant), events(variant)
    g = torch.Generator().manual_seed(1)
    shuffled = torch.randperm(batch["mask"].shape[1], generator=g)
    first = outputs_and_gradients(net, batch)
    # Masks are then no longer at the front.
    same(first, outputs_and_gradients(net, changed(batch, lambda v: v[:, shuffled])))
    rows = torch.randperm(len(first[0]), generator=g)
    with torch.no_grad():
        moved = net(**{k: None if v is None else v[rows] for k, v in batch.items()})
    torch.testing.assert_close(moved, first[0][rows], atol=1e-5, rtol=0)


@every
def test_events_do_not_see_each_other_and_every_input_counts(variant):
    net, batch = network(variant), events(variant)
    with torch.no_grad():
        whole = net(**batch)
        alone = torch.cat(
            [net(**{k: None if v is None else v[i : i + 1] for k, v in batch.items()}) for i in range(len(whole))]
        )
        torch.testing.assert_close(whole, alone, atol=1e-5, rtol=0)
        for name in ("points", "group", "momenta", "columns"):
            if batch[name] is None:
                continue
            other = 1 - batch[name] if name == "group" else 1.5 * batch[name] + 0.1
            if name == "momenta":
                other[..., 0] = batch[name][..., 0].flip(1)
            moved = (net(**{**batch, name: other}) - whole).abs().flatten()
            full = batch["mask"].sum(1) > 2
            assert (moved[full] > 1e-6).all(), name
            if name != "columns":
                assert moved[0] < 1e-6, f"an event without points depends on {name}"


@every
def test_all_weights_learn(variant):
    batch = events(variant)
    _, gradients = outputs_and_gradients(network(variant), batch)
    names = {n for n, _ in network(variant).named_parameters()}
    assert names == gradients.keys()
    assert {n for n, g in gradients.items() if not g.abs().max() > 1e-7} == set()


def test_no_points_at_all():
    net = network({})
    empty = {"points": torch.zeros(3, 0, F), "mask": torch.zeros(3, 0, dtype=torch.bool)}
    out, gradients = outputs_and_gradients(net, empty)
    assert torch.isfinite(out).all()
    torch.testing.assert_close(out, out[:1].expand(3, -1))
    assert all(torch.isfinite(g).all() for g in gradients.values())


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 20), st.integers(1, 13), st.integers(1, 3), st.integers(0, 1000))
def test_packing_keeps_every_point_once(sets, size, per_event, seed):
    g = torch.Generator().manual_seed(seed)
    mask = torch.rand(sets * per_event, size, generator=g) < torch.rand(sets * per_event, 1, generator=g)
    packing = pack(mask, sets_per_event=per_event)
    assert torch.equal(packing.order[packing.place], torch.arange(len(mask)))
    assert packing.buckets[-1].stop == len(packing.source) <= mask.sum() + len(mask) * 4
    # Each set's rows, found through the buckets, are the points of its mask.
    start = 0
    for bucket in packing.buckets:
        rows = torch.arange(bucket.start, bucket.stop).view(bucket.sets, bucket.tokens)
        assert torch.equal(packing.class_rows[start : start + bucket.sets], rows[:, 0])
        for place, row in enumerate(rows, start):
            of_set = int(packing.order[place])
            found = packing.source[row][packing.real[row, 0]]
            expected = mask[of_set].nonzero()[:, 0] + of_set // per_event * size
            assert torch.equal(found, expected)
            hidden = torch.zeros(bucket.tokens) if bucket.key_bias is None else bucket.key_bias[place - start, 0]
            assert torch.equal(hidden[1:] == 0, packing.real[row, 0][1:])
            assert hidden[0] == 0
        start += bucket.sets


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("readers", [False, True])
def test_attention_agrees_with_the_fused_kernel(biased, readers):
    g = torch.Generator().manual_seed(0)
    packing = pack(torch.arange(10) < torch.randint(0, 11, (20, 1), generator=g))
    total, heads, width = packing.buckets[-1].stop, 2, 8

    def made(*shape):
        return torch.randn(*shape, generator=g, dtype=torch.float64).requires_grad_()

    q, kv = made(20 if readers else total, width), made(total, 2 * width)
    biases = [made(b.sets * heads, 1 if readers else b.tokens, b.tokens) for b in packing.buckets] if biased else None
    weight = torch.randn(q.shape, generator=g, dtype=torch.float64)
    leaves = [q, kv, *(biases or [])]
    results = []
    for function in (packed_attention, fused_attention):
        out = function(q, kv, heads, packing.buckets, biases, readers=readers)
        results.append([out, *torch.autograd.grad((out * weight).sum(), leaves)])
    for first, second in zip(*results, strict=True):
        torch.testing.assert_close(first, second, atol=1e-10, rtol=1e-8)


def test_the_bias_of_every_pair_is_that_of_its_interaction():
    momenta = torch.rand(6, 7, 3, generator=torch.Generator().manual_seed(0)) + 0.1
    mask = torch.arange(7) < torch.tensor([[0], [1], [3], [4], [7], [7]])
    bias = network({"momentum_columns": 3}).encoder.pair_bias
    bias.standardise(momenta, mask)
    expected = bias.network((all_pairs(momenta) - bias.mean) / bias.scale)
    real = (all_pairs(momenta) - bias.mean)[mask.unsqueeze(1) & mask.unsqueeze(2)] / bias.scale
    torch.testing.assert_close(real.mean(0), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(real.std(0, correction=0), torch.ones(4))
    packing, start = pack(mask), 0
    for bucket, found in zip(packing.buckets, bias(packing.rows(momenta), packing.buckets), strict=True):
        for place, of_set in enumerate(found.unflatten(0, (bucket.sets, 2)), start):
            number = int(packing.order[place])
            n = int(mask[number].sum())
            torch.testing.assert_close(of_set[:, 1 : n + 1, 1 : n + 1], expected[number, :n, :n].permute(2, 0, 1))
            assert (of_set[:, 0] == 0).all()
            assert (of_set[:, :, 0] == 0).all()
        start += bucket.sets


@pytest.mark.parametrize("massive", [False, True])
def test_interactions_are_those_of_the_formulas(massive):
    rng = np.random.default_rng(0)
    pt, y, phi = rng.uniform(0.5, 50, 6), rng.normal(0, 0.5, 6), rng.uniform(-4, 4, 6)
    mass = rng.uniform(0, 5, 6) if massive else np.zeros(6)
    columns = [pt, y, phi, mass] if massive else [pt, y, phi]
    found = all_pairs(torch.tensor(np.stack(columns, 1))[None])[0].numpy()
    transverse = np.hypot(pt, mass)
    p = np.stack([pt * np.cos(phi), pt * np.sin(phi), transverse * np.sinh(y), transverse * np.cosh(y)])
    for a in range(6):
        for b in range(6):
            if a == b:
                continue
            dphi = math.remainder(phi[a] - phi[b], 2 * math.pi)
            delta, softer = math.hypot(y[a] - y[b], dphi), min(pt[a], pt[b])
            total = p[:, a] + p[:, b]
            m2 = total[3] ** 2 - (total[:3] ** 2).sum()
            expected = [math.log(softer * delta), math.log(softer / (pt[a] + pt[b])), math.log(delta), math.log(m2)]
            np.testing.assert_allclose(found[a, b], expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("columns", [3, 4])
def test_coincident_and_missing_points_interact_finitely(columns):
    momenta = torch.rand(2, 5, columns) + 0.1
    momenta[0, 1] = momenta[0, 0]
    momenta[0, 4] = 0.0
    momenta[1, 0, 0], momenta[1, 1, 0] = 1e-9, 1e9
    pairs = all_pairs(momenta)
    assert torch.isfinite(pairs).all()
    assert (pairs[0, 4] == 0).all()
    assert (pairs[0, :, 4] == 0).all()
    torch.testing.assert_close(pairs[0, 0, 1, 2], torch.tensor(math.log(1e-3)))
    # Single precision holds the mass of a hard, narrow pair: 2 pT^2 (cosh - cos) = (pT Delta)^2.
    narrow = torch.tensor([[[1500.0, 2.0, 0.0], [1500.0, 2.002, 0.0]]])
    assert float(all_pairs(narrow)[0, 0, 1, 3]) == pytest.approx(2 * math.log(1500 * 0.002), abs=2e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"width": 10, "heads": 4}, "multiple"), ({"event": "both"}, "tokens or jets"), ({"blocks": 0}, "blocks=0"),
     ({"blocks": 1, "momentum_columns": 3}, "at least 2 blocks"),
     ({"dropout": 1.0}, "dropout")],
)  # fmt: skip
def test_bad_architectures_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        SetNetwork(Architecture(F, **change))
