"""What an evaluation of jets leaves behind: numbers, page and figures in one folder, whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path

from cathode.jets.evaluation.results import KIND, JetsEvaluation
from cathode.page.figures import write_figures
from cathode.report.jets.figures import all_figures
from cathode.report.jets.html import write_report
from cathode.support.errors import UserError
from cathode.support.files import TEMPORARY, atomic_directory, write_json
from cathode.support.provenance import environment, git_revision

__all__ = ["check_folder", "write_evaluation"]

_NAMES = {"results.json", "report.html", "figures", "provenance.json"}


def check_folder(path: str | Path, *, overwrite: bool) -> None:
    """Refuse an output folder that holds anything else, before anything is computed.

    Raises:
        UserError: A file, a folder with other content, or an earlier evaluation without ``overwrite``.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise UserError(f"output {path} exists and is not a folder: choose another --output")
    held = [p.name for p in path.iterdir() if not p.name.startswith(TEMPORARY)] if path.is_dir() else []
    if not held:
        return
    foreign = sorted(set(held) - _NAMES)
    if foreign or not _is_evaluation(path):
        raise UserError(
            f"output folder {path} is not empty and is no evaluation of jets ({(foreign or held)[0]}): choose another"
            " --output"
        )
    if not overwrite:
        raise UserError(f"output folder {path} already holds an evaluation: add --overwrite or choose another --output")


def write_evaluation(result: JetsEvaluation, output: str | Path, *, overwrite: bool = False) -> Path:
    """Write ``results.json``, ``report.html``, ``figures/`` and ``provenance.json`` into ``output``.

    Args:
        result: A finished evaluation.
        output: Folder; it appears whole or not at all.
        overwrite: Replace an earlier evaluation.

    Raises:
        UserError: The folder holds something else or cannot be written.
    """
    check_folder(output, overwrite=overwrite)
    with atomic_directory(output) as folder:
        drawn = all_figures(result)
        # PDF takes as long as everything else here.
        write_figures(drawn, folder / "figures", kinds=("png",) if result.settings.quick else ("png", "pdf"))
        write_report(result, folder / "report.html", figures=drawn)
        write_json(
            folder / "provenance.json",
            {"versions": result.versions, "git_revision": git_revision(), "environment": environment()},
        )
        write_json(folder / "results.json", result.to_json())
    return Path(output)


def _is_evaluation(path: Path) -> bool:
    try:
        content = json.loads((path / "results.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("kind") == KIND
