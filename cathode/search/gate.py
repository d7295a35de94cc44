"""The gate: is the template good enough for anything to be claimed?

All limits are on effects beyond two standard errors, so a small sample does not fail by fluctuation.  No label is used.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cathode.comparison.c2st import c2st
from cathode.comparison.marginals import correlation_pulls, marginals
from cathode.data.events import Events
from cathode.search.background import Background
from cathode.search.results import GateCheck, GateResult
from cathode.search.settings import GateSettings
from cathode.search.tasks import Task
from cathode.search.template import Template

__all__ = ["gate_result", "two_sample_task", "two_sample_test", "with_checks"]

Array = NDArray[np.float64]
_RANK = {"pass": 0, "info": 0, "warn": 1, "fail": 2}


def two_sample_task(name: str, x: Array, y: Array, *, x_weight: Array | None, max_events: int, seed: int) -> Task:
    """Classifier two-sample test of ``x`` against ``y`` as a task."""
    return Task(name, two_sample_test, {"x": x, "y": y, "x_weight": x_weight, "max_events": max_events, "seed": seed})


def two_sample_test(folder: Path, *, x: Array, y: Array, x_weight: Array | None, max_events: int, seed: int) -> None:
    """Run :func:`cathode.comparison.c2st.c2st` and store AUC and error in ``folder / "c2st.json"``."""
    result = c2st(x, y, x_weight=x_weight, seed=seed, max_events=max_events)
    (folder / "c2st.json").write_text(json.dumps({"auc": result.auc, "error": result.error, "p_value": result.p_value}))


def gate_result(
    settings: GateSettings,
    *,
    background: Background,
    sideband: Events,
    sideband_template: Template,
    template: Template,
    sideband_test: Path,
    template_test: Path,
) -> GateResult:
    """All checks with their status.

    Args:
        settings: Limits.
        background: The density and its likelihoods.
        sideband: Held-out sideband data.
        sideband_template: Template events at the masses of ``sideband``.
        template: Template of the signal region.
        sideband_test, template_test: Folders of the finished two-sample tests.
    """
    in_sideband = json.loads((sideband_test / "c2st.json").read_text())
    in_signal = json.loads((template_test / "c2st.json").read_text())
    checks = [
        _auc(
            "C2ST AUC, sidebands",
            in_sideband,
            settings.c2st_sideband,
            "trees separating held-out sideband data from the template at the same masses; 0.5 is perfect",
        ),
        _auc(
            "C2ST AUC, signal region",
            in_signal,
            settings.c2st_template,
            "the same in the signal region; a signal raises it too",
        ),
    ]
    pulls = _moment_pulls(sideband, sideband_template)
    name, value = max(pulls.items(), key=lambda item: abs(item[1]))
    checks.append(
        _limit(
            "largest moment pull",
            abs(value),
            settings.marginal_pull,
            f"largest |pull| of a feature's mean or width in the sidebands: {name}",
        )
    )
    shapes = marginals(
        sideband.features, sideband_template.features, names=sideband.names, bins=30, x_weight=sideband.weight
    )
    worst = min(shapes, key=lambda m: m.p_value)
    checks.append(
        GateCheck(
            "worst marginal p-value",
            worst.p_value,
            float("nan"),
            float("nan"),
            float("nan"),
            "info",
            f"χ²/ndof = {worst.chi2:.1f}/{worst.ndof} of {worst.name} in the sidebands",
        )
    )
    if sideband.features.shape[1] > 1:
        correlation = correlation_pulls(
            sideband.features, sideband_template.features, method="spearman", x_weight=sideband.weight
        )
        checks.append(
            _limit(
                "largest correlation pull",
                correlation.largest,
                settings.correlation_pull,
                "largest |pull| of a rank correlation between two features in the sidebands",
            )
        )
    gain = background.summary.gaussian_nll - background.summary.validation_nll
    error = background.summary.validation_nll_error
    checks.append(
        GateCheck(
            "NLL below Gaussian baseline",
            gain,
            error,
            0.0,
            -0.05,
            "pass" if gain > 0 else "warn" if gain > -0.05 else "fail",
            "nats per event gained over one Gaussian with a mean linear in mass; must be positive",
        )
    )
    checks.append(
        _limit(
            "template outside range",
            template.outside / max(len(template), 1),
            settings.rejected_fraction,
            f"{template.outside} of {len(template)} template events outside the range of the sideband data",
        )
    )
    n_sideband = background.clipped + background.rejected
    checks.append(
        GateCheck(
            "sideband events at the edges",
            float(n_sideband),
            float("nan"),
            float("nan"),
            float("nan"),
            "info",
            f"{background.clipped} clipped and {background.rejected} left out by the preprocessing",
        )
    )
    return GateResult(
        status=_worst(checks),
        checks=checks,
        c2st_auc_sideband=in_sideband["auc"],
        c2st_auc_sideband_error=in_sideband["error"],
        c2st_auc_template=in_signal["auc"],
        c2st_auc_template_error=in_signal["error"],
    )


def with_checks(gate: GateResult, checks: Sequence[GateCheck]) -> GateResult:
    """The gate with further checks, which count for its status."""
    every = [*gate.checks, *checks]
    return replace(gate, checks=every, status=_worst(every))


def _worst(checks: Sequence[GateCheck]) -> str:
    return max((c.status for c in checks if c.status != "info"), key=_RANK.__getitem__)


def _auc(name: str, test: dict[str, float], limits: tuple[float, float], explanation: str) -> GateCheck:
    beyond = test["auc"] - 0.5 - 2 * test["error"]
    status = "fail" if beyond > limits[1] else "warn" if beyond > limits[0] else "pass"
    return GateCheck(name, test["auc"], test["error"], 0.5 + limits[0], 0.5 + limits[1], status, explanation)


def _limit(name: str, value: float, limits: tuple[float, float], explanation: str) -> GateCheck:
    status = "fail" if value > limits[1] else "warn" if value > limits[0] else "pass"
    return GateCheck(name, float(value), float("nan"), limits[0], limits[1], status, explanation)


def _moment_pulls(data: Events, template: Template) -> dict[str, float]:
    w = np.ones(len(data)) if data.weight is None else data.weight
    w = w / w.sum()
    pulls = {}
    for k, name in enumerate(data.names):
        x, y = data.features[:, k], template.features[:, k]
        mean_x, mean_y = w @ x, y.mean()
        var_x, var_y = w @ (x - mean_x) ** 2, y.var()
        error = np.sqrt(np.sum(w**2 * (x - mean_x) ** 2) + var_y / len(y))
        pulls[f"mean of {name}"] = float((mean_x - mean_y) / error)
        square_x, square_y = (x - mean_x) ** 2 - var_x, (y - mean_y) ** 2 - var_y
        error = np.sqrt(np.sum(w**2 * square_x**2) + np.mean(square_y**2) / len(y))
        pulls[f"width of {name}"] = float((var_x - var_y) / error)
    return pulls
