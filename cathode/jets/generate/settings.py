"""Everything that decides which events are generated."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, Literal

from cathode.jets.substructure import Axes
from cathode.support.errors import UserError

__all__ = ["DetectorSettings", "GenerateSettings"]


@dataclass(frozen=True)
class DetectorSettings:
    """Acceptance, resolutions and granularity of the detector; the numbers are typical of CMS and its Delphes card.

    Energies in GeV; relative energy resolutions are the quadratic sums written at each name.
    """

    eta_max: float = 3.0
    """Particles beyond this |eta| are lost."""
    pt_min_gev: float = 0.5
    """Charged particles below this pT are lost before, all objects below it after the response."""
    track_constant: float = 0.01
    """Charged particles: sigma(pT)/pT = constant (+) slope * pT."""
    track_slope_per_gev: float = 1e-4
    """See ``track_constant``; 5 % at 500 GeV."""
    track_efficiency: float = 1.0
    """Probability that a charged particle is seen."""
    photon_stochastic: float = 0.07
    """Photons: sigma(E)/E = stochastic / sqrt(E) (+) constant."""
    photon_constant: float = 0.007
    """See ``photon_stochastic``."""
    photon_cell: float = 0.0175
    """Photons in one cell of this size in eta and phi are one object at its centre."""
    neutral_stochastic: float = 1.0
    """Neutral hadrons: sigma(E)/E = stochastic / sqrt(E) (+) constant."""
    neutral_constant: float = 0.05
    """See ``neutral_stochastic``."""
    neutral_cell: float = 0.0873
    """Neutral hadrons in one cell of this size in eta and phi are one object at its centre."""


@dataclass(frozen=True)
class GenerateSettings:
    """One sample of accepted events.  The same settings give the same events on any number of processes.

    Energies and masses in GeV.
    """

    process: Literal["qcd", "wprime"] = "qcd"
    """``qcd``: hard QCD dijets (label 0); ``wprime``: W' -> X(-> qq) Y(-> qq), light quarks (label 1)."""
    events: int = 10_000
    """Accepted events to write."""
    seed: int = 1
    """Seed of the sample; every shard derives its own from it."""
    shard_events: int = 1_000
    """Accepted events per shard, the unit of work and of resuming; part of what defines the sample."""
    energy_gev: float = 13_000.0
    """Centre-of-mass energy of the proton-proton collisions."""
    pt_hat_min_gev: float = 1_050.0
    """``qcd``: smallest pT of the hard 2 -> 2 scattering."""
    mass_resonance_gev: float = 3_500.0
    """``wprime``: mass of the W'."""
    mass_x_gev: float = 500.0
    """``wprime``: mass of X, which decays as a W of this mass."""
    mass_y_gev: float = 100.0
    """``wprime``: mass of Y, which decays as a Z of this mass."""
    relative_width: float = 0.01
    """``wprime``: width over mass of W', X and Y (Breit-Wigner, cut at half and one and a half times the mass)."""
    multiparton_interactions: bool = False
    """Simulate them; the public LHC Olympics samples have none, and without them generation is several times faster."""
    radius: float = 1.0
    """Radius of the anti-kT jets."""
    leading_jet_pt_min_gev: float = 1_200.0
    """Smallest pT of the leading jet."""
    jet_eta_max: float = 2.5
    """Largest |eta| of both leading jets."""
    dijet_mass_min_gev: float = 2_000.0
    """Smallest invariant mass of the two leading jets; 0 for no cut."""
    axes: Axes = "kt"
    """N-subjettiness axes, see :mod:`cathode.jets.substructure`; ``kt`` is what the sample in the package has."""
    detector: DetectorSettings = field(default_factory=DetectorSettings)
    """The detector."""

    @property
    def label(self) -> int:
        """Truth label of the events: 0 background, 1 signal."""
        return 0 if self.process == "qcd" else 1

    @property
    def shards(self) -> tuple[int, ...]:
        """Events in each shard; all shards are full but perhaps the last."""
        full, rest = divmod(self.events, self.shard_events)
        return (self.shard_events,) * full + ((rest,) if rest else ())

    def to_dict(self) -> dict[str, Any]:
        """All settings, as JSON-like values."""
        return dataclasses.asdict(self)

    def check(self) -> None:
        """Refuse what cannot be generated.

        Raises:
            UserError: Says which setting, and what it may be.
        """
        if self.process not in ("qcd", "wprime"):
            raise UserError(f"unknown process {self.process!r}: choose qcd or wprime")
        for name in ("events", "shard_events"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.seed < 0:
            raise UserError(f"seed must not be negative, got {self.seed}")
        positive = (
            "energy_gev",
            "mass_resonance_gev",
            "mass_x_gev",
            "mass_y_gev",
            "relative_width",
            "radius",
            "jet_eta_max",
        )
        for name in positive:
            if not (getattr(self, name) > 0 and math.isfinite(getattr(self, name))):
                raise UserError(f"{name} must be positive, got {getattr(self, name)}")
        for name in ("pt_hat_min_gev", "leading_jet_pt_min_gev", "dijet_mass_min_gev"):
            if not (getattr(self, name) >= 0 and math.isfinite(getattr(self, name))):
                raise UserError(f"{name} must not be negative, got {getattr(self, name)}")
        if self.process == "wprime" and self.mass_x_gev + self.mass_y_gev >= self.mass_resonance_gev:
            raise UserError(
                f"W' of {self.mass_resonance_gev:g} GeV cannot decay to {self.mass_x_gev:g} + {self.mass_y_gev:g} GeV:"
                f" lower mass_x_gev or mass_y_gev"
            )
        hardest = self.mass_resonance_gev if self.process == "wprime" else 2 * self.pt_hat_min_gev
        if hardest >= self.energy_gev:
            raise UserError(f"{hardest:g} GeV is beyond the collision energy of {self.energy_gev:g} GeV: lower it")
        detector = self.detector
        for item in dataclasses.fields(detector):
            value = getattr(detector, item.name)
            if not (value >= 0 and math.isfinite(value)):
                raise UserError(f"detector.{item.name} must not be negative, got {value}")
        for name in ("eta_max", "photon_cell", "neutral_cell"):
            if getattr(detector, name) == 0:
                raise UserError(f"detector.{name} must be positive, got 0")
        if detector.track_efficiency > 1:
            raise UserError(f"detector.track_efficiency must be at most 1, got {detector.track_efficiency}")
