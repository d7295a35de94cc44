"""Checks of the gate that only generated constituents need: the two-sample test on sets, and lost events."""

from __future__ import annotations

import json
from pathlib import Path

from cathode.classifiers.transformer.inputs import SetInputs
from cathode.classifiers.transformer.two_sample import set_c2st
from cathode.search.constituents.settings import SetTestSettings
from cathode.search.results import GateCheck
from cathode.search.tasks import Task

__all__ = ["set_checks", "set_test", "set_test_task"]


def set_test_task(x: SetInputs, y: SetInputs, settings: SetTestSettings, *, seed: int) -> Task:
    """Two-sample test of held-out sideband data ``x`` against generated events ``y`` as a task."""
    return Task("gate-sets", set_test, {"x": x, "y": y, "settings": settings, "seed": seed})


def set_test(folder: Path, *, x: SetInputs, y: SetInputs, settings: SetTestSettings, seed: int) -> None:
    """Run :func:`~cathode.classifiers.transformer.two_sample.set_c2st`; AUC and error go to ``c2st.json``."""
    result = set_c2st(x, y, seed=seed, quick=settings.quick, max_events=settings.max_events)
    (folder / "c2st.json").write_text(json.dumps({"auc": result.auc, "error": result.error}))


def set_checks(
    settings: SetTestSettings, test: Path | None, *, lost: int, total: int, limits: tuple[float, float]
) -> list[GateCheck]:
    """The checks with their status.

    Args:
        settings: Limits of the two-sample test.
        test: Folder of the finished test; None if it was left out.
        lost: Template masses without an event in the acceptance.
        total: All template masses.
        limits: Fractions of lost events that warn and fail.
    """
    checks = []
    if test is not None:
        found = json.loads((test / "c2st.json").read_text())
        beyond = found["auc"] - 0.5 - 2 * found["error"]
        status = "pass" if beyond <= settings.limits[0] else "warn"
        if beyond > settings.limits[1] and settings.fails:
            status = "fail"
        checks.append(
            GateCheck(
                "transformer AUC, sidebands",
                found["auc"],
                found["error"],
                0.5 + settings.limits[0],
                0.5 + settings.limits[1],
                status,
                "a transformer on all constituents separating held-out sideband data from the template at the same "
                "masses; 0.5 is perfect" + ("" if settings.fails else "; this check only warns"),
            )
        )
    fraction = lost / max(total, 1)
    checks.append(
        GateCheck(
            "template events lost",
            fraction,
            float("nan"),
            limits[0],
            limits[1],
            "fail" if fraction > limits[1] else "warn" if fraction > limits[0] else "pass",
            f"{lost} of {total} template masses without a draw in the acceptance",
        )
    )
    return checks
