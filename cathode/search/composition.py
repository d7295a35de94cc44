"""From the data section of a configuration to events: files, injected signal, and what is kept for evaluation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from cathode.data.events import Events
from cathode.data.injection import Truth, inject
from cathode.data.readers import read_events, read_truth
from cathode.data.regions import Regions
from cathode.search.settings import DataSettings, SearchSettings
from cathode.support.errors import UserError
from cathode.support.seeding import derive_seed, numpy_generator

__all__ = ["SearchInputs", "compose", "regions_of"]


@dataclass(frozen=True)
class SearchInputs:
    """What a search runs on, and, kept apart, what is only looked at when all scores are final.

    Attributes:
        data: The events that are searched.
        truth: Which of them are signal; None where nobody knows.
        test_background: Labelled background of the signal region that is not in the data; None without.
        test_signal: Labelled signal of the signal region that is not in the data; None without.
    """

    data: Events
    truth: Truth | None = None
    test_background: Events | None = None
    test_signal: Events | None = None


def regions_of(settings: SearchSettings) -> Regions:
    """The regions of the configuration."""
    return Regions(signal=settings.regions.signal, sideband=settings.regions.sideband)


def compose(
    settings: SearchSettings,
    events: Events | None = None,
    truth: Truth | None = None,
    *,
    read: Callable[[tuple[str, ...], str | None], Events] | None = None,
) -> SearchInputs:
    """Read, reserve, inject.

    Args:
        settings: The whole configuration.
        events: Use these instead of ``settings.data.events``.
        truth: Their truth, if known.
        read: Reads the events of files where an expression holds; by default feature tables as ``settings.data`` says.

    Raises:
        UserError: Anything wrong with files, columns, values, regions or the injection.
    """
    regions = regions_of(settings)
    if read is None:
        read = partial(_read, settings.data)
    data = read(settings.data.events, settings.data.where) if events is None else events
    data = data.select(regions.in_range(data.mass))
    data.require_varying()
    regions.check(data)
    if truth is None and settings.evaluation.truth is not None:
        if settings.data.where is not None:
            raise UserError(
                "evaluation.truth cannot be combined with data.where: rows that are left out shift the labels"
            )
        truth = read_truth(settings.data.events, settings.evaluation.truth)
    if truth is not None:
        # Labels that do not fit the events must be found now, not after the search.
        truth.of(data)
    if truth is not None and settings.injection.signal:
        raise UserError("injection: these data have a truth of their own; leave out the injection or the truth")
    test_background = None
    if settings.evaluation.reserve > 0:
        data, test_background = _reserve(data, regions, settings.evaluation.reserve, seed=settings.seed)
        regions.check(data)
        if truth is not None:
            test_background = test_background.select(~truth.of(test_background))
    elif settings.evaluation.background:
        test_background = read(settings.evaluation.background, None)
        test_background = test_background.select(regions.in_signal(test_background.mass))
        if len(test_background) == 0:
            raise UserError("evaluation.background: no events lie in the signal region")
    test_signal = None
    if settings.injection.signal:
        signal = read(settings.injection.signal, settings.injection.where)
        signal = signal.select(regions.in_range(signal.mass))
        count = _count(settings, data, signal, regions)
        order = numpy_generator(settings.seed, "injection").permutation(len(signal))
        if count > len(signal):
            raise UserError(f"injection: {count} signal events asked for, {len(signal)} are available")
        injected, rest = signal.select(order[:count]), signal.select(order[count:])
        data, truth = inject(data, injected, count=count, seed=derive_seed(settings.seed, "shuffle"))
        if settings.evaluation.signal == settings.injection.signal:
            test_signal = rest.select(regions.in_signal(rest.mass))
    if settings.evaluation.signal and test_signal is None:
        test_signal = read(settings.evaluation.signal, settings.evaluation.where)
        test_signal = test_signal.select(regions.in_signal(test_signal.mass))
    if test_signal is not None and len(test_signal) == 0:
        raise UserError("evaluation.signal: no test signal events are left in the signal region")
    if settings.evaluation.reserve > 0 and truth is None:
        # Reserving is only allowed for simulated background, so the rest of the file is background as well.
        truth = Truth(event_id=data.event_id, is_signal=np.zeros(len(data), dtype=bool))
    return SearchInputs(data=data, truth=truth, test_background=test_background, test_signal=test_signal)


def _read(settings: DataSettings, files: tuple[str, ...], where: str | None) -> Events:
    return read_events(
        list(files),
        mass=settings.mass,
        features=list(settings.features),
        units=settings.units,
        weight=settings.weight,
        columns=dict(settings.columns),
        where=where,
    )


def _reserve(data: Events, regions: Regions, fraction: float, *, seed: int) -> tuple[Events, Events]:
    # Sidebands are thinned as well: a spectrum with a notch at the signal region would not be a spectrum.
    order = numpy_generator(seed, "reserve").permutation(len(data))
    count = round(fraction * len(data))
    reserved = data.select(np.sort(order[:count]))
    return data.select(np.sort(order[count:])), reserved.select(regions.in_signal(reserved.mass))


def _count(settings: SearchSettings, data: Events, signal: Events, regions: Regions) -> int:
    if settings.injection.count is not None:
        return settings.injection.count
    inside = regions.in_signal(signal.mass).mean()
    if inside == 0:
        raise UserError("injection: no signal event lies in the signal region")
    n_background = int(regions.in_signal(data.mass).sum())
    return round(float(settings.injection.strength or 0.0) * np.sqrt(n_background) / inside)
