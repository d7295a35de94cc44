"""A jet generator that also makes particle types and displacements, from a file to a file."""

from __future__ import annotations

import numpy as np
import pytest
import yaml

from cathode.jets.generators.particle_features import ParticleFeatures, ParticleTypes
from cathode.jets.generators.settings import ConstituentSettings, JetDataSettings, JetGeneratorSettings, MixedPoints
from cathode.jets.readers import read_jets
from cathode.jets.schema import Jets
from cathode.jets.writers import write_jets
from cathode.run.cli import main
from cathode.support.errors import UserError


def jets_of_two_types(count=400, particles=8, seed=0):
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 2, count)
    mask = np.arange(particles) < rng.integers(3, particles + 1, (count, 1))
    classes = rng.choice(8, size=mask.shape, p=[0.4, 0.1, 0.22, 0.22, 0.02, 0.02, 0.01, 0.01])
    pid, charge = ParticleTypes.columns(classes)
    extras = {"pid": pid, "charge": charge}
    for name in ("d0", "dz"):
        error = 0.02 * np.exp(0.3 * rng.normal(size=mask.shape))
        spread = error * np.where(kind == 1, 4.0, 1.0)[:, None]
        extras[name] = np.where(charge != 0, spread * rng.standard_normal(mask.shape), 0.0)
        extras[f"{name}_err"] = np.where(charge != 0, error, 0.0)
    points = np.stack([np.exp(rng.normal(3.0, 0.6, mask.shape)), *rng.normal(0, 0.15, (2, *mask.shape))], -1)
    return Jets.from_points(points, mask, extras=extras, type=kind)


def run(*arguments):
    return main([str(a) for a in arguments])


def test_from_a_file_with_particles_to_a_file_with_particles(tmp_path):
    source = tmp_path / "jets.h5"
    write_jets(jets_of_two_types(), source)
    fit = {"epochs": 2, "batch_size": 50, "learning_rate": 3e-3}
    config = {
        "data": {"jets": str(source), "types": True, "particles": 8, "extras": {"errors": True}},
        "kinematics": {"training": fit},
        "constituents": {
            "model": {
                "kind": "mixed-matching",
                "steps": 4,
                "network": {"kind": "epic", "width": 16, "global_width": 4, "layers": 1},
            },
            "training": fit,
        },
        "conserve": "axis",
        "seed": 3,
    }
    (tmp_path / "particles.yaml").write_text(yaml.safe_dump(config))
    assert run("jets", "train", tmp_path / "particles.yaml", "--output", tmp_path / "run") == 0
    for name, batch in (("a", 30), ("b", 7)):
        made = tmp_path / f"{name}.h5"
        assert run("jets", "generate", tmp_path / "run", "-n", 40, "--output", made, "--batch-size", batch) == 0
    a, b = read_jets(tmp_path / "a.h5"), read_jets(tmp_path / "b.h5")
    assert len(a) == 40
    assert set(a.extras) == set(ParticleFeatures().extras)
    assert set(np.unique(a.type)) <= {0, 1}
    ParticleFeatures().columns(a)  # refuses particles that do not exist, and neutral ones with displacements
    charged = a.mask & (a.extras["charge"] != 0)
    assert charged.any()
    assert (a.extras["d0_err"][charged] > 0).all()
    assert not a.extras["dz"][~charged].any()
    # Rounding may change a class that is on the edge, but not many.
    assert np.mean(a.extras["pid"] == b.extras["pid"]) > 0.98
    like = tmp_path / "like.h5"
    assert run("jets", "generate", tmp_path / "run", "--like", source, "-n", 20, "--output", like, "--steps", 2) == 0
    assert np.array_equal(read_jets(like).mask, read_jets(source).mask[:20])


def test_what_belongs_together():
    mixed = ConstituentSettings(model=MixedPoints())
    assert JetGeneratorSettings(data=JetDataSettings(extras=ParticleFeatures()), constituents=mixed).data.extras
    with pytest.raises(UserError, match=r"'flow-matching' does not fit data\.extras"):
        JetGeneratorSettings(data=JetDataSettings(extras=ParticleFeatures()))
    with pytest.raises(UserError, match=r"'mixed-matching' does not fit data\.extras"):
        JetGeneratorSettings(constituents=mixed)
    with pytest.raises(UserError, match=r"not learned together with data\.cells"):
        JetDataSettings(extras=ParticleFeatures(), cells={"pitch": 0.1})
    with pytest.raises(UserError, match="class_weight: must be positive"):
        MixedPoints(class_weight=0.0)


def test_files_without_particles_are_refused(tmp_path, capsys):
    jets = jets_of_two_types(300)
    source = tmp_path / "plain.h5"
    write_jets(Jets(jets.points, jets.mask, jets.axis), source)
    (tmp_path / "c.yaml").write_text(
        yaml.safe_dump(
            {"data": {"jets": str(source), "extras": {}}, "constituents": {"model": {"kind": "mixed-matching"}}}
        )
    )
    assert run("jets", "train", tmp_path / "c.yaml", "--output", tmp_path / "run") == 2
    assert "no column pid, charge" in capsys.readouterr().err
    assert not (tmp_path / "run" / "model").exists()
