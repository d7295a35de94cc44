"""From the settings of a stage and its training data to the trained density."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from cathode.density.base import ConditionalDensity, NonFiniteError
from cathode.support.errors import UserError
from cathode.support.seeding import derive_seed
from cathode.training import FitConfig, TrainingData, fit
from fastsim.generators.autoregressive import autoregressive_energies, autoregressive_shape
from fastsim.generators.cyclic import turns_whole
from fastsim.generators.data import EnergyData, ShapeData
from fastsim.generators.order import rotation_blocks
from fastsim.generators.points.settings import PointsShape
from fastsim.generators.points.train import check_points, fit_points_shape
from fastsim.generators.settings import (
    AutoregressiveEnergies,
    AutoregressiveShape,
    EnergySettings,
    GeneratorSettings,
    ShapeSettings,
)
from fastsim.generators.shape import fit_framed_shape
from fastsim.generators.u_variables import u_variable_density
from fastsim.geometry import Geometry

__all__ = ["StageFit", "check_stages", "fit_energy", "fit_shape"]


@dataclass(frozen=True)
class StageFit:
    """A trained stage.

    Attributes:
        density: Of physical quantities [MeV].
        history: One row per epoch; None where nothing was trained step by step.
        summary: Plain numbers about the fit.
    """

    density: ConditionalDensity
    history: pd.DataFrame | None
    summary: dict[str, Any]


def check_stages(settings: GeneratorSettings, geometry: Geometry) -> None:
    """Refuse settings that the geometry has no room for, before anything is computed or written.

    Raises:
        UserError: A symmetry that the geometry does not have, layers that differ in a sequence, a patch transformer
            without a regular grid, or a model that cannot learn from streamed showers.
    """
    shape = settings.shape.model
    if isinstance(shape, AutoregressiveShape):
        if shape.symmetry != "none":
            rotation_blocks(geometry)
        if shape.structure == "sequence" and geometry.shape is None:
            raise UserError(f"shape.model.structure: layers of {geometry.name!r} differ, they cannot share one network")
        return
    if isinstance(shape, PointsShape):
        check_points(shape, geometry, settings.shape.training)
        if settings.data.stream:
            raise UserError("data.stream: the shape model 'points' needs all showers in memory; use fewer (data.rows)")
        return
    if shape.frame == "cyclic-copula" and not turns_whole(geometry):
        raise UserError(
            f"shape.model.frame: {geometry.name!r} cannot be turned as a whole, which 'cyclic-copula' needs"
        )
    if settings.data.stream:
        raise UserError(
            "data.stream: the shape model 'framed' looks at all showers at once; use 'autoregressive', or fewer "
            "showers (data.rows) without streaming"
        )
    if shape.network.kind == "patch-transformer" and geometry.shape is None:
        raise UserError(f"shape.model.network: {geometry.name!r} is no regular grid, which a patch transformer needs")


def fit_energy(
    settings: EnergySettings, data: EnergyData, *, threshold: float, seed: int, checkpoint_dir: Path
) -> StageFit:
    """Train the density of the layer energies ``(B, L)`` [MeV] given the context ``(B, C)``.

    Raises:
        UserError: Layer energies that no preprocessing can be fitted on, or a training that fails numerically.
    """
    train, model = data.train, settings.model
    assert train.context is not None
    density: ConditionalDensity
    if isinstance(model, AutoregressiveEnergies):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(seed, "energy", "weights"))
            density = autoregressive_energies(model, train.x, train.context, threshold=threshold)
    else:
        density = u_variable_density(model, train.x, train.context, threshold=threshold, seed=seed)
    return _fit(density, data, settings.training, "energy", seed=seed, checkpoint_dir=checkpoint_dir)


def fit_shape(
    settings: ShapeSettings,
    geometry: Geometry,
    data: ShapeData,
    *,
    threshold: float,
    seed: int,
    checkpoint_dir: Path,
) -> StageFit:
    """Train the density of the voxel energies ``(B, V)`` [MeV] given context and layer energies ``(B, C + L)``.

    Raises:
        UserError: Settings that do not fit the geometry or the data, or a training that fails numerically.
    """
    train, validation, model = data.train, data.validation, settings.model
    if isinstance(model, AutoregressiveShape):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(seed, "shape", "weights"))
            density = autoregressive_shape(model, geometry, data.context, some=data.some, threshold=threshold)
        return _fit(density, data, settings.training, "shape", seed=seed, checkpoint_dir=checkpoint_dir)
    if not isinstance(train, TrainingData) or not isinstance(validation, TrainingData):
        raise UserError("data.stream: this shape model needs all showers in memory")
    if isinstance(model, PointsShape):
        try:
            points = fit_points_shape(
                model,
                geometry,
                train,
                validation,
                settings.training,
                threshold=threshold,
                seed=seed,
                checkpoint_dir=checkpoint_dir,
            )
        except NonFiniteError as error:
            raise UserError(f"training of the shape stage: {error}") from error
        return StageFit(points.density, points.history, points.summary)
    assert train.context is not None
    assert validation.context is not None
    framed = fit_framed_shape(
        (train.x, train.context),
        (validation.x, validation.context),
        geometry=geometry,
        threshold=threshold,
        settings=model,
        fit_config=settings.training,
        seed=seed,
        checkpoint_dir=checkpoint_dir,
    )
    return StageFit(framed.density, framed.history, {"seconds": framed.seconds})


def _fit(
    density: ConditionalDensity,
    data: EnergyData | ShapeData,
    config: FitConfig,
    stage: str,
    *,
    seed: int,
    checkpoint_dir: Path,
) -> StageFit:
    own = derive_seed(seed, stage, "fit")
    try:
        result = fit(density, data.train, data.validation, config, seed=own, checkpoint_dir=checkpoint_dir)
    except NonFiniteError as error:
        raise UserError(f"training of the {stage} stage: {error}") from error
    return StageFit(result.density.cpu(), result.history, result.summary())
