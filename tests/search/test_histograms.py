from __future__ import annotations

import numpy as np
import pytest

from cathode.data.events import Events
from cathode.search.histograms import feature_histograms
from cathode.search.template import Template


def drawn(values):
    values = np.asarray(values, dtype=np.float64)[:, None]
    data = Events(values, ("x",), np.full(len(values), 3.5), np.arange(len(values)))
    made = Template(values, np.full(len(values), 3.5), np.arange(len(values)) % 2, 0)
    return feature_histograms(data, made, data, made)


@pytest.mark.parametrize("largest", [7, 64, 300])
def test_bins_of_counts_hold_equally_many_whole_numbers(largest):
    values = np.tile(np.arange(largest + 1), 3)
    found = drawn(values)[0]
    widths = np.diff(found.edges)
    assert np.ptp(widths) == 0
    assert widths[0] == np.rint(widths[0])
    assert len(widths) <= 41
    np.testing.assert_allclose(found.edges % 1, 0.5)
    # Flat input, flat histogram, but for the last bin that may reach beyond the largest.
    assert np.ptp(found.data[:-1]) == 0
    assert found.data.sum() == len(values)


def test_other_features_have_forty_bins():
    values = np.random.default_rng(0).normal(size=5000)
    found = drawn(values)[0]
    assert len(found.edges) == 41
    assert found.data.sum() >= 0.998 * len(values)
    np.testing.assert_allclose(found.template, found.data)
