"""Is Geant4 there, with its data?  Asked before importing it, because without data it asks to download or aborts."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

from cathode.support.errors import MissingExtraError, UserError, require

__all__ = ["DATASETS", "check_installation", "load_geant4"]

#: Start of the folder's name, and the variable that points to it, of each data set that showers need.
DATASETS = {
    "G4EMLOW": "G4LEDATA",
    "PhotonEvaporation": "G4LEVELGAMMADATA",
    "G4PARTICLEXS": "G4PARTICLEXSDATA",
    "G4ENSDFSTATE": "G4ENSDFSTATEDATA",
    "G4SAIDDATA": "G4SAIDXSDATA",
}


def check_installation(environment: Mapping[str, str] | None = None) -> None:
    """Look for the package and the data files, without importing anything.

    Args:
        environment: Environment variables; default: those of this process.

    Raises:
        MissingExtraError: ``geant4-pybind`` is not installed.
        UserError: Data files are missing.
    """
    environment = os.environ if environment is None else environment
    if importlib.util.find_spec("geant4_pybind") is None:
        raise MissingExtraError(
            "this needs the package 'geant4_pybind', which is not installed: pip install 'cathode-hep[geant4]'"
        )
    folder = environment.get("GEANT4_DATA_DIR")
    if folder and not Path(folder).is_dir():
        raise UserError(f"GEANT4_DATA_DIR={folder} is no folder; set it to the folder with Geant4's data")
    missing = [
        name
        for name, variable in DATASETS.items()
        if not (variable in environment and Path(environment[variable]).is_dir())
        and not (folder and any(path.is_dir() for path in Path(folder).glob(f"{name}*")))
    ]
    if missing:
        raise UserError(
            f"Geant4's data sets {', '.join(missing)} are missing (looked in GEANT4_DATA_DIR={folder or 'not set'} and "
            "the variables of each set): get them from https://geant4.web.cern.ch/download and set GEANT4_DATA_DIR"
        )


def load_geant4() -> ModuleType:
    """The package, after :func:`check_installation`."""
    check_installation()
    return require("geant4_pybind", "geant4")
