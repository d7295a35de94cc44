"""Generation: independent of batches, to be continued, broken showers redrawn, wrong conditions refused."""

from __future__ import annotations

import logging
import subprocess
import sys

import numpy as np
import pytest
import torch

from cathode.density.base import ConditionalDensity
from cathode.density.registry import buildable
from cathode.support.errors import UserError
from cathode.support.seeding import numpy_generator
from fastsim.data.incident import incident_energies
from fastsim.generators.generate import check_incident, generate, generate_chunks
from fastsim.generators.generator import ShowerGenerator, load_generator, save_generator
from fastsim.geometry import Geometry

GRID = Geometry.from_grid((2, 2, 2), cell=10.0)


@buildable("test_generate_layers")
class Layers(ConditionalDensity):
    """40 % of the incident energy in each layer; noise above ``broken`` gives NaN, below minus that far too much."""

    def __init__(self, broken=9.0, conditions=0):
        super().__init__()
        self.event_shape, self.context_features = (2,), 1 + conditions
        self.weight = torch.nn.Parameter(torch.ones(()))
        self.broken = broken

    def loss(self, x, context=None, *, mask=None, generator=None):
        return x.sum(1)

    def decode(self, noise, context=None, *, mask=None):
        layers = 0.4 * context[:, :1] * torch.exp(0.1 * noise) * self.weight
        layers = torch.where(noise > self.broken, torch.nan, layers)
        return torch.where(noise < -self.broken, 100 * layers, layers)


@buildable("test_generate_shape")
class Shape(ConditionalDensity):
    """Voxels share their layer in equal parts, give or take a factor."""

    def __init__(self, conditions=0):
        super().__init__()
        self.event_shape, self.context_features = (8,), 3 + conditions

    def loss(self, x, context=None, *, mask=None, generator=None):
        return x.sum(1)

    def decode(self, noise, context=None, *, mask=None):
        return torch.exp(0.3 * noise) * context[:, -2:].repeat_interleave(4, 1) / 4


def generator(broken=9.0, names=()):
    stages = Layers(broken, len(names)), Shape(len(names))
    ranges = [[-1.0, 1.0] for _ in names]
    return ShowerGenerator(*stages, {"layout": GRID.to_dict()}, 1.0, [1000.0, 9000.0], list(names), ranges).eval()


ENERGIES = np.linspace(1000.0, 9000.0, 1300)


def test_showers_do_not_depend_on_the_batches():
    whole = generate(generator(), ENERGIES, seed=1, batch_size=2000).showers
    for size in (7, 512, 1000):
        again = generate(generator(), ENERGIES, seed=1, batch_size=size).showers
        np.testing.assert_allclose(again.energies, whole.energies, rtol=1e-5)
    first = torch.as_tensor(ENERGIES[:, None], dtype=torch.float32)
    rest = [p.showers.energies for p in generate_chunks(generator(), first, seed=1, batch_size=100, first=777)]
    np.testing.assert_allclose(np.concatenate(rest), whole.energies[777:], rtol=1e-5)
    other = generate(generator(), ENERGIES, seed=2).showers
    assert not np.isclose(other.energies, whole.energies, rtol=1e-3).all(1).any()


def test_blocks_of_noise_are_as_small_as_memory_needs(monkeypatch):
    monkeypatch.setattr("cathode.density.noise._BLOCK_NUMBERS", 100)
    whole = generate(generator(), ENERGIES[:50], seed=1, batch_size=50).showers
    parts = generate(generator(), ENERGIES[:50], seed=1, batch_size=3).showers
    np.testing.assert_allclose(parts.energies, whole.energies, rtol=1e-5)
    assert len(np.unique(whole.energies[:, 0])) == 50


def test_layers_and_threshold_and_names():
    made = generate(generator(), ENERGIES, seed=3)
    showers = made.showers
    assert made.redrawn == 0
    assert made.seconds > 0
    assert showers.geometry == GRID
    np.testing.assert_allclose(showers.incident_energy[:, 0], ENERGIES, rtol=1e-6)
    fractions = showers.layer_energies() / showers.incident_energy
    np.testing.assert_allclose(np.log(fractions / 0.4).std(0), 0.1, rtol=0.1)
    assert ((showers.energies == 0) | (showers.energies >= 1.0)).all()


def test_broken_showers_are_drawn_again_and_counted():
    """Beyond 1.5 standard deviations a layer is NaN or far too energetic: one shower in four."""
    made = generate(generator(1.5), ENERGIES, seed=1)
    assert np.isfinite(made.showers.energies).all()
    assert (made.showers.total_energies() < 10 * ENERGIES).all()
    bad = 1 - (1 - 0.1336) ** 2
    assert made.redrawn / len(ENERGIES) == pytest.approx(bad / (1 - bad), rel=0.2)
    again = generate(generator(1.5), ENERGIES, seed=1, batch_size=9)
    assert again.redrawn == made.redrawn
    np.testing.assert_allclose(again.showers.energies, made.showers.energies, rtol=1e-5)
    # Showers that were good stay what they were.
    same = np.isclose(generate(generator(), ENERGIES, seed=1).showers.energies, made.showers.energies, rtol=1e-4).all(1)
    assert same.mean() == pytest.approx(1 - bad, abs=0.05)


def test_a_generator_that_only_makes_broken_showers():
    with pytest.raises(UserError, match="still not physical after 5 draws"):
        generate(generator(0.001), ENERGIES[:20], seed=1)


def test_conditions(caplog):
    one = generator(names=("x", "y"))
    conditions = np.zeros((5, 2))
    showers = generate(one, ENERGIES[:5], conditions, seed=1).showers
    assert showers.condition_names == ("x", "y")
    np.testing.assert_array_equal(showers.conditions, conditions)
    assert not caplog.records
    conditions[2:, 1] = -1.5
    check_incident(one, ENERGIES[:5], conditions)
    assert "y of 3 of 5 showers are outside of -1 to 1" in caplog.text


def test_energies_outside_of_the_training(caplog):
    caplog.set_level(logging.WARNING)
    check_incident(generator(), np.array([1000.0, 9000.0]), None)
    assert not caplog.records
    check_incident(generator(), np.array([900.0, 5000.0, 90_000.0]), None)
    assert "2 of 3 incident energies are outside of 1000 to 9000 MeV" in caplog.text


@pytest.mark.parametrize(
    ("energies", "conditions", "match"),
    [
        ([0.0], None, "positive and finite"),
        ([np.nan], None, "positive and finite"),
        ([2.0, 5.0], None, "look like GeV"),
        ([2000.0], np.zeros((1, 1)), r"conditioned on the incident energy; got 1 energies and .* \(1, 1\)"),
    ],
)
def test_wrong_conditions(energies, conditions, match):
    with pytest.raises(UserError, match=match):
        check_incident(generator(), np.array(energies), conditions)


@pytest.mark.parametrize("conditions", [None, np.zeros((1, 2)), np.zeros((2, 1)), np.zeros(2), [[np.nan, 0.0]] * 2])
def test_conditions_that_do_not_fit(conditions):
    with pytest.raises(UserError, match=r"conditioned on the incident energy, x, y|conditions must be finite"):
        check_incident(generator(names=("x", "y")), ENERGIES[:2], conditions)


def test_nothing_to_generate():
    with pytest.raises(UserError, match="nothing to generate"):
        generate(generator(), np.zeros(0), seed=1)
    with pytest.raises(UserError, match="batch size must be positive"):
        generate(generator(), ENERGIES, seed=1, batch_size=0)
    with pytest.raises(UserError, match="seed must not be negative"):
        generate(generator(), ENERGIES, seed=-1)


def test_saved_and_loaded(tmp_path):
    one = generator(names=("x",))
    save_generator(one, tmp_path / "model")
    again = load_generator(tmp_path / "model")
    assert (again.geometry, again.threshold, again.incident_range) == (GRID, 1.0, (1000.0, 9000.0))
    assert (again.condition_names, again.condition_ranges) == (("x",), ((-1.0, 1.0),))
    made = [generate(g, ENERGIES[:9], np.zeros((9, 1)), seed=1).showers.energies for g in (one, again)]
    np.testing.assert_array_equal(*made)


def test_the_loss_is_that_of_both_stages():
    x = torch.arange(16.0).reshape(2, 8)
    torch.testing.assert_close(generator().loss(x, torch.ones(2, 1)), 2 * x.sum(1))
    with pytest.raises(ValueError, match="needs its incident energy"):
        generator().loss(x)


def test_stages_that_do_not_fit():
    def build(*stages):
        return ShowerGenerator(*stages, {"layout": GRID.to_dict()}, 1.0, [1.0, 2.0])

    with pytest.raises(ValueError, match="do not fit 2 layers and 8 voxels"):
        build(Shape(), Shape())
    with pytest.raises(ValueError, match="must be conditioned on"):
        build(Layers(), Shape(1))


def test_memory_does_not_grow_with_the_number_of_showers():
    """100,000 showers of 8000 voxels would be 3.2 GB; what is kept is one batch and one block of noise."""
    code = """
import resource, torch
from cathode.density.base import ConditionalDensity
from fastsim.generators.generate import generate_chunks
from fastsim.generators.generator import ShowerGenerator
from fastsim.geometry import Geometry

class Fake(ShowerGenerator):
    def __init__(self):
        torch.nn.Module.__init__(self)
        self.geometry = Geometry.from_grid((8, 10, 10), cell=10.0)
        self.condition_names, self._widths = (), [1, 1]
        self.weight = torch.nn.Parameter(torch.ones(()))
    def noise(self, count, *, mask=None, generator, dtype=None):
        return torch.randn((count, 2), generator=generator)
    def decode(self, noise, context=None, *, mask=None):
        return noise[:, :1].abs().expand(-1, 800).contiguous()

context = torch.full((100_000, 1), 1e6)
chunks = generate_chunks(Fake(), context, seed=1, batch_size=500)
for _ in range(5):
    next(chunks)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(sum(len(part.showers) for part in chunks), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    count, grown = map(int, done.stdout.split())
    assert count == 97_500
    assert grown < 20 * 1024


@pytest.mark.parametrize(
    ("words", "low", "high", "median"),
    [(("1000:100000",), 1000, 100_000, 10_000), (("1000:3000:flat",), 1000, 3000, 2000), (("1:2:log",), 1, 2, 1.41)],
)
def test_ranges_of_energies(words, low, high, median):
    energies = incident_energies(words, 4000, numpy_generator(1))
    assert low <= energies.min() <= energies.max() <= high
    assert np.median(energies) == pytest.approx(median, rel=0.1)


def test_energies_in_turn():
    assert incident_energies(("1", "2e3"), 3, numpy_generator(1)).tolist() == [1, 2000, 1]


@pytest.mark.parametrize(
    "words", [(), ("x",), ("-1",), ("0",), ("inf",), ("2:1",), ("1:2:3",), ("1:2", "3"), ("1:nan",)]
)
def test_energies_that_are_none(words):
    with pytest.raises(UserError, match="must be positive values in MeV, or LOW:HIGH"):
        incident_energies(words, 3, numpy_generator(1))
