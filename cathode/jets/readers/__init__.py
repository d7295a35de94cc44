"""Readers of jets: files of any known data set to jets and events of constituents; truth apart."""

from __future__ import annotations

from cathode.jets.readers.events import iterate_constituent_events, read_constituent_events, read_constituent_truth
from cathode.jets.readers.file import JetFile, read_jets
from cathode.jets.readers.jagged import jets_from_awkward
from cathode.jets.readers.jetclass import JETCLASS_TYPES, PIDS
from cathode.jets.readers.jetnet import JETNET_TYPES, jetnet_split
from cathode.jets.readers.layouts import JaggedLayout, PaddedLayout
from cathode.jets.readers.sniff import FORMATS
from cathode.jets.readers.streaming import JetBatches, relative_sets
from cathode.jets.readers.toptagging import TOP_TAGGING_TYPES

__all__ = [
    "FORMATS",
    "JETCLASS_TYPES",
    "JETNET_TYPES",
    "PIDS",
    "TOP_TAGGING_TYPES",
    "JaggedLayout",
    "JetBatches",
    "JetFile",
    "PaddedLayout",
    "iterate_constituent_events",
    "jets_from_awkward",
    "jetnet_split",
    "read_constituent_events",
    "read_constituent_truth",
    "read_jets",
    "relative_sets",
]
