"""Cells: what is on the lattice, phases of axes, and snapping."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cathode.jets.generators.cells import Cells
from cathode.support.errors import UserError


def test_centres_are_on_the_lattice_also_when_rounded_to_twelve_bits() -> None:
    cells = Cells()
    centres = np.float32(0.05 + 0.1 * np.arange(-28, 29))
    mantissa, exponent = np.frexp(centres)
    rounded = np.ldexp(np.round(mantissa * 2**12) / 2**12, exponent)
    eta, phi = np.meshgrid(rounded, rounded)
    assert cells.on_lattice(eta, phi).all()
    assert not cells.on_lattice(eta + 0.01, phi).any()
    assert not cells.on_lattice(eta, phi - 0.01).any()


def test_continuous_points_are_rarely_mistaken() -> None:
    points = np.random.default_rng(1).uniform(-1, 1, (2, 100_000))
    # Both coordinates within 3e-4 of a centre, in cells of 0.1.
    assert Cells().on_lattice(*points).mean() < 10 * (2 * 3e-4 / 0.1) ** 2


@given(st.floats(-2.5, 2.5), st.floats(-3.1, 3.1), st.floats(-0.9, 0.9), st.floats(-0.9, 0.9))
def test_snapped_points_are_centres_within_half_a_cell(eta: float, phi: float, u: float, v: float) -> None:
    cells = Cells(pitch=0.1, offset=0.05, tolerance=1e-6)
    axis = np.array([[eta, phi]])
    snapped = cells.snap(np.array([[[u, v]]]), axis)
    assert cells.on_lattice(snapped[0, :, 0] + eta, snapped[0, :, 1] + phi).all()
    assert np.abs(snapped - np.array([u, v])).max() <= 0.05 + 1e-12
    np.testing.assert_allclose(cells.snap(snapped, axis), snapped, atol=1e-12)
    assert np.abs(cells.phase(axis)).max() <= 0.05 + 1e-12


def test_unusable_lattices() -> None:
    with pytest.raises(UserError, match=r"cells\.pitch: must be positive"):
        Cells(pitch=0.0)
    with pytest.raises(UserError, match=r"cells\.tolerance"):
        Cells(pitch=0.1, tolerance=0.05)
