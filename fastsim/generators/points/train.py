"""From the settings of the shape model ``points`` and showers to its trained density."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from cathode.density.autoregressive import AutoregressiveMixture
from cathode.density.base import ConditionalDensity
from cathode.density.bijections import Affine, Bijection, Columns, Compose, Identity, Log, Standardize
from cathode.density.diffusion import EDM
from cathode.density.matching import FlowMatching
from cathode.density.networks import EPiC
from cathode.density.point_cloud import PointCloud
from cathode.density.preprocessed import Preprocessed
from cathode.support.errors import UserError
from cathode.support.seeding import derive_seed
from cathode.training import FitConfig, TrainingData, fit
from fastsim.generators.order import rotation_blocks
from fastsim.generators.points.density import LayerCounts, PointShowers, PointsStage
from fastsim.generators.points.grid import PointGrid
from fastsim.generators.points.settings import PointsShape
from fastsim.geometry import Geometry

__all__ = ["PointsFit", "check_points", "fit_points_shape", "untrained"]

# Room for showers with more points than any of the training.
_ROOM = 1.1
# Showers whose points decide the preprocessing.
_FIRST_LOOK = 500
# Logarithms of what a point has above the threshold start this fraction of the threshold below it.
_MARGIN = 0.02


@dataclass(frozen=True)
class PointsFit:
    """A fitted shape stage.

    Attributes:
        density: Of voxel energies ``(B, V)`` [MeV] given ``(B, C + L)``.
        history: One row per epoch of both parts, the numbers of points first.
        summary: Plain numbers about the two fits.
    """

    density: PointShowers
    history: pd.DataFrame
    summary: dict[str, Any]


def check_points(settings: PointsShape, geometry: Geometry, config: FitConfig) -> None:
    """Refuse geometries that points cannot be on, and trainings that make no one set of weights.

    Raises:
        UserError: A list of cells, a symmetry that the geometry does not have, or a mixture of epochs.
    """
    PointGrid(geometry)
    if config.average == "mixture" or settings.counts_training.average == "mixture":
        raise UserError("shape.training.average: points need one set of weights; use 'weights'")
    if settings.symmetry != "none":
        rotation_blocks(geometry)


def untrained(
    settings: PointsShape, geometry: Geometry, x: Tensor, context: Tensor, *, threshold: float, seed: int
) -> PointShowers:
    """Density with fitted preprocessing and fresh networks.

    Args:
        settings: Of the model.
        geometry: Of the voxels.
        x: Training showers ``(N, V)`` [MeV].
        context: ``(N, C + L)``.
        threshold: [MeV].
        seed: Of the weights, and of the points that the preprocessing is fitted on.
    """
    grid = PointGrid(geometry)
    counts = grid.counts(x)
    most = min(geometry.n_voxels, math.ceil(_ROOM * float(counts.sum(1).max())))
    conditions = context.shape[1] - geometry.n_layers
    stream = torch.Generator().manual_seed(derive_seed(seed, "points", "fill"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "points", "weights"))
        summary = _counts_density(settings, grid, counts, context, conditions, threshold, most, stream)
        points = _points_density(settings, grid, x, counts, context, conditions, threshold, most, stream)
    turns = 1 if settings.symmetry == "none" else rotation_blocks(geometry)[0]
    return PointShowers(
        PointCloud(summary, points),
        {"layout": geometry.to_dict()},
        threshold,
        settings.collisions,
        turns,
        settings.symmetry == "rotations and mirror",
    )


def _counts_density(
    settings: PointsShape,
    grid: PointGrid,
    counts: Tensor,
    context: Tensor,
    conditions: int,
    threshold: float,
    most: int,
    stream: torch.Generator,
) -> LayerCounts:
    layers = grid.n_layers
    chain = Compose([Log(layers, offset=1.0), Standardize(layers)]).fit(LayerCounts.fill(counts, generator=stream))
    mixture = AutoregressiveMixture(
        layers, context.shape[1], hidden=[settings.counts_hidden] * 2, components=settings.counts_components
    )
    seen = _seen(context, [threshold] * context.shape[1], range(1, conditions))
    return LayerCounts(Preprocessed(chain, mixture, seen), grid.sizes, threshold, most)


def _points_density(
    settings: PointsShape,
    grid: PointGrid,
    x: Tensor,
    counts: Tensor,
    context: Tensor,
    conditions: int,
    threshold: float,
    most: int,
    stream: torch.Generator,
) -> ConditionalDensity:
    some = torch.linspace(0, len(x) - 1, min(len(x), _FIRST_LOOK), dtype=torch.float64).long()
    points, mask, _ = grid.to_points(x[some], generator=stream)
    columns: list[Bijection] = [Identity(3), Log(1, offset=-threshold * (1 - _MARGIN))]
    chain = Compose([Columns(columns), Standardize(4)]).fit(points, mask=mask)
    given = torch.cat([context, counts.sum(1, keepdim=True), counts], 1)
    offsets = [threshold] * context.shape[1] + [1.0] * (1 + grid.n_layers)
    seen = _seen(given, offsets, range(1, conditions))
    network = EPiC(
        4,
        given.shape[1],
        width=settings.width,
        global_width=settings.global_width,
        layers=settings.layers,
        sum_scale=1.0 / most,
    )
    model: ConditionalDensity
    if settings.model == "edm":
        model = EDM(
            [most, 4], given.shape[1], network=network, P_mean=0.0, P_std=1.6, sigma_max=20.0, steps=settings.steps
        )
    else:
        model = FlowMatching([most, 4], given.shape[1], network=network, solver="midpoint", steps=settings.steps)
    return Preprocessed(chain, model, seen)


def _seen(context: Tensor, offsets: list[float], plain: range) -> Bijection:
    """Context as networks like it: logarithms, but for the plain columns, all standardised."""
    blocks: list[Bijection] = [Identity(1) if k in plain else Log(1, offset=o) for k, o in enumerate(offsets)]
    values = Columns(blocks).forward_and_log_det(context.double())[0]
    scale = values.std(0)
    scale = torch.where(scale > 1e-6, scale, torch.ones_like(scale))
    return Compose([Columns(blocks), Affine(len(offsets), shift=values.mean(0).tolist(), scale=scale.tolist())])


def fit_points_shape(
    settings: PointsShape,
    geometry: Geometry,
    train: TrainingData,
    validation: TrainingData,
    config: FitConfig,
    *,
    threshold: float,
    seed: int,
    checkpoint_dir: Path,
) -> PointsFit:
    """Train the numbers of points, then the points.

    Args:
        settings: Of the model.
        geometry: Of the voxels.
        train: Showers ``(N, V)`` [MeV] given ``(N, C + L)``.
        validation: The same, for the validation losses.
        config: Training of the points.
        threshold: Voxels are 0 or at least this [MeV].
        seed: Fixes everything.
        checkpoint_dir: Of both fits.

    Raises:
        UserError: Settings that do not fit the geometry.
        NonFiniteError: A training that fails numerically.
    """
    check_points(settings, geometry, config)
    assert train.context is not None
    started = time.monotonic()
    density = untrained(settings, geometry, train.x, train.context, threshold=threshold, seed=seed)
    first = fit(
        density.cloud.summary,
        TrainingData(density.summary(train.x), train.context),
        TrainingData(density.summary(validation.x), validation.context),
        settings.counts_training,
        seed=derive_seed(seed, "points", "counts"),
        checkpoint_dir=checkpoint_dir / "counts",
    )
    density.cloud.summary.load_state_dict(first.density.cpu().state_dict())
    second = fit(
        PointsStage(density),
        train,
        validation,
        config,
        seed=derive_seed(seed, "points", "fit"),
        checkpoint_dir=checkpoint_dir / "points",
    )
    trained = second.density.cpu()
    assert isinstance(trained, PointsStage)
    results = {"counts": first, "points": second}
    summary: dict[str, Any] = {
        name: {
            "epochs": int(result.history["epoch"].max()),
            "validation_loss": result.validation_loss,
            "selection": result.selection,
            "stopped": result.stopped_reason,
            "cpu_seconds": result.cpu_seconds,
        }
        for name, result in results.items()
    }
    summary |= {"seconds": time.monotonic() - started, "most_points": density.cloud.event_shape[0]}
    history = pd.concat([result.history.assign(part=name) for name, result in results.items()], ignore_index=True)
    return PointsFit(trained.showers.requires_grad_(True).eval(), history, summary)
