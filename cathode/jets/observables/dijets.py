"""High-level features of events from the constituents of their two jets, as the feature search defines them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from cathode.data.events import Events
from cathode.data.features import DEFAULT_FEATURES, DIJET_FEATURES, dijet_features
from cathode.jets.observables.padded import Floats
from cathode.jets.observables.table import OBSERVABLES, observables
from cathode.jets.schema import ConstituentEvents
from cathode.support.errors import UserError

__all__ = ["DIJET_OBSERVABLES", "dijet_observables"]

#: The four features of the CATHODE paper and the numbers of constituents.
DIJET_OBSERVABLES = (*DEFAULT_FEATURES, "n_j1", "n_j2")

_SHORT = {"n": "multiplicity"}


def dijet_observables(events: ConstituentEvents, names: Iterable[str] = DIJET_OBSERVABLES) -> Events:
    """High-level features of events with two jets; mass, ids and weights stay.

    Names are those of :data:`cathode.data.features.DIJET_FEATURES`, with the same definitions and units (TeV; ``j1`` is
    the **lighter** jet), and ``NAME_j1``, ``NAME_j2`` for every observable in
    :data:`cathode.jets.observables.OBSERVABLES` (``n_j1`` is short for ``multiplicity_j1``), where GeV become TeV.

    Args:
        events: Two jets each.
        names: Features to compute.

    Raises:
        UserError: Events with another number of jets, or an unknown name.
        MissingExtraError: FastJet is needed and not installed.
    """
    if events.jets_per_event != 2:
        raise UserError(f"dijet features need events of two jets, these have {events.jets_per_event}")
    wanted = tuple(names)
    per_jet = {name: split for name in wanted if name not in DIJET_FEATURES and (split := _split(name)) is not None}
    for name in wanted:
        if name not in DIJET_FEATURES and name not in per_jet:
            raise UserError(
                f"no feature {name!r} of two jets: use those of the features search ({', '.join(DIJET_FEATURES)}) or"
                f" an observable of a jet with _j1 or _j2 ({', '.join(OBSERVABLES)})"
            )
    derived = [name for name in wanted if name in DIJET_FEATURES]
    needed = {observable for observable, _ in per_jet.values()} | {"mass"}
    needed |= {column[:4] for name in derived for column in DIJET_FEATURES[name].needs if column.startswith("tau")}
    jets = [events.jets(k) for k in (0, 1)]
    found = [observables(jet, sorted(needed)) for jet in jets]
    raw: dict[str, Floats] = {}
    for k, suffix in enumerate(("j1", "j2")):
        total = jets[k].four_momenta().sum(axis=1) if derived else np.zeros((len(events), 4))
        raw |= {f"{component}{suffix}": total[:, i] for i, component in enumerate(("px", "py", "pz"))}
        raw |= {f"m{suffix}": found[k]["mass"]}
        raw |= {f"{name}{suffix}": values for name, values in found[k].items() if name.startswith("tau")}
    columns = dijet_features(raw, derived)
    heavier_first = found[0]["mass"] > found[1]["mass"]
    for name, (observable, heavier) in per_jet.items():
        values = np.where(heavier_first == heavier, found[0][observable], found[1][observable])
        columns[name] = values * (1e-3 if OBSERVABLES[observable].unit == "GeV" else 1.0)
    features = np.stack([columns[name] for name in wanted], axis=1) if wanted else np.zeros((len(events), 0))
    return Events(features, wanted, events.mass, events.event_id, events.weight)


def _split(name: str) -> tuple[str, bool] | None:
    """``d2_j2`` as the observable and whether the heavier jet is meant."""
    stem, _, jet = name.rpartition("_")
    stem = _SHORT.get(stem, stem)
    return (stem, jet == "j2") if jet in ("j1", "j2") and stem in OBSERVABLES else None
