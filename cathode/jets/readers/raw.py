"""LHC Olympics raw files: the constituents of the two leading jets, clustered while reading."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cathode.data.readers.raw import PARTICLES, iterate_raw, raw_shape
from cathode.jets.clustering import leading_jets
from cathode.jets.readers.source import JetSource
from cathode.jets.schema import Jets
from cathode.jets.schema.kinematics import momenta_axis
from cathode.jets.substructure import jet_constituents

__all__ = ["open_raw"]

# Events clustered at once: 150 kB each.
_CHUNK = 1000


def open_raw(path: Path, *, radius: float = 1.0, n_jets: int = 2) -> JetSource:
    """Jets of a raw file: anti-kT, the ``n_jets`` of largest pT of every event; a missing jet has no constituents.

    Args:
        path: The file, 2100 or 2101 columns.
        radius: Jet radius.
        n_jets: Jets kept of an event.

    Raises:
        UserError: Not a raw file.
        MissingExtraError: While reading, if FastJet is not installed.
    """
    rows, columns = raw_shape(path)

    def read(start: int, stop: int) -> Jets:
        parts = []
        for particles, label in iterate_raw(path, chunk=_CHUNK, start=start, stop=stop):
            found = leading_jets(particles, radius=radius, n_jets=n_jets)
            points = jet_constituents(particles, found.assignment, n_jets=n_jets)
            axis = momenta_axis(found.momenta.reshape(-1, 4))
            types = None if label is None else np.repeat(label, n_jets)
            parts.append(Jets.from_points(points.reshape(len(axis), -1, 3), axis=axis, type=types))
        return Jets.concatenate(parts) if parts else Jets.from_points(np.zeros((0, 1, 3), np.float32))

    def labels(start: int, stop: int) -> NDArray[np.int64]:
        parts = [label for _, label in iterate_raw(path, chunk=_CHUNK, start=start, stop=stop) if label is not None]
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)

    labelled = columns > 3 * PARTICLES
    return JetSource(path, "lhco-raw", rows, read, n_jets, None, None, labels if labelled else None)
