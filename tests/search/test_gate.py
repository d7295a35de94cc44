from __future__ import annotations

import json

import numpy as np
import pytest

from cathode.data.regions import Regions
from cathode.density.analytic import LinearGaussian
from cathode.search.gate import gate_result, two_sample_task
from cathode.search.settings import GateSettings
from cathode.search.template import conditional_template

REGIONS = Regions(signal=(3.3, 3.7), sideband=(2.3, 5.0))
LIMITS = GateSettings()


@pytest.fixture
def judge(make_gaussian, make_background, runner, tmp_path):
    def run(density, *, nll: float = 0.0, gaussian_nll: float = 0.1, reached: float = 0.0, auc: float | None = None):
        events = make_gaussian(9000, 1)
        signal_region, sideband = REGIONS.split(events)
        sideband = sideband.select(slice(0, 3000))
        background = make_background(density, nll=nll, gaussian_nll=gaussian_nll)
        template = conditional_template(background, np.repeat(signal_region.mass, 2), seed=1)
        beside = conditional_template(background, np.repeat(sideband.mass, 2), seed=2)
        if reached:
            # Found by the counter of the template, whatever its events.
            object.__setattr__(template, "outside", round(reached * len(template)))
        if auc is not None:
            (tmp_path / "c2st.json").write_text(json.dumps({"auc": auc, "error": 0.01}))
        tasks = [
            two_sample_task(name, x.features, y.features, x_weight=None, max_events=1000, seed=k)
            for k, (name, x, y) in enumerate([("sideband", sideband, beside), ("template", signal_region, template)])
        ]
        folders = runner.run(tasks, description="gate") if auc is None else [tmp_path, tmp_path]
        return gate_result(
            LIMITS, background=background, sideband=sideband, sideband_template=beside, template=template,
            sideband_test=folders[0], template_test=folders[1],
        )  # fmt: skip

    return run


def test_perfect_template_passes(judge, exact):
    gate = judge(exact)
    assert gate.status == "pass", gate.checks
    assert {c.status for c in gate.checks} == {"pass", "info"}
    assert gate.c2st_auc_sideband == pytest.approx(0.5, abs=0.05)
    assert gate.c2st_auc_template == pytest.approx(0.5, abs=0.06)
    assert len({c.name for c in gate.checks}) == len(gate.checks) >= 7


def test_shifted_template_fails(judge):
    shifted = LinearGaussian([-0.7, 0.5], [[0.5, 0.0], [0.3, 0.4]], [[0.6], [-0.3]])
    gate = judge(shifted)
    assert gate.status == "fail"
    by_name = {c.name: c for c in gate.checks}
    assert by_name["C2ST AUC, sidebands"].status == "fail"
    assert by_name["largest moment pull"].status == "fail"
    assert "mean of a" in by_name["largest moment pull"].explanation
    assert by_name["worst marginal p-value"].value < 1e-6
    assert gate.c2st_auc_sideband > 0.6


def test_wrong_correlation_fails_where_marginals_agree(judge):
    # Both widths are right: 0.5 and sqrt(0.3^2 + 0.4^2) = 0.5; the features are independent.
    independent = LinearGaussian([-1.0, 0.5], [[0.5, 0.0], [0.0, 0.5]], [[0.6], [-0.3]])
    by_name = {c.name: c for c in judge(independent, auc=0.5).checks}
    assert by_name["largest correlation pull"].status == "fail"
    assert by_name["largest moment pull"].status == "pass"


@pytest.mark.parametrize(
    ("options", "check", "status"),
    [
        ({"auc": 0.527}, "C2ST AUC, sidebands", "warn"),
        ({"auc": 0.545}, "C2ST AUC, sidebands", "fail"),
        ({"nll": 0.12, "gaussian_nll": 0.1}, "NLL below Gaussian baseline", "warn"),
        ({"nll": 0.2, "gaussian_nll": 0.1}, "NLL below Gaussian baseline", "fail"),
        ({"reached": 0.005}, "template outside range", "warn"),
        ({"reached": 0.05}, "template outside range", "fail"),
    ],
)
def test_the_worst_check_is_the_status(judge, exact, options, check, status):
    gate = judge(exact, **{"auc": 0.5} | options)
    assert {c.name: c.status for c in gate.checks}[check] == status
    assert gate.status == status
