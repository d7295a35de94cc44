"""Numbers and classes together: against a closed-form posterior, a short training, masks, and the model folder."""

from __future__ import annotations

import math

import pytest
import torch

from cathode.density.base import noise_shape, sample
from cathode.density.bijections import Affine, Columns, Compose, Log, Power, Standardize
from cathode.density.folder import load_density, save_density
from cathode.density.mixed_matching import MixedMatching, fit_present, joint_features
from cathode.density.networks import MLP, EPiC, SetTransformer
from cathode.density.registry import build, buildable, describe
from cathode.support.errors import UserError
from cathode.training import FitConfig, TrainingData, fit

WEIGHTS, MEANS, SPREADS = [0.5, 0.3, 0.2], [-1.2, 0.4, 1.8], [0.3, 0.5, 0.2]


@buildable("test-mixed-posterior")
class ExactNetwork(torch.nn.Module):
    """Velocity and posterior of one number and its class: class k has the weight w_k and N(mu_k, s_k^2)."""

    features = 4

    def forward(self, x, t, context=None, *, mask=None):
        y, own = x[..., :1], x[..., 1:]
        theta = torch.atan2(t, 1 - t).view(-1, *[1] * (x.dim() - 1))
        cos, sin = theta.cos(), theta.sin()
        mean, spread = torch.tensor(MEANS), torch.tensor(SPREADS)
        variance = cos**2 + (sin * spread) ** 2
        delta = y - sin * mean
        logits = torch.tensor(WEIGHTS).log() - 0.5 * delta**2 / variance - 0.5 * variance.log()
        logits = torch.where(own.sum(-1, keepdim=True) > 0, own.log(), logits)
        velocity = cos * (mean + sin * spread**2 / variance * delta) - sin * cos / variance * delta
        return torch.cat([(logits.softmax(-1) * velocity).sum(-1, keepdim=True), logits], -1)


def compare(x, *, tolerance):
    assert torch.equal(x[:, 1], x[:, 1].round())
    for k in range(3):
        chosen = x[x[:, 1] == k, 0]
        assert len(chosen) / len(x) == pytest.approx(WEIGHTS[k], abs=tolerance)
        assert float(chosen.mean()) == pytest.approx(MEANS[k], abs=tolerance)
        assert float(chosen.std()) == pytest.approx(SPREADS[k], abs=1.5 * tolerance)


@pytest.mark.parametrize(
    ("options", "tolerance"),
    [({"steps": 40}, 0.015), ({"steps": 40, "stochasticity": 1.0}, 0.02), ({"steps": 100, "solver": "euler"}, 0.02)],
)
def test_the_exact_posterior_gives_the_exact_joint_distribution(options, tolerance):
    density = MixedMatching(2, categories=[3], network=ExactNetwork(), **options)
    compare(sample(density, count=20_000, generator=torch.Generator().manual_seed(1)), tolerance=tolerance)


def test_the_error_falls_with_the_steps():
    def error(steps):
        density = MixedMatching(2, categories=[3], network=ExactNetwork(), steps=steps)
        x = sample(density, count=30_000, generator=torch.Generator().manual_seed(2))
        return sum(abs(float(x[x[:, 1] == k, 0].mean()) - MEANS[k]) for k in range(3))

    coarse, fine = error(4), error(32)
    assert fine < 0.35 * coarse


def toy(count, seed=0):
    """Context c; a class that follows c; a number that follows the class; a positive number that class 2 lacks."""
    generator = torch.Generator().manual_seed(seed)
    c = torch.rand(count, 1, generator=generator)
    probabilities = torch.cat([0.2 + 0.5 * c, 0.5 - 0.4 * c, 0.3 - 0.1 * c], 1)
    k = torch.multinomial(probabilities, 1, generator=generator)
    a = torch.tensor(MEANS)[k] + 0.4 * torch.randn(count, 1, generator=generator)
    b = torch.exp(0.5 * torch.randn(count, 1, generator=generator) + a) * (k != 2)
    return torch.cat([a, b, k.float()], 1), c


PRESENT = [[1, 1], [1, 1], [1, 0]]


@pytest.mark.parametrize(("interpolation", "tolerance"), [("masking", 0.12), ("uniform", 0.2)])
def test_training_recovers_frequencies_and_conditional_distributions(interpolation, tolerance):
    x, c = toy(8000)
    there = torch.tensor(PRESENT).bool()[x[:, 2].long()]
    torch.manual_seed(0)
    columns = Columns([Standardize(1), Compose([Log(1), Standardize(1)])])
    density = MixedMatching(
        3, 1, categories=[3], network=MLP(5, 1, hidden=[64, 64]), bijection=fit_present(columns, x[:, :2], there),
        present=PRESENT, interpolation=interpolation, steps=30,
    )  # fmt: skip
    config = FitConfig(epochs=25, batch_size=250, learning_rate=1e-2)
    density = fit(density, TrainingData(x[:7000], c[:7000]), TrainingData(x[7000:], c[7000:]), config, seed=0).density
    truth, context = toy(10_000, seed=5)
    y = sample(density, context, generator=torch.Generator().manual_seed(3))
    assert bool((y[y[:, 2] == 2, 1] == 0).all())
    assert bool((y[y[:, 2] != 2, 1] > 0).all())
    for low, high in ((0.0, 0.4), (0.6, 1.0)):
        inside = (context[:, 0] >= low) & (context[:, 0] < high)
        for k in range(3):
            a, b = truth[inside & (truth[:, 2] == k)], y[inside & (y[:, 2] == k)]
            assert len(b) / int(inside.sum()) == pytest.approx(len(a) / int(inside.sum()), abs=0.05)
            assert float(b[:, 0].mean()) == pytest.approx(float(a[:, 0].mean()), abs=tolerance)
            assert float(b[:, 0].std()) == pytest.approx(float(a[:, 0].std()), abs=1.5 * tolerance)
            if k < 2:
                slope = [float(torch.corrcoef(torch.stack([v[:, 0], v[:, 1].log()]))[0, 1]) for v in (a, b)]
                assert slope[1] == pytest.approx(slope[0], abs=0.2)


def sets(count, entries=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randn(count, entries, 2, generator=generator)
    classes = torch.randint(0, 3, (count, entries, 1), generator=generator).float()
    flags = torch.randint(0, 2, (count, entries, 1), generator=generator).float()
    mask = torch.arange(entries) < torch.randint(1, entries + 1, (count, 1), generator=generator)
    mask[0] = False
    return (
        torch.cat([numbers, classes, flags], -1) * mask.unsqueeze(-1),
        mask,
        torch.rand(count, 1, generator=generator),
    )


NETWORKS = {
    "set-transformer": lambda: SetTransformer(7, 1, width=16, heads=2, blocks=2),
    "epic": lambda: EPiC(7, 1, width=16, global_width=4, layers=2),
}


def set_density(name, **options):
    generator = torch.Generator().manual_seed(7)
    network = NETWORKS[name]()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    options = {"present": [[1, 1], [1, 0], [0, 1]], "steps": 5, **options}
    return MixedMatching([6, 4], 1, categories=[3, 2], network=network, **options)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("interpolation", ["masking", "uniform"])
@torch.no_grad()
def test_padding_and_permutations(name, interpolation):
    density = set_density(name, interpolation=interpolation)
    x, mask, context = sets(8)
    noise = density.noise(8, mask=mask, generator=torch.Generator().manual_seed(1))
    assert noise.shape == (8, 6, density.noise_features)
    out = density.decode(noise, context, mask=mask)
    assert out.shape == x.shape
    assert float(out[~mask].abs().sum()) == 0.0
    garbage = torch.where(mask.unsqueeze(-1), noise, torch.tensor(float("nan")))
    assert torch.equal(density.decode(garbage, context, mask=mask), out)
    wider = torch.nn.functional.pad(mask, (0, 3))
    padded = density.decode(torch.nn.functional.pad(noise, (0, 0, 0, 3)), context, mask=wider)
    torch.testing.assert_close(padded[:, :6], out, rtol=1e-5, atol=1e-5)
    order = [3, 0, 5, 2, 4, 1]
    shuffled = density.decode(noise[:, order], context, mask=mask[:, order])
    torch.testing.assert_close(shuffled, out[:, order], rtol=1e-5, atol=1e-5)
    losses = [
        density.loss(v, context, mask=mask, generator=torch.Generator().manual_seed(2))
        for v in (x, torch.where(mask.unsqueeze(-1), x, torch.tensor(float("nan"))))
    ]
    assert torch.equal(*losses)
    assert bool(torch.isfinite(losses[0]).all())
    assert float(losses[0][0]) == 0.0  # the empty set


@torch.no_grad()
def test_absent_values_are_exact_zeros_and_never_looked_at():
    density = set_density("epic")
    x, mask, context = sets(200)
    y = sample(density, context, mask=mask, generator=torch.Generator().manual_seed(1))
    first, real = y[..., 2], mask
    assert float(y[..., 1][real & (first == 1)].abs().max()) == 0.0
    assert float(y[..., 0][real & (first == 2)].abs().max()) == 0.0
    assert bool((y[..., 0][real & (first == 0)] != 0).all())
    assert set(first[real].tolist()) <= {0.0, 1.0, 2.0}
    assert set(y[..., 3][real].tolist()) == {0.0, 1.0}
    changed = x.clone()
    changed[..., 1] = torch.where(x[..., 2] == 1, 9.0, x[..., 1])
    losses = [density.loss(v, context, mask=mask, generator=torch.Generator().manual_seed(4)) for v in (x, changed)]
    assert torch.equal(*losses)


@torch.no_grad()
def test_same_noise_same_event_and_seeds():
    density = set_density("set-transformer")
    _, mask, context = sets(30)
    draws = [sample(density, context, mask=mask, generator=torch.Generator().manual_seed(s)) for s in (5, 5, 6)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert noise_shape(density) == (6, density.noise_features)
    x, mask, context = sets(5)
    losses = [density.loss(x, context, mask=mask, generator=torch.Generator().manual_seed(1)) for _ in range(2)]
    assert torch.equal(*losses)


def test_points_of_a_set_choose_their_classes_together(tmp_path):
    """All points of a set have one class, so classes that were chosen alone would nearly always disagree."""
    generator = torch.Generator().manual_seed(0)
    classes = torch.randint(0, 2, (3000, 1, 1), generator=generator).float().expand(-1, 4, -1)
    x = torch.cat([torch.randn(3000, 4, 1, generator=generator) + 2 * classes, classes], -1)
    torch.manual_seed(0)
    network = EPiC(joint_features(2, [2]), width=24, global_width=8, layers=2)
    bijection = Standardize(1).fit(x[..., :1], mask=torch.ones(3000, 4, dtype=torch.bool))
    density = MixedMatching([4, 2], categories=[2], network=network, bijection=bijection, steps=40)
    config = FitConfig(epochs=10, batch_size=150, learning_rate=4e-3)
    density = fit(density, TrainingData(x[:2700]), TrainingData(x[2700:]), config, seed=0).density
    y = sample(density, count=2000, generator=torch.Generator().manual_seed(1))
    agree = (y[..., 1] == y[:, :1, 1]).all(1)
    assert float(agree.float().mean()) > 0.85  # 0.125 if chosen alone
    assert float(y[:, 0, 1].mean()) == pytest.approx(0.5, abs=0.06)
    assert float(y[..., 0][y[..., 1] == 1].mean()) == pytest.approx(2.0, abs=0.2)
    save_density(density, tmp_path / "model")
    twin = load_density(tmp_path / "model")
    again = sample(twin, count=50, generator=torch.Generator().manual_seed(9))
    assert torch.equal(again, sample(density, count=50, generator=torch.Generator().manual_seed(9)))


def test_description_builds_the_same_density():
    density = set_density("epic", bijection=Columns([Affine(1), Power(1, exponent=0.0)]), interpolation="uniform")
    twin = build(describe(density))
    assert describe(twin) == describe(density)
    twin.load_state_dict(density.state_dict())
    _, mask, context = sets(4)
    noise = density.noise(4, mask=mask, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(twin.decode(noise, context, mask=mask), density.decode(noise, context, mask=mask))


def test_members_are_fitted_on_what_is_present():
    x = torch.tensor([[[1.0, 0.0], [3.0, math.e], [5.0, 0.0], [9.0, 1.0]]])
    there = torch.tensor([[[True, False], [True, True], [True, False], [False, True]]])
    fitted = fit_present(Columns([Standardize(1), Log(1)]), x, there)
    z, _ = fitted.forward_and_log_det(x[:, :3, :1].expand(-1, -1, 2).clone())
    assert float(z[0, :, 0].mean()) == pytest.approx(0.0, abs=1e-6)
    with pytest.raises(UserError, match="no rows"):
        fit_present(Columns([Standardize(1), Log(1)]), x, torch.zeros_like(there))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"categories": []}, "at least one of each kind"),
        ({"categories": [2, 2, 2]}, "at least one of each kind"),
        ({"categories": [1]}, "at least 2"),
        ({"categories": [2], "present": [[1, 1]]}, "present must have 0 or 1"),
        ({"categories": [2], "present": [[1, 2], [0, 1]]}, "present must have 0 or 1"),
        ({"categories": [2], "bijection": Affine(3)}, "bijection has 3 features for 2 columns"),
        ({"categories": [2], "interpolation": "linear"}, "unknown interpolation"),
        ({"categories": [2], "solver": "rk9"}, "unknown solver"),
        ({"categories": [2], "steps": 0}, "at least 1"),
        ({"categories": [2], "stochasticity": -1.0}, "0 or more"),
        ({"categories": [2], "class_weight": 0.0}, "positive"),
        ({"categories": [2], "network": EPiC(3)}, "network has 3 features, the columns and classes make 4"),
    ],
)
def test_refused_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        MixedMatching(3, **arguments)


def test_refused_events():
    with pytest.raises(ValueError, match="sets have no default network"):
        MixedMatching([4, 3], categories=[2])
    density = MixedMatching(3, categories=[2])
    for bad in (0.5, 2.0, -1.0, float("nan")):
        x = torch.zeros(4, 3)
        x[2, 2] = bad
        with pytest.raises(ValueError, match="classes 0 to 1"):
            density.loss(x)
    with pytest.raises(ValueError, match="numbers per entry"):
        density.decode(torch.zeros(2, 3))
