"""From files to generated jets with every family; conditions, cells, conservation, folders, resumption."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from cathode.jets.generators import (
    Cells,
    JetGeneratorSettings,
    conditions_like,
    drawn_conditions,
    fit_generator,
    generate,
    learn_from,
    load_generator,
    save_generator,
)
from cathode.jets.generators.context import MULTIPLICITY
from cathode.jets.generators.data import learning_jets
from cathode.jets.generators.generate import generate_chunks
from cathode.jets.generators.generator import JetGenerator
from cathode.jets.generators.settings import (
    AutoregressiveKinematics,
    ConstituentSettings,
    EDMPoints,
    EPiCGANPoints,
    EPiCSettings,
    FlowMatchingPoints,
    Frame,
    JetDataSettings,
    KinematicsSettings,
    SequencePoints,
    SetTransformerSettings,
)
from cathode.jets.schema import Jets
from cathode.jets.writers import write_jets
from cathode.support.errors import UserError
from cathode.training import FitConfig

TINY = FitConfig(epochs=1, batch_size=128, learning_rate=2e-3, device="cpu", ema_halflife_events=1000.0)
EPIC = EPiCSettings(width=8, global_width=4, layers=1)
TRANSFORMER = SetTransformerSettings(width=8, heads=2, blocks=1)
MODELS = {
    "flow-matching, transformer": FlowMatchingPoints(network=TRANSFORMER, steps=2),
    "flow-matching, epic, unordered": FlowMatchingPoints(
        network=EPIC, frame=Frame(ordered=False, mirror=False), steps=2
    ),
    "edm, epic": EDMPoints(network=EPIC, steps=3),
    "edm, transformer": EDMPoints(network=TRANSFORMER, steps=3),
    "point-sequence": SequencePoints(
        width=8, heads=2, blocks=1, components=2, amount_components=2, head_width=8, floor=0.5
    ),
    "epic-gan": EPiCGANPoints(width=8, global_width=4, layers=1, discriminator_layers=1),
}


def settings_for(jet_file: str, model, **data) -> JetGeneratorSettings:
    description = JetDataSettings(jets=(jet_file,), particles=None, types=True, cells=Cells(), validation=0.2)
    return JetGeneratorSettings(
        data=replace(description, **data),
        kinematics=KinematicsSettings(AutoregressiveKinematics(components=2, hidden=8, layers=1, knots=5), TINY),
        constituents=ConstituentSettings(model, TINY),
        conserve="momentum",
        seed=3,
    )


@pytest.fixture(scope="session")
def trained(jet_file) -> JetGenerator:
    """A flow matching that has seen a few jets."""
    settings = settings_for(jet_file, MODELS["flow-matching, transformer"])
    return fit_generator(settings, learn_from(settings)).generator


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_family_trains_generates_and_loads(name: str, jet_file: str, jets: Jets, tmp_path) -> None:
    settings = settings_for(jet_file, MODELS[name])
    made = fit_generator(settings, learn_from(settings))
    assert set(made.history["stage"]) == {"kinematics", "constituents"}
    assert made.summary["jets"] == {"train": 400, "validation": 100}
    save_generator(made.generator, tmp_path / "model", history=made.history, config=settings)
    loaded = load_generator(tmp_path / "model")
    first, again = generate(made.generator, 30, seed=1), generate(loaded, 30, seed=1)
    assert np.array_equal(first.jets.points, again.jets.points)
    assert set(first.jets.type) <= {0, 3}
    assert first.jets.particles == jets.particles
    assert first.seconds > 0
    total = first.jets.total()
    assert np.allclose(total[:, 0], first.jets.axis[:, 0], rtol=1e-4)
    same = np.isclose(total[:, 3], first.jets.axis[:, 3], rtol=1e-3)
    assert same.sum() >= 30 - first.inexact


def test_conditions_are_repeated(trained: JetGenerator, jets: Jets) -> None:
    made = generate(trained, conditions_like(trained, jets.select(slice(0, 80))), seed=2)
    assert np.array_equal(made.jets.multiplicity(), jets.multiplicity()[:80])
    assert np.array_equal(made.jets.type, jets.type[:80])
    np.testing.assert_allclose(made.jets.axis, jets.axis[:80], rtol=1e-4, atol=1e-4)


def test_jets_depend_neither_on_batches_nor_on_chunks(trained: JetGenerator) -> None:
    whole = generate(trained, 40, seed=4, batch_size=40).jets
    small = generate(trained, 40, seed=4, batch_size=7).jets
    conditions = drawn_conditions(trained, 40, seed=4)
    pieces = Jets.concatenate([part.jets for part in generate_chunks(trained, conditions, seed=4, chunk=16)])
    for other in (small, pieces):
        assert np.array_equal(whole.mask, other.mask)
        np.testing.assert_allclose(whole.axis, other.axis, rtol=1e-5, atol=1e-5)
    assert not np.array_equal(generate(trained, 40, seed=5).jets.points, whole.points)


def test_types_can_be_chosen(trained: JetGenerator) -> None:
    made = generate(trained, drawn_conditions(trained, 20, seed=1, jet_type=3), seed=1)
    assert set(made.jets.type) == {3}
    shares = drawn_conditions(trained, 4000, seed=1).types.mean(0)
    assert float(shares[0]) == pytest.approx(trained.type_shares[0], abs=0.04)


def test_flagged_constituents_are_at_centres_of_cells(trained: JetGenerator) -> None:
    made = generate(trained, 60, seed=6).jets
    on = trained.cells.on_lattice(made.points[..., 1].astype(float), made.points[..., 2].astype(float)) & made.mask
    inside = made.mask & (np.abs(made.points[..., 2]) < 3.0)
    assert 0.05 < (on & inside).sum() / inside.sum() < 0.95


def test_data_are_what_the_file_says(jet_file: str, jets: Jets) -> None:
    description = JetDataSettings(jets=(jet_file,), particles=4, validation=0.2, types=True, cells=Cells())
    data = learning_jets(description, seed=1)
    assert data.train.points.shape == (400, 4, 4)
    assert data.type_names == (0, 3)
    both = torch.cat([data.train.points, data.validation.points])
    sums = both[..., 0] * torch.cos(both[..., 2])
    torch.testing.assert_close(sums.sum(1), torch.ones(500), atol=1e-4, rtol=0)  # complete: the axis is their own
    assert torch.equal(data.train.mask.sum(1).float(), data.train.summary[:, MULTIPLICITY])
    own = learning_jets(replace(description, axis="file"), seed=1)
    assert float((own.train.points[..., 0].sum(1) - 1).abs().max()) > 0.01
    other = learning_jets(description, seed=2)
    assert not torch.equal(other.train.summary, data.train.summary)


def test_a_killed_training_goes_on_to_the_same_generator(jet_file: str, tmp_path, monkeypatch) -> None:
    settings = settings_for(jet_file, MODELS["flow-matching, transformer"])
    two = replace(settings.constituents, training=replace(TINY, epochs=2))
    settings = replace(settings, constituents=two)
    data = learn_from(settings)
    whole = fit_generator(settings, data).generator
    from cathode.training import loop

    original = loop._Run._save

    def save_and_die(self, checkpoint) -> None:
        original(self, checkpoint)
        if self.epoch == 1 and self.config.epochs == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(loop._Run, "_save", save_and_die)
        with pytest.raises(KeyboardInterrupt):
            fit_generator(settings, data, checkpoint_dir=tmp_path)
    resumed = fit_generator(settings, data, checkpoint_dir=tmp_path).generator
    for key, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key


def test_refuses_data_that_cannot_be_learned_from(jet_file: str, tmp_path) -> None:
    with pytest.raises(UserError, match="lower the second number"):
        learning_jets(JetDataSettings(jets=(jet_file,), rows=(0, 501)), seed=1)
    with pytest.raises(UserError, match="too few"):
        learning_jets(JetDataSettings(jets=(jet_file,), rows=(0, 50)), seed=1)
    untyped = tmp_path / "untyped.h5"
    from cathode.jets.readers import read_jets

    jets = read_jets(jet_file)
    write_jets(Jets(jets.points, jets.mask, jets.axis), untyped)
    with pytest.raises(UserError, match="no types"):
        learning_jets(JetDataSettings(jets=(str(untyped),), types=True), seed=1)


def test_refuses_conditions_that_do_not_fit(trained: JetGenerator, jets: Jets) -> None:
    with pytest.raises(UserError, match="have no type"):
        conditions_like(trained, Jets(jets.points, jets.mask, jets.axis))
    with pytest.raises(UserError, match=r"types \[7\]"):
        conditions_like(trained, Jets(jets.points, jets.mask, jets.axis, type=np.full(len(jets), 7)))
    with pytest.raises(UserError, match="types"):
        drawn_conditions(trained, 5, seed=1, jet_type=1)
    with pytest.raises(UserError, match="must be positive"):
        generate(trained, 0, seed=1)
    with pytest.raises(UserError, match="must be positive and the seed not negative"):
        generate(trained, 5, seed=-1)
    many = Jets.from_points(np.ones((3, 9, 3)) * np.array([10.0, 0.1, 0.1]), type=np.zeros(3))
    with pytest.raises(UserError, match="keep the leading"):
        conditions_like(trained, many)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: JetDataSettings(jets=()), "data.jets"),
        (lambda: JetDataSettings(rows=(5, 5)), "data.rows"),
        (lambda: JetDataSettings(validation=1.0), "data.validation"),
        (lambda: JetDataSettings(particles=0), "data.particles"),
        (lambda: SetTransformerSettings(width=10, heads=4), "no multiple of heads"),
        (lambda: EPiCSettings(layers=0), "network.layers"),
        (lambda: FlowMatchingPoints(steps=0), "model.steps"),
        (lambda: EDMPoints(steps=1), "model.steps"),
        (lambda: SequencePoints(floor=-1.0), "model.floor"),
        (lambda: Frame(scale=0.0), "frame.scale"),
        (lambda: JetGeneratorSettings(data=JetDataSettings(axis="file"), conserve="axis"), "needs complete jets"),
    ],
)
def test_refuses_settings_out_of_range(make, match: str) -> None:
    with pytest.raises(UserError, match=match):
        make()
