"""Shape models and layer energies on real showers of the shipped sample."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cathode.density import build, describe, load_density, sample, save_density
from cathode.support.errors import UserError
from cathode.training import FitConfig
from fastsim.data import sample as shipped
from fastsim.generators.conserve import conserve
from fastsim.generators.preprocessing import (
    context_bijection,
    energy_bijection,
    fraction_bijection,
    layer_columns,
    marginal_bijection,
)
from fastsim.generators.shape import FramedShape, NetworkSettings, fit_framed_shape
from fastsim.generators.u_variables import UVariableEnergies, u_variable_density
from fastsim.geometry import Geometry

THRESHOLD = 1.0
QUICK = FitConfig(epochs=1, batch_size=500, learning_rate=1e-3, validation_batch=500)


@pytest.fixture(scope="module")
def photons():
    showers = shipped("ds1-photons")[:4000].cut(THRESHOLD)
    x = torch.as_tensor(showers.energies)
    layers = torch.as_tensor(showers.layer_energies()).float()
    incident = torch.as_tensor(showers.incident_energy)
    return showers.geometry, x, torch.cat([incident, layers], dim=1)


def slices(geometry):
    return [(part.start, part.stop) for part in geometry.slices]


def fill(x, seed=0):
    u = torch.rand(x.shape, generator=torch.Generator().manual_seed(seed)).clamp(1e-3, 0.999)
    return torch.where(x < THRESHOLD, THRESHOLD * u, x)


def small_grid(count=600):
    """Exponential profiles on a 2 x 4 x 3 polar grid: enough to build and run every model."""
    geometry = Geometry.from_dict(
        {
            **Geometry.from_grid((2, 4, 3)).to_dict(),
        }
    )
    g = torch.Generator().manual_seed(0)
    energy = torch.exp(3 + 3 * torch.rand(count, 1, generator=g))
    share = torch.distributions.Dirichlet(torch.full((24,), 0.3)).expand([count])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        x = energy * share.sample()
    x = torch.where(x < THRESHOLD, 0.0, x)
    layers = torch.stack([x[:, a:b].sum(1) for a, b in slices(geometry)], dim=1)
    return geometry, x, torch.cat([energy, layers], dim=1)


# Preprocessing on real showers


def test_layer_columns_point_at_the_energy_of_the_layer():
    assert layer_columns([(0, 2), (2, 3)], first=4) == [4, 4, 5]


def test_layer_energies_round_trip_and_keep_the_sum(photons):
    _, _, context = photons
    layers = torch.cat([context[:, 1:], torch.zeros(3, 5)])  # and showers without any energy
    given_context = torch.cat([context[:, :1], torch.full((3, 1), 256.0)])
    filled = fill(layers).double()
    bijection = energy_bijection(5).fit(filled, context=given_context)
    u, log_det = bijection.forward_and_log_det(filled, given_context)
    assert torch.isfinite(u).all()
    assert torch.isfinite(log_det).all()
    back, _ = bijection.inverse_and_log_det(u, given_context)
    torch.testing.assert_close(back, filled, rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(back.sum(1), filled.sum(1), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("transform", ["logit", "log", "power", "marginals"])
def test_voxels_round_trip_with_empty_layers(photons, transform):
    geometry, x, context = photons
    assert (context[:, 1:] == 0).any(0).sum() >= 4  # layers without energy are in the sample
    filled = fill(x)
    if transform == "marginals":
        unfitted = marginal_bijection(slices(geometry), first=1, threshold=THRESHOLD)
    else:
        unfitted = fraction_bijection(slices(geometry), first=1, threshold=THRESHOLD, transform=transform)
    fitted = unfitted.fit(filled, context=context)
    z, log_det = fitted.forward_and_log_det(filled.double(), context)
    assert torch.isfinite(z).all()
    assert torch.isfinite(log_det).all()
    back, _ = fitted.inverse_and_log_det(z, context)
    cut = torch.where(back < THRESHOLD, 0.0, back)
    # Float32 showers whose smallest voxel is exactly the threshold: rounding must not put it out.
    certain = (x == 0) | (x > THRESHOLD * (1 + 1e-6))
    torch.testing.assert_close(cut[certain], x.double()[certain], rtol=2e-4, atol=2e-4)


def test_context_with_a_column_that_does_not_vary():
    context = torch.tensor([[10.0, 0.0, -1.0], [1000.0, 0.0, 1.0], [100.0, 0.0, 0.0]])
    columns, _ = context_bijection(context, plain=[2]).forward_and_log_det(context)
    assert torch.isfinite(columns).all()
    torch.testing.assert_close(columns.mean(0), torch.zeros(3), atol=1e-5, rtol=0)
    assert (columns[:, 1] == 0).all()


# The copula on real showers


@pytest.fixture(scope="module")
def copula(photons):
    geometry, x, context = photons
    settings_ = FramedShape(nodes=6, knots=15, energy_nodes=4, rounds=2)
    return fit_framed_shape(
        (x, context),
        (x[:10], context[:10]),
        geometry=geometry,
        threshold=THRESHOLD,
        settings=settings_,
        fit_config=QUICK,
        seed=1,
    ).density


def test_generated_showers_keep_thresholds_layers_and_means(photons, copula):
    geometry, x, context = photons
    raw = sample(copula, context, generator=torch.Generator().manual_seed(0)).float()
    assert ((raw == 0) | (raw >= THRESHOLD)).all()
    got = conserve(raw, context[:, 1:], slices=slices(geometry), threshold=THRESHOLD)
    assert torch.isfinite(got).all()
    assert ((got == 0) | (got >= THRESHOLD * (1 - 1e-6))).all()
    layers = torch.stack([got[:, a:b].sum(1) for a, b in slices(geometry)], dim=1)
    torch.testing.assert_close(layers, context[:, 1:], rtol=1e-4, atol=1e-3)
    # Occupancy of each layer within 4 %, and of the energies of bright voxels within 10 %.
    for a, b in slices(geometry)[:3]:
        want, seen = (x[:, a:b] > 0).double().mean(), (raw[:, a:b] > 0).double().mean()
        assert abs(float(seen / want) - 1) < 0.04
    bright = x.mean(0) > 5.0
    assert int(bright.sum()) > 20
    assert ((got.mean(0)[bright] / x.mean(0)[bright]) - 1).abs().median() < 0.1


def test_neighbours_are_correlated_as_in_the_data(photons, copula):
    geometry, x, context = photons
    a, b = slices(geometry)[2]
    got = sample(copula, context, generator=torch.Generator().manual_seed(1)).float()
    occupied = x[:, a:b].gt(0).double().mean(0)
    chosen = ((occupied > 0.2) & (occupied < 0.8)).nonzero()[:60, 0]
    pairs = [torch.corrcoef(s[:, a:b][:, chosen].gt(0).double().T) for s in (x, got)]
    upper = torch.triu(torch.ones_like(pairs[0]), 1).bool()
    want, seen = pairs[0][upper], pairs[1][upper]
    assert want.mean() > 0.15
    assert (want - seen).abs().mean() < 0.05


@settings(max_examples=25, deadline=None)
@given(
    st.floats(0, 1e7),
    st.lists(st.one_of(st.just(0.0), st.floats(0, 1e7)), min_size=5, max_size=5),
    st.integers(0, 1000),
)
def test_any_context_decodes_to_finite_showers(copula, incident, layers, seed):
    context = torch.tensor([[incident, *layers]] * 4)
    got = sample(copula, context, generator=torch.Generator().manual_seed(seed))
    assert torch.isfinite(got).all()
    assert ((got == 0) | (got >= THRESHOLD)).all()


def test_the_copula_is_saved_and_loaded(copula, photons, tmp_path):
    _, _, context = photons
    save_density(copula, tmp_path / "shape")
    noise = copula.noise(20, generator=torch.Generator().manual_seed(0))
    again = load_density(tmp_path / "shape")
    assert torch.equal(again.decode(noise, context[:20]), copula.decode(noise, context[:20]))


# Every other composition, on a small grid


@pytest.mark.parametrize(
    "chosen",
    [
        FramedShape(model="flow-matching", network=NetworkSettings(width=16, blocks=1), rounds=1, draws=2),
        FramedShape(frame="marginals", model="edm", network=NetworkSettings(width=16, blocks=1), draws=1, steps=4),
        FramedShape(frame="logit", model="coupling", network=NetworkSettings(width=16, blocks=2), draws=1),
        FramedShape(
            frame="power",
            model="flow-matching",
            network=NetworkSettings(kind="patch-transformer", width=8, blocks=1, heads=2, patch=(1, 2, 3)),
            draws=1,
        ),
        FramedShape(frame="log", model="flow-matching", network=NetworkSettings(width=16, blocks=1), draws=1),
    ],
    ids=lambda s: f"{s.frame}-{s.model}-{s.network.kind}",
)
def test_every_composition_trains_samples_and_is_described(chosen):
    geometry, x, context = small_grid()
    fitted = fit_framed_shape(
        (x[:500], context[:500]),
        (x[500:], context[500:]),
        geometry=geometry,
        threshold=THRESHOLD,
        settings=chosen,
        fit_config=QUICK,
        seed=0,
    )
    got = sample(fitted.density, context[500:], generator=torch.Generator().manual_seed(0))
    assert torch.isfinite(got).all()
    assert ((got == 0) | (got >= THRESHOLD)).all()
    assert fitted.history is not None
    assert torch.isfinite(torch.tensor(fitted.history["validation_loss"].to_numpy())).all()
    rebuilt = build(describe(fitted.density))
    rebuilt.load_state_dict(fitted.density.state_dict())
    noise = rebuilt.noise(10, generator=torch.Generator().manual_seed(1))
    assert torch.equal(rebuilt.decode(noise, context[:10]), fitted.density.decode(noise, context[:10]))


def test_symmetric_showers_are_learned_in_their_own_frame(photons):
    geometry, x, context = photons
    chosen = FramedShape(nodes=4, knots=9, energy_nodes=3, rounds=1, symmetry="rotations and mirror")
    density = fit_framed_shape(
        (x[:1500], context[:1500]),
        (x[:10], context[:10]),
        geometry=geometry,
        threshold=THRESHOLD,
        settings=chosen,
        fit_config=QUICK,
        seed=1,
    ).density
    assert density.turns == 10
    assert density.blocks == [[8, 16], [168, 19]]
    got = sample(density, context[:1500], generator=torch.Generator().manual_seed(0)).float()
    assert torch.isfinite(got).all()
    sectors = got[:, 168:358].view(-1, 10, 19).sum((0, 2))
    assert (sectors / sectors.mean() - 1).abs().max() < 0.2
    brightest = density.frame(got)[:, 8:168].view(-1, 10, 16).sum(2)
    own = density.frame(x[:1500])[:, 8:168].view(-1, 10, 16).sum(2)
    share = [float((s[:, 0] / s.sum(1).clamp(min=1.0)).mean()) for s in (brightest, own)]
    assert abs(share[0] / share[1] - 1) < 0.2


def test_refuses_what_does_not_fit(photons):
    grid, showers, given_context = small_grid()
    with pytest.raises(UserError, match="no layers with one common number"):
        fit_framed_shape(
            (showers, given_context),
            (showers, given_context),
            geometry=grid,
            threshold=THRESHOLD,
            settings=FramedShape(rounds=0, symmetry="rotations"),
            fit_config=QUICK,
            seed=0,
        )
    with pytest.raises(UserError, match="no shower model"):
        FramedShape(frame="marginals")
    with pytest.raises(UserError, match="rounds"):
        FramedShape(rounds=-1)
    geometry, x, context = photons
    irregular = FramedShape(frame="log", model="edm", network=NetworkSettings(kind="patch-transformer"), draws=1)
    with pytest.raises(UserError, match="regular grid"):
        fit_framed_shape(
            (x[:500], context[:500]),
            (x[:10], context[:10]),
            geometry=geometry,
            threshold=THRESHOLD,
            settings=irregular,
            fit_config=QUICK,
            seed=0,
        )


# Layer energies


@pytest.mark.parametrize("model", ["mixture", "coupling", "flow-matching"])
def test_layer_energies_through_u_variables(photons, model):
    _, _, context = photons
    incident, layers = context[:, :1], context[:, 1:]
    chosen = UVariableEnergies(model=model, width=16, blocks=2, components=4, steps=2)
    density = u_variable_density(chosen, layers, incident, threshold=THRESHOLD, seed=0)
    loss = density.loss(layers, incident, generator=torch.Generator().manual_seed(0))
    assert torch.isfinite(loss).all()
    got = sample(density, incident, generator=torch.Generator().manual_seed(0))
    assert torch.isfinite(got).all()
    assert ((got == 0) | (got >= THRESHOLD)).all()
    response = got.sum(1) / incident[:, 0]
    assert 0.8 < float(response.median()) < 1.2
    with_zeros = (got == 0).any(1).double().mean()
    assert with_zeros > 0.3
