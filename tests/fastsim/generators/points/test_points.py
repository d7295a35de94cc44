"""The shape model ``points``: its densities, its training, and the commands."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import yaml

from cathode.density import StandardNormal, build, describe
from cathode.density.networks import EPiC
from cathode.density.point_cloud import PointCloud
from cathode.jets.generators.generator import JetGenerator
from cathode.run.config import settings_from_dict
from cathode.support.errors import UserError
from cathode.training import FitConfig, TrainingData
from fastsim.data import read_showers
from fastsim.generators.generate import generate
from fastsim.generators.generator import load_generator
from fastsim.generators.points import LayerCounts, PointGrid, PointShowers, PointsShape
from fastsim.generators.points.train import fit_points_shape, untrained
from fastsim.generators.settings import GeneratorSettings
from fastsim.generators.train import train
from fastsim.geometry import Geometry
from fastsim.geometry.layers import PolarLayer

SMALL = {"width": 8, "global_width": 4, "layers": 1, "steps": 2, "counts_hidden": 16, "counts_components": 2}
THRESHOLD = 0.5
LAYOUT = Geometry("five", None, tuple(PolarLayer(k, (0.0, 2.0, 5.0, 9.0), 4) for k in range(5)))


@pytest.fixture(scope="module")
def data():
    """Showers of five layers, turned alike."""
    rng = np.random.default_rng(1)
    energies = np.where(rng.random((40, 60)) < 0.4, 0.5 + rng.exponential(2.0, (40, 60)), 0.0).astype(np.float32)
    layers = energies.reshape(40, 5, 12).sum(2)
    incident = layers.sum(1, keepdims=True) * rng.uniform(0.9, 1.1, (40, 1))
    context = np.concatenate([incident, layers], 1).astype(np.float32)
    return TrainingData(torch.from_numpy(energies), torch.from_numpy(context))


@pytest.fixture(scope="module")
def density(data):
    settings = PointsShape(**SMALL, symmetry="rotations and mirror")
    return untrained(settings, LAYOUT, data.x, data.context, threshold=THRESHOLD, seed=1)


def test_showers_and_jets_are_the_same_class(density):
    """One class, two uses: both generators take their points from a ``PointCloud``, not from a sort of their own."""
    assert type(density.cloud) is PointCloud
    assert JetGenerator.__init__.__annotations__["cloud"] == "PointCloud"
    assert density.cloud.event_shape[1] == 4
    assert any(isinstance(module, EPiC) for module in density.cloud.points.modules())


def test_the_loss_of_a_shower_does_not_depend_on_its_company(density, data):
    """Padding and grouping by size change nothing: the same points and times give the same loss."""
    points, mask, counts = density.grid.to_points(data.x[:5], generator=torch.Generator().manual_seed(1))
    summary = torch.cat([counts.sum(1, keepdim=True), counts], 1)
    given = density.cloud.given(data.context[:5], summary)
    noise = torch.randn(points.shape, generator=torch.Generator().manual_seed(2)) * mask.unsqueeze(-1)
    together = density.cloud.points.decode(noise, given, mask=mask)
    for row in range(5):
        n = int(counts[row].sum())
        own = (slice(row, row + 1), slice(0, n))
        alone = density.cloud.points.decode(noise[own], given[own[0]], mask=mask[own])
        torch.testing.assert_close(alone[0], together[row, :n], rtol=1e-4, atol=1e-4)
    losses = density.points_loss(data.x[:20], data.context[:20], generator=torch.Generator().manual_seed(3))
    assert losses.shape == (20,)
    assert torch.isfinite(losses).all()


def test_decoded_showers_have_the_counts_and_the_threshold(density, data):
    noise = density.noise(6, generator=torch.Generator().manual_seed(1))
    context = data.context[:6].clone()
    context[2, 1:3] = 0.0
    made = density.decode(noise, context)
    assert made.shape == (6, 60)
    assert (made[made > 0] >= THRESHOLD).all()
    summary = density.cloud.summary.decode(noise[:, :5], context)
    torch.testing.assert_close(density.summary(made), summary)
    assert (summary[2, 1:3] == 0).all()
    assert (summary[:2, 1:] >= 1).all()
    assert torch.equal(made, density.decode(noise, context))
    # Each shower is its own noise's, whatever the others are.
    torch.testing.assert_close(density.decode(noise[3:4], context[3:4])[0], made[3], rtol=1e-3, atol=1e-3)


def test_counts_are_always_possible():
    # What this decodes is the noise itself.
    wild = StandardNormal(4, 5)
    counts = LayerCounts(wild, [9, 9, 9, 100], 0.5, 100)
    energies = [[100.0, 0.0, 1.2, 100.0], [0.5, 0.4, 50.0, 80.0]]
    context = torch.cat([torch.ones(2, 1), torch.tensor(energies)], 1)
    found = counts.decode(torch.tensor([[30.0, 5.0, 5.0, -3.0], [0.2, 1.0, 3.4, 99.0]]), context)
    # At most the voxels of the layer, none without energy, two where there is energy for two, one where there is any.
    assert found[0].tolist() == [12.0, 9.0, 0.0, 2.0, 1.0]
    # Together too many: all layers lose the same fraction.
    assert found[1].tolist() == [98.0, 0.0, 0.0, 2.0, 96.0]
    limited = LayerCounts(wild, [9, 9, 9, 100], 0.5, 10)
    assert (limited.decode(torch.full((2, 4), 50.0), context)[:, 0] <= 10).all()


def test_density_is_built_from_its_description(density, data):
    copy = build(describe(density))
    assert isinstance(copy, PointShowers)
    copy.load_state_dict(density.state_dict())
    noise = density.noise(2, generator=torch.Generator().manual_seed(1))
    assert torch.equal(copy.decode(noise, data.context[:2]), density.decode(noise, data.context[:2]))


def blobs(count, seed):
    """Showers of two layers on a small grid: how many hits, and how far out, follow from the energy."""
    layout = Geometry.from_grid((2, 8, 8), cell=1.0)
    rng = np.random.default_rng(seed)
    energies = np.zeros((count, layout.n_voxels), dtype=np.float32)
    incident = rng.uniform(20.0, 60.0, count)
    for row, energy in enumerate(incident):
        for layer in range(2):
            n = rng.poisson(energy / (5 + 5 * layer)) + 1
            at = np.clip(np.floor(rng.normal(4.0, 0.6 + 0.8 * layer, (n, 2))), 0, 7).astype(int)
            np.add.at(energies[row], 64 * layer + 8 * at[:, 1] + at[:, 0], 1.0 + rng.exponential(1.0, n))
    x = torch.from_numpy(energies)
    layers = x.view(count, 2, 64).sum(2)
    context = torch.cat([torch.from_numpy(incident).float()[:, None], layers], 1)
    return layout, TrainingData(x, context)


@pytest.mark.parametrize(("model", "steps"), [("flow-matching", 6), ("edm", 16)])
def test_learns_where_the_hits_are(tmp_path, model, steps):
    layout, learn = blobs(400, 1)
    _, held_out = blobs(100, 2)
    settings = PointsShape(
        model=model,
        width=32,
        layers=2,
        steps=steps,
        counts_hidden=32,
        counts_components=2,
        counts_training=FitConfig(epochs=20, batch_size=64, learning_rate=5e-3, device="cpu"),
    )
    config = FitConfig(epochs=40, batch_size=50, learning_rate=5e-3, ema_halflife_events=800.0, device="cpu")
    fitted = fit_points_shape(settings, layout, learn, held_out, config, threshold=1.0, seed=1, checkpoint_dir=tmp_path)
    assert set(fitted.history["part"]) == {"counts", "points"}
    noise = fitted.density.noise(100, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        made = fitted.density.decode(noise, held_out.context)
    grid = PointGrid(layout)
    torch.testing.assert_close(grid.counts(made).mean(0), grid.counts(held_out.x).mean(0), rtol=0.1, atol=0)
    # The number of hits follows from the energy of the layer.
    for layer in range(2):
        pair = grid.counts(made)[:, layer], grid.counts(held_out.x)[:, layer]
        assert np.corrcoef(*pair)[0, 1] > 0.35
    assert made[made > 0].mean() == pytest.approx(float(held_out.x[held_out.x > 0].mean()), rel=0.1)
    # The second layer is wider than the first.
    middle = torch.arange(8) - 3.5
    lit = [(v > 0).float().mean(0).view(2, 8, 8) for v in (made, held_out.x)]
    widths = [[float((m.sum(1) * middle.square()).sum() / m.sum()) for m in v] for v in lit]
    assert widths[0][1] == pytest.approx(widths[1][1], rel=0.25)
    assert widths[0][1] > 1.25 * widths[0][0]


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    tiny = {
        "data": {"showers": "sample:ds1-photons", "threshold": 1.0, "rows": [0, 120]},
        "energy": {"model": {"hidden": 16, "layers": 1, "components": 2}, "training": {"epochs": 1, "batch_size": 64}},
        "shape": {
            "model": {"kind": "points", **SMALL, "counts_training": {"epochs": 1, "batch_size": 64}},
            "training": {"epochs": 2, "batch_size": 16},
        },
    }
    path = tmp_path_factory.mktemp("config") / "points.yaml"
    path.write_text(yaml.safe_dump(tiny))
    return path


def test_trains_and_generates_from_the_command_line(config, fastsim, tmp_path):
    found = fastsim("train", config, "--output", tmp_path / "run")
    assert found.code == 0, found.err
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["stages"]["shape"]["points"]["epochs"] == 2
    found = fastsim(
        "generate", tmp_path / "run", "--like", "sample:ds1-photons", "-n", 40, "--output", tmp_path / "g.h5"
    )
    assert found.code == 0, found.err
    made = read_showers(tmp_path / "g.h5", "ds1-photons")
    assert (made.energies[made.energies > 0] >= 1 - 1e-6).all()
    generator = load_generator(tmp_path / "run" / "model")
    again = generate(generator, made.incident_energy, seed=1, batch_size=7).showers
    np.testing.assert_allclose(again.layer_energies(), made.layer_energies(), rtol=1e-5, atol=1e-3)


def test_a_killed_training_ends_as_an_uninterrupted_one(config, tmp_path, monkeypatch):
    settings = settings_from_dict(GeneratorSettings, yaml.safe_load(config.read_text()))
    expected = train(settings, output=tmp_path / "whole")
    calls = []
    original = PointShowers.points_loss

    def dying(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == 10:
            raise KeyboardInterrupt
        return original(self, *args, **kwargs)

    monkeypatch.setattr(PointShowers, "points_loss", dying)
    with pytest.raises(KeyboardInterrupt):
        train(settings, output=tmp_path / "killed")
    monkeypatch.setattr(PointShowers, "points_loss", original)
    found = train(settings, output=tmp_path / "killed", resume=True)
    for key, value in found.state_dict().items():
        assert torch.equal(value, expected.state_dict()[key]), key


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": {"model": {"kind": "points", "width": 0}}}, r"shape.model.width: must be 1 or more, got 0"),
        ({"shape": {"model": {"kind": "points", "model": "edm", "steps": 1}}}, "EDM needs 2 or more"),
        ({"shape": {"model": {"kind": "points"}}, "data": {"stream": True}}, "'points' needs all showers in memory"),
        (
            {"shape": {"model": {"kind": "points"}, "training": {"average": "mixture"}}},
            "points need one set of weights; use 'weights'",
        ),
    ],
)
def test_what_does_not_fit_is_refused(change, message, tmp_path):
    with pytest.raises(UserError, match=message):
        train(settings_from_dict(GeneratorSettings, change), output=tmp_path / "run")
    assert not (tmp_path / "run" / "model").exists()


def test_symmetry_needs_one_number_of_sectors(tmp_path):
    settings = {"shape": {"model": {"kind": "points", "symmetry": "rotations"}}, "data": {"geometry": "grid-24x24x24"}}
    with pytest.raises(UserError, match="cannot be turned"):
        train(settings_from_dict(GeneratorSettings, settings), output=tmp_path / "run")
