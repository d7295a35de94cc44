"""The folder of a pre-trained encoder.

====================  =================================================================================================
``pretrained.json``   ``format``, ``architecture`` (of :class:`~cathode.classifiers.transformer.network.Architecture`),
                      ``objectives``
``encoder.safetensors``  weights and scales of the encoder
``history.csv``       one row per epoch
``provenance.json``   versions, git revision, environment, SHA-256 of the weights, seed, number of events
====================  =================================================================================================
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from cathode.classifiers.transformer.network import Architecture, SetEncoder
from cathode.support.errors import UserError
from cathode.support.files import atomic_directory, sha256_of, write_json
from cathode.support.provenance import environment, git_revision, versions

__all__ = ["load_encoder", "pretrained_architecture", "save_encoder"]

FORMAT = 1
_DESCRIPTION, _WEIGHTS = "pretrained.json", "encoder.safetensors"


def save_encoder(
    encoder: SetEncoder,
    architecture: Architecture,
    folder: str | Path,
    *,
    objectives: Sequence[str],
    history: pd.DataFrame,
    facts: Mapping[str, Any],
) -> Path:
    """Write the folder, whole or not at all.

    Raises:
        UserError: The folder cannot be written to.
    """
    from safetensors.torch import save_file

    with atomic_directory(folder) as inside:
        description = {"format": FORMAT, "architecture": architecture.as_dict(), "objectives": list(objectives)}
        write_json(inside / _DESCRIPTION, description)
        save_file(
            {name: tensor.detach().cpu().contiguous() for name, tensor in encoder.state_dict().items()},
            inside / _WEIGHTS,
        )
        history.to_csv(inside / "history.csv", index=False)
        provenance = {
            "versions": versions(),
            "git_revision": git_revision(),
            "environment": environment(),
            "weights_sha256": sha256_of(inside / _WEIGHTS),
            **facts,
        }
        write_json(inside / "provenance.json", provenance)
    return Path(folder)


def pretrained_architecture(folder: str | Path) -> Architecture:
    """What the encoder in ``folder`` is.

    Raises:
        UserError: There is no pre-trained encoder.
    """
    path = Path(folder) / _DESCRIPTION
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
        if description["format"] != FORMAT:
            raise UserError(f"{path}: has format {description['format']}, this version reads {FORMAT}")
        return Architecture(**description["architecture"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: cannot be read as a pre-trained encoder ({error!r})") from error


def load_encoder(encoder: SetEncoder, folder: str | Path) -> None:
    """Put the weights and scales of the folder into ``encoder``.

    Raises:
        UserError: Missing or damaged weights, or such that do not fit.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = Path(folder) / _WEIGHTS
    try:
        encoder.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise UserError(f"{path}: does not fit the encoder ({error})") from error
