"""N-subjettiness: how well N axes describe a jet.

For a jet with constituents i and N axes a (Thaler and Van Tilburg [1], eq. 1, without its normalisation
d0 = sum pT R0)::

    tau_N = sum_i pT_i min_a dR(i, a)^beta,     dR^2 = (y_i - y_a)^2 + (phi_i - phi_a)^2

with beta = 1 here, so tau_N is in GeV, as in the LHC Olympics feature files: dividing by d0 (R0 = 1) gives the usual
dimensionless value, and ratios such as tau21 = tau_2 / tau_1 are the same either way.  Four choices of the axes, named
as in FastJet's contrib package:

- ``kt``: the N exclusive kT jets of the constituents [1, section 2.3], E-scheme, without a beam distance;
- ``wta_kt``: the same with winner-take-all recombination [3];
- ``onepass_kt``, ``onepass_wta_kt``: moved from there to the nearest minimum of tau_N [2].

The public LHC Olympics feature files were not made with ``kt``: in 200 public jets tau_1 / m is lower than ``kt`` gives
for jets of the same m / pT by 0.089 +- 0.012, but agrees with ``onepass_kt`` (-0.002 +- 0.011) and
``onepass_wta_kt`` (-0.002 +- 0.011) and differs from ``wta_kt`` by 1.7 standard deviations.

References:
    [1] J. Thaler, K. Van Tilburg, Identifying boosted objects with N-subjettiness, https://arxiv.org/abs/1011.2268
    [2] J. Thaler, K. Van Tilburg, Maximizing boosted top identification, https://arxiv.org/abs/1108.2701
    [3] A. Larkoski, D. Neill, J. Thaler, Jet shapes with the broadening axis, https://arxiv.org/abs/1401.2158
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from cathode.jets.clustering import four_momenta, ragged_momenta, recombine
from cathode.support.errors import UserError, require

__all__ = ["Axes", "jet_constituents", "n_subjettiness"]

Floats = NDArray[np.float64]

Axes = Literal["kt", "wta_kt", "onepass_kt", "onepass_wta_kt"]
_CONTRIB = {"wta_kt": "WTA_KT_Axes", "onepass_kt": "OnePass_KT_Axes", "onepass_wta_kt": "OnePass_WTA_KT_Axes"}

# FastJet's largest allowed radius: with it every pair is nearer than the beam, so all constituents stay in the axes.
_NO_BEAM = 1000.0


def jet_constituents(
    particles: Floats, assignment: NDArray[np.int8], *, n_jets: int = 2, max_constituents: int | None = None
) -> Floats:
    """Constituents of the leading jets, by falling pT.

    Args:
        particles: ``(N, P, 3)``: pT [GeV], eta, phi, zero-padded.
        assignment: ``(N, P)`` from :func:`cathode.jets.clustering.leading_jets`.
        n_jets: Number of jets per event, J.
        max_constituents: Keep at most this many per jet; None keeps all (C is then the largest jet of the batch).

    Returns:
        ``(N, J, C, 3)``, zero-padded.
    """
    counts = np.stack([(assignment == jet).sum(axis=1) for jet in range(n_jets)], axis=1)
    width = int(counts.max(initial=0)) if max_constituents is None else max_constituents
    out = np.zeros((len(particles), n_jets, width, 3))
    for jet in range(n_jets):
        event, slot = np.nonzero(assignment == jet)
        # Two particles of one pT keep the order of the file (lexsort is stable).
        order = np.lexsort((-particles[event, slot, 0], event))
        event, slot = event[order], slot[order]
        rank = np.arange(len(event)) - np.searchsorted(event, event)
        kept = rank < width
        out[event[kept], jet, rank[kept]] = particles[event[kept], slot[kept]]
    return out


def n_subjettiness(constituents: Floats, *, n_max: int = 3, axes: Axes = "kt") -> Floats:
    """tau_1 ... tau_{n_max} [GeV] of each jet, ``(J, n_max)``; formula and axes in the module's docstring.

    Args:
        constituents: ``(J, C, 3)``: pT [GeV], eta, phi of massless constituents, zero-padded.
        n_max: Largest number of axes.
        axes: Which axes.

    A jet with no more than N constituents has tau_N = 0: every constituent is an axis.

    Raises:
        UserError: ``axes`` is not one of the names.
        MissingExtraError: FastJet is not installed.
    """
    if axes not in get_args(Axes):
        raise UserError(f"unknown N-subjettiness axes {axes!r}: choose one of {', '.join(get_args(Axes))}")
    present = constituents[..., 0] > 0
    counts = present.sum(axis=1)
    four = four_momenta(constituents)
    tau = np.zeros((len(constituents), n_max))
    for n in range(1, n_max + 1):
        rows = np.flatnonzero(counts > n)
        if len(rows) == 0:
            continue
        if axes == "kt":
            found = _kt_axes(four[rows], present[rows], n)
            tau[rows, n - 1] = _distance_sum(constituents[rows], present[rows], found)
        else:
            tau[rows, n - 1] = _contrib_tau(four[rows], present[rows], n, _CONTRIB[axes])
    return tau


def _kt_axes(four: Floats, present: NDArray[np.bool_], n: int) -> Floats:
    """Momenta ``(J, n, 4)`` of the exclusive kT jets of each row of ``four (J, C, 4)``."""
    if n == 1:
        # One axis is the jet itself: no clustering needed.
        return four.sum(axis=1)[:, None, :]
    fastjet = require("fastjet", "jets")
    definition = fastjet.JetDefinition(fastjet.kt_algorithm, _NO_BEAM)
    jet, slot, group = recombine(four, present, definition, exclusive=n)
    sums = [np.bincount(group, weights=four[jet, slot, i], minlength=len(four) * n) for i in range(4)]
    return np.stack(sums, axis=-1).astype(np.float64).reshape(len(four), n, 4)


def _contrib_tau(four: Floats, present: NDArray[np.bool_], n: int, name: str) -> Floats:
    """tau_n ``(J,)`` [GeV] from FastJet's contrib package, for the axes it calls ``name``."""
    fastjet = require("fastjet", "jets")
    ak = require("awkward", "jets")
    offsets = np.concatenate([[0], np.cumsum(present.sum(axis=1))])
    sequence = fastjet.ClusterSequence(
        ragged_momenta(four[present], offsets), fastjet.JetDefinition(fastjet.kt_algorithm, _NO_BEAM)
    )
    tau = sequence.njettiness(
        measure_definition="UnnormalizedMeasure", axes_definition=name, njets=[n], beta=1.0, R0=1.0
    )
    values: Floats = np.asarray(ak.to_numpy(tau), dtype=np.float64).reshape(len(four))
    return values


def _distance_sum(constituents: Floats, present: NDArray[np.bool_], axes: Floats) -> Floats:
    """Sum over constituents ``(J, C, 3)`` of pT times the distance to the nearest of ``axes (J, N, 4)``; ``(J,)``."""
    px, py, pz, energy = np.moveaxis(axes, -1, 0)
    # Rounding may leave E < |pz| for a massless axis at large rapidity.
    mass_squared = np.maximum((energy - pz) * (energy + pz) - px * px - py * py, 0.0)
    transverse = np.sqrt(px * px + py * py + mass_squared)
    rapidity = np.arcsinh(np.divide(pz, transverse, out=np.zeros_like(pz), where=transverse > 0))
    azimuth = np.arctan2(py, px)
    nearest = np.full(present.shape, np.inf)
    for n in range(axes.shape[1]):
        dy = constituents[..., 1] - rapidity[:, n, None]
        dphi = np.mod(constituents[..., 2] - azimuth[:, n, None] + np.pi, 2 * np.pi) - np.pi
        np.minimum(nearest, dy * dy + dphi * dphi, out=nearest)
    return np.sum(np.where(present, constituents[..., 0] * np.sqrt(nearest), 0.0), axis=1)
