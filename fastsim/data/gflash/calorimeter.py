"""A calorimeter as the simulator sees it: a medium cut into layers, its fluctuations, and its tuning."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from cathode.support.errors import UserError
from fastsim.data.gflash.medium import Medium

__all__ = ["Calorimeter", "Tuning"]


@dataclass(frozen=True)
class Tuning:
    """Corrections to the published constants; the defaults leave them as they are.

    GFlash is used with such tuned constants in practice: the published ones were fitted to Geant 3 simulations of
    other detectors, with other cuts, above about 1 GeV.  :func:`fastsim.data.gflash.calibrate` fits these.
    """

    t_max_shift: float = 0.0
    """Added to the median of the depth of the maximum T [X0]."""
    t_max_slope: float = 0.0
    """Added to that median per unit of ln y - 6 [X0]."""
    alpha_scale: float = 1.0
    """Factor on the median of α - 1: above 1 the shower is shorter behind its maximum."""
    fluctuation_scale: float = 1.0
    """Factor on σ(ln T) and σ(ln α)."""
    conversion_scale: float = 1.0
    """Factor on the mean conversion depth of photons, 9/7 X0."""
    core_scale: float = 1.0
    """Factor on the core radius R_C."""
    tail_scale: float = 1.0
    """Factor on the tail radius R_T."""
    core_weight: float = 0.0
    """Added to the logit of the weight p of the core."""
    spot_scale: float = 1.0
    """Factor on the number of energy spots: smaller is lumpier."""

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            positive = item.name.endswith("_scale")
            if not math.isfinite(value) or (positive and value < 0) or (
                positive and value == 0 and item.name != "fluctuation_scale"
            ):  # fmt: skip
                raise UserError(f"tuning: {item.name} = {value} must be {'positive' if positive else 'finite'}")


@dataclass(frozen=True)
class Calorimeter:
    """What stands in the beam.

    Args:
        name: For messages and files.
        medium: Effective material.
        layer_edges: L + 1 increasing depths [X0] that bound the L layers; the first is 0 at the face.
        sampling_fluctuation: c of σ(E)/E = c / √(E/GeV), drawn with gamma distributions; 0 draws none (and the spots
            of a sampling medium then take c = 0.1, as their number is 10.3/c E^0.959).
        constant_fluctuation: Relative fluctuation common to a whole shower.
        response: One factor per layer on the visible energy; empty means 1 everywhere.
        tuning: Corrections to the published constants.
    """

    name: str
    medium: Medium
    layer_edges: tuple[float, ...]
    sampling_fluctuation: float = 0.0
    constant_fluctuation: float = 0.0
    response: tuple[float, ...] = ()
    tuning: Tuning = field(default_factory=Tuning)

    def __post_init__(self) -> None:
        edges = np.asarray(self.layer_edges, dtype=float)
        if edges.ndim != 1 or len(edges) < 2 or not np.isfinite(edges).all() or edges[0] < 0 or (
            np.diff(edges) <= 0
        ).any():  # fmt: skip
            raise UserError(
                f"calorimeter {self.name!r}: layer_edges must be at least two increasing depths in X0, "
                f"got {list(self.layer_edges)}"
            )
        if self.response and (
            len(self.response) != self.n_layers or not all(0 <= value < math.inf for value in self.response)
        ):
            raise UserError(
                f"calorimeter {self.name!r}: response needs one non-negative factor for each of its "
                f"{self.n_layers} layers, got {list(self.response)}"
            )
        for name in ("sampling_fluctuation", "constant_fluctuation"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UserError(f"calorimeter {self.name!r}: {name} = {getattr(self, name)} must not be negative")

    @property
    def n_layers(self) -> int:
        return len(self.layer_edges) - 1

    @property
    def responses(self) -> npt.NDArray[np.float64]:
        """Factor per layer, shape (L,)."""
        return np.asarray(self.response, dtype=float) if self.response else np.ones(self.n_layers)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for YAML and JSON."""
        data = dataclasses.asdict(self)
        return {**data, "layer_edges": list(self.layer_edges), "response": list(self.response)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Calorimeter:
        """The inverse of :meth:`to_dict`.

        Raises:
            UserError: Keys are missing or unknown, or values are no calorimeter.
        """
        try:
            content = dict(data)
            content["medium"] = Medium(**content["medium"])
            content["tuning"] = Tuning(**content.get("tuning", {}))
            content["layer_edges"] = tuple(float(value) for value in content["layer_edges"])
            content["response"] = tuple(float(value) for value in content.get("response", ()))
            return cls(**content)
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"this is no description of a calorimeter: {error}") from error
