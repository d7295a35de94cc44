"""A detector in a few lines: acceptance, energy resolution and granularity, particle by particle.

Charged particles keep their direction and have their pT smeared.  Photons and neutral hadrons are summed in cells of
their calorimeter, the sum is smeared, and the object sits at the centre of the cell.  All objects are massless.  The
response is log-normal with mean 1 and the relative resolution sigma of the settings, so it has no bias and is never
negative::

    E' = E exp(s z - s^2 / 2),   s^2 = ln(1 + sigma^2),   z ~ N(0, 1)

Neutrinos are invisible; electrons and muons count as charged particles.  There is no magnetic field, no shower
sharing between cells and no pile-up.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cathode.jets.generate.settings import DetectorSettings

__all__ = ["CHARGED", "NEUTRAL_HADRON", "PHOTON", "detect", "smear"]

Floats = NDArray[np.float64]

CHARGED, PHOTON, NEUTRAL_HADRON = 0, 1, 2


def smear(values: Floats, relative: Floats, generator: np.random.Generator) -> Floats:
    """Multiply ``values`` by log-normal responses of mean 1 and standard deviation ``relative`` (same shape)."""
    log_variance = np.log1p(relative**2)
    return values * np.exp(np.sqrt(log_variance) * generator.standard_normal(values.shape) - 0.5 * log_variance)


def detect(
    event: NDArray[np.int64],
    kind: NDArray[np.int64],
    momenta: Floats,
    *,
    n_events: int,
    settings: DetectorSettings,
    generator: np.random.Generator,
) -> Floats:
    """What the detector sees of a batch of events.

    Args:
        event: ``(K,)``: the event in ``0 .. n_events-1`` of each visible particle.
        kind: ``(K,)``: :data:`CHARGED`, :data:`PHOTON` or :data:`NEUTRAL_HADRON`.
        momenta: ``(K, 4)``: px, py, pz, E [GeV].
        n_events: Number of events.
        settings: Acceptance, resolutions, cells.
        generator: Source of the smearing.

    Returns:
        ``(n_events, P, 3)``: pT [GeV], eta, phi of massless objects by falling pT, zero-padded to the largest event.
    """
    pt = np.hypot(momenta[:, 0], momenta[:, 1])
    eta = np.arcsinh(np.divide(momenta[:, 2], pt, out=np.full_like(pt, np.inf), where=pt > 0))
    phi = np.arctan2(momenta[:, 1], momenta[:, 0])
    inside = np.abs(eta) < settings.eta_max
    tracks = inside & (kind == CHARGED) & (pt > settings.pt_min_gev)
    if settings.track_efficiency < 1:
        tracks &= generator.random(len(pt)) < settings.track_efficiency
    pieces = [_tracks(event[tracks], pt[tracks], eta[tracks], phi[tracks], settings, generator)]
    calorimeters = {
        PHOTON: (settings.photon_cell, settings.photon_stochastic, settings.photon_constant),
        NEUTRAL_HADRON: (settings.neutral_cell, settings.neutral_stochastic, settings.neutral_constant),
    }
    for which, (cell, stochastic, constant) in calorimeters.items():
        chosen = inside & (kind == which)
        pieces.append(
            _cells(event[chosen], momenta[chosen, 3], eta[chosen], phi[chosen], cell, stochastic, constant, generator)
        )
    owner = np.concatenate([piece[0] for piece in pieces])
    objects = np.concatenate([piece[1] for piece in pieces])
    seen = objects[:, 0] > settings.pt_min_gev
    return _padded(owner[seen], objects[seen], n_events)


def _tracks(
    event: NDArray[np.int64],
    pt: Floats,
    eta: Floats,
    phi: Floats,
    settings: DetectorSettings,
    generator: np.random.Generator,
) -> tuple[NDArray[np.int64], Floats]:
    relative = np.hypot(settings.track_constant, settings.track_slope_per_gev * pt)
    return event, np.stack([smear(pt, relative, generator), eta, phi], axis=1)


def _cells(
    event: NDArray[np.int64],
    energy: Floats,
    eta: Floats,
    phi: Floats,
    cell: float,
    stochastic: float,
    constant: float,
    generator: np.random.Generator,
) -> tuple[NDArray[np.int64], Floats]:
    """Sum energies in cells of eta and phi, smear the sums; (event of each cell, its pT, eta, phi)."""
    # A whole number of cells around, so that none is cut at phi = pi.
    around = max(1, round(2 * np.pi / cell))
    width = 2 * np.pi / around
    column = np.floor((phi + np.pi) / width).astype(np.int64) % around
    row = np.floor(eta / cell).astype(np.int64)
    rows = 2 * int(np.abs(row).max(initial=0)) + 3
    key = (event * rows + row + rows // 2) * around + column
    unique, inverse = np.unique(key, return_inverse=True)
    total = np.bincount(inverse, weights=energy, minlength=len(unique)).astype(np.float64)
    relative = np.hypot(stochastic / np.sqrt(np.maximum(total, 1e-9)), constant)
    measured = smear(total, relative, generator)
    owner, place = np.divmod(unique, rows * around)
    row_index, column_index = np.divmod(place, around)
    centre_eta = (row_index - rows // 2 + 0.5) * cell
    centre_phi = (column_index + 0.5) * width - np.pi
    return owner, np.stack([measured / np.cosh(centre_eta), centre_eta, centre_phi], axis=1)


def _padded(event: NDArray[np.int64], objects: Floats, n_events: int) -> Floats:
    order = np.lexsort((-objects[:, 0], event))
    event, objects = event[order], objects[order]
    rank = np.arange(len(event)) - np.searchsorted(event, event)
    out = np.zeros((n_events, int(rank.max(initial=-1)) + 1, 3))
    out[event, rank] = objects
    return out
