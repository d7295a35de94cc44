"""What a jet is as a whole, as columns."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cathode.density.matching import FlowMatching
from cathode.density.networks import EPiC
from cathode.jets.generators.cells import Cells
from cathode.jets.generators.context import SUMMARY, JetPoints, axis_of, jet_columns, summary_of
from cathode.support.seeding import torch_generator


def test_summary_and_axis_are_inverse(jets) -> None:
    summary = summary_of(jets.axis, jets.multiplicity())
    assert summary.shape == (len(jets), len(SUMMARY))
    np.testing.assert_allclose(axis_of(summary), jets.axis, rtol=2e-5, atol=1e-5)
    assert np.array_equal(summary[:, 3], jets.multiplicity())
    massless = summary_of(np.array([[100.0, 0.0, 0.0, 0.0]]), np.array([1]))
    assert np.isfinite(massless).all()


def test_columns_say_how_the_axis_lies_in_its_cell(jets) -> None:
    cells = Cells()
    summary = torch.from_numpy(summary_of(jets.axis, jets.multiplicity()))
    given = jet_columns(summary, 0, cells.pitch, cells.offset)
    assert torch.equal(given[:, :4], summary[:, :4])
    phase = cells.phase(jets.axis[:, 1:3])
    difference = np.abs(given[:, 4:].numpy() - phase)
    assert np.minimum(difference, cells.pitch - difference).max() < 1e-5
    assert torch.equal(jet_columns(summary, 0, 0.0, 0.0), summary[:, :4])
    typed = torch.cat([torch.ones(len(summary), 2), summary], 1)
    torch.testing.assert_close(jet_columns(typed, 2, cells.pitch, cells.offset)[:, 2:], given)


def test_density_is_the_one_inside_given_those_columns() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        inner = FlowMatching([4, 3], 7, network=EPiC(3, 7, width=8, global_width=2, layers=1), steps=2)
    density = JetPoints(inner, 1, 0.1, 0.05)
    assert density.context_features == 6
    context = torch.randn(5, 6, generator=torch_generator(0))
    noise = density.noise(5, generator=torch_generator(1))
    assert torch.equal(density.decode(noise, context), inner.decode(noise, density.columns(context)))
    turned = context.clone()
    turned[:, 5] += 3 * 0.1  # by whole cells in phi
    torch.testing.assert_close(density.decode(noise, turned), density.decode(noise, context), atol=1e-4, rtol=1e-4)
    x = density.decode(noise, context).detach()
    first = density.loss(x, context, generator=torch_generator(2))
    assert torch.equal(first, inner.loss(x, density.columns(context), generator=torch_generator(2)))
    with pytest.raises(ValueError, match="7 columns, not 6"):
        JetPoints(inner, 0, 0.1, 0.05)
    with pytest.raises(ValueError, match="need the summary"):
        density.decode(noise)
