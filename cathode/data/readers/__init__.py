"""Readers: files of any known format to events, to truth, to raw particles."""

from __future__ import annotations

from cathode.data.readers.raw import iterate_raw, raw_shape
from cathode.data.readers.read import read_events, read_truth
from cathode.data.readers.sniff import open_table, sniff
from cathode.data.readers.table import Table

__all__ = ["Table", "iterate_raw", "open_table", "raw_shape", "read_events", "read_truth", "sniff"]
