"""What a calorimeter is made of, in the numbers that the parametrisation asks for.

Lengths along the shower are counted in radiation lengths X0, transverse ones in Molière radii R_M, energies in units of
the critical energy E_c (y = E / E_c).  A sampling calorimeter enters through the effective values of its stack, its
sampling frequency F_S = X0_eff / (d_a + d_p) and ê, an estimate of its e/mip ratio.

Source: G. Grindhammer and S. Peters, *The Parameterized Simulation of Electromagnetic Showers in Homogeneous and
Sampling Calorimeters*, hep-ex/0001020, sections 2 and 4 (material and sampling geometry).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from cathode.support.errors import UserError

__all__ = [
    "LEAD", "LEAD_TUNGSTATE", "LIQUID_ARGON", "SCALE_ENERGY_MEV", "SCINTILLATOR", "SILICON", "TUNGSTEN", "Medium",
    "Substance", "homogeneous", "sampling",
]  # fmt: skip

# E_s = m_e c^2 sqrt(4 pi / alpha), the scale of multiple scattering.
SCALE_ENERGY_MEV = 21.2


@dataclass(frozen=True)
class Substance:
    """One material.  Mixtures carry their Z and A averaged by weight, as the parametrisation was fitted with."""

    name: str
    z: float
    """Atomic number."""
    a: float
    """Mass number [g/mol]."""
    density: float
    """Density [g/cm³]."""
    x0_mm: float
    """Radiation length [mm]."""

    @property
    def critical_mev(self) -> float:
        """E_c = 2.66 (X0 Z / A)^1.1 MeV with X0 in g/cm²."""
        return float(2.66 * (0.1 * self.x0_mm * self.density * self.z / self.a) ** 1.1)


LEAD_TUNGSTATE = Substance("PbWO4", z=68.36, a=170.87, density=8.30, x0_mm=8.903)
LIQUID_ARGON = Substance("LAr", z=18.0, a=39.948, density=1.396, x0_mm=140.0)
LEAD = Substance("Pb", z=82.0, a=207.2, density=11.35, x0_mm=5.612)
TUNGSTEN = Substance("W", z=74.0, a=183.84, density=19.30, x0_mm=3.504)
SILICON = Substance("Si", z=14.0, a=28.085, density=2.329, x0_mm=93.70)
SCINTILLATOR = Substance("scintillator", z=5.575, a=11.07, density=1.032, x0_mm=425.4)


@dataclass(frozen=True)
class Medium:
    """The effective medium of a calorimeter.  Build one with :func:`homogeneous` or :func:`sampling`."""

    name: str
    z: float
    """Effective atomic number."""
    x0_mm: float
    """Effective radiation length [mm]."""
    moliere_mm: float
    """Effective Molière radius [mm]."""
    critical_mev: float
    """Effective critical energy [MeV]."""
    inverse_frequency: float = 0.0
    """1 / F_S, the thickness of one absorber and gap in X0; 0 for a homogeneous medium."""
    e_hat: float = 1.0
    """ê = 1 / (1 + 0.007 (Z_passive - Z_active)), close to the e/mip ratio; 1 for a homogeneous medium."""

    def __post_init__(self) -> None:
        for name in ("z", "x0_mm", "moliere_mm", "critical_mev", "e_hat"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise UserError(f"medium {self.name!r}: {name} = {getattr(self, name)} must be positive")
        if not 0 <= self.inverse_frequency < math.inf:
            raise UserError(f"medium {self.name!r}: inverse_frequency = {self.inverse_frequency} must not be negative")

    @property
    def is_sampling(self) -> bool:
        """Whether the constants of sampling calorimeters apply."""
        return self.inverse_frequency > 0


def homogeneous(substance: Substance) -> Medium:
    """A block of one material."""
    critical = substance.critical_mev
    return Medium(
        substance.name, substance.z, substance.x0_mm, substance.x0_mm * SCALE_ENERGY_MEV / critical, critical
    )  # fmt: skip


def sampling(passive: Substance, passive_mm: float, active: Substance, active_mm: float) -> Medium:
    """A stack of absorbers ``passive`` and gaps ``active`` with their thicknesses [mm].

    With the weights w_i = ρ_i d_i / Σ ρ_j d_j the effective values are Z = Σ w_i Z_i, and, lengths in g/cm²,
    1/X0 = Σ w_i / X0_i, 1/R_M = (1/E_s) Σ w_i E_c,i / X0_i, E_c = X0 Σ w_i E_c,i / X0_i.

    Raises:
        UserError: A thickness is not positive.
    """
    if not (passive_mm > 0 and active_mm > 0):
        raise UserError(f"a sampling stack needs positive thicknesses, got {passive_mm} mm and {active_mm} mm")
    parts = [(passive, passive_mm), (active, active_mm)]
    thickness = passive_mm + active_mm
    # d_i / X0_i in mm equals w_i / X0_i in mass units up to the factor of the mean density, which drops out below.
    depth = sum(d / s.x0_mm for s, d in parts)
    mass = sum(d * s.density for s, d in parts)
    loss_per_mm = sum(s.critical_mev * d / s.x0_mm for s, d in parts) / thickness
    x0 = thickness / depth
    return Medium(
        name=f"{passive.name}/{active.name} {passive_mm:g}+{active_mm:g} mm",
        z=sum(d * s.density * s.z for s, d in parts) / mass,
        x0_mm=x0,
        moliere_mm=SCALE_ENERGY_MEV / loss_per_mm,
        critical_mev=x0 * loss_per_mm,
        inverse_frequency=thickness / x0,
        e_hat=1.0 / (1.0 + 0.007 * (passive.z - active.z)),
    )
