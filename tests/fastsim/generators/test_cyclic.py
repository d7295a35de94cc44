"""Which shape model large polar grids get, and that it makes showers."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from cathode.density import sample
from cathode.density.cyclic_copula import CyclicCopula
from cathode.support.errors import UserError
from cathode.training import FitConfig
from fastsim.generators import shape
from fastsim.generators.conserve import conserve
from fastsim.generators.cyclic import turns_whole
from fastsim.generators.settings import GeneratorSettings, ShapeSettings
from fastsim.generators.shape import FramedShape, fit_framed_shape
from fastsim.generators.stages import check_stages
from fastsim.geometry import Geometry, geometry
from fastsim.geometry.layers import PolarLayer

T = 0.5
SETTINGS = FramedShape(frame="cyclic-copula", nodes=4, knots=9, energy_nodes=2)


@pytest.fixture(scope="module")
def grid():
    return Geometry(name="small", particle=None, layers=tuple(PolarLayer(i, (0.0, 5.0, 12.0), 4) for i in range(3)))


@pytest.fixture(scope="module")
def showers(grid):
    g = torch.Generator().manual_seed(0)
    energy = torch.exp(math.log(50) + 2 * torch.rand(800, 1, generator=g))
    z = torch.randn(800, grid.n_voxels, generator=g)
    x = energy / grid.n_voxels * torch.exp(z - 1)
    x = torch.where(x < T, 0.0, x)
    layers = torch.stack([x[:, part].sum(1) for part in grid.slices], 1)
    return x, torch.cat([energy, layers], 1)


def fitted(settings, grid, showers):
    return fit_framed_shape(
        showers, showers, geometry=grid, threshold=T, settings=settings, fit_config=FitConfig(epochs=1), seed=1
    ).density


def test_showers_conserve_the_energy_of_their_layers(grid, showers):
    density = fitted(SETTINGS, grid, showers)
    assert isinstance(density, CyclicCopula)
    x, context = showers
    y = sample(density, context, generator=torch.Generator().manual_seed(0))
    slices = [(part.start, part.stop) for part in grid.slices]
    y = conserve(y, context[:, 1:], slices=slices, threshold=T)
    sums = torch.stack([y[:, a:b].sum(1) for a, b in slices], 1)
    torch.testing.assert_close(sums, context[:, 1:], rtol=1e-4, atol=1e-3)
    assert ((y == 0) | (y >= T)).all()
    torch.testing.assert_close((y > 0).float().mean(), (x > 0).float().mean(), rtol=0, atol=0.05)


def test_copula_is_cyclic_on_large_grids_only(grid, showers, monkeypatch):
    plain = replace(SETTINGS, frame="copula")
    assert not isinstance(fitted(plain, grid, showers), CyclicCopula)
    monkeypatch.setattr(shape, "DENSE_LIMIT", 20)
    assert isinstance(fitted(plain, grid, showers), CyclicCopula)


def test_public_layouts_that_turn_as_a_whole():
    assert turns_whole(geometry("ds2"))
    assert turns_whole(geometry("ds3"))
    assert not turns_whole(geometry("ds1-photons"))  # its deep layers have one sector
    assert not turns_whole(Geometry.from_grid((2, 4, 3)))


def test_what_cannot_be_built_is_refused(showers):
    with pytest.raises(UserError, match="one and the same number of alpha sectors"):
        fitted(SETTINGS, Geometry.from_grid((3, 4, 2)), showers)
    with pytest.raises(UserError, match="complete model"):
        FramedShape(frame="cyclic-copula", model="edm")
    with pytest.raises(UserError, match="cannot be turned as a whole"):
        check_stages(GeneratorSettings(shape=ShapeSettings(model=SETTINGS)), geometry("ds1-photons"))
