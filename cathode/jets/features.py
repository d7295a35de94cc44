"""The features of the LHC Olympics files: momenta, masses and N-subjettiness of the two leading jets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cathode.data.features import JET_COLUMNS, LABEL_COLUMN
from cathode.data.lhco import write_lhco_features
from cathode.jets.clustering import LeadingJets, invariant_mass
from cathode.jets.substructure import Axes, jet_constituents, n_subjettiness

__all__ = ["dijet_features", "write_dijets"]


def dijet_features(particles: NDArray[np.float64], jets: LeadingJets, *, axes: Axes = "kt") -> NDArray[np.float64]:
    """Columns :data:`cathode.data.features.JET_COLUMNS` of each event, ``(N, 14)`` in GeV, tau too.

    j1 is the jet of larger pT.

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


def write_dijets(path: str | Path, features: NDArray[np.float64], label: NDArray[np.float64] | None) -> None:
    """Write the features file: ``features (N, 14)`` [GeV] and truth labels ``(N,)``, None for no label column."""
    columns = {name: features[:, index] for index, name in enumerate(JET_COLUMNS)}
    write_lhco_features(columns if label is None else {**columns, LABEL_COLUMN: label}, path)
