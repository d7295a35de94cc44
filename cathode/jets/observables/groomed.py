r"""Soft drop: the jet without the soft, wide-angle parts of its Cambridge/Aachen history.

The jet is clustered with Cambridge/Aachen and taken apart again; the softer branch is dropped until

.. math:: z_g = \frac{\min(p_{T,1}, p_{T,2})}{p_{T,1} + p_{T,2}} > z_{cut} (\Delta R_{12} / R_0)^\beta

(Larkoski, Marzani, Soyez, Thaler, https://arxiv.org/abs/1402.2657, eq. 1.1).  FastJet's contrib package does the work,
for all jets in one call.
"""

from __future__ import annotations

import numpy as np

from cathode.jets.clustering import ragged_momenta
from cathode.jets.observables.padded import Floats
from cathode.jets.schema import Jets
from cathode.support.errors import UserError, require

__all__ = ["soft_drop"]

# FastJet's largest allowed radius: all constituents of the jet stay in it.
_NO_BEAM = 1000.0
_BLOCK = 4096


def soft_drop(jets: Jets, *, z_cut: float = 0.1, beta: float = 0.0, radius: float = 1.0) -> dict[str, Floats]:
    """``softdrop_mass``, ``softdrop_pt`` [GeV], ``softdrop_zg``, ``softdrop_rg``, each ``(N,)``.

    Jets that are groomed down to a single constituent have z_g = R_g = 0 and mass 0, those without constituents zeros.

    Args:
        jets: Constituents are massless.
        z_cut: Smallest share of the softer branch that is kept.
        beta: Angular exponent; 0 is the modified mass drop tagger.
        radius: R_0.

    Raises:
        UserError: Parameters that mean nothing.
        MissingExtraError: FastJet is not installed.
    """
    if not (0 < z_cut < 0.5 and np.isfinite(beta) and radius > 0):
        raise UserError(f"soft drop needs 0 < z_cut < 0.5 and a positive radius, got {z_cut!r} and {radius!r}")
    fastjet, ak = require("fastjet", "jets"), require("awkward", "jets")
    found = {name: np.zeros(len(jets)) for name in ("softdrop_mass", "softdrop_pt", "softdrop_zg", "softdrop_rg")}
    definition = fastjet.JetDefinition(fastjet.cambridge_algorithm, _NO_BEAM)
    for start in range(0, len(jets), _BLOCK):
        part = jets.select(slice(start, start + _BLOCK))
        rows = np.flatnonzero(part.mask.any(axis=1))
        if len(rows) == 0:
            continue
        mask = part.mask[rows]
        offsets = np.concatenate([[0], np.cumsum(mask.sum(axis=1))])
        sequence = fastjet.ClusterSequence(ragged_momenta(part.select(rows).four_momenta()[mask], offsets), definition)
        groomed = sequence.exclusive_jets_softdrop_grooming(
            njets=1, beta=beta, symmetry_cut=z_cut, symmetry_measure="scalar_z", R0=radius
        )
        fields = {"mass": "msoftdrop", "pt": "ptsoftdrop", "zg": "symmetrysoftdrop", "rg": "deltaRsoftdrop"}
        for name, field in fields.items():
            # FastJet says -1 where nothing passed, and rounding gives masses slightly below zero.
            values = np.maximum(ak.to_numpy(groomed[field]), 0.0)
            found[f"softdrop_{name}"][start + rows] = values
    return found
