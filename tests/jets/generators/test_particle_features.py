"""Types, charges and displacements of constituents: exact round trips, and nothing that does not exist is made."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cathode.density.base import sample
from cathode.density.bijections import Arcsinh, Columns, Compose, Log, Standardize
from cathode.density.folder import load_density, save_density
from cathode.density.networks import EPiC
from cathode.jets.generators.particle_features import ParticleFeatures, ParticleTypes, particle_density
from cathode.jets.readers import PIDS
from cathode.jets.schema import Jets
from cathode.support.errors import UserError
from cathode.training import FitConfig, TrainingData, fit

SHARES = np.array([0.38, 0.1, 0.25, 0.25, 0.005, 0.005, 0.005, 0.005])


def jets_with_particles(count=400, particles=12, seed=0):
    """Tracks are harder than neutral constituents and displaced, a few of them far."""
    rng = np.random.default_rng(seed)
    mask = np.arange(particles) < rng.integers(3, particles + 1, (count, 1))
    classes = rng.choice(8, size=mask.shape, p=SHARES)
    charged = ParticleTypes.charge[classes] != 0
    pt = np.exp(rng.normal(1.0 + charged, 0.5))
    points = np.stack([pt, *rng.normal(0, 0.1, (2, *mask.shape))], -1)
    pid, charge = ParticleTypes.columns(classes)
    extras = {"pid": pid, "charge": charge}
    for name, core in (("d0", 0.01), ("dz", 0.03)):
        error = core * np.exp(0.3 * rng.normal(size=mask.shape))
        far = np.where(rng.random(mask.shape) < 0.03, 20.0, 0.0)
        extras[name] = np.where(charged, error * rng.standard_normal(mask.shape) * (1 + far), 0.0)
        extras[f"{name}_err"] = np.where(charged, error, 0.0)
    return Jets.from_points(points, mask, extras=extras)


def learned(jets, features):
    return torch.from_numpy(np.concatenate([jets.relative(), features.columns(jets)], -1).astype(np.float32))


def test_every_class_there_and_back():
    index = np.arange(8)
    pid, charge = ParticleTypes.columns(index)
    assert np.array_equal(ParticleTypes.classes(pid, charge), index)
    assert len(set(zip(pid.tolist(), charge.tolist(), strict=True))) == 8
    flags, charges = ParticleTypes.flags(index)
    assert flags.sum(-1).tolist() == [1] * 8
    assert np.array_equal(ParticleTypes.from_flags(flags, charges), index)
    assert {name: [PIDS[pid[k] - 1], int(charge[k])] for k, name in enumerate(ParticleTypes.names)} == {
        "photon": ["photon", 0],
        "neutral hadron": ["neutral hadron", 0],
        "charged hadron -": ["charged hadron", -1],
        "charged hadron +": ["charged hadron", 1],
        "electron -": ["electron", -1],
        "electron +": ["electron", 1],
        "muon -": ["muon", -1],
        "muon +": ["muon", 1],
    }


@given(st.integers(-1, 7), st.integers(-3, 3))
@settings(max_examples=80, deadline=None)
def test_what_does_not_exist_is_refused(pid, charge):
    exists = (pid in (2, 3) and charge == 0) or (pid in (1, 4, 5) and abs(charge) == 1)
    if exists:
        made = ParticleTypes.columns(ParticleTypes.classes([pid], [charge]))
        assert (int(made[0][0]), int(made[1][0])) == (pid, charge)
    else:
        with pytest.raises(UserError, match="no particle that exists"):
            ParticleTypes.classes([pid], [charge])


def test_padding_is_anything_and_becomes_zero():
    mask = np.array([True, False])
    assert ParticleTypes.classes([5, 9], [1, 7], mask).tolist() == [7, 0]
    pid, charge = ParticleTypes.columns([7, 0], mask)
    assert pid.tolist() == [5, 0]
    assert charge.tolist() == [1, 0]
    assert pid.dtype == charge.dtype == np.int8


@pytest.mark.parametrize(
    "features", [ParticleFeatures(), ParticleFeatures(errors=False), ParticleFeatures(False, False)]
)
def test_columns_of_jets_there_and_back(features):
    jets = jets_with_particles()
    columns = features.columns(jets)
    assert columns.shape == (*jets.mask.shape, features.size)
    assert not columns[~jets.mask].any()
    made = features.split(columns, jets.mask)
    assert set(made) == set(features.extras)
    for name, values in made.items():
        assert np.array_equal(values, jets.extras[name].astype(values.dtype)), name


def test_what_one_file_must_have():
    jets, features = jets_with_particles(5), ParticleFeatures()

    def changed(name, values):
        return Jets(jets.points, jets.mask, jets.axis, {**jets.extras, name: values})

    bare = Jets(jets.points, jets.mask, jets.axis, {"pid": jets.extras["pid"]})
    with pytest.raises(UserError, match=r"no column charge, d0, dz, d0_err, dz_err .*they have pid"):
        features.columns(bare)
    with pytest.raises(UserError, match="neutral constituents have d0: only tracks"):
        features.columns(changed("d0", jets.mask * 0.1))
    with pytest.raises(UserError, match="negative dz_err"):
        features.columns(changed("dz_err", -jets.extras["dz_err"]))
    with pytest.raises(UserError, match="no particle that exists"):
        features.columns(changed("charge", 1 - jets.extras["charge"] ** 2 * jets.mask - ~jets.mask))
    with pytest.raises(UserError, match="need displacements"):
        ParticleFeatures(displacements=False)
    with pytest.raises(UserError, match="one 1 among 5 columns"):
        ParticleTypes.from_flags([[1, 1, 0, 0, 0]], [1])
    with pytest.raises(UserError, match="whole numbers from 0 to 7"):
        ParticleTypes.columns([2.5])


def test_displacements_of_tracks_become_of_unit_size_whatever_their_tails():
    jets, features = jets_with_particles(), ParticleFeatures()
    columns, mask = torch.from_numpy(features.columns(jets)), torch.from_numpy(jets.mask)
    bijection = features.bijection(columns, mask)
    y = bijection.forward_and_log_det(columns[..., :4])[0]
    charged = torch.from_numpy(jets.mask & (jets.extras["charge"] != 0))
    tracks = y[charged]
    torch.testing.assert_close(tracks.mean(0), torch.zeros(4), rtol=0, atol=1e-5)
    torch.testing.assert_close(tracks.std(0), torch.ones(4), rtol=0, atol=1e-2)
    assert float(tracks.abs().max()) < 8  # in units of the standard deviation the file has 15 and more
    back = bijection.inverse_and_log_det(y)[0]
    torch.testing.assert_close(back[charged], columns[..., :4][charged], rtol=1e-4, atol=1e-7)
    neutral = torch.zeros_like(columns)
    with pytest.raises(UserError, match="no constituent has d0"):
        features.bijection(neutral, mask)


def test_mirrors():
    assert ParticleFeatures().mirrored() == [[4], [3]]
    assert ParticleFeatures(False, False).mirrored() == [[], []]
    assert ParticleFeatures().present()[0] == [1, 1, 1, 0, 0, 0, 0]
    assert ParticleFeatures().present()[6] == [1] * 7


def test_generated_constituents_are_particles(tmp_path):
    jets, features = jets_with_particles(1500, particles=8), ParticleFeatures()
    x, mask = learned(jets, features), torch.from_numpy(jets.mask)
    context = torch.from_numpy(jets.multiplicity()[:, None].astype(np.float32))
    torch.manual_seed(0)
    frame = Compose([Columns([Log(1, epsilon=1e-9), Arcsinh(2, scale=0.05)]), Standardize(3)])
    network = EPiC(features.network_features, 1, width=32, global_width=8, layers=2, activation="silu")
    density = particle_density(
        x, mask, context, features=features, frame=frame, network=network, mirrors=[[], []], steps=15,
        context_bijection=Standardize(1).fit(context),
    )  # fmt: skip
    data = [TrainingData(x[rows], context[rows], mask[rows]) for rows in (slice(1350), slice(1350, None))]
    density = fit(density, *data, FitConfig(epochs=18, batch_size=75, learning_rate=6e-3), seed=0).density
    save_density(density, tmp_path / "model")
    made = sample(
        load_density(tmp_path / "model"), context, mask=mask, generator=torch.Generator().manual_seed(1), chunk=500
    ).numpy()
    extras = features.split(made[..., 3:], jets.mask)
    generated = Jets.from_relative(
        np.where(jets.mask[..., None], made[..., :3], 0).astype(float), jets.mask, jets.axis, extras
    )
    # Reading the columns again checks every constituent: type and charge exist, neutral ones have no displacement.
    classes = features.columns(generated)[..., -1][generated.mask].astype(int)
    charged = generated.mask & (generated.extras["charge"] != 0)
    for name in features.continuous:
        assert not generated.extras[name][~charged].any()
        assert (generated.extras[name][charged] != 0).all()
    assert (generated.extras["d0_err"][charged] > 0).all()
    np.testing.assert_allclose(np.bincount(classes, minlength=8) / len(classes), SHARES, atol=0.04)
    tracks = jets.mask & (jets.extras["charge"] != 0)
    for name, tolerance in (("d0", 0.25), ("dz", 0.25), ("d0_err", 0.15), ("dz_err", 0.15)):
        found = [np.quantile(np.abs(j.extras[name][m]), 0.5) for j, m in ((generated, charged), (jets, tracks))]
        assert found[0] == pytest.approx(found[1], rel=tolerance), name
    for j, m in ((generated, charged), (jets, tracks)):
        # Tails: 3 % of the tracks are twenty times as far away as the others.
        assert 0.004 < np.mean(np.abs(j.extras["d0"][m]) > 0.1) < 0.035
    shares = [np.log(j.points[..., 0][m]).mean() - np.log(j.points[..., 0][j.mask & ~m]).mean()
              for j, m in ((generated, charged), (jets, tracks))]  # fmt: skip
    assert shares[0] == pytest.approx(shares[1], abs=0.25)  # tracks are e times as hard
