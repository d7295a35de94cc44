"""From the data section of a configuration to events made of constituents, by the rules of the feature search."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cathode.classifiers.transformer.pretrained import pretrained_architecture
from cathode.data.events import Events
from cathode.data.injection import Truth
from cathode.jets.dijets import DijetKinematics, in_acceptance
from cathode.jets.readers import read_constituent_events
from cathode.jets.schema import ConstituentEvents
from cathode.search.composition import compose, regions_of
from cathode.search.constituents.points import given_models
from cathode.search.constituents.settings import ConstituentSettings
from cathode.search.settings import DataSettings, SearchSettings, Transformer, TransformerTrees
from cathode.support.errors import UserError

__all__ = ["ConstituentInputs", "accepted", "compose_constituents", "read_accepted"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ConstituentInputs:
    """As :class:`~cathode.search.composition.SearchInputs`, of events made of constituents.

    Attributes:
        data: The events that are searched, all in the acceptance, leading jet first.
        truth: Which of them are signal; None where nobody knows.
        test_background, test_signal: Labelled events of the signal region that are not in the data; None without.
        dropped: Events of the files outside the acceptance, by the role of the file.
    """

    data: ConstituentEvents
    truth: Truth | None = None
    test_background: ConstituentEvents | None = None
    test_signal: ConstituentEvents | None = None
    dropped: int = 0


def kinematics_of(settings: ConstituentSettings) -> DijetKinematics:
    """Acceptance of the configuration, in GeV."""
    return DijetKinematics(leading_pt=1e3 * settings.leading_pt, max_eta=settings.max_eta)


def accepted(events: ConstituentEvents, settings: ConstituentSettings, *, what: str) -> tuple[ConstituentEvents, int]:
    """Events in the acceptance, leading jet first, cut to the constituents that are kept, and how many are not there.

    Raises:
        UserError: Events that are not two jets, or outside the acceptance where that shall fail.
    """
    if events.points.shape[1] != 2:
        raise UserError(f"{what}: a dijet search needs two jets per event, these have {events.points.shape[1]}")
    kept, outside = in_acceptance(events, kinematics_of(settings), particles=settings.particles)
    if outside == 0:
        return kept, 0
    where = f"leading jet above {settings.leading_pt:g} TeV, |eta| < {settings.max_eta:g}"
    if settings.outside == "fail":
        raise UserError(
            f"{what}: {outside} of {len(events)} events are outside the acceptance ({where}): change the acceptance or "
            "set constituents.outside to drop"
        )
    if len(kept) == 0:
        raise UserError(f"{what}: no event is in the acceptance ({where}): momenta are taken to be in GeV")
    logger.info("%s: %d of %d events are outside the acceptance (%s) and dropped", what, outside, len(events), where)
    return kept, outside


def read_accepted(files: tuple[str, ...], settings: ConstituentSettings) -> tuple[ConstituentEvents, int]:
    """All events of ``files`` in the acceptance, numbered in their order, and how many were dropped."""
    parts, dropped = [], 0
    for file in files:
        events, outside = accepted(read_constituent_events(file), settings, what=file)
        parts.append(events)
        dropped += outside
    return _numbered(parts), dropped


def compose_constituents(
    settings: SearchSettings, events: ConstituentEvents | None = None, truth: Truth | None = None
) -> ConstituentInputs:
    """Read, reserve, inject: :func:`~cathode.search.composition.compose` on the rows of a pool of events.

    Args:
        settings: The whole configuration.
        events: Use these instead of ``settings.data.events``.
        truth: Their truth, if known.

    Raises:
        UserError: Anything wrong with files, acceptance, regions or the injection, or settings of tables.
    """
    _refuse_tables(settings)
    pool = _Pool(settings)
    given = None
    if events is not None:
        kept, outside = accepted(events, settings.constituents, what="events")
        pool.dropped += outside
        given = pool.add(kept, keep_ids=True)
    found = compose(settings, given, truth, read=pool.read)

    data = pool.gather(found.data)
    if settings.constituents.models:
        # What must not be used is refused before anything is computed or written.
        given_models(settings.constituents, data.select(regions_of(settings).in_signal(data.mass)))

    classifier, reweighting = settings.classifier.model, settings.constituents.reweighting
    if isinstance(classifier, Transformer | TransformerTrees) and classifier.pretrained is not None:
        pretrained_architecture(classifier.pretrained)
    if reweighting is not None and reweighting.encoder is not None:
        pretrained_architecture(reweighting.encoder)

    def gathered(table: Events | None) -> ConstituentEvents | None:
        return None if table is None else pool.gather(table)

    return ConstituentInputs(
        data=data,
        truth=found.truth,
        test_background=gathered(found.test_background),
        test_signal=gathered(found.test_signal),
        dropped=pool.dropped,
    )


class _Pool:
    """Constituents of everything that was read; the composition handles tables of rows and masses instead."""

    def __init__(self, settings: SearchSettings) -> None:
        self.settings = settings.constituents
        self.parts: list[ConstituentEvents] = []
        self.dropped = 0

    def read(self, files: tuple[str, ...], where: str | None) -> Events:
        if where is not None:
            raise UserError("where: files of constituents have no columns to choose events by; leave it out")
        events, outside = read_accepted(files, self.settings)
        self.dropped += outside
        return self.add(events, keep_ids=False)

    def add(self, events: ConstituentEvents, *, keep_ids: bool) -> Events:
        first = sum(len(part) for part in self.parts)
        self.parts.append(events)
        rows = first + np.arange(len(events), dtype=np.float64)
        ids = events.event_id if keep_ids else np.arange(len(events))
        return Events(rows[:, None], ("row",), events.mass, ids, events.weight)

    def gather(self, table: Events) -> ConstituentEvents:
        rows = table.column("row").astype(np.int64)
        slots = max(part.particles for part in self.parts)
        points = np.zeros((len(rows), 2, slots, 3), dtype=np.float32)
        mask = np.zeros((len(rows), 2, slots), dtype=bool)
        first = 0
        for part in self.parts:
            here = (rows >= first) & (rows < first + len(part))
            points[here, :, : part.particles] = part.points[rows[here] - first]
            mask[here, :, : part.particles] = part.mask[rows[here] - first]
            first += len(part)
        # The ids are those of the composition: an injected event must not be known by its number.
        return ConstituentEvents(points, mask, table.mass, table.event_id, table.weight)


def _numbered(parts: list[ConstituentEvents]) -> ConstituentEvents:
    first, numbered = 0, []
    for part in parts:
        ids: NDArray[np.int64] = first + np.arange(len(part))
        numbered.append(ConstituentEvents(part.points, part.mask, part.mass, ids, part.weight))
        first += len(part)
    return numbered[0] if len(numbered) == 1 else ConstituentEvents.concatenate(numbered)


def _refuse_tables(settings: SearchSettings) -> None:
    default = DataSettings()
    for name in ("mass", "units", "weight", "columns", "where"):
        if getattr(settings.data, name) != getattr(default, name):
            raise UserError(f"data.{name} belongs to tables of features and means nothing with inputs: constituents")
    if settings.evaluation.truth is not None:
        raise UserError("evaluation.truth names a column, which files of constituents do not have: inject the signal")
