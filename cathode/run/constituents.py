"""Files of a search on constituents."""

from __future__ import annotations

import shutil

import numpy as np

from cathode.jets.schema import ConstituentEvents
from cathode.jets.writers import write_constituent_events
from cathode.run.folder import RunFolder
from cathode.search.constituents.template import ConstituentTemplate

__all__ = ["write_constituents"]


def write_constituents(folder: RunFolder, made: ConstituentTemplate, *, expected: float | None = None) -> None:
    """Write ``template.h5``, in the layout of files of constituents, and the models that were trained.

    Args:
        folder: Of the run.
        made: Template and models.
        expected: What the weights of the template add up to; None: the number of signal-region events.
    """
    events = made.template.events
    total = len(made.signal_region) if expected is None else expected
    weighted = ConstituentEvents(
        events.points, events.mask, events.mass, events.event_id, np.full(len(events), total / len(events))
    )
    write_constituent_events(weighted, folder / "template.h5")
    for index, model in enumerate(made.models.members):
        target = folder / "models" / f"constituents-{index}"
        # Models that were given stay where they are.
        if model.folder.is_relative_to(folder.tasks) and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(model.folder, target)
