"""The command ``cathode jets pretrain``: an encoder for the transformer classifiers of a search, from other jets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from cathode.support.errors import UserError

if TYPE_CHECKING:
    from cathode.jets.schema import Jets

__all__ = ["PretrainJets", "run_pretrain"]


@dataclass(frozen=True)
class PretrainJets:
    """Pre-train the encoder of a transformer classifier on other jets than those that will be searched."""

    background: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Files of jets or of events, in any format that is read: class 0, or the only jets."""
    output: Path
    """Folder of the encoder, for classifier.model.pretrained of a search."""
    signal: tuple[str, ...] = ()
    """Files of class 1, simulated resonances for example; none: no classes are learned."""
    targets: tuple[str, ...] = ("mass_over_pt", "tau21", "tau32", "width", "ptd")
    """Observables of the jets that are learned; see cathode jets observables."""
    denoise: bool = False
    """Also learn to remove noise from the constituents (OmniLearn)."""
    mass: tuple[float, float] | None = None
    """Only events of this dijet mass [TeV]; for files of events."""
    exclude_mass: tuple[float, float] | None = None
    """Leave out events of this dijet mass [TeV], the signal region of the search; for files of events."""
    rows: tuple[int, int] | None = None
    """Rows of each file to use, FIRST STOP."""
    particles: int | None = 30
    """Leading constituents that are seen; momenta and masses of jets remain those of all."""
    width: int = 64
    """Columns of a token."""
    blocks: int = 3
    """Blocks of the encoder."""
    epochs: int = 10
    """Passes over the jets."""
    seed: int = 1
    """Of weights, split, order and noise."""
    device: str = "cpu"
    """cpu or cuda."""


def run_pretrain(command: PretrainJets) -> Path:
    """Train the encoder and write its folder; a killed training goes on when the command is repeated.

    Raises:
        UserError: Unusable files or settings, or an output folder that exists; nothing is written then.
    """
    import shutil

    import numpy as np

    from cathode.classifiers.transformer.features import constituent_inputs
    from cathode.classifiers.transformer.pretraining import pretrain
    from cathode.jets.observables import OBSERVABLES, observables
    from cathode.jets.schema import Jets
    from cathode.training.environment import own_threads

    if not command.background:
        raise UserError("no files to learn from: give at least one")
    if command.output.exists():
        raise UserError(f"{command.output} exists: choose another --output")
    unknown = [name for name in command.targets if name not in OBSERVABLES]
    if unknown:
        raise UserError(f"no observable {unknown[0]!r} of jets; there are {', '.join(OBSERVABLES)}")
    if not (command.signal or command.targets or command.denoise):
        raise UserError("nothing to learn: give --signal, --targets or --denoise")
    classes = [_read(files, command) for files in (command.background, command.signal) if files]
    jets = Jets.concatenate(classes) if len(classes) > 1 else classes[0]
    label = np.repeat(np.arange(len(classes)), [len(c) for c in classes])
    weight = 0.5 / np.array([np.mean(label == k) for k in label[np.cumsum([0, *map(len, classes[:-1])])]])[label]
    kept = jets.particles if command.particles is None else min(command.particles, jets.particles)
    table = observables(jets, command.targets) if command.targets else {}
    # Checkpoints lie beside the output, which appears when it is whole.
    checkpoints = command.output.with_name(command.output.name + ".checkpoints")
    with own_threads():
        made = pretrain(
            constituent_inputs(jets.points[:, :kept], jets.mask[:, :kept], jets.axis),
            command.output,
            labels=label if len(classes) > 1 else None,
            targets=np.stack([table[name] for name in command.targets], axis=1) if command.targets else None,
            denoise=command.denoise,
            sample_weight=weight if len(classes) > 1 else None,
            width=command.width,
            blocks=command.blocks,
            epochs=command.epochs,
            device=command.device,
            checkpoint_dir=checkpoints,
            seed=command.seed,
        )
    shutil.rmtree(checkpoints, ignore_errors=True)
    return made


def _read(files: tuple[str, ...], command: PretrainJets) -> Jets:
    """The jets of all files that the mass windows leave, complete and with at least one constituent."""
    import numpy as np

    from cathode.jets.readers import JetFile, read_constituent_events
    from cathode.jets.schema import Jets

    parts = []
    for file in files:
        start, stop = command.rows or (0, None)
        if command.mass is None and command.exclude_mass is None:
            source = JetFile(file, own_axis=True)
            jets = source.read(start, stop if stop is None else min(stop, len(source)))
        else:
            events = read_constituent_events(file, start=start, stop=stop)
            keep = np.ones(len(events), dtype=bool)
            if command.mass is not None:
                keep &= (events.mass > command.mass[0]) & (events.mass < command.mass[1])
            if command.exclude_mass is not None:
                keep &= ~((events.mass > command.exclude_mass[0]) & (events.mass < command.exclude_mass[1]))
            jets = events.select(keep).flat()
        parts.append(jets.select(jets.multiplicity() > 0))
    widest = max(part.particles for part in parts)
    jets = Jets.concatenate([part.padded(widest) for part in parts])
    if len(jets) < 200:
        raise UserError(f"{', '.join(files)}: {len(jets)} jets are too few to learn from; give at least 200")
    return jets
