"""One progress bar for the whole package: shown on a terminal, silent everywhere else."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

__all__ = ["VARIABLE", "progress"]

# Worker processes set it to "off": bars of several processes would overwrite each other.
VARIABLE = "CATHODE_PROGRESS"


def progress(
    iterable: Iterable[Any] | None = None,
    *,
    description: str,
    total: int | None = None,
    unit: str = "it",
    unit_scale: bool = False,
    leave: bool = False,
) -> tqdm[Any]:
    """A bar with rate and ETA on stderr, disabled when stderr is not a terminal or ``CATHODE_PROGRESS=off``.

    Args:
        iterable: What to walk through; without it the caller advances the bar with ``update``.
        description: What is being done, shown before the bar.
        total: Number of steps, when the iterable does not tell.
        unit: Name of one step.
        unit_scale: Print large counts as k, M.
        leave: Keep the finished bar on the screen.
    """
    return tqdm(
        iterable,
        desc=description,
        total=total,
        unit=unit,
        unit_scale=unit_scale,
        leave=leave,
        disable=os.environ.get(VARIABLE) == "off" or not sys.stderr.isatty(),
        dynamic_ncols=True,
    )
