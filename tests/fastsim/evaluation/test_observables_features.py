from __future__ import annotations

import numpy as np
import pytest

from cathode.support.errors import UserError
from fastsim.data import Showers, sample
from fastsim.evaluation.features import high_level_features, log_voxels, low_level_features, zero_level
from fastsim.evaluation.procedure import checked_mode, dataset_of, voxel_threshold
from fastsim.geometry import Geometry, geometry


def filled(layout: Geometry, events: int, seed: int = 0) -> Showers:
    """Sparse random showers in any geometry, some layers empty."""
    rng = np.random.default_rng(seed)
    energies = rng.gamma(0.3, 30.0, (events, layout.n_voxels)) * (rng.random((events, layout.n_voxels)) < 0.3)
    for part in layout.slices:
        energies[rng.random(events) < 0.2, part] = 0.0
    return Showers.unchecked(rng.uniform(1e3, 1e5, (events, 1)).astype(np.float32), energies.astype(np.float32), layout)


def published(
    incident: float, voxels: np.ndarray, edges: list[tuple[int, list[float], int]], cut: float
) -> list[float]:
    """The high-level vector of one shower as the evaluation code of the CaloChallenge defines it, bin by bin.

    ``edges`` holds id, radii and number of sectors of each layer.
    """
    voxels = np.where(voxels < cut, 0.0, voxels.astype(np.float64))
    energies, etas, phis, width_etas, width_phis, sparse, radii, width_radii = ([] for _ in range(8))
    start = 0
    for _, r_edges, sectors in edges:
        rings = len(r_edges) - 1
        part = voxels[start : start + rings * sectors]
        start += rings * sectors
        angles = np.linspace(-np.pi, np.pi, sectors + 1)
        r = np.array([(r_edges[k] + r_edges[k + 1]) / 2 for _ in range(sectors) for k in range(rings)])
        alpha = np.array([(angles[a] + angles[a + 1]) / 2 for a in range(sectors) for _ in range(rings)])

        def mean_and_width(x: np.ndarray, e: np.ndarray = part) -> tuple[float, float]:
            mean = (x * e).sum() / (e.sum() + 1e-16)
            return mean, np.sqrt(max((x * x * e).sum() / (e.sum() + 1e-16) - mean**2, 0.0))

        energies.append(part.sum())
        sparse.append(1 - (part > 0).mean())
        radius = mean_and_width(r)
        radii.append(radius[0])
        width_radii.append(radius[1])
        if sectors > 1:
            for x, centres, widths in (
                (r * np.cos(alpha), etas, width_etas),
                (r * np.sin(alpha), phis, width_phis),
            ):
                centre, width = mean_and_width(x)
                centres.append(centre)
                widths.append(width)
    logs = np.log10(np.array(energies) + 1e-8)
    lengths = [np.array(v) / 100 for v in (etas, phis, width_etas, width_phis)]
    total = np.log10(voxels.sum() + 1e-8)
    return [
        np.log10(incident),
        *logs,
        *np.concatenate(lengths),
        total,
        *sparse,
        *(np.array(radii) / 100),
        *(np.array(width_radii) / 100),
    ]


@pytest.mark.parametrize(("name", "inputs"), [("ds1-photons", 30), ("ds1-pions", 46), ("ds2", 362), ("ds3", 362)])
@pytest.mark.parametrize("mode", ["strict", "calochallenge"])
def test_the_high_level_vector_is_the_published_one(name, inputs, mode):
    layout = geometry(name)
    showers = filled(layout, 3)
    features, names = high_level_features(showers, mode)
    assert features.shape == (3, inputs)
    assert features.dtype == np.float32
    assert len(set(names)) == inputs
    edges = [(layer.id, list(layer.fast_edges), layer.n_slow) for layer in layout.layers]
    cut = {"ds1-photons": 1.0, "ds1-pions": 1.0}.get(name, 0.5e-3 / 0.033)
    for row, incident, voxels in zip(features, showers.incident_energy[:, 0], showers.energies, strict=True):
        assert row == pytest.approx(published(float(incident), voxels, edges, cut), rel=1e-5, abs=2e-5)


def test_names_say_what_the_columns_are():
    showers = sample("ds1-photons")[:50]
    features, names = high_level_features(showers)
    column = dict(zip(names, features.T, strict=True))
    cut = showers.cut(1.0)
    assert column["log10_e_inc"] == pytest.approx(np.log10(showers.incident_energy[:, 0]), rel=1e-6)
    assert column["log10_e_layer_12"] == pytest.approx(np.log10(cut.layer_energies()[:, 4] + 1e-8), abs=1e-5)
    assert column["log10_e_tot"] == pytest.approx(np.log10(cut.total_energies() + 1e-8), abs=1e-5)
    empty = cut.layer_energies()[:, 0] == 0
    assert empty.any()
    assert (column["sparsity_layer_0"][empty] == 1).all()
    assert (column["centre_r_layer_0"][empty] == 0).all()


def test_low_level_vectors():
    showers = sample("ds1-photons")[:20]
    voxels = np.where(showers.energies < 1, 0, showers.energies).astype(np.float64)
    plain = low_level_features(showers)
    assert plain.shape == (20, 369)
    assert plain.dtype == np.float32
    assert plain[:, 0] == pytest.approx(np.log10(showers.incident_energy[:, 0]), rel=1e-6)
    assert plain[:, 1:] == pytest.approx(voxels / showers.incident_energy, rel=1e-5)
    normed = low_level_features(showers, normed=True)
    assert normed.shape == (20, 369 + 5)
    for k, part in enumerate(showers.geometry.slices):
        energy = voxels[:, part].sum(axis=1)
        assert normed[:, 369 + k] == pytest.approx(np.log10(energy + 1e-8), abs=1e-5)
        assert normed[:, 1:369][:, part].sum(axis=1) == pytest.approx((energy > 0).astype(float), abs=1e-5)


def test_any_geometry_and_empty_showers_give_finite_vectors():
    cells = Geometry.from_cells(
        {"layer": np.repeat([0, 1], 4), "x": np.tile([0.0, 1.0, 0.0, 1.0], 2), "y": np.tile([0.0, 0.0, 1.0, 1.0], 2)}
    )
    for layout, inputs in ((Geometry.from_grid((4, 5, 6)), 2 + 4 * 8), (geometry("image-30x30"), 10), (cells, 18)):
        nothing = Showers.unchecked(
            np.full((2, 1), 100.0, np.float32), np.zeros((2, layout.n_voxels), np.float32), layout
        )
        for showers in (filled(layout, 5), nothing):
            features, names = high_level_features(showers)
            assert features.shape[1] == len(names) == inputs
            assert np.isfinite(features).all()
            assert np.isfinite(low_level_features(showers, normed=True)).all()
        assert any(name.startswith("centre_x") for name in names)


def test_empty_voxels_lie_below_all_others_in_strict_mode_only():
    """The published 0.1 MeV lies between the energies of datasets 2 and 3."""
    layout = geometry("ds2")
    rng = np.random.default_rng(0)
    energies = np.where(rng.random((5, 6480)) < 0.1, rng.uniform(0.02, 50, (5, 6480)), 0).astype(np.float32)
    showers = Showers.unchecked(np.full((5, 1), 1e4, np.float32), energies, layout)
    empty = energies == 0
    for mode, level in (("calochallenge", 0.1), ("strict", zero_level(showers))):
        logs = log_voxels(showers, mode)
        assert logs[empty] == pytest.approx(np.log10(level), rel=1e-5)
        assert (logs[empty].max() < logs[~empty].min()) == (mode == "strict")
    assert zero_level(sample("ds1-photons")) == pytest.approx(0.1)
    # A higher threshold than the dataset's own is noticed.
    showers = Showers.unchecked(showers.incident_energy, np.where(energies < 0.5, 0, energies), layout)
    assert zero_level(showers) == pytest.approx(0.05, rel=0.05)


def test_thresholds_and_modes():
    layout = geometry("ds1-photons")
    assert dataset_of(layout.renamed("mine")) == "ds1-photons"
    assert dataset_of(geometry("grid-24x24x24")) is None
    assert voxel_threshold(layout) == 1.0
    assert voxel_threshold(layout, threshold=0.2) == 0.2
    assert voxel_threshold(geometry("grid-24x24x24")) == 0.0
    with pytest.raises(UserError, match="'calochallenge' is defined for ds1-photons"):
        voxel_threshold(geometry("grid-24x24x24"), "calochallenge")
    with pytest.raises(UserError, match="zero or positive"):
        voxel_threshold(layout, threshold=-1.0)
    with pytest.raises(UserError, match="unknown evaluation mode"):
        checked_mode("fast")
