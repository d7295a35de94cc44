"""The background density: p(features | mass), learned in the sidebands, never in the signal region."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from cathode.data.events import Events
from cathode.data.regions import Regions
from cathode.density.base import ConditionalDensity, Tractable, log_prob
from cathode.density.bijections import Bijection, Compose, Log, Standardize, cathode_chain
from cathode.density.diffusion import EDM
from cathode.density.ensemble import Ensemble
from cathode.density.folder import load_density, save_density
from cathode.density.matching import FlowMatching
from cathode.density.preprocessed import Preprocessed
from cathode.density.registry import build
from cathode.search.results import DensitySummary
from cathode.search.settings import DensitySettings
from cathode.search.tasks import Runner, Task
from cathode.support.errors import UserError
from cathode.support.seeding import derive_seed, numpy_generator
from cathode.training import TrainingData, fit

__all__ = ["Background", "SidebandSplit", "fit_background", "fit_member", "gaussian_nll", "held_out", "split_sidebands"]

Array = NDArray[np.float64]
_SMALLEST_BATCH = 64


@dataclass(frozen=True)
class SidebandSplit:
    """Sideband events as one member of the ensemble sees them: fitted, used to choose epochs, and never seen."""

    train: Events
    validation: Events
    test: Events


def split_sidebands(
    events: Events, regions: Regions, settings: DensitySettings, *, seed: int
) -> tuple[SidebandSplit, ...]:
    """Random splits of the sideband events, one per member of the ensemble.

    The test parts do not overlap, so that together they are a sample of up to all sideband events in which every event
    is compared with a density that never saw it: cross-fitting, as for the classifier.
    """
    sideband = events.select(regions.in_sideband(events.mass))
    total = len(sideband)
    order = numpy_generator(seed, "sideband split").permutation(total)
    n_test = min(round(settings.test_fraction * total), total // settings.members)
    n_validation = round(settings.validation_fraction * total)
    splits = []
    for member in range(settings.members):
        rolled = np.roll(order, -member * n_test)
        splits.append(
            SidebandSplit(
                train=sideband.select(rolled[n_test + n_validation :]),
                validation=sideband.select(rolled[n_test : n_test + n_validation]),
                test=sideband.select(rolled[:n_test]),
            )
        )
    return tuple(splits)


def held_out(splits: Sequence[SidebandSplit]) -> tuple[Events, NDArray[np.int64]]:
    """The test parts of all members together, and the member that did not see each event ``(N,)``."""
    member = np.repeat(np.arange(len(splits)), [len(s.test) for s in splits])
    return Events.concatenate([s.test for s in splits]), member


@dataclass(frozen=True)
class Background:
    """The fitted density and what is known of its quality.

    Attributes:
        density: Mixture of the members, in the units of the features, with the mass in TeV as context.
        summary: Numbers for the report.
        lowest, highest: Range of the sideband training events ``(D,)``.
        clipped: Validation events moved into the domain of the preprocessing.
        rejected: Sideband events left out because the preprocessing masks the edges.
    """

    density: ConditionalDensity
    members: tuple[ConditionalDensity, ...]
    summary: DensitySummary
    lowest: Array
    highest: Array
    clipped: int
    rejected: int


def fit_background(
    splits: Sequence[SidebandSplit], settings: DensitySettings, runner: Runner, *, seed: int
) -> Background:
    """Fit one density per split, each a task of its own, and join them.

    Raises:
        UserError: A feature that is constant in the sidebands, or a fit that does not converge.
    """
    tasks = [
        Task(
            f"density-{member}",
            fit_member,
            {
                "train_x": split.train.features,
                "train_mass": split.train.mass,
                "train_weight": split.train.weight,
                "validation_x": split.validation.features,
                "validation_mass": split.validation.mass,
                "validation_weight": split.validation.weight,
                "settings": replace(settings, members=1),
                "seed": derive_seed(seed, "density", member),
            },
        )
        for member, split in enumerate(splits)
    ]
    folders = runner.run(tasks, description="background density")
    members = tuple(load_density(folder / "model") for folder in folders)
    infos = [json.loads((folder / "fit.json").read_text()) for folder in folders]
    histories = [pd.read_csv(folder / "history.csv") for folder in folders]
    # Every member is judged by events it did not see; the mixture of all has seen every event.
    values = np.concatenate([np.load(folder / "validation_nll.npy") for folder in folders])
    summary = DensitySummary(
        name=f"{settings.model.kind} × {len(members)}",
        validation_nll=float(np.mean(values)),
        validation_nll_error=float(np.std(values) / np.sqrt(len(values)))
        if len(values) > len(members)
        else float("nan"),
        gaussian_nll=float(np.mean([gaussian_nll(split.train, split.validation) for split in splits])),
        seconds=max(i["seconds"] for i in infos),
        cpu_seconds=sum(i["cpu_seconds"] for i in infos),
        histories=histories,
    )
    return Background(
        density=Ensemble(members) if len(members) > 1 else members[0],
        members=members,
        summary=summary,
        lowest=np.min([split.train.features.min(0) for split in splits], axis=0),
        highest=np.max([split.train.features.max(0) for split in splits], axis=0),
        clipped=max(i["clipped"] for i in infos),
        rejected=max(i["rejected"] for i in infos),
    )


def _nll_values(density: ConditionalDensity, x: Array, mass: Array, loss: float) -> Array:
    """Negative log-density of each validation event that the preprocessing keeps, or the mean loss of all."""
    if not isinstance(density, Tractable):
        return np.array([loss])
    # Exact ODE log-densities are two orders slower than a network pass: a subset is enough for a number in a table.
    slow = any(isinstance(m, (FlowMatching, EDM)) for m in density.modules())
    rows = slice(0, 2000 if slow else None)
    values = -log_prob(density, torch.as_tensor(x[rows]).float(), torch.as_tensor(mass[rows, None]).float())
    return values[torch.isfinite(values)].double().numpy()


def fit_member(
    folder: Path,
    *,
    train_x: Array,
    train_mass: Array,
    train_weight: Array | None,
    validation_x: Array,
    validation_mass: Array,
    validation_weight: Array | None,
    settings: DensitySettings,
    seed: int,
) -> None:
    """Fit one density and leave it in ``folder / "model"``; continues from the checkpoints of a killed call.

    The data are transformed once, not in every batch: the network trains on preprocessed features, and the constant
    mean log-determinant turns its losses into nats in the units of the features.
    """
    x, x_validation = torch.as_tensor(train_x), torch.as_tensor(validation_x)
    mass, mass_validation = torch.as_tensor(train_mass)[:, None], torch.as_tensor(validation_mass)[:, None]
    chain = _chain(settings, x.shape[1]).fit(x)
    context_chain = Compose([Log(1), Standardize(1)]).fit(mass)

    def prepare(x: torch.Tensor, mass: torch.Tensor, weight: Array | None) -> tuple[TrainingData, float]:
        keep = ~chain.rejects(x)
        z, log_det = chain.forward_and_log_det(x[keep])
        context, _ = context_chain.forward_and_log_det(mass[keep])
        weights = None if weight is None else torch.as_tensor(weight)[keep]
        shift = float(log_det.mean()) if weights is None else float((log_det * weights).sum() / weights.sum())
        data = TrainingData(z.float(), context.float(), weight=None if weights is None else weights.float())
        return data, shift

    train, train_shift = prepare(x, mass, train_weight)
    validation, validation_shift = prepare(x_validation, mass_validation, validation_weight)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "initial weights"))
        inner = build(_description(settings, x.shape[1]))
    if not isinstance(inner, ConditionalDensity):
        raise TypeError(f"{settings.model.kind} is not a density")
    # Few events in large batches would be few steps: an epoch keeps about a hundred.
    batch_size = min(settings.training.batch_size, max(_SMALLEST_BATCH, len(train) // 100))
    result = fit(
        inner,
        train,
        validation,
        replace(settings.training, batch_size=batch_size),
        seed=derive_seed(seed, "training"),
        checkpoint_dir=folder / "checkpoint",
    )
    history = result.history.copy()
    if getattr(inner, "loss_is_nll", False):
        history["train_loss"] -= train_shift
        history["validation_loss"] -= validation_shift
    density = Preprocessed(chain, result.density.cpu(), context_bijection=context_chain)
    save_density(density, folder / "model", history=history)
    history.to_csv(folder / "history.csv", index=False)
    values = _nll_values(density, validation_x, validation_mass, float(history["validation_loss"].min()))
    np.save(folder / "validation_nll.npy", values)
    info = {
        "seconds": result.seconds,
        "cpu_seconds": result.cpu_seconds,
        "rejected": len(x) - len(train) + len(x_validation) - len(validation),
        "clipped": int(chain.out_of_domain(x_validation).sum()) if settings.preprocessing == "logit" else 0,
        "non_finite_batches": result.non_finite_batches,
        "stopped": result.stopped_reason,
    }
    (folder / "fit.json").write_text(json.dumps(info))


def _chain(settings: DensitySettings, features: int) -> Bijection:
    if settings.preprocessing == "cathode":
        return cathode_chain(features)
    if settings.preprocessing == "standardize":
        return Standardize(features)
    return cathode_chain(features, policy="clip", margin=settings.margin)


def _description(settings: DensitySettings, features: int) -> dict[str, Any]:
    """What ``build`` needs for the model of ``settings``."""
    model = {k: list(v) if isinstance(v, tuple) else v for k, v in vars(settings.model).items()}
    kind = model.pop("kind")
    if kind in ("flow-matching", "edm"):
        hidden = model.pop("hidden")
        network = {"kind": "mlp", "features": features, "context_features": 1, "hidden": hidden}
        return {"kind": kind, "event_shape": [features], "context_features": 1, "network": network, **model}
    return {"kind": kind, "features": features, "context_features": 1, **model}


def gaussian_nll(train: Events, validation: Events) -> float:
    """NLL of the simplest background: a Gaussian whose mean is linear in the mass, nats per event.

    Raises:
        UserError: Features that are linearly dependent.
    """
    design = np.stack([np.ones(len(train)), train.mass], 1)
    coefficients, *_ = np.linalg.lstsq(design, train.features, rcond=None)
    covariance = np.atleast_2d(np.cov(train.features - design @ coefficients, rowvar=False))
    sign, log_det = np.linalg.slogdet(covariance)
    if sign <= 0:
        raise UserError(
            f"the features {', '.join(train.names)} are linearly dependent in the sidebands: leave one of them out"
        )
    rest = validation.features - np.stack([np.ones(len(validation)), validation.mass], 1) @ coefficients
    distance = np.einsum("ni,ij,nj->n", rest, np.linalg.inv(covariance), rest)
    return float(0.5 * (distance.mean() + log_det + train.features.shape[1] * np.log(2 * np.pi)))
