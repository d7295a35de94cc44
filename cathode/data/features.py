"""Dijet features of the LHC Olympics, with their exact definitions.

The input are the columns of the LHC Olympics features files: for the two jets ``j1`` and ``j2`` (ordered by transverse
momentum there) the momentum components, mass and unnormalised N-subjettiness, all in GeV.  The features follow CATHODE
(arXiv 2109.00546, section II): **the jets are reordered by mass**, ``j1`` being the lighter one, and masses are in TeV.

The names ``mj1`` and ``mj2`` exist in both worlds; as features they always mean the mass-ordered jets.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cathode.support.errors import UserError

__all__ = [
    "DEFAULT_FEATURES",
    "DIJET_FEATURES",
    "JET_COLUMNS",
    "LABEL_COLUMN",
    "LHCO_COLUMNS",
    "DijetFeature",
    "available_dijet_features",
    "dijet_features",
]

Array = NDArray[np.float64]

_PER_JET = ("px{}", "py{}", "pz{}", "m{}", "tau1{}", "tau2{}", "tau3{}")
#: The 14 jet columns of an LHC Olympics features file, in their order there.
JET_COLUMNS = tuple(column.format(jet) for jet in ("j1", "j2") for column in _PER_JET)
LABEL_COLUMN = "label"
#: All 15 columns of an LHC Olympics features file, in their order there.
LHCO_COLUMNS = (*JET_COLUMNS, LABEL_COLUMN)
#: The four features of the CATHODE paper.
DEFAULT_FEATURES = ("mj1", "dmj", "tau21_j1", "tau21_j2")

# CATHODE adds this to the denominator, with tau in GeV: it only matters for jets of a single constituent.
_TAU_FLOOR_GEV = 1e-5

_MOMENTA = tuple(f"{component}{jet}" for jet in ("j1", "j2") for component in ("px", "py", "pz"))
_MASSES = ("mj1", "mj2")


@dataclass(frozen=True)
class DijetFeature:
    """One derived feature.

    Attributes:
        definition: Formula in words.
        unit: ``TeV`` or empty.
        needs: Columns of the file it is made from.
        compute: From the file's columns (GeV, jets in the file's order) to values ``(N,)`` in ``unit``.
    """

    definition: str
    unit: str
    needs: tuple[str, ...]
    compute: Callable[[Mapping[str, Array]], Array]


def _energy(raw: Mapping[str, Array], jet: str) -> Array:
    return np.sqrt(raw[f"px{jet}"] ** 2 + raw[f"py{jet}"] ** 2 + raw[f"pz{jet}"] ** 2 + raw[f"m{jet}"] ** 2)


def _mjj(raw: Mapping[str, Array]) -> Array:
    square = (_energy(raw, "j1") + _energy(raw, "j2")) ** 2
    for component in ("px", "py", "pz"):
        square -= (raw[f"{component}j1"] + raw[f"{component}j2"]) ** 2
    # Rounding may leave a square slightly below zero for collinear massless jets; NaN stays NaN.
    return 1e-3 * np.sqrt(np.maximum(square, 0.0))


def _ptjj(raw: Mapping[str, Array]) -> Array:
    return 1e-3 * np.hypot(raw["pxj1"] + raw["pxj2"], raw["pyj1"] + raw["pyj2"])


def _pseudorapidity(raw: Mapping[str, Array], jet: str) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.arcsinh(raw[f"pz{jet}"] / np.hypot(raw[f"px{jet}"], raw[f"py{jet}"]))


def _delta_phi(raw: Mapping[str, Array]) -> Array:
    difference = np.arctan2(raw["pyj1"], raw["pxj1"]) - np.arctan2(raw["pyj2"], raw["pxj2"])
    return np.abs((difference + np.pi) % (2.0 * np.pi) - np.pi)


def _delta_eta(raw: Mapping[str, Array]) -> Array:
    return np.abs(_pseudorapidity(raw, "j1") - _pseudorapidity(raw, "j2"))


def _by_mass(raw: Mapping[str, Array], column: str, *, heavier: bool) -> Array:
    """``column`` of the lighter or heavier jet; with equal masses the file's first jet counts as the lighter."""
    first_is_lighter = raw["mj1"] <= raw["mj2"]
    return np.where(first_is_lighter != heavier, raw[column.format("j1")], raw[column.format("j2")])


def _mass_of(*, heavier: bool) -> Callable[[Mapping[str, Array]], Array]:
    return lambda raw: 1e-3 * _by_mass(raw, "m{}", heavier=heavier)


def _pt_of(*, heavier: bool) -> Callable[[Mapping[str, Array]], Array]:
    def compute(raw: Mapping[str, Array]) -> Array:
        momenta = {f"pt{jet}": np.hypot(raw[f"px{jet}"], raw[f"py{jet}"]) for jet in ("j1", "j2")}
        return 1e-3 * _by_mass({**raw, **momenta}, "pt{}", heavier=heavier)

    return compute


def _tau_of(order: int, *, heavier: bool) -> Callable[[Mapping[str, Array]], Array]:
    return lambda raw: 1e-3 * _by_mass(raw, f"tau{order}{{}}", heavier=heavier)


def _tau_ratio(upper: int, lower: int, *, heavier: bool) -> Callable[[Mapping[str, Array]], Array]:
    def compute(raw: Mapping[str, Array]) -> Array:
        numerator = _by_mass(raw, f"tau{upper}{{}}", heavier=heavier)
        return numerator / (_TAU_FLOOR_GEV + _by_mass(raw, f"tau{lower}{{}}", heavier=heavier))

    return compute


def _taus(*orders: int) -> tuple[str, ...]:
    return (*_MASSES, *(f"tau{order}{jet}" for jet in ("j1", "j2") for order in orders))


def _catalogue() -> dict[str, DijetFeature]:
    table = {
        "mjj": DijetFeature(
            "invariant mass of the two jets: sqrt((E1+E2)^2 - |p1+p2|^2), E^2 = p^2 + m^2", "TeV",
            (*_MOMENTA, *_MASSES), _mjj,
        ),
        "mj1": DijetFeature("mass of the lighter jet", "TeV", _MASSES, _mass_of(heavier=False)),
        "mj2": DijetFeature("mass of the heavier jet", "TeV", _MASSES, _mass_of(heavier=True)),
        "dmj": DijetFeature(
            "mj2 - mj1, never negative", "TeV", _MASSES, lambda raw: 1e-3 * np.abs(raw["mj2"] - raw["mj1"])
        ),
    }  # fmt: skip
    for jet, word, heavier in (("j1", "lighter", False), ("j2", "heavier", True)):
        table[f"pt_{jet}"] = DijetFeature(
            f"transverse momentum of the {word} jet", "TeV", (*_MOMENTA, *_MASSES), _pt_of(heavier=heavier)
        )
        for upper, lower in ((2, 1), (3, 2)):
            table[f"tau{upper}{lower}_{jet}"] = DijetFeature(
                f"tau{upper} / (1e-5 GeV + tau{lower}) of the {word} jet",
                "",
                _taus(lower, upper),
                _tau_ratio(upper, lower, heavier=heavier),
            )
        for order in (1, 2, 3):
            table[f"tau{order}_{jet}"] = DijetFeature(
                f"{order}-subjettiness of the {word} jet, not divided by its momentum (sum of pT times angle)",
                "TeV",
                _taus(order),
                _tau_of(order, heavier=heavier),
            )
    table["dr_jj"] = DijetFeature(
        "sqrt(deta^2 + dphi^2) of the jets' directions, eta the pseudorapidity, dphi in [0, pi]", "", _MOMENTA,
        lambda raw: np.hypot(_delta_eta(raw), _delta_phi(raw)),
    )  # fmt: skip
    table["deta_jj"] = DijetFeature("absolute difference in pseudorapidity of the jets", "", _MOMENTA, _delta_eta)
    table["ptjj"] = DijetFeature("transverse momentum of the two jets together", "TeV", _MOMENTA, _ptjj)
    return table


#: Every derived feature by name.
DIJET_FEATURES: Mapping[str, DijetFeature] = _catalogue()


def available_dijet_features(columns: Collection[str]) -> tuple[str, ...]:
    """Names of the derived features that can be made from these columns.

    None, unless the momenta and masses of both jets are there: a file that merely has a column ``mj1`` keeps its own
    meaning of it.
    """
    present = set(columns)
    if not present.issuperset((*_MOMENTA, *_MASSES)):
        return ()
    return tuple(name for name, feature in DIJET_FEATURES.items() if present.issuperset(feature.needs))


def dijet_features(raw: Mapping[str, Array], names: Iterable[str] = (*DEFAULT_FEATURES, "mjj")) -> dict[str, Array]:
    """Derived dijet features of events in the LHC Olympics layout.

    - ``mjj`` [TeV]: invariant mass of the two jets, ``sqrt((E1 + E2)^2 - |p1 + p2|^2)``, ``E^2 = |p|^2 + m^2``;
    - ``mj1``, ``mj2`` [TeV]: mass of the lighter and of the heavier jet; ``dmj`` [TeV]: ``mj2 - mj1``;
    - ``tau21_j1``, ``tau21_j2``: ``tau2 / (1e-5 GeV + tau1)`` of the lighter and the heavier jet; ``tau32_*`` likewise
      ``tau3 / (1e-5 GeV + tau2)``;
    - ``dr_jj``: angular distance ``sqrt(deta^2 + dphi^2)`` with pseudorapidities;
    - also ``pt_j1``, ``pt_j2``, ``tau1_j1`` ... ``tau3_j2``, ``ptjj`` [TeV] and ``deta_jj``; :data:`DIJET_FEATURES` has
      all definitions.

    Args:
        raw: Columns ``(N,)`` named as in the file, in GeV; jets in the file's order.
        names: Features to compute.

    Returns:
        ``(N,)`` float64 per feature. NaN in gives NaN out.

    Raises:
        UserError: An unknown feature or a missing column.
    """
    result = {}
    for name in names:
        if name not in DIJET_FEATURES:
            raise UserError(f"no dijet feature {name!r}; there are {', '.join(DIJET_FEATURES)}")
        feature = DIJET_FEATURES[name]
        missing = [column for column in feature.needs if column not in raw]
        if missing:
            raise UserError(f"the feature {name!r} needs the column {missing[0]!r}, which is not there")
        values = {column: np.asarray(raw[column], dtype=np.float64) for column in feature.needs}
        result[name] = feature.compute(values)
    return result
