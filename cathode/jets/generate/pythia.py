"""Pythia 8: the two processes, and the stable particles of a batch of events.

Reference: C. Bierlich et al., A comprehensive guide to the physics and usage of PYTHIA 8.3,
https://arxiv.org/abs/2203.11601.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cathode.jets.generate.detector import CHARGED, NEUTRAL_HADRON, PHOTON
from cathode.jets.generate.settings import GenerateSettings
from cathode.support.errors import UserError, require

__all__ = ["CollisionBatch", "Collisions", "pythia_commands"]

_NEUTRINOS = (12, 14, 16)
# Pythia's codes of the W', and of the W and Z whose places X and Y take.
_RESONANCE, _X, _Y = 34, 24, 23
_PICOBARN_PER_MILLIBARN = 1e9


@dataclass(frozen=True)
class CollisionBatch:
    """Visible stable particles of ``n_events`` collisions.

    Attributes:
        n_events: Number of collisions.
        event: ``(K,)``: the collision of each particle.
        kind: ``(K,)``: its kind, as in :mod:`cathode.jets.generate.detector`.
        momenta: ``(K, 4)``: px, py, pz, E [GeV].
    """

    n_events: int
    event: NDArray[np.int64]
    kind: NDArray[np.int64]
    momenta: NDArray[np.float64]


def pythia_commands(settings: GenerateSettings, *, seed: int) -> list[str]:
    """The settings as lines for ``Pythia.readString``.

    The signal is q qbar' -> W' -> X Y with two vector bosons: X takes the place of the W (X+ -> u dbar) and Y that of
    the Z (Y -> d dbar, u ubar, s sbar), with their masses and widths changed.  Unlike with new scalars of isotropic
    decay, Pythia then has the production and decay angles right (``Wprime:coup2WZ``): X and Y are mostly longitudinal,
    so their quarks rarely go along the boost, and the jets' masses and angles look as in the public signal sample.

    Args:
        settings: What to generate.
        seed: Pythia's random seed, 1 to 900,000,000.
    """
    lines = [
        "Print:quiet = on",
        "Beams:idA = 2212",
        "Beams:idB = 2212",
        f"Beams:eCM = {settings.energy_gev!r}",
        "Random:setSeed = on",
        f"Random:seed = {seed}",
        f"PartonLevel:MPI = {'on' if settings.multiparton_interactions else 'off'}",
    ]
    if settings.process == "qcd":
        return [*lines, "HardQCD:all = on", f"PhaseSpace:pTHatMin = {settings.pt_hat_min_gev!r}"]

    lines += [
        "NewGaugeBoson:ffbar2Wprime = on",
        "Wprime:coup2WZ = 1.",
        f"{_RESONANCE}:onMode = off",
        f"{_RESONANCE}:onIfMatch = {_X} {_Y}",
        f"{_X}:onMode = off",
        f"{_X}:onIfMatch = 1 2",
        f"{_Y}:onMode = off",
        f"{_Y}:onIfAny = 1 2 3",
    ]
    masses = {_RESONANCE: settings.mass_resonance_gev, _X: settings.mass_x_gev, _Y: settings.mass_y_gev}
    for code, mass in masses.items():
        lines += [
            f"{code}:m0 = {mass!r}",
            f"{code}:mWidth = {settings.relative_width * mass!r}",
            f"{code}:mMin = {0.5 * mass!r}",
            f"{code}:mMax = {1.5 * mass!r}",
            f"{code}:doForceWidth = on",
        ]
    return lines


class Collisions:
    """A stream of collisions; the same settings and seed give the same stream.

    Args:
        settings: What to generate.
        seed: Pythia's random seed, 1 to 900,000,000.

    Raises:
        UserError: Pythia refuses a setting or cannot start.
        MissingExtraError: pythia8mc is not installed.
    """

    def __init__(self, settings: GenerateSettings, *, seed: int) -> None:
        pythia8mc = require("pythia8mc", "generate")
        self._awkward = require("awkward", "generate")
        self._pythia = pythia8mc.Pythia("", False)
        for line in pythia_commands(settings, seed=seed):
            if not self._pythia.readString(line):
                raise UserError(f"Pythia does not understand {line!r}: check the generator settings")
        if not self._pythia.init():
            raise UserError(
                f"Pythia cannot generate {settings.process} with these settings (its message is above): check masses,"
                f" pt_hat_min_gev and energy_gev"
            )
        self._kinds: dict[int, int] = {}

    @property
    def cross_section_pb(self) -> float:
        """Pythia's estimate of the cross-section of the process so far, in picobarn (before any cut on jets)."""
        sigma = float(self._pythia.infoPython().sigmaGen()) * _PICOBARN_PER_MILLIBARN
        return sigma if math.isfinite(sigma) else 0.0

    def next_batch(self, collisions: int) -> CollisionBatch:
        """Generate the next ``collisions``; the few that Pythia gives up on are left out."""
        ak = self._awkward
        record = self._pythia.nextBatch(collisions, errorMode="skip")
        particles = record.prt
        final = particles.status > 0
        counts = ak.to_numpy(ak.sum(final, axis=1))
        flat = ak.flatten(particles[final])
        kind = self._kind(np.asarray(ak.to_numpy(flat.id)))
        momenta = np.stack([ak.to_numpy(flat.p[name]) for name in ("px", "py", "pz", "e")], axis=1)
        event = np.repeat(np.arange(len(counts)), counts)
        visible = kind >= 0
        return CollisionBatch(len(counts), event[visible], kind[visible], momenta[visible].astype(np.float64))

    def _kind(self, identities: NDArray[np.int64]) -> NDArray[np.int64]:
        """Kind of each particle by its PDG code, -1 for neutrinos."""
        codes, inverse = np.unique(identities, return_inverse=True)
        for code in codes.tolist():
            if code not in self._kinds:
                charged = self._pythia.particleData.charge(code) != 0
                visible = PHOTON if code == 22 else CHARGED if charged else NEUTRAL_HADRON
                self._kinds[code] = -1 if abs(code) in _NEUTRINOS else visible
        return np.array([self._kinds[code] for code in codes.tolist()], dtype=np.int64)[inverse]
