"""Frechet and kernel physics distance (FPD, KPD) of jets: on their energy flow polynomials with up to four edges."""

from __future__ import annotations

from cathode.comparison.estimate import Estimate
from cathode.comparison.frechet import Protocol, fpd
from cathode.comparison.kernel import kpd
from cathode.jets.observables.efps import efps
from cathode.jets.observables.padded import Floats
from cathode.jets.schema import Jets

__all__ = ["jet_fpd", "jet_kpd", "physics_features"]


def physics_features(jets: Jets) -> Floats:
    """The 36 energy flow polynomials ``(N, 36)`` in relative coordinates that JetNet recommends for FPD and KPD."""
    return efps(jets.relative())


def jet_fpd(reference: Floats, generated: Floats, *, protocol: Protocol = "strict", seed: int = 42) -> Estimate:
    """FPD of :func:`physics_features`; ``jetnet`` is the library's protocol with its defaults.

    See :func:`cathode.comparison.frechet.fpd` for both protocols and errors.
    """
    return fpd(reference, generated, protocol=protocol, seed=seed, min_samples=20_000, max_samples=50_000)


def jet_kpd(reference: Floats, generated: Floats, *, protocol: Protocol = "strict", seed: int = 42) -> Estimate:
    """KPD of :func:`physics_features`; ``jetnet`` is the library's protocol with its defaults.

    See :func:`cathode.comparison.kernel.kpd` for both protocols and errors.
    """
    return kpd(reference, generated, protocol=protocol, seed=seed, batch_size=5_000)
