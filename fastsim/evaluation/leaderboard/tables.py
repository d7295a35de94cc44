"""The tables of all submissions, as they were published.

Transcribed from the result files that accompany the community paper (arXiv:2410.21611): classifier AUCs, FPD and KPD,
precision, recall, density and coverage, generation times and separation powers, one file per dataset.  Times were taken
on the challenge's machines; those of another machine are not on the same scale.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from cathode.support.errors import UserError
from fastsim.evaluation.procedure import DATASETS

__all__ = ["GEANT4", "SOURCE", "Leaderboard", "Submission", "leaderboard"]

SOURCE = "CaloChallenge 2022, arXiv:2410.21611"

#: Row of the full simulation compared with itself: the best that the metrics can be.
GEANT4 = "GEANT4"


@dataclass(frozen=True)
class Submission:
    """One row of a table.

    Attributes:
        model: Name as published.
        values: Column -> number; columns that were not published are missing.
        errors: Column -> published error.
    """

    model: str
    values: dict[str, float]
    errors: dict[str, float]


@dataclass(frozen=True)
class Leaderboard:
    """The table of one dataset.

    Attributes:
        dataset: ``ds1-photons``, ``ds1-pions``, ``ds2`` or ``ds3``.
        source: Where the numbers were published.
        columns: Names of all columns; ``*_e3`` are given times 1000, ``ms_*`` are milliseconds per shower.
        geant4: Full simulation against itself.
        submissions: In the published order.
    """

    dataset: str
    source: str
    columns: tuple[str, ...]
    geant4: Submission
    submissions: tuple[Submission, ...]

    def column(self, name: str) -> dict[str, float]:
        """Model -> value, for the submissions that have one.

        Raises:
            UserError: No such column.
        """
        if name not in self.columns:
            raise UserError(f"the table of {self.dataset} has no column {name!r}; it has {', '.join(self.columns)}")
        return {s.model: s.values[name] for s in self.submissions if name in s.values}


def leaderboard(dataset: str) -> Leaderboard:
    """The published table of a dataset.

    Raises:
        UserError: Not a public dataset.
    """
    if dataset not in DATASETS:
        raise UserError(f"there is no published table of {dataset!r}: only of {', '.join(DATASETS)}")
    return _read(dataset)


@cache
def _read(dataset: str) -> Leaderboard:
    path = files("fastsim.evaluation.leaderboard") / "published" / f"{dataset}.csv"
    with path.open(encoding="utf-8") as stream:
        rows = csv.DictReader(line for line in stream if not line.startswith("#"))
        submissions = [_submission(row) for row in rows]
        names = rows.fieldnames or ()
    columns = tuple(name for name in names if name != "model" and not name.endswith("_error"))
    geant4 = next(s for s in submissions if s.model == GEANT4)
    return Leaderboard(dataset, SOURCE, columns, geant4, tuple(s for s in submissions if s is not geant4))


def _submission(row: dict[str, str]) -> Submission:
    numbers = {name: float(text) for name, text in row.items() if name != "model" and text}
    values = {name: value for name, value in numbers.items() if not name.endswith("_error")}
    errors = {name.removesuffix("_error"): value for name, value in numbers.items() if name.endswith("_error")}
    return Submission(row["model"], values, errors)
