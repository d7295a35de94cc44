"""Substructure observables by name.

All are computed from the constituents alone (massless, E-scheme), never from the axis that a file gave: a jet that is
cut to its leading constituents is judged as the jet that it then is.  Where a ratio is not defined it is 0, so values
are always finite.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from cathode.jets.observables.correlators import energy_correlators, narrow_correlators
from cathode.jets.observables.groomed import soft_drop
from cathode.jets.observables.padded import Floats, quotient
from cathode.jets.observables.shapes import kinematics, shapes
from cathode.jets.schema import Jets
from cathode.jets.substructure import n_subjettiness
from cathode.support.errors import UserError

__all__ = ["DEFAULT_OBSERVABLES", "OBSERVABLES", "Observable", "observables"]

# As in cathode.data.features: matters for jets of a single constituent only.
_TAU_FLOOR_GEV = 1e-5
_BLOCK = 8192


@dataclass(frozen=True)
class Observable:
    """What an observable is called.

    Attributes:
        name: Identifier.
        label: In words.
        unit: ``GeV`` or empty.
        compute: Gives this observable together with those that cost nothing more.
    """

    name: str
    label: str
    unit: str
    compute: Callable[[Jets], dict[str, Floats]]


def _subjettiness(jets: Jets) -> dict[str, Floats]:
    tau = np.zeros((len(jets), 3))
    for start in range(0, len(jets), _BLOCK):
        rows = slice(start, start + _BLOCK)
        tau[rows] = n_subjettiness(jets.points[rows].astype(np.float64))
    found = {f"tau{n}": tau[:, n - 1] for n in (1, 2, 3)}
    for upper, lower in ((2, 1), (3, 2)):
        found[f"tau{upper}{lower}"] = tau[:, upper - 1] / (_TAU_FLOOR_GEV + tau[:, lower - 1])
    return found


def _groomed(jets: Jets) -> dict[str, Floats]:
    found = soft_drop(jets)
    pt = kinematics(jets)["pt"]
    return found | {"softdrop_mass_over_pt": quotient(found["softdrop_mass"], pt)}


#: Every observable by name.
OBSERVABLES: dict[str, Observable] = {
    one.name: one
    for one in (
        Observable("mass", "mass", "GeV", kinematics),
        Observable("pt", "transverse momentum", "GeV", kinematics),
        Observable("eta", "pseudorapidity", "", kinematics),
        Observable("mass_over_pt", "mass / pT", "", kinematics),
        Observable("multiplicity", "number of constituents", "", kinematics),
        Observable("tau1", "τ1", "GeV", _subjettiness),
        Observable("tau2", "τ2", "GeV", _subjettiness),
        Observable("tau3", "τ3", "GeV", _subjettiness),
        Observable("tau21", "τ2 / τ1", "", _subjettiness),
        Observable("tau32", "τ3 / τ2", "", _subjettiness),
        Observable("softdrop_mass", "soft-drop mass", "GeV", _groomed),
        Observable("softdrop_mass_over_pt", "soft-drop mass / pT", "", _groomed),
        Observable("softdrop_pt", "soft-drop pT", "GeV", _groomed),
        Observable("softdrop_zg", "momentum sharing z_g", "", _groomed),
        Observable("softdrop_rg", "groomed radius R_g", "", _groomed),
        Observable("e2", "e2", "", energy_correlators),
        Observable("e3", "e3", "", energy_correlators),
        Observable("c2", "C2", "", energy_correlators),
        Observable("d2", "D2", "", energy_correlators),
        Observable("e3_2", "2e3", "", narrow_correlators),
        Observable("n2", "N2", "", narrow_correlators),
        Observable("ptd", "pT dispersion", "", shapes),
        Observable("width", "width (girth)", "", shapes),
        Observable("lha", "Les Houches angularity", "", shapes),
        Observable("thrust", "thrust angularity", "", shapes),
        Observable("leading_share", "hardest constituent / jet pT", "", shapes),
    )
}

#: What a comparison of jets looks at first.
DEFAULT_OBSERVABLES = ("mass", "pt", "multiplicity", "tau21", "tau32", "d2", "ptd", "width")


def observables(jets: Jets, names: Iterable[str] = DEFAULT_OBSERVABLES) -> dict[str, Floats]:
    """Observables of every jet, float64 ``(N,)`` each, in the order of ``names``.

    Memory is bounded: matrices of pairs exist for a block of jets at a time.

    Args:
        jets: Any jets; padding and the order of constituents change nothing.
        names: Of :data:`OBSERVABLES`.

    Raises:
        UserError: An unknown name.
        MissingExtraError: FastJet is needed (N-subjettiness with two or more axes, soft drop) and not installed.
    """
    wanted = tuple(names)
    unknown = [name for name in wanted if name not in OBSERVABLES]
    if unknown:
        raise UserError(f"no observable {unknown[0]!r} of jets; there are {', '.join(OBSERVABLES)}")
    found: dict[str, Floats] = {}
    for name in wanted:
        if name not in found:
            found |= OBSERVABLES[name].compute(jets)
    return {name: found[name] for name in wanted}
