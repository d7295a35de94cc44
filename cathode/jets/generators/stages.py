"""From the settings of a stage and its training data to the trained density."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from cathode.density.autoregressive import AutoregressiveMixture
from cathode.density.base import ConditionalDensity, NonFiniteError, Starting
from cathode.density.diffusion import EDM
from cathode.density.epic_gan import EPiCGAN
from cathode.density.lattice import LatticePoints, spread_points
from cathode.density.matching import FlowMatching
from cathode.density.mirrored import Mirrored
from cathode.density.multiplicity import DequantisedCount, capped_spread
from cathode.density.networks import EPiC, SetTransformer
from cathode.density.point_sequence import PointSequence
from cathode.density.preprocessed import Preprocessed
from cathode.jets.generators.context import MULTIPLICITY, SUMMARY, JetPoints, jet_columns
from cathode.jets.generators.data import JetTensors, LearningJets
from cathode.jets.generators.particle_features import particle_density
from cathode.jets.generators.preprocessing import context_bijection, point_bijection, summary_bijection
from cathode.jets.generators.settings import (
    ConstituentSettings,
    EDMPoints,
    EPiCGANPoints,
    EPiCSettings,
    FlowMatchingPoints,
    Frame,
    JetDataSettings,
    KinematicsSettings,
    MixedPoints,
    SequencePoints,
    SetTransformerSettings,
)
from cathode.support.errors import UserError
from cathode.support.seeding import derive_seed, torch_generator
from cathode.training import FitConfig, TrainingData, fit
from cathode.training.adversarial import AdversarialStep

__all__ = ["StageFit", "fit_constituents", "fit_kinematics"]

# Columns of the points and of the context (after the types) that change sign in a mirror of eta, and of phi.
_POSITIONS = (1, 2)
_ETA, _PHASES = SUMMARY.index("eta"), (len(SUMMARY) - 1, len(SUMMARY))


@dataclass(frozen=True)
class StageFit:
    """A trained stage.

    Attributes:
        density: Of what the generator needs, in its units.
        history: One row per epoch.
        summary: Plain numbers about the fit.
    """

    density: ConditionalDensity
    history: pd.DataFrame
    summary: dict[str, Any]


def fit_kinematics(
    settings: KinematicsSettings, data: LearningJets, *, seed: int, checkpoint_dir: Path | None
) -> StageFit:
    """Train the density of the summary ``(B, 5)`` given the types.

    Raises:
        UserError: A training that fails numerically.
    """
    train, model = data.train.kinematics(), settings.model
    counts = train.x[:, MULTIPLICITY]
    largest, least = data.train.points.shape[1], int(counts.min())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "kinematics", "weights"))
        inner = AutoregressiveMixture(
            len(SUMMARY), len(data.type_names), [model.hidden] * model.layers, model.components
        )
    spread = capped_spread(counts, largest)
    filler = DequantisedCount(inner, MULTIPLICITY, least, largest, spread)
    filled, _ = filler.fill(train.x, generator=torch_generator(seed, "kinematics", "fill"))
    bijection = summary_bijection(filled, knots=model.knots)
    density = DequantisedCount(Preprocessed(bijection, inner), MULTIPLICITY, least, largest, spread)
    return _fit(
        density, train, data.validation.kinematics(), settings.training, "kinematics", seed, checkpoint_dir, step=None
    )


def fit_constituents(
    settings: ConstituentSettings,
    data: LearningJets,
    *,
    description: JetDataSettings,
    seed: int,
    checkpoint_dir: Path | None,
) -> StageFit:
    """Train the density of the constituents ``(B, P, F)`` given types and summary.

    Args:
        settings: Of the stage.
        data: Jets.
        description: How they were read; says on which lattice some constituents are.
        seed: Of weights and training.
        checkpoint_dir: Of the training.

    Raises:
        UserError: A training that fails numerically.
    """
    types, cells = len(data.type_names), description.cells
    pitch, offset = (0.0, 0.0) if cells is None else (cells.pitch, cells.offset)
    train, validation = (_inside(part, types, pitch, offset) for part in (data.train, data.validation))
    assert train.context is not None
    model, step = settings.model, None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "constituents", "weights"))
        if isinstance(model, SequencePoints):
            density: ConditionalDensity = _sequence(model, train, types, pitch)
        elif isinstance(model, MixedPoints):
            density = _mixed(model, train, types, description)
        else:
            filling = torch_generator(seed, "constituents", "fill")
            density = _unordered(model, train, types, pitch, generator=filling)
            if isinstance(model, EPiCGANPoints):
                step = AdversarialStep(train.mean_weight)
    if isinstance(density, Starting):
        density.initialise(train.x, train.context)
    # The adversarial game is played on fixed images of the jets: mirrored and spread over cells once.
    outer = density
    if isinstance(model, EPiCGANPoints):
        outer, density, train, validation = _unwrapped(density, train, validation, seed)
    made = _fit(density, train, validation, settings.training, "constituents", seed, checkpoint_dir, step=step)
    whole = made.density if outer is density else _with_inner(outer, made.density)
    return StageFit(JetPoints(whole, types, pitch, offset), made.history, made.summary)


def _inside(part: JetTensors, types: int, pitch: float, offset: float) -> TrainingData:
    """Training data with the context as :class:`JetPoints` hands it on."""
    data = part.constituents()
    assert data.context is not None
    return TrainingData(data.x, jet_columns(data.context, types, pitch, offset), data.mask)


def _mirrors(types: int, pitch: float) -> tuple[list[list[int]], list[list[int]]]:
    """Columns of points and of the context that change sign, for eta and for phi."""
    contexts = [[types + _ETA], []]
    if pitch > 0:
        contexts = [[types + _ETA, types + _PHASES[0]], [types + _PHASES[1]]]
    return [[column] for column in _POSITIONS], contexts


def _sequence(model: SequencePoints, train: TrainingData, types: int, pitch: float) -> ConditionalDensity:
    assert train.context is not None
    density = PointSequence(
        train.x.shape[1],
        train.context.shape[1],
        flag=pitch > 0,
        width=model.width,
        heads=model.heads,
        blocks=model.blocks,
        expansion=model.expansion,
        components=model.components,
        amount_components=model.amount_components,
        head_width=model.head_width,
        position_scale=model.scale,
        near=model.near,
        radius=model.radius,
        count_column=types + MULTIPLICITY,
        spread_column=types + SUMMARY.index("log_mass_ratio"),
        floor=model.floor,
        scale_column=types + SUMMARY.index("log_pt"),
        pitch=pitch,
        phase_columns=[types + column for column in _PHASES] if pitch > 0 else None,
        low_precision=model.low_precision,
    )
    return Mirrored(density, *_mirrors(types, pitch)) if model.mirror else density


def _mixed(model: MixedPoints, train: TrainingData, types: int, description: JetDataSettings) -> ConditionalDensity:
    assert train.context is not None
    assert train.mask is not None
    assert description.extras is not None
    places, columns, features = train.x.shape[1], train.context.shape[1], description.extras
    ordered = model.frame.ordered
    return particle_density(
        train.x,
        train.mask,
        train.context,
        features=features,
        frame=point_bijection(3, places, ordered=ordered, scale=model.frame.scale),
        network=_network(model.network, features.network_features, columns, places if ordered else 0),
        context_bijection=context_bijection(train.context),
        mirrors=_mirrors(types, 0.0)[1] if model.frame.mirror else None,
        steps=model.steps,
        solver=model.solver,
        class_weight=model.class_weight,
    )


def _unordered(
    model: FlowMatchingPoints | EDMPoints | EPiCGANPoints,
    train: TrainingData,
    types: int,
    pitch: float,
    *,
    generator: torch.Generator,
) -> ConditionalDensity:
    """Mirrored( on the lattice( behind a change of variables( flow matching, diffusion or GAN)))."""
    assert train.context is not None
    places, features = train.x.shape[1:]
    columns = train.context.shape[1]
    frame = model.frame if not isinstance(model, EPiCGANPoints) else Frame(False, model.scale, model.mirror)
    x = train.x
    if pitch > 0:
        x = spread_points(x, pitch, _POSITIONS, features - 1, mask=train.mask, generator=generator)
    bijection = point_bijection(features, places, ordered=frame.ordered, scale=frame.scale).fit(x, mask=train.mask)
    density: ConditionalDensity
    if isinstance(model, EPiCGANPoints):
        density = EPiCGAN(
            places,
            features,
            columns,
            width=model.width,
            global_width=model.global_width,
            layers=model.layers,
            discriminator_layers=model.discriminator_layers,
        )
    else:
        network = _network(model.network, features, columns, places if frame.ordered else 0)
        if isinstance(model, FlowMatchingPoints):
            density = FlowMatching(
                [places, features],
                columns,
                network=network,
                solver=model.solver,
                steps=model.steps,
                time_sampling=model.time_sampling,
            )
        else:
            density = EDM(
                [places, features], columns, network=network, solver=model.solver, steps=model.steps, double_state=False
            )
    density = Preprocessed(bijection, density, context_bijection(train.context))
    if pitch > 0:
        density = LatticePoints(density, pitch, list(_POSITIONS), features - 1)
    events, contexts = _mirrors(types, pitch)
    return Mirrored(density, events, contexts) if frame.mirror else density


def _network(
    settings: EPiCSettings | SetTransformerSettings, features: int, columns: int, places: int
) -> EPiC | SetTransformer:
    if isinstance(settings, EPiCSettings):
        return EPiC(
            features,
            columns,
            width=settings.width,
            global_width=settings.global_width,
            layers=settings.layers,
            activation=settings.activation,
            places=places,
        )
    return SetTransformer(
        features,
        columns,
        width=settings.width,
        heads=settings.heads,
        blocks=settings.blocks,
        expansion=settings.expansion,
        activation=settings.activation,
        places=places,
    )


def _unwrapped(
    density: ConditionalDensity, train: TrainingData, validation: TrainingData, seed: int
) -> tuple[ConditionalDensity, ConditionalDensity, TrainingData, TrainingData]:
    """What is inside mirrors and lattice, with the data as it sees them; and the whole."""
    inner, parts = density, [train, validation]
    generator = torch_generator(seed, "constituents", "images")
    while isinstance(inner, (Mirrored, LatticePoints)):
        for k, part in enumerate(parts):
            if isinstance(inner, Mirrored):
                parts[k] = TrainingData(*inner.mirror(part.x, part.context, generator=generator), part.mask)
            else:
                filled = inner.fill(part.x, mask=part.mask, generator=generator)
                parts[k] = TrainingData(filled, part.context, part.mask)
        inner = inner.density
    return density, inner, parts[0], parts[1]


def _with_inner(outer: ConditionalDensity, inner: ConditionalDensity) -> ConditionalDensity:
    if isinstance(outer, Mirrored):
        return Mirrored(_with_inner(outer.density, inner), outer.events, outer.contexts).eval()
    if isinstance(outer, LatticePoints):
        return LatticePoints(_with_inner(outer.density, inner), outer.pitch, outer.columns, outer.flag).eval()
    return inner


def _fit(
    density: ConditionalDensity,
    train: TrainingData,
    validation: TrainingData,
    config: FitConfig,
    stage: str,
    seed: int,
    checkpoint_dir: Path | None,
    *,
    step: AdversarialStep | None,
) -> StageFit:
    own = derive_seed(seed, stage, "fit")
    try:
        result = fit(density, train, validation, config, seed=own, checkpoint_dir=checkpoint_dir, step=step)
    except NonFiniteError as error:
        raise UserError(f"training of the {stage} stage: {error}") from error
    return StageFit(result.density.cpu(), result.history, result.summary())
