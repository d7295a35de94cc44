"""Single-feature AUCs."""

import numpy as np
import pytest
from scipy.stats import norm

from fastsim.evaluation.classifiers.single import separating_features, separation_threshold, voxel_names
from fastsim.geometry import geometry


def test_auc_of_a_shift_and_the_order():
    generator = np.random.default_rng(0)
    reference, generated = generator.normal(size=(4000, 3)), generator.normal(size=(4000, 3))
    generated[:, 1] += 0.5
    generated[:, 2] -= 1.0
    found = separating_features(reference, generated, ("a", "b", "c"), kind="observable", count=2, seed=0)
    assert [f.name for f in found] == ["c", "b"]
    assert abs(found[0].auc - norm.cdf(1.0 / np.sqrt(2))) < 4 * found[0].error
    assert found[1].auc < 0.5  # the generated values are too large
    assert found[1].generated_mean - found[1].reference_mean == pytest.approx(0.5, abs=0.1)
    assert found[0].separation == pytest.approx(found[0].auc - 0.5)


def test_fraction_of_zeros_is_told():
    reference = np.ones((3000, 1))
    generated = np.ones((3000, 1))
    generated[:600] = 0.0
    (found,) = separating_features(reference, generated, ("v",), kind="voxel", count=5, seed=0)
    assert (found.reference_nonzero, found.generated_nonzero) == (1.0, 0.8)
    assert found.auc == pytest.approx(0.6)


def test_scale_and_thinning():
    energies = np.random.default_rng(1).uniform(1.0, 2.0, (5000, 2))
    scale = np.random.default_rng(2).uniform(1.0, 9.0, (5000, 1))
    found = separating_features(
        energies * scale, energies, ("a", "b"), kind="voxel", count=2, seed=0, scale=(scale, np.ones((5000, 1))),
        max_values=6000,
    )  # fmt: skip
    assert all(abs(f.auc - 0.5) < 4 * f.error for f in found)
    assert found[0].error == pytest.approx(np.sqrt(1 / 12 / 3000 * 2), rel=0.1)


def test_threshold_is_bonferroni():
    assert separation_threshold(1) == pytest.approx(1.96, abs=0.01)
    assert separation_threshold(398) == pytest.approx(norm.isf(0.025 / 398))


def test_names_say_where_voxels_are():
    names = voxel_names(geometry("ds1-photons"))
    assert len(names) == 368
    assert names[0].startswith("voxel 0 (layer 0, r 2.5 mm")
    assert "layer 12" in names[-1]
    assert "x " in voxel_names(geometry("image-30x30"))[0]
