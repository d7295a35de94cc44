"""Geant4 itself: geometry, gun, and the collection of deposits."""

from __future__ import annotations

import logging
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cathode.support.errors import UserError
from cathode.support.progress import progress
from fastsim.data.geant4.calorimeter import SamplingCalorimeter, layer_of_slab, voxelise
from fastsim.data.geant4.installation import load_geant4
from fastsim.data.showers import Showers
from fastsim.geometry import PARTICLES, Geometry

__all__ = ["PARTICLE_NAMES", "Geant4Simulation", "build_calorimeter"]

logger = logging.getLogger(__name__)

#: Geant4's name of each particle.
PARTICLE_NAMES = {"photon": "gamma", "electron": "e-", "pion": "pi+"}


class Geant4Simulation:
    """Full simulation of showers in a stack of plates.  One per process: Geant4 cannot be set up twice.

    Args:
        geometry: Voxels that the deposits are summed into.
        calorimeter: The stack of plates.
        particle: ``photon``, ``electron`` or ``pion``; default: that of the geometry.
        seed: Seed of Geant4's random numbers.
        sampling_fraction: Part of the deposited energy that is in sensitive plates; None measures it with the first
            showers that are simulated.
        threshold: Voxel energies below [MeV] are set to 0.
        physics_list: Name for Geant4's list factory.

    Raises:
        MissingExtraError: ``geant4-pybind`` is not installed.
        UserError: Geant4's data are missing, the particle is unknown, or the plates do not fit the layers.
    """

    def __init__(
        self,
        geometry: Geometry,
        calorimeter: SamplingCalorimeter,
        *,
        particle: str | None = None,
        seed: int,
        sampling_fraction: float | None = None,
        threshold: float = 0.0,
        physics_list: str = "FTFP_BERT",
    ) -> None:
        particle = particle or geometry.particle or ""
        if particle not in PARTICLE_NAMES:
            raise UserError(f"unknown particle {particle!r}; expected one of {', '.join(PARTICLES)}")
        if sampling_fraction is not None and not 0 < sampling_fraction <= 1:
            raise UserError(f"sampling_fraction must be in (0, 1], got {sampling_fraction}")
        layer_of_slab(calorimeter, geometry)
        self.geometry = geometry
        self.calorimeter = calorimeter
        self.sampling_fraction = sampling_fraction
        self.threshold = threshold
        self._deposits = _Deposits()
        self._manager, self._gun = _set_up(
            load_geant4(), calorimeter, PARTICLE_NAMES[particle], physics_list, seed, self._deposits
        )

    def simulate(self, incident_energy: ArrayLike) -> Showers:
        """Shoot one particle per energy at (0, 0), along z.

        Args:
            incident_energy: Kinetic energies [MeV], ``(N,)``.
        """
        energies = np.asarray(incident_energy, dtype=np.float64).reshape(-1)
        voxels = np.zeros((len(energies), self.geometry.n_voxels))
        sensitive = everything = lost = 0.0
        for row, energy in enumerate(progress(energies, description="Geant4", total=len(energies), unit="shower")):
            self._deposits.clear()
            self._gun.SetParticleEnergy(float(energy))
            self._manager.BeamOn(1)
            slab, x, y, deposit = self._deposits.arrays()
            voxels[row], outside = voxelise(slab, x, y, deposit, self.calorimeter, self.geometry)
            sensitive, everything = sensitive + deposit.sum(), everything + self._deposits.total
            lost += outside
        if self.sampling_fraction is None:
            if not sensitive > 0:
                raise UserError("no energy in the sensitive plates: the sampling fraction cannot be measured, give it")
            self.sampling_fraction = sensitive / everything
            logger.info("sampling fraction %.5f from %d showers", self.sampling_fraction, len(energies))
        if sensitive > 0:
            logger.info("%.2g of the energy in sensitive plates is outside all voxels", lost / sensitive)
        scaled = (voxels / self.sampling_fraction).astype(np.float32)
        return Showers(energies.astype(np.float32), scaled, self.geometry).cut(self.threshold)


class _Deposits:
    """Deposits of one event."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.total = 0.0
        self._rows: list[tuple[float, float, float, float]] = []

    def add(self, slab: int | None, x: float, y: float, energy: float) -> None:
        self.total += energy
        if slab is not None:
            self._rows.append((slab, x, y, energy))

    def arrays(self) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        table = np.array(self._rows, dtype=np.float64).reshape(-1, 4)
        return table[:, 0].astype(np.int64), table[:, 1], table[:, 2], table[:, 3]


def build_calorimeter(g4: ModuleType, calorimeter: SamplingCalorimeter) -> Any:
    """The world volume with all plates; sensitive ones are called ``sensitive`` and numbered by their pair.

    Raises:
        UserError: Geant4 does not know a material.
    """
    nist = g4.G4NistManager.Instance()
    materials = {}
    for name in ("G4_Galactic", calorimeter.absorber, calorimeter.sensitive):
        materials[name] = nist.FindOrBuildMaterial(name)
        if materials[name] is None:
            raise UserError(f"Geant4 knows no material {name!r}; names are those of its NIST database, such as G4_Pb")
    half = calorimeter.half_width_mm
    # The gun stands 10 mm before the front; the world is symmetric, so it is twice as deep as needed.
    solid = g4.G4Box("world", half + 10, half + 10, calorimeter.depth_mm + 20)
    inside = g4.G4LogicalVolume(solid, materials["G4_Galactic"], "world")
    world = g4.G4PVPlacement(None, g4.G4ThreeVector(), inside, "world", None, False, 0)
    logical: dict[bool, Any] = {}
    for plate in calorimeter.plates():
        name = "sensitive" if plate.sensitive else "absorber"
        if plate.sensitive not in logical:
            box = g4.G4Box(name, half, half, (plate.z_back - plate.z_front) / 2)
            logical[plate.sensitive] = g4.G4LogicalVolume(box, materials[plate.material], name)
        middle = g4.G4ThreeVector(0, 0, (plate.z_front + plate.z_back) / 2)
        g4.G4PVPlacement(None, middle, logical[plate.sensitive], name, inside, False, plate.number)
    return world


def _set_up(
    g4: ModuleType, calorimeter: SamplingCalorimeter, particle: str, physics: str, seed: int, deposits: _Deposits
) -> tuple[Any, Any]:
    class Detector(g4.G4VUserDetectorConstruction):  # type: ignore[name-defined,misc]
        def Construct(self) -> Any:
            return build_calorimeter(g4, calorimeter)

    class Gun(g4.G4VUserPrimaryGeneratorAction):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            super().__init__()
            self.gun = g4.G4ParticleGun(1)
            self.gun.SetParticleDefinition(g4.G4ParticleTable.GetParticleTable().FindParticle(particle))
            self.gun.SetParticlePosition(g4.G4ThreeVector(0, 0, -10))
            self.gun.SetParticleMomentumDirection(g4.G4ThreeVector(0, 0, 1))

        def GeneratePrimaries(self, event: Any) -> None:
            self.gun.GeneratePrimaryVertex(event)

    class Steps(g4.G4UserSteppingAction):  # type: ignore[name-defined,misc]
        def UserSteppingAction(self, step: Any) -> None:
            energy = step.GetTotalEnergyDeposit()
            if energy <= 0:
                return
            before, after = step.GetPreStepPoint(), step.GetPostStepPoint()
            touchable = before.GetTouchable()
            slab = touchable.GetCopyNumber() if touchable.GetVolume().GetName() == "sensitive" else None
            one, two = before.GetPosition(), after.GetPosition()
            deposits.add(slab, (one.x + two.x) / 2, (one.y + two.y) / 2, energy)

    gun: list[Any] = []

    class Actions(g4.G4VUserActionInitialization):  # type: ignore[name-defined,misc]
        def Build(self) -> None:
            gun.append(Gun())
            self.SetUserAction(gun[0])
            self.SetUserAction(Steps())

    manager = g4.G4RunManagerFactory.CreateRunManager(g4.G4RunManagerType.SerialOnly)
    factory = g4.G4PhysListFactory()
    if not factory.IsReferencePhysList(physics):
        raise UserError(f"Geant4 knows no physics list {physics!r}; try FTFP_BERT")
    manager.SetUserInitialization(Detector())
    manager.SetUserInitialization(factory.GetReferencePhysList(physics))
    manager.SetUserInitialization(Actions())
    manager.Initialize()
    g4.HepRandom.setTheSeed(seed)
    return manager, gun[0].gun
