"""How long a generator takes for one shower: measured elsewhere, read from where that was written down."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py

from cathode.support.errors import UserError

__all__ = ["Timing", "read_timing"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Timing:
    """Wall time per shower.

    Attributes:
        milliseconds: Device and batch size (``cpu_batch1``, ``cpu_batch100``, ``gpu_batch10000``, …) -> ms per shower.
        source: File it was read from.
        note: How it was measured.
    """

    milliseconds: dict[str, float] = field(default_factory=dict)
    source: str = ""
    note: str = ""


def read_timing(timing: str | Path, generated: str | Path) -> Timing | None:
    """Times from a file of measurements, or from the attributes of the generated showers.

    Args:
        timing: JSON file with milliseconds per shower (``results.json`` of ``fastsim latency``, or a mapping such as
            ``{"cpu_batch100": 1.2}``), or ``auto``: what ``fastsim generate`` noted in the file of showers.
        generated: File of generated showers.

    Returns:
        None if ``auto`` finds nothing.

    Raises:
        UserError: A file that is missing or holds no times.
    """
    if str(timing) == "auto":
        return _from_attributes(Path(generated))
    path = Path(timing)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"timing file {path} does not exist") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"timing file {path} cannot be read as JSON: {error}") from error
    found = _times(content)
    if not found:
        raise UserError(
            f"timing file {path} holds no times: give milliseconds per shower, for example "
            '{"cpu_batch1": 12.0, "cpu_batch100": 1.2}'
        )
    return Timing(found, str(path), str(content.get("note", "")) if isinstance(content, dict) else "")


def _times(content: Any) -> dict[str, float]:
    """Entries ``DEVICE_batchN`` anywhere in the mapping, with their numbers in milliseconds."""
    if not isinstance(content, Mapping):
        return {}
    found = {}
    for key, value in content.items():
        device, separator, size = str(key).partition("_batch")
        if separator and size.isdigit() and isinstance(value, (int, float)) and value > 0:
            found[f"{device}_batch{int(size)}"] = float(value)
        elif isinstance(value, Mapping):
            found.update(_times(value))
    return found


def _from_attributes(path: Path) -> Timing | None:
    if not path.is_file():
        return None
    try:
        with h5py.File(path, "r") as stream:
            attributes = {str(k): v for k, v in stream.attrs.items()}
    except OSError as error:
        logger.warning("no times from %s: %s", path, error)
        return None
    try:
        milliseconds = float(attributes["milliseconds_per_shower"])
        batch = int(attributes["batch_size"])
        device = "cpu" if str(attributes.get("device", "cpu")).startswith("cpu") else "gpu"
    except (KeyError, TypeError, ValueError):
        return None
    if not milliseconds > 0 or batch < 1:
        return None
    note = f"measured while the file was generated, {batch} showers at a time"
    return Timing({f"{device}_batch{batch}": milliseconds}, str(path), note)
