"""The features of the LHC Olympics files: momenta, masses and N-subjettiness of the two leading jets."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cathode.jets.clustering import LeadingJets, invariant_mass
from cathode.jets.substructure import Axes, jet_constituents, n_subjettiness

__all__ = ["FEATURE_COLUMNS", "dijet_features"]

FEATURE_COLUMNS: tuple[str, ...] = tuple(
    f"{name}j{jet}" for jet in (1, 2) for name in ("px", "py", "pz", "m", "tau1", "tau2", "tau3")
)


def dijet_features(particles: NDArray[np.float64], jets: LeadingJets, *, axes: Axes = "kt") -> NDArray[np.float64]:
    """Columns :data:`FEATURE_COLUMNS` of each event, ``(N, 14)`` in GeV (tau too), j1 being the jet of larger pT.

    Args:
        particles: ``(N, P, 3)``: pT [GeV], eta, phi, zero-padded.
        jets: The two leading jets of the same events.
        axes: Axes of N-subjettiness, see :mod:`cathode.jets.substructure`.

    A missing second jet leaves zeros.
    """
    events = len(particles)
    constituents = jet_constituents(particles, jets.assignment)
    tau = n_subjettiness(constituents.reshape(2 * events, -1, 3), axes=axes).reshape(events, 2, 3)
    mass = invariant_mass(jets.momenta)[..., None]
    return np.concatenate([jets.momenta[..., :3], mass, tau], axis=-1).reshape(events, 14)
