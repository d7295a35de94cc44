"""Showers from a trained generator: any number, in constant memory, the same for every batch size and after a kill."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cathode.density.noise import NoiseRows
from cathode.support.errors import UserError
from cathode.support.progress import progress
from cathode.support.seeding import derive_seed, torch_generator
from fastsim.data import Showers
from fastsim.generators.generator import ShowerGenerator

__all__ = ["Generated", "check_incident", "generate", "generate_chunks"]

logger = logging.getLogger(__name__)

_ATTEMPTS = 5
# Energies that are mostly so far below those of the training, and within them when multiplied by 1000, are in GeV.
_FAR_BELOW = 0.1
# No calorimeter sees ten times the energy that enters it; fluctuations of the sampling reach about three.
_LARGEST_RESPONSE = 10.0


@dataclass(frozen=True)
class Generated:
    """Generated showers and how they came about.

    Attributes:
        showers: ``N`` showers.
        redrawn: How many times a shower was drawn again because it was not finite or had an impossible energy.
        seconds: Time in the generator, noise included.
    """

    showers: Showers
    redrawn: int
    seconds: float


def check_incident(
    generator: ShowerGenerator, incident_energy: NDArray[np.floating], conditions: NDArray[np.floating] | None
) -> Tensor:
    """Context ``(N, C)`` of the generator; values outside the range of its training are pointed out in the log.

    Args:
        generator: Trained.
        incident_energy: ``(N,)`` or ``(N, 1)`` [MeV].
        conditions: ``(N, K)``, the generator's further conditions; None when it has none.

    Raises:
        UserError: Energies that are not positive and finite or look like GeV, or conditions that do not fit.
    """
    incident = np.asarray(incident_energy, dtype=np.float32).reshape(-1, 1)
    if not bool(np.all(np.isfinite(incident) & (incident > 0))):
        raise UserError("incident energies must be positive and finite, in MeV")
    names = generator.condition_names
    further = np.zeros((len(incident), 0)) if conditions is None else np.asarray(conditions)
    if further.shape != (len(incident), len(names)):
        raise UserError(
            f"this generator is conditioned on {', '.join(['the incident energy', *names])}; got {len(incident)} "
            f"energies and further conditions of shape {further.shape}"
        )
    if not bool(np.isfinite(further).all()):
        raise UserError("conditions must be finite")
    low, high = generator.incident_range
    middle = float(np.median(incident)) if len(incident) else low
    if middle < _FAR_BELOW * low and low <= 1e3 * middle <= high:
        raise UserError(
            f"incident energies of {incident.min():g} to {incident.max():g} look like GeV beside the {low:g} to "
            f"{high:g} MeV of the training: give them in MeV"
        )
    outside = int(((incident < low * (1 - 1e-6)) | (incident > high * (1 + 1e-6))).sum())
    if outside:
        logger.warning(
            "%d of %d incident energies are outside of %g to %g MeV, where the generator was trained",
            outside,
            len(incident),
            low,
            high,
        )
    for name, column, (least, most) in zip(names, further.T, generator.condition_ranges, strict=False):
        strange = int(((column < least - 1e-6 * abs(least)) | (column > most + 1e-6 * abs(most))).sum())
        if strange:
            logger.warning(
                "%s of %d of %d showers are outside of %g to %g, where the generator was trained",
                name,
                strange,
                len(column),
                least,
                most,
            )
    return torch.from_numpy(np.concatenate([incident, further], 1).astype(np.float32))


def generate_chunks(
    generator: ShowerGenerator, context: Tensor, *, seed: int, batch_size: int = 1000, first: int = 0
) -> Iterator[Generated]:
    """Showers of the context rows from ``first`` on, batch by batch; arguments as :func:`generate`."""
    if batch_size < 1:
        raise UserError(f"the batch size must be positive, got {batch_size}")
    device = next(generator.parameters()).device
    if seed < 0:
        raise UserError(f"the seed must not be negative, got {seed}")
    generator.eval()
    noise_of = NoiseRows(generator, seed, "showers")
    for start in range(first, len(context), batch_size):
        stop = min(start + batch_size, len(context))
        before = time.perf_counter()
        noise = noise_of.rows(start, stop).to(device)
        rows = context[start:stop].to(device)
        with torch.no_grad():
            showers = generator.decode(noise, rows)
            redrawn = 0
            bad = _unphysical(showers, rows)
            for attempt in range(1, _ATTEMPTS + 1):
                where = bad.nonzero()[:, 0]
                if not len(where):
                    break
                redrawn += len(where)
                seeds = [derive_seed(seed, "redraw", start + int(i), attempt) for i in where]
                again = torch.cat([generator.noise(1, generator=torch_generator(s)) for s in seeds]).to(device)
                showers[where] = generator.decode(again, rows[where])
                bad = _unphysical(showers, rows)
        if bool(bad.any()):
            raise UserError(
                f"{int(bad.sum())} of {len(rows)} showers are still not physical after {_ATTEMPTS} draws: "
                "the generator is not trained for these conditions"
            )
        seconds = time.perf_counter() - before
        values = rows.cpu().numpy()
        part = Showers.unchecked(
            values[:, :1],
            showers.float().cpu().numpy(),
            generator.geometry,
            values[:, 1:] if generator.condition_names else None,
            generator.condition_names,
        )
        yield Generated(part, redrawn, seconds)


def generate(
    generator: ShowerGenerator,
    incident_energy: NDArray[np.floating],
    conditions: NDArray[np.floating] | None = None,
    *,
    seed: int,
    batch_size: int = 1000,
) -> Generated:
    """One shower for each incident energy.

    Args:
        generator: Trained.
        incident_energy: ``(N,)`` or ``(N, 1)`` [MeV].
        conditions: ``(N, K)``, the generator's further conditions.
        seed: Fixes the showers, whatever the batch size (up to rounding).
        batch_size: Showers generated at once.

    Raises:
        UserError: Unusable energies or conditions, or showers that stay unphysical.
    """
    context = check_incident(generator, incident_energy, conditions)
    parts = []
    with progress(description="generating", total=len(context), unit="shower") as bar:
        for part in generate_chunks(generator, context, seed=seed, batch_size=batch_size):
            parts.append(part)
            bar.update(len(part.showers))
    if not parts:
        raise UserError("no incident energies: there is nothing to generate")
    return Generated(
        Showers.concatenate([p.showers for p in parts]), sum(p.redrawn for p in parts), sum(p.seconds for p in parts)
    )


def _unphysical(showers: Tensor, context: Tensor) -> Tensor:
    total = showers.sum(1)
    return ~torch.isfinite(total) | (total > _LARGEST_RESPONSE * context[:, 0])
