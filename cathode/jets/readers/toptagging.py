"""The Top Tagging reference data set: jets of top quarks and of QCD, up to 200 constituents.

Files ``train.h5``, ``val.h5``, ``test.h5`` of https://zenodo.org/records/2603256 (G. Kasieczka et al.,
https://arxiv.org/abs/1902.09914): pandas' ``table`` layout, key ``table``, columns ``E_0, PX_0, PY_0, PZ_0, ...,
PZ_199`` [GeV], zero-padded, the four-momentum of the true top quark, ``ttv`` (0 train, 1 test, 2 validation) and
``is_signal_new`` (1 is a top jet).  Columns as in ``toptagging.py`` of the JetNet library and
``convert_top_datasets.py`` of https://github.com/jet-universe/particle_transformer.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cathode.data.readers.hdf5 import open_h5, table_columns
from cathode.jets.readers.columns import jet_types, jets_from_columns
from cathode.jets.readers.source import JetSource
from cathode.jets.schema import Jets
from cathode.support.errors import UserError

__all__ = ["TOP_TAGGING_TYPES", "is_top_tagging", "open_top_tagging"]

#: Names of the types in the order of their numbers.
TOP_TAGGING_TYPES = ("qcd", "top")

_LABEL = "is_signal_new"
_COORDINATES = {"energy": "E", "px": "PX", "py": "PY", "pz": "PZ"}


def is_top_tagging(file: Any) -> bool:
    """Whether an open HDF5 file has a pandas table with columns ``E_0, PX_0, PY_0, PZ_0``."""
    found = _table(file)
    return found is not None and {f"{name}_0" for name in _COORDINATES.values()} <= set(table_columns(found))


def open_top_tagging(path: Path) -> JetSource:
    """Jets of a Top Tagging file; the type is 1 for top quarks, 0 for QCD.

    Raises:
        UserError: Not the layout.
    """
    with open_h5(path) as file:
        dataset = _table(file)
        if dataset is None or not is_top_tagging(file):
            raise UserError(f"{path}: not a Top Tagging file: a pandas table with columns E_0, PX_0, ... was expected")
        location, rows = dataset.name, int(dataset.shape[0])
        columns = table_columns(dataset)
    slots = 0
    while f"E_{slots}" in columns:
        slots += 1
    wanted = {name: [f"{stem}_{slot}" for slot in range(slots)] for name, stem in _COORDINATES.items()}
    missing = [name for names in wanted.values() for name in names if name not in columns]
    if missing:
        raise UserError(f"{path}: no column {missing[0]!r} beside E_0 to E_{slots - 1}")

    def read(start: int, stop: int) -> Jets:
        with open_h5(path) as file:
            block = file[location][start:stop]
        values = {name: _take(block, [columns[one] for one in names]) for name, names in wanted.items()}
        types = None
        if _LABEL in columns:
            types = jet_types(_take(block, [columns[_LABEL]])[:, 0])
        return jets_from_columns(values, mask=None, axis=None, extras={}, types=types)

    return JetSource(path, "top-tagging", rows, read, 1, slots)


def _table(file: Any) -> Any:
    import h5py

    for item in file.values():
        if isinstance(item, h5py.Group) and "table" in item and getattr(item["table"], "dtype", None) is not None:
            return item["table"] if item["table"].dtype.names else None
    return None


def _take(block: NDArray[Any], sources: list[tuple[str, int | None]]) -> NDArray[Any]:
    """Columns ``(N, len(sources))`` of a structured array."""
    fields = {field for field, _ in sources}
    positions = [position for _, position in sources if position is not None]
    if len(fields) == 1 and len(positions) == len(sources):
        return block[fields.pop()][:, np.array(positions)]
    return np.stack(
        [block[field] if position is None else block[field][:, position] for field, position in sources], axis=1
    )
