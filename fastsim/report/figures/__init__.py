"""All figures of an evaluation, one module each; functions return a matplotlib ``Figure`` and touch no global state."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastsim.report.figures.classifiers import roc_figure, separating_figure
from fastsim.report.figures.correlations import correlations_figure
from fastsim.report.figures.examples import examples_figure
from fastsim.report.figures.layers import depth_figure, layers_figure
from fastsim.report.figures.observables import groups, observables_figure, separations_figure
from fastsim.report.figures.plane import plane_figure
from fastsim.report.figures.profiles import profiles_figure
from fastsim.report.figures.response import layer_closure_figure, response_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fastsim.evaluation.results import EvaluationResult

__all__ = [
    "all_figures",
    "correlations_figure",
    "depth_figure",
    "examples_figure",
    "layer_closure_figure",
    "layers_figure",
    "observables_figure",
    "plane_figure",
    "profiles_figure",
    "response_figure",
    "roc_figure",
    "separating_figure",
    "separations_figure",
]

# More profiles than this in one row are too small to read.
_SIDE_BY_SIDE = 3


def all_figures(result: EvaluationResult) -> dict[str, Figure]:
    """Every figure of an evaluation by file name (without suffix), in the order in which a report shows them."""
    geometry = result.geometry
    figures = {}
    if result.classifiers is not None:
        figures["roc"] = roc_figure(result.classifiers)
        figures["separating"] = separating_figure(result.classifiers)
    figures["layers"] = layers_figure(result.mean, geometry)
    if geometry.n_layers > 1:
        figures["depth"] = depth_figure(result.mean, geometry)
    layered = [p for p in result.profiles if p.name.startswith("radial-")]
    figures["profiles"] = profiles_figure([p for p in result.profiles if p not in layered])
    for start in range(0, len(layered), _SIDE_BY_SIDE):
        figures[f"radial_{start // _SIDE_BY_SIDE + 1}"] = profiles_figure(layered[start : start + _SIDE_BY_SIDE])
    figures["response"] = response_figure(result.response, left_out=result.settings.leave_out_energy)
    figures["layer_closure"] = layer_closure_figure(result.response)
    figures["correlations"] = correlations_figure(result.correlations)
    for name, members in groups(result.separations).items():
        figures[f"observables_{name.replace('-', '_')}"] = observables_figure(members)
    floor = None if result.floor is None else result.floor.separations
    figures["separations"] = separations_figure(result.separations, floor)
    figures["examples"] = examples_figure(result.examples, geometry)
    return figures
