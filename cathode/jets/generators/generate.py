"""Jets from a trained generator: any number, in constant memory, the same for every batch size."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from cathode.density.base import NonFiniteError
from cathode.jets.generators.conserve import conserve
from cathode.jets.generators.context import axis_of, summary_of
from cathode.jets.generators.generator import JetGenerator
from cathode.jets.schema import Jets
from cathode.support.errors import UserError
from cathode.support.progress import progress
from cathode.support.seeding import derive_seed, numpy_generator

__all__ = ["Conditions", "GeneratedJets", "conditions_like", "drawn_conditions", "generate", "generate_chunks"]

logger = logging.getLogger(__name__)

# Jets that are generated and made physical at once, in double precision.
_CHUNK = 16384
# Of the radius in training: beyond it the arcsinh turns a small overshoot into a constituent far away.
_FARTHEST = 1.2


@dataclass(frozen=True)
class Conditions:
    """What jets are asked for.

    Attributes:
        summary: ``(N, 5)``, see :data:`cathode.jets.generators.context.SUMMARY`; None: the generator draws it.
        types: ``(N, K)``, one column for each type of the generator; None without types.
        count: N.
    """

    summary: Tensor | None
    types: Tensor | None
    count: int


@dataclass(frozen=True)
class GeneratedJets:
    """Generated jets and how they came about.

    Attributes:
        jets: With the axes that were asked for or drawn.
        seconds: In the generator, noise included.
        inexact: Jets whose constituents should but cannot be made to add up to them; these have the right pT.
    """

    jets: Jets
    seconds: float
    inexact: int


def conditions_like(generator: JetGenerator, jets: Jets) -> Conditions:
    """The kinematics, multiplicities and types of ``jets``, which must have at most the generator's constituents.

    Raises:
        UserError: Jets without a pT or with too many constituents, of no type or of unknown ones.
    """
    counts = jets.multiplicity()
    if len(jets) == 0 or not bool((jets.axis[:, 0] > 0).all()):
        raise UserError(f"{int((jets.axis[:, 0] <= 0).sum())} of {len(jets)} jets have no pT: remove them")
    if int(counts.max()) > generator.particles:
        raise UserError(
            f"jets with {int(counts.max())} constituents: the generator makes at most {generator.particles}; keep the "
            f"leading ones"
        )
    types = None
    if generator.types:
        if jets.type is None:
            raise UserError(f"this generator makes jets of the types {list(generator.types)}: the jets have no type")
        types = _type_columns(generator, jets.type)
    summary = torch.from_numpy(summary_of(jets.axis, counts))
    _point_out(generator, summary)
    return Conditions(summary, types, len(jets))


def drawn_conditions(generator: JetGenerator, count: int, *, seed: int, jet_type: int | None = None) -> Conditions:
    """``count`` jets whose kinematics the generator draws, of one type or of all in the shares of the training.

    Raises:
        UserError: An unknown type, or one for a generator without types.
    """
    if count < 1:
        raise UserError(f"the number of jets must be positive, got {count}")
    if not generator.types:
        if jet_type is not None:
            raise UserError(f"type {jet_type}: this generator knows no types of jets")
        return Conditions(None, None, count)
    if jet_type is not None:
        chosen = np.full(count, jet_type)
    else:
        shares = np.asarray(generator.type_shares)
        chosen = numpy_generator(derive_seed(seed, "types")).choice(
            np.asarray(generator.types), size=count, p=shares / shares.sum()
        )
    return Conditions(None, _type_columns(generator, chosen), count)


def _type_columns(generator: JetGenerator, types: ArrayLike) -> Tensor:
    columns = np.asarray(types)[:, None] == np.asarray(generator.types)
    if not bool(columns.any(1).all()):
        unknown = sorted(set(np.asarray(types)[~columns.any(1)].tolist()))
        raise UserError(f"types {unknown}: this generator knows {list(generator.types)}")
    return torch.from_numpy(columns.astype(np.float32))


def _point_out(generator: JetGenerator, summary: Tensor) -> None:
    """Log kinematics outside of the training's."""
    for name, column, (low, high) in zip(("pT", "eta", "mass"), summary.T, generator.ranges, strict=False):
        margin = 1e-5 * max(abs(low), abs(high), 1.0)
        outside = int(((column < low - margin) | (column > high + margin)).sum())
        if outside:
            logger.warning("%s of %d of %d jets are outside of the training's range", name, outside, len(column))


def generate_chunks(
    generator: JetGenerator,
    conditions: Conditions,
    *,
    seed: int,
    batch_size: int = 1000,
    chunk: int = _CHUNK,
    leading: int | None = None,
) -> Iterator[GeneratedJets]:
    """The jets of :func:`generate`, at most ``chunk`` at a time.

    With ``leading`` only so many constituents of each, from a generator that makes them by falling pT; the rest being
    unknown, nothing is conserved.
    """
    if leading is not None and not (leading >= 1 and getattr(generator.cloud.points, "in_order", False)):
        raise UserError("leading: only a generator that draws constituents by falling pT can leave out the others")
    if batch_size < 1 or seed < 0:
        raise UserError(f"the batch size must be positive and the seed not negative, got {batch_size} and {seed}")
    generator.eval()
    for start in range(0, conditions.count, chunk):
        stop = min(start + chunk, conditions.count)
        began = time.perf_counter()
        summary, types = (None if v is None else v[start:stop] for v in (conditions.summary, conditions.types))
        try:
            made = generator.cloud.generate(
                types, count=stop - start, summary=summary, seed=seed, batch=batch_size, first=start, leading=leading
            )
        except NonFiniteError as error:
            raise UserError(f"{error}: the generator is not trained for these conditions") from error
        axis = axis_of(made.summary.numpy())
        mask = made.mask.numpy()
        relative, inexact = _physical(
            generator, made.points.numpy().astype(np.float64), mask, axis, whole=leading is None
        )
        kind = None
        if types is not None:
            kind = np.asarray(generator.types)[types.argmax(1).numpy()]
        extras = None if generator.extras is None else generator.extras.split(made.points.numpy()[..., 3:], mask)
        jets = Jets.from_relative(relative, mask, axis, extras, kind)
        yield GeneratedJets(jets, time.perf_counter() - began, inexact)


def generate(
    generator: JetGenerator, conditions: Conditions | int, *, seed: int, batch_size: int = 1000
) -> GeneratedJets:
    """Jets for conditions, or any number of them.

    Args:
        generator: Trained.
        conditions: From :func:`conditions_like`, or how many jets to draw.
        seed: Fixes the jets, whatever the batch size (up to rounding).
        batch_size: Jets decoded at once.

    Raises:
        UserError: Unusable conditions or sizes, or jets that are not finite.
    """
    if isinstance(conditions, int):
        conditions = drawn_conditions(generator, conditions, seed=seed)
    parts = []
    with progress(description="generating", total=conditions.count, unit="jet") as bar:
        for part in generate_chunks(generator, conditions, seed=seed, batch_size=batch_size):
            parts.append(part)
            bar.update(len(part.jets))
    return GeneratedJets(
        Jets.concatenate([p.jets for p in parts]), sum(p.seconds for p in parts), sum(p.inexact for p in parts)
    )


def _physical(
    generator: JetGenerator,
    points: NDArray[np.float64],
    mask: NDArray[np.bool_],
    axis: NDArray[np.float64],
    *,
    whole: bool = True,
) -> tuple[NDArray[np.float64], int]:
    """Relative coordinates ``(N, P, 3)`` of what a detector could have seen, and the jets that do not add up."""
    relative = points[..., :3]
    farthest = _FARTHEST * generator.radius
    relative[..., 1:] = relative[..., 1:].clip(-farthest, farthest)
    # A constituent has a positive pT that float32 can hold, and less than the sum of all has.
    relative[..., 0] = np.where(mask, relative[..., 0].clip(1e-9, 2.0), 0.0)
    if generator.cells is not None:
        snapped = generator.cells.snap(relative[..., 1:], axis[:, 1:3])
        relative[..., 1:] = np.where(points[..., 3:] > 0.5, snapped, relative[..., 1:])
    relative[~mask] = 0.0
    if generator.conserve == "none" or not whole:
        return relative, 0
    movable = None if generator.cells is None else points[..., 3] <= 0.5
    done = conserve(relative, mask, axis, mass=generator.conserve == "momentum", movable=movable)
    # The smallest weights may vanish in float32.
    done.relative[..., 0] = np.where(mask, np.maximum(done.relative[..., 0], 1e-9), 0.0)
    return done.relative, int((~done.exact).sum())
