"""The copula on sectors that are all alike: its Fourier transform, its sums, and what the fit finds through zeros."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from cathode.density import build, describe, load_density, sample, save_density
from cathode.density.bijections import ConditionalGaussianize
from cathode.density.cyclic_copula import CyclicCopula, fourier_basis
from cathode.density.cyclic_fit import _hermite_scores, fit_cyclic_copula
from cathode.support.errors import UserError

T = 0.5
TURNS, BLOCKS = 4, [[0, 2], [8, 1]]


def unfitted(**settings):
    marginals = ConditionalGaussianize(3, [1, 1, 2], T, nodes=4, knots=11, floor=T)
    return CyclicCopula(marginals, TURNS, BLOCKS, [1, 2], 3, nodes=2, **settings)


def toy(count, seed=0):
    """Log-normal features, neighbours correlated through a smooth common part, zeros below the threshold.

    Feature 0 and 2 follow a direction of their own around the sectors, feature 1 is independent.
    """
    g = torch.Generator().manual_seed(seed)
    energy = torch.exp(math.log(5) + 2 * torch.rand(count, 1, generator=g))
    angle = 2 * math.pi * torch.arange(TURNS) / TURNS
    wave = torch.randn(count, 1, generator=g) * torch.cos(angle) + torch.randn(count, 1, generator=g) * torch.sin(angle)
    own = torch.randn(count, TURNS, 3, generator=g)
    z = torch.stack([0.8 * wave + 0.6 * own[..., 0], own[..., 1], 0.8 * wave + 0.6 * own[..., 2]], 2)
    x = 0.05 * energy.unsqueeze(2) * torch.exp(0.7 * z)
    x = torch.where(x < T, 0.0, x)
    flat = torch.cat([x[..., :2].flatten(1), x[..., 2]], 1)
    sums = torch.stack([flat[:, :8].sum(1), flat[:, 8:].sum(1)], 1)
    return flat, torch.cat([energy, sums], 1)


@pytest.fixture(scope="module")
def fitted():
    x, context = toy(2000)
    return fit_cyclic_copula(unfitted(), x, context, seed=0), x, context


@pytest.mark.parametrize("turns", [2, 3, 8, 9])
def test_basis_is_orthonormal_and_diagonalises_what_turns_leave_alone(turns):
    basis, frequencies = fourier_basis(turns)
    torch.testing.assert_close(basis @ basis.T, torch.eye(turns, dtype=torch.float64))
    distance = (torch.arange(turns).unsqueeze(0) - torch.arange(turns).unsqueeze(1)) % turns
    even = torch.minimum(distance, turns - distance).double()
    diagonal = basis @ torch.exp(-even) @ basis.T
    torch.testing.assert_close(diagonal, torch.diag(diagonal.diagonal()))
    for k in range(int(frequencies.max()) + 1):
        values = diagonal.diagonal()[frequencies == k]
        torch.testing.assert_close(values, values[:1].expand_as(values))


@pytest.mark.parametrize("bound", [-2.0, 0.0, 1.5])
@pytest.mark.parametrize("rho", [-0.6, 0.3, 0.8])
def test_products_of_censored_scores_follow_the_series(bound, rho):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 1_000_000))
    b = rho * a + math.sqrt(1 - rho**2) * b
    below = -math.exp(-(bound**2) / 2) / math.sqrt(2 * math.pi) / (0.5 * math.erfc(-bound / math.sqrt(2)))
    scores = [np.where(z < bound, below, z) for z in (a, b)]
    coefficients = _hermite_scores(torch.tensor([bound], dtype=torch.float64))
    expected = sum(rho ** (k + 1) * float(c) ** 2 for k, c in enumerate(coefficients))
    assert expected == pytest.approx(float((scores[0] * scores[1]).mean()), abs=6e-3)


def test_features_become_latent_values_and_come_back(fitted):
    copula, x, context = fitted
    latent = copula.latent_values(x, context)
    back = copula.values(latent.transpose(1, 2), *copula.tables(context)).transpose(1, 2).flatten(1)[:, copula.natural]
    lit = (x >= T) & (back > 0)
    assert lit.sum() > 0.999 * (x >= T).sum()
    torch.testing.assert_close(back[lit], x[lit], rtol=2e-3, atol=1e-3)


def test_latent_values_are_those_of_the_marginals(fitted):
    copula, x, context = fitted
    rows = x[:50, copula.order].reshape(-1, 3)
    expected = copula.marginals.forward_and_log_det(rows.clamp(min=T), context[:50].repeat_interleave(TURNS, 0))[0]
    latent = copula.latent_values(x[:50], context[:50]).reshape(-1, 3)
    torch.testing.assert_close(latent[rows >= T], expected[rows >= T], rtol=1e-3, atol=1e-3)


def test_the_fit_finds_correlations_through_zeros(fitted):
    copula, x, context = fitted
    assert 0.2 < (x == 0).float().mean() < 0.6
    y = sample(copula, context, generator=torch.Generator().manual_seed(1))

    def correlations(v):
        lit = (v >= T).float().numpy()
        features = np.concatenate([lit, v.clamp(min=T).log().numpy()], 1)
        return np.corrcoef(features.T)

    np.testing.assert_allclose(correlations(y), correlations(x), atol=0.13)
    # In the data features 0 and 2 of a sector go together; a model without correlations misses it by far.
    assert correlations(x)[12, 20] > 0.3
    torch.testing.assert_close((y == 0).float().mean(0), (x == 0).float().mean(0), atol=0.08, rtol=0)
    torch.testing.assert_close(y.mean(0), x.mean(0), atol=0.05, rtol=0.08)


def test_no_block_is_lost_and_firm_ones_have_their_sums(fitted):
    copula, _, context = fitted
    y = sample(copula, context, generator=torch.Generator().manual_seed(2))
    sums = torch.stack([y[:, :8].sum(1), y[:, 8:].sum(1)], 1)
    given = context[:, 1:]
    assert (sums[given >= T] > 0).all()
    tight = build({**describe(copula), "firmness": 1.0})
    tight.load_state_dict(copula.state_dict())
    noise = copula.noise(500, generator=torch.Generator().manual_seed(2))
    errors = [
        (c.decode(noise, context[:500])[:, :8].sum(1) / context[:500, 1]).log()[context[:500, 1] > 5].std()
        for c in (copula, tight)
    ]
    assert errors[1] < 0.1
    assert errors[0] > 3 * errors[1]
    assert ((y == 0) | (y >= T)).all()
    empty = context[:10].clone()
    empty[:, 2] = 0.0
    assert (sample(copula, empty, generator=torch.Generator().manual_seed(0))[:, 8:] == 0).all()


def test_same_noise_same_event_and_turned_noise_turned_events_are_as_likely(fitted):
    copula, _, context = fitted
    noise = copula.noise(20, generator=torch.Generator().manual_seed(0))
    assert torch.equal(copula.decode(noise, context[:20]), copula.decode(noise, context[:20]))
    # A turn of the latent field is a turn of its Fourier components, which leaves the noise standard normal.
    turn = torch.roll(torch.eye(TURNS), 1, 0)
    components = noise.unflatten(1, (TURNS, 3))
    turned = torch.einsum("kj,njp->nkp", copula.basis @ turn @ copula.basis.T, components).flatten(1)
    y, z = copula.decode(noise, context[:20]), copula.decode(turned, context[:20])
    expected = torch.cat([y[:, :8].unflatten(1, (4, 2)).roll(1, 1).flatten(1), y[:, 8:].roll(1, 1)], 1)
    torch.testing.assert_close(z, expected, rtol=1e-3, atol=1e-3)


def test_saved_and_loaded_it_is_the_same(fitted, tmp_path):
    copula, _, context = fitted
    save_density(copula, tmp_path / "model")
    again = load_density(tmp_path / "model")
    noise = copula.noise(10, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(again.decode(noise, context[:10]), copula.decode(noise, context[:10]))


def test_same_seed_same_fit():
    x, context = toy(400)
    first, second = (fit_cyclic_copula(unfitted(), x, context, seed=5) for _ in range(2))
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


def test_unusable_settings_are_refused():
    marginals = ConditionalGaussianize(3, [1, 1, 2], T)
    with pytest.raises(UserError, match="do not make up a vector"):
        CyclicCopula(marginals, 4, [[0, 2], [9, 1]], [1, 2], 3)
    with pytest.raises(UserError, match="do not make up a vector"):
        CyclicCopula(marginals, 4, [[0, 2]], [1], 3)
    with pytest.raises(UserError, match="context column for each block"):
        CyclicCopula(marginals, 4, BLOCKS, [1, 3], 3)
    with pytest.raises(UserError, match="firmness"):
        unfitted(firmness=1.5)
    x, context = toy(50)
    with pytest.raises(UserError, match="do not fit 12 features"):
        fit_cyclic_copula(unfitted(), x[:, :-1], context, seed=0)
    with pytest.raises(UserError, match="no loss"):
        unfitted().loss(x, context)


def test_onnx_agrees(fitted, tmp_path):
    pytest.importorskip("onnxruntime")
    from cathode.density.export import OnnxModel, export_onnx

    copula, _, context = fitted
    export_onnx(copula, tmp_path / "copula.onnx", context=context[:8])
    noise = copula.noise(64, generator=torch.Generator().manual_seed(4))
    out = torch.as_tensor(OnnxModel(tmp_path / "copula.onnx")(noise=noise, context=context[:64])["events"])
    expected = copula.decode(noise, context[:64])
    # A bisection may end one step apart where a feature sits on the threshold.
    same = (out - expected).abs() <= 1e-3 + 1e-3 * expected
    assert same.float().mean() > 0.99
