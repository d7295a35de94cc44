"""The command ``fastsim simulate``: parametrised showers to a file."""

from __future__ import annotations

import logging
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import tyro
import yaml

from cathode.support.errors import UserError
from cathode.support.files import atomic_write
from cathode.support.seeding import numpy_generator
from fastsim.data.files import ShowerFile
from fastsim.data.gflash.beam import CONDITION_NAMES, Beam
from fastsim.data.gflash.calibration import calibrate
from fastsim.data.gflash.calorimeter import Calorimeter
from fastsim.data.gflash.presets import calorimeter_for
from fastsim.data.gflash.simulator import simulate_chunks
from fastsim.data.incident import incident_energies
from fastsim.data.samples import sample_geometry
from fastsim.data.writers import ShowerWriter, check_output
from fastsim.geometry import Geometry, geometry

__all__ = ["Simulate", "run_simulate"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Simulate:
    """Simulate showers with parametrised profiles (GFlash, hep-ex/0001020): demo data and the classical baseline."""

    output: Path
    """File to write (CaloChallenge HDF5)."""
    geometry: str | None = None
    """ds1-photons, ds2, ds3, grid-24x24x24, image-30x30, or FILE.xml[:particle]; default: that of a shipped sample."""
    energies: tuple[str, ...] = ()
    """Incident energies [MeV]: one or more values, drawn in turn, or LOW:HIGH (log-uniform), or LOW:HIGH:flat."""
    like: str | None = None
    """File of showers (or sample:NAME) whose incident energies, impact points and directions are repeated in order."""
    n: Annotated[int | None, tyro.conf.arg(aliases=["-n"])] = None
    """Number of showers; default: as many as --like has, or 1000."""
    start: int = 0
    """With --like: first row to repeat."""
    particle: str | None = None
    """photon or electron; default: the particle of the geometry."""
    material: str | None = None
    """Name of a preset or a YAML file written with --save-material; default: the preset of the geometry."""
    calibrate: str | None = None
    """File of training showers (or sample:NAME) to fit the calorimeter to, before simulating."""
    calibrate_rows: int = 3000
    """Rows of that file to use, from its front: keep them apart from any test rows."""
    save_material: Path | None = None
    """Write the calorimeter that was used to this YAML file."""
    threshold: float = 0.0
    """Voxels below this energy [MeV] are set to 0, for example 1 for DS1."""
    seed: int = 1
    """Seed of the showers."""
    resume: bool = False
    """Continue a run that was killed, to the same file."""
    overwrite: bool = False
    """Replace a file that is there."""


def run_simulate(command: Simulate) -> None:
    """Write the file that ``command`` describes.

    Raises:
        UserError: Settings that contradict each other or do not fit the files.
    """
    layout = _layout(command)
    calorimeter = calorimeter_for(layout, _material(command.material))
    if command.calibrate is not None:
        file = ShowerFile(command.calibrate, layout)
        training = file.read(0, min(command.calibrate_rows, len(file)))
        fitted = calibrate(
            training.cut(command.threshold),
            seed=command.seed,
            particle=command.particle,
            material=calorimeter,
            threshold=command.threshold,
        )
        logger.info("calibrated on %d showers: %s, before: %s", fitted.showers, fitted.after, fitted.before)
        calorimeter = fitted.calorimeter
    if command.save_material is not None:
        with atomic_write(command.save_material) as temporary:
            temporary.write_text(yaml.safe_dump(calorimeter.to_dict(), sort_keys=False), encoding="utf-8")
    energy, beam = _incident(command, layout)
    identity = {
        **{key: str(value) for key, value in asdict(command).items() if key not in ("resume", "output", "overwrite")},
        "material": calorimeter.to_dict(),
    }
    if check_output(command.output, overwrite=command.overwrite, resume=command.resume, identity=identity):
        logger.info("%s is finished already", command.output)
        return
    names = () if beam is None else CONDITION_NAMES
    with ShowerWriter(
        command.output, layout, condition_names=names, resume=command.resume, identity=identity
    ) as writer:
        done = len(writer)
        before = time.perf_counter()
        if done < len(energy):
            for part in simulate_chunks(
                layout,
                energy[done:],
                seed=command.seed,
                particle=command.particle,
                material=calorimeter,
                threshold=command.threshold,
                beam=None if beam is None else beam.rows(slice(done, None)),
                first=done,
            ):
                writer.append(part)
        seconds = max(time.perf_counter() - before, 1e-9)
    logger.info("%d showers written to %s, %.0f showers/s", len(energy), command.output, (len(energy) - done) / seconds)


def _layout(command: Simulate) -> Geometry:
    if command.geometry is not None:
        return geometry(command.geometry)
    for name in (command.like, command.calibrate):
        if name is not None and name.startswith("sample:"):
            return geometry(sample_geometry(name.removeprefix("sample:")))
    raise UserError("which geometry? give --geometry, for example --geometry ds1-photons")


def _material(name: str | None) -> Calorimeter | str | None:
    if name is None or not name.endswith((".yaml", ".yml")):
        return name
    try:
        content = yaml.safe_load(Path(name).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"cannot read the material {name}: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{name} describes no calorimeter; --save-material writes such a file")
    return Calorimeter.from_dict(content)


def _incident(command: Simulate, layout: Geometry) -> tuple[npt.NDArray[np.float64], Beam | None]:
    """Energies [MeV] (N,) and, with --like, impact points and directions."""
    if command.n is not None and command.n < 1:
        raise UserError(f"the number of showers must be positive, got -n {command.n}")
    if (command.like is None) == (not command.energies):
        raise UserError("give either --energies or --like FILE")
    if command.like is not None:
        file = ShowerFile(command.like, layout)
        available = len(file) - command.start
        if command.start < 0 or available < 1:
            raise UserError(f"--start {command.start} is outside of {command.like}, which has {len(file)} showers")
        count = available if command.n is None else command.n
        # Showers beyond the end of the file repeat it from --start on.
        rows = np.arange(count) % available
        if not file.condition_names:
            energies = np.asarray(file.incident_energies(), dtype=float).reshape(-1)
            return energies[command.start :][rows], None
        showers = file.read(command.start, command.start + min(count, available))
        beam = Beam.of(showers)
        if beam is None:
            raise UserError(f"{command.like} names conditions but has none")
        return showers.incident_energy[:, 0].astype(float)[rows], Beam(beam.position[rows], beam.direction[rows])
    count = 1000 if command.n is None else command.n
    return incident_energies(command.energies, count, numpy_generator(command.seed, "gflash", "energies")), None
