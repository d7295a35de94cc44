"""Frechet ParticleNet Distance (FPND): Frechet distance in the activations of a trained ParticleNet.

Weights and statistics are not part of this package.  The JetNet library (MIT licence, ``pip download jetnet``) has
them for gluon, light-quark and top jets of 30 constituents in ``jetnet/evaluation/fpnd_resources``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from cathode.comparison.frechet import frechet_distance
from cathode.jets.metrics.particlenet import JetNetParticleNet, load_particlenet
from cathode.jets.observables.padded import Floats
from cathode.jets.schema import Jets
from cathode.support.errors import UserError
from cathode.support.progress import progress

__all__ = ["activations", "fpnd"]

_PARTICLES = 30
# Of the library: features are divided by the first and shifted by the second (eta, phi, pt).
_LARGEST = (1.6211985349655151, 0.520724892616272, 0.8934717178344727)
_SHIFT = (0.0, 0.0, -0.5)
_WEIGHTS = "pnet_state_dict.pt"


def activations(jets: Jets, network: JetNetParticleNet, *, batch: int = 64) -> Floats:
    """What the network sees of jets: ``(N, 256)``.

    Args:
        jets: At most 30 constituents each; relative coordinates are taken.
        network: With weights.
        batch: Jets at a time.

    Raises:
        UserError: More constituents than 30.
    """
    if jets.particles > _PARTICLES:
        raise UserError(f"FPND is defined for {_PARTICLES} constituents, these jets have {jets.particles} slots")
    relative = torch.from_numpy(np.asarray(jets.padded(_PARTICLES).relative(np.float32)))[..., [1, 2, 0]]
    inputs = relative / torch.tensor(_LARGEST) + torch.tensor(_SHIFT)
    with torch.inference_mode():
        parts = [network(part) for part in progress(inputs.split(batch), description="ParticleNet")]
    return torch.cat(parts).double().numpy() if parts else np.zeros((0, 256))


def fpnd(
    generated: Jets, reference: Jets | str, resources: str | Path, *, num_samples: int = 50_000, batch: int = 64
) -> float:
    """Frechet ParticleNet Distance of ``generated`` to ``reference``.

    Args:
        generated: Jets that are tested.
        reference: ``g``, ``q`` or ``t`` for the library's statistics of that type of jet, or jets.
        resources: The folder of the library's ``pnet_state_dict.pt``, ``g_mu.txt``, ``g_sigma.txt`` and so on.
        num_samples: The first so many jets are used.
        batch: Jets at a time.

    Raises:
        UserError: Files that are missing or do not fit, too few jets, or more constituents than 30.
    """
    folder = Path(resources)
    network = load_particlenet(folder / _WEIGHTS)
    if isinstance(reference, str):
        first = _statistics(folder, reference)
    else:
        first = _moments(activations(reference.select(slice(0, num_samples)), network, batch=batch))
    second = _moments(activations(generated.select(slice(0, num_samples)), network, batch=batch))
    return frechet_distance(*first, *second)


def _moments(values: Floats) -> tuple[Floats, Floats]:
    if len(values) < 2:
        raise UserError(f"FPND needs at least 2 jets, got {len(values)}")
    return values.mean(axis=0), np.cov(values, rowvar=False)


def _statistics(folder: Path, jet_type: str) -> tuple[Floats, Floats]:
    found = []
    for name in ("mu", "sigma"):
        path = folder / f"{jet_type}_{name}.txt"
        try:
            found.append(np.loadtxt(path))
        except (OSError, ValueError) as error:
            raise UserError(
                f"no statistics of jets of type {jet_type!r} in {path}: the JetNet library has g, q and t"
            ) from error
    if found[0].shape != (256,) or found[1].shape != (256, 256):
        raise UserError(f"the statistics of type {jet_type!r} in {folder} do not have 256 activations")
    return found[0], found[1]
