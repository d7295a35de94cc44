"""Settings that cannot be generated are refused before anything starts."""

from __future__ import annotations

from typing import Any

import pytest

from cathode.jets.generate.pythia import pythia_commands
from cathode.jets.generate.settings import DetectorSettings, GenerateSettings
from cathode.support.errors import UserError


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"process": "ttbar"}, "unknown process 'ttbar': choose qcd or wprime"),
        ({"events": 0}, "events must be at least 1"),
        ({"shard_events": -1}, "shard_events must be at least 1"),
        ({"seed": -1}, "seed must not be negative"),
        ({"relative_width": 0.0}, "relative_width must be positive"),
        ({"leading_jet_pt_min_gev": float("nan")}, "leading_jet_pt_min_gev must not be negative"),
        ({"process": "wprime", "mass_x_gev": 3450.0}, r"cannot decay to 3450 \+ 100 GeV"),
        ({"pt_hat_min_gev": 6600.0}, "beyond the collision energy of 13000 GeV"),
        ({"detector": DetectorSettings(photon_cell=0.0)}, "detector.photon_cell must be positive"),
        ({"detector": DetectorSettings(track_constant=-0.1)}, "detector.track_constant must not be negative"),
        ({"detector": DetectorSettings(track_efficiency=1.5)}, "detector.track_efficiency must be at most 1"),
    ],
)
def test_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        GenerateSettings(**changes).check()


def test_defaults_are_fine() -> None:
    GenerateSettings().check()
    GenerateSettings(process="wprime").check()


def test_shards_add_up() -> None:
    assert GenerateSettings(events=25, shard_events=10).shards == (10, 10, 5)
    assert GenerateSettings(events=20, shard_events=10).shards == (10, 10)
    assert GenerateSettings(events=3, shard_events=10).shards == (3,)


def test_commands_carry_the_masses() -> None:
    lines = pythia_commands(
        GenerateSettings(process="wprime", mass_resonance_gev=4000.0, mass_x_gev=700.0, mass_y_gev=90.0), seed=11
    )
    assert {"34:m0 = 4000.0", "24:m0 = 700.0", "23:m0 = 90.0", "Random:seed = 11"} <= set(lines)
    assert "PartonLevel:MPI = on" in pythia_commands(GenerateSettings(multiparton_interactions=True), seed=1)
