"""Notebooks are stored clean, so that changes to them can be read; ``notebooks/run.py`` executes them."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "notebooks"
NAMES = [
    "bring_your_own_data",
    "data_to_leaderboard",
    "densities_and_interpolation",
    "jets_and_their_substructure",
    "search_in_ten_lines",
]


def test_all_notebooks_are_listed():
    assert sorted(path.stem for path in FOLDER.glob("*.ipynb")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_notebook_is_stored_without_outputs(name):
    notebook = json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))
    assert notebook["nbformat"] == 4
    assert notebook["cells"][0]["cell_type"] == "markdown"
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert code
    for cell in code:
        assert cell["outputs"] == []
        assert cell["execution_count"] is None
        ast.parse("".join(line for line in cell["source"] if not line.startswith("%")))


@pytest.mark.parametrize("name", NAMES)
def test_notebook_needs_nothing_from_outside(name):
    text = (FOLDER / f"{name}.ipynb").read_text(encoding="utf-8")
    folders = [f"/{name}/" for name in ("home", "root", "work", "tmp", "scratch")]
    for foreign in ("../", *folders, "http.get", "urllib", "requests", "!pip"):
        assert foreign not in text
