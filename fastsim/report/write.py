"""What an evaluation leaves behind: numbers, page, figures and histograms, in one folder, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from cathode.page.figures import write_figures
from cathode.support.files import write_json
from cathode.support.provenance import environment, git_revision
from fastsim.evaluation.results import EvaluationResult
from fastsim.report.folder import evaluation_folder
from fastsim.report.html import write_report
from fastsim.report.standing import report_figures

__all__ = ["write_evaluation"]


def write_evaluation(result: EvaluationResult, output: str | Path, *, overwrite: bool = False) -> Path:
    """Write ``results.json``, ``report.html``, ``figures/``, ``histograms.h5`` and ``provenance.json`` into ``output``.

    Args:
        result: A finished evaluation.
        output: Folder; it appears whole or not at all.
        overwrite: Replace an earlier evaluation.

    Raises:
        UserError: The folder holds something else or cannot be written.
    """
    with evaluation_folder(output, overwrite=overwrite) as folder:
        drawn = report_figures(result)
        # PDF takes as long as everything else here.
        write_figures(drawn, folder / "figures", kinds=("png",) if result.settings.quick else ("png", "pdf"))
        write_report(result, folder / "report.html", figures=drawn)
        _write_histograms(folder / "histograms.h5", result)
        write_json(
            folder / "provenance.json",
            {"versions": result.versions, "git_revision": git_revision(), "environment": environment()},
        )
        write_json(folder / "results.json", result.to_json())
    return Path(output)


def _write_histograms(path: Path, result: EvaluationResult) -> None:
    """Everything that was drawn, in numbers."""
    with h5py.File(path, "w") as file:
        for one in result.separations:
            group = file.create_group(f"observables/{one.name}")
            group.attrs.update({"label": one.label, "unit": one.unit, "separation": one.power.value})
            for name in ("edges", "reference", "generated", "reference_outside", "generated_outside"):
                group.create_dataset(name, data=getattr(one.histogram, name))
        file["observables"].attrs["outside"] = "counts below the first edge, above the last, and exactly zero"
        for profile in result.profiles:
            group = file.create_group(f"profiles/{profile.name}")
            group.attrs.update({"label": profile.label, "axis": profile.axis})
            for name in ("edges", "reference", "reference_error", "generated", "generated_error"):
                group.create_dataset(name, data=getattr(profile, name))
        group = file.create_group("mean_shower")
        group.attrs["meaning"] = "energy over incident energy per voxel, and fraction of showers with energy in it"
        for name in ("reference", "generated", "reference_hit", "generated_hit"):
            group.create_dataset(name, data=np.asarray(getattr(result.mean, name), dtype=np.float32))
        group = file.create_group("layer_correlations")
        for name in ("reference", "generated", "error"):
            group.create_dataset(name, data=getattr(result.correlations, name))
