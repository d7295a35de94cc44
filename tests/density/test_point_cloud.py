"""Clouds in two stages: shapes, masks, determinism, independence of batches, folders."""

from __future__ import annotations

import pytest
import torch

from cathode.density.autoregressive import AutoregressiveMixture
from cathode.density.base import NonFiniteError
from cathode.density.bijections import Affine
from cathode.density.diffusion import EDM
from cathode.density.folder import load_density, save_density
from cathode.density.matching import FlowMatching
from cathode.density.multiplicity import DequantisedCount
from cathode.density.networks import EPiC, SetTransformer
from cathode.density.point_cloud import PointCloud
from cathode.density.point_sequence import PointSequence
from cathode.density.preprocessed import Preprocessed
from cathode.support.seeding import torch_generator

POINTS, FEATURES = 6, 3


def _cloud(context: int = 0, kind: str = "transformer", model: str = "flow-matching") -> PointCloud:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        affine = Affine(2, [0.0, 3.0], [1.0, 2.0])
        summary = DequantisedCount(
            Preprocessed(affine, AutoregressiveMixture(2, context, [16], 3)), 1, 0, POINTS, spread=1.0
        )
        columns = context + 2
        network = (
            SetTransformer(FEATURES, columns, width=16, heads=2, blocks=1)
            if kind == "transformer"
            else EPiC(FEATURES, columns, width=16, global_width=4, layers=1)
        )
        points = {"flow-matching": FlowMatching, "edm": EDM}[model](
            [POINTS, FEATURES], columns, network=network, steps=3
        )
        for parameter in points.parameters():  # networks start at zero output, which would hide mistakes
            torch.nn.init.normal_(parameter, std=0.2)
    return PointCloud(summary, points, multiplicity=1).eval()


@pytest.mark.parametrize("kind", ["transformer", "epic"])
@pytest.mark.parametrize("model", ["flow-matching", "edm"])
@pytest.mark.parametrize("context", [0, 2])
def test_clouds_have_as_many_points_as_their_summary_says(kind: str, model: str, context: int) -> None:
    density = _cloud(context, kind, model)
    given = None if context == 0 else torch.randn(40, context, generator=torch.Generator().manual_seed(0))
    made = density.generate(given, count=40 if given is None else None, seed=3, batch=16)
    assert made.points.shape == (40, POINTS, FEATURES)
    assert made.summary.shape == (40, 2)
    assert torch.equal(made.mask.sum(1), made.summary[:, 1].long())
    assert len(made.summary[:, 1].unique()) > 2
    assert bool((made.points[~made.mask] == 0).all())
    assert bool((made.points[made.mask] != 0).all())


@pytest.mark.parametrize("kind", ["transformer", "epic"])
def test_clouds_depend_neither_on_batches_nor_on_pieces(kind: str) -> None:
    density = _cloud(0, kind)
    whole = density.generate(count=30, seed=5, batch=30)
    small = density.generate(count=30, seed=5, batch=7)
    piece = density.generate(count=10, seed=5, batch=4, first=20)
    assert torch.equal(whole.mask, small.mask)
    torch.testing.assert_close(whole.points, small.points, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(whole.points[20:], piece.points, atol=1e-5, rtol=1e-5)
    other = density.generate(count=30, seed=6, batch=30)
    assert not torch.equal(whole.summary, other.summary)


def test_given_summaries_are_kept_and_get_the_points_of_their_row() -> None:
    density = _cloud()
    drawn = density.generate(count=20, seed=2)
    again = density.generate(summary=drawn.summary, seed=2)
    assert torch.equal(again.summary, drawn.summary)
    torch.testing.assert_close(again.points, drawn.points, atol=1e-5, rtol=1e-5)
    other = density.generate(summary=drawn.summary[:, :] * torch.tensor([2.0, 1.0]), seed=2)
    assert torch.equal(other.mask, drawn.mask)
    assert not torch.allclose(other.points, drawn.points)


def test_decode_is_deterministic_and_agrees_with_clouds() -> None:
    density = _cloud(2)
    context = torch.randn(9, 2, generator=torch_generator(1))
    noise = density.noise(9, generator=torch_generator(2))
    assert noise.shape == (9, 2 + POINTS * FEATURES)
    clouds = density.clouds(noise, context)
    assert torch.equal(density.decode(noise, context), clouds.points)
    assert torch.equal(clouds.mask, density.mask(clouds.summary))


def test_losses_are_those_of_the_stages_and_padding_is_not_looked_at() -> None:
    density = _cloud(2)
    generator = torch_generator(3)
    context = torch.randn(8, 2, generator=generator)
    summary = torch.stack([torch.randn(8, generator=generator), torch.arange(8.0).clamp(max=6)], 1)
    points = torch.randn(8, POINTS, FEATURES, generator=generator)
    first = density.summary_loss(summary, context, generator=torch_generator(9))
    stream = torch_generator(9)
    total = density.loss(points, context, generator=stream, summary=summary)
    stream = torch_generator(9)
    density.summary_loss(summary, context, generator=stream)
    second = density.points_loss(points, summary, context, generator=stream)
    torch.testing.assert_close(total, first + second)
    changed = torch.where(density.mask(summary).unsqueeze(-1), points, points + 7.0)
    stream = torch_generator(9)
    density.summary_loss(summary, context, generator=stream)
    torch.testing.assert_close(density.points_loss(changed, summary, context, generator=stream), second)
    assert float(second[0].detach()) == 0.0  # an empty cloud
    with pytest.raises(ValueError, match="needs its summary"):
        density.loss(points, context)


def test_folder_round_trip(tmp_path) -> None:
    density = _cloud()
    save_density(density, tmp_path / "model")
    loaded = load_density(tmp_path / "model")
    assert isinstance(loaded, PointCloud)
    assert torch.equal(loaded.generate(count=5, seed=1).points, density.generate(count=5, seed=1).points)


def test_nothing_asked_for_is_nothing() -> None:
    made = _cloud().generate(count=0, seed=1)
    assert (made.points.shape, made.mask.shape, made.summary.shape) == ((0, 6, 3), (0, 6), (0, 2))


def test_non_finite_clouds_are_counted() -> None:
    density = _cloud()
    summary = torch.tensor([[0.0, 3.0], [float("inf"), 2.0], [0.0, 1.0]])
    with pytest.raises(NonFiniteError, match="1 of 3"):
        density.generate(summary=summary, seed=1)


def test_refuses_what_does_not_fit() -> None:
    density = _cloud(2)
    with pytest.raises(ValueError, match="context has 0 columns"):
        density.generate(count=3, seed=1)
    with pytest.raises(ValueError, match="one length"):
        density.generate(torch.zeros(3, 2), count=4, seed=1)
    with pytest.raises(ValueError, match="expected \\(N, 2\\)"):
        density.generate(torch.zeros(3, 2), summary=torch.zeros(3, 5), seed=1)
    with pytest.raises(ValueError, match="more than 6 points"):
        density.generate(torch.zeros(1, 2), summary=torch.tensor([[0.0, 7.0]]), seed=1)
    with pytest.raises(ValueError, match="there is none"):
        PointCloud(density.summary, density.points, multiplicity=2)
    with pytest.raises(ValueError, match="4 columns"):
        PointCloud(_cloud().summary, density.points, multiplicity=1)
    with pytest.raises(ValueError, match="one of sets"):
        PointCloud(density.summary, density.summary)


def test_leading_points_are_those_of_the_whole_cloud() -> None:
    summary = _cloud().summary
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        points = PointSequence(POINTS, 2, width=16, heads=2, blocks=1, head_width=16, count_column=1, near=2)
    density = PointCloud(summary, points, multiplicity=1).eval()
    whole = density.generate(count=30, seed=5, batch=8)
    leading = density.generate(count=30, seed=5, batch=30, leading=3)
    torch.testing.assert_close(leading.points[:, :3], whole.points[:, :3], atol=1e-5, rtol=1e-4)
    assert torch.equal(leading.summary, whole.summary)
    assert torch.equal(leading.mask, whole.mask & (torch.arange(POINTS) < 3))
    with pytest.raises(ValueError, match="draw points in order"):
        _cloud().generate(count=3, seed=1, leading=2)
