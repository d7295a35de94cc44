"""Forms of showers that networks see."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fastsim.evaluation.classifiers.inputs import (
    fit_encoding,
    fit_standardised,
    opened,
    spectrum_edges,
    voxel_spectra,
)


def test_encoding_is_piecewise_linear_with_a_place_for_zero():
    matrix = np.concatenate([np.zeros(100), np.linspace(1.0, 5.0, 400)]).astype(np.float32)[:, None]
    encode = fit_encoding(matrix, np.arange(500), 4)
    assert np.allclose(encode.low, [0.0, 1.0, 2.0, 3.0, 4.0], atol=1e-5)
    raw = encode(np.array([[0.0], [0.5], [2.5], [9.0]], dtype=np.float32)).numpy() * encode.scale + encode.mean
    expected = [[0, 0, 0, 0, 0], [0.5, 0, 0, 0, 0], [1, 1, 0.5, 0, 0], [1, 1, 1, 1, 1]]
    assert np.allclose(raw, expected, atol=1e-4)


def test_encoding_is_standardised_on_the_training_rows():
    matrix = np.random.default_rng(0).gamma(1.0, 1.0, (2000, 3)).astype(np.float32)
    encode = fit_encoding(matrix, np.arange(1000), 8)
    inside = encode(matrix[:1000]).numpy()
    assert np.allclose(inside.mean(0), 0.0, atol=5e-3)
    assert np.allclose(inside.std(0), 1.0, atol=3e-2)
    changed = matrix.copy()
    changed[1000:] *= 100.0
    assert np.array_equal(fit_encoding(changed, np.arange(1000), 8).low, encode.low)


def test_constant_and_empty_columns_vanish():
    matrix = np.zeros((100, 2), dtype=np.float32)
    matrix[:, 1] = 3.0
    assert fit_encoding(matrix, np.arange(100), 4).outputs == 0
    assert not fit_standardised(matrix, np.arange(100))(matrix).any()


def test_standardised_matches_numpy():
    matrix = np.random.default_rng(1).normal(3.0, 2.0, (9000, 2)).astype(np.float32)
    rows = np.arange(0, 9000, 2)
    found = fit_standardised(matrix, rows, np.square)
    assert np.allclose(found.mean, (matrix[rows] ** 2).mean(0), rtol=1e-5)
    assert np.allclose(found.scale, (matrix[rows] ** 2).std(0), rtol=1e-4)


@settings(max_examples=25, deadline=None)
@given(
    hnp.arrays(np.float32, (7, 4), elements=st.one_of(st.just(0.0), st.floats(np.float32(0.01).item(), 500, width=32)))
)
def test_spectra_count_every_voxel_with_energy_once(cells, energies):
    from fastsim.data import Showers

    showers = Showers.unchecked(np.full((7, 1), 1000.0, dtype=np.float32), energies, cells)
    edges = spectrum_edges(energies, 5)
    counts = np.expm1(voxel_spectra(showers, edges)).reshape(7, 2, -1)
    active = np.stack([(energies[:, part] > 0).sum(1) for part in cells.slices], axis=1)
    assert np.allclose(counts.sum(-1), active, atol=1e-4)
    assert len(edges) - 1 == counts.shape[-1]


def test_opened_reads_files(tmp_path):
    array = np.arange(6.0).reshape(2, 3)
    np.save(tmp_path / "a.npy", array)
    assert np.array_equal(opened(tmp_path / "a.npy"), array)
    assert opened(array) is array
