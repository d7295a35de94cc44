"""Checkpoints of a fit: whole or absent, without pickle.

``checkpoint.safetensors`` holds the weights, their average and the optimisers' moments; its header holds everything
that is not a tensor (history, counters, what the fit is) as JSON, so both are replaced in one move.  The best epochs
lie beside it in ``best-EPOCH.safetensors``, each written once.  They are written before the checkpoint that names them
and deleted after the one that no longer does, so a process may be killed between any two instructions.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import safetensors
from safetensors.torch import save_file
from torch import Tensor
from torch.optim import Optimizer

from cathode.support.errors import UserError
from cathode.support.files import atomic_write
from cathode.training.selection import BestEpoch, State

__all__ = ["Checkpoint", "load_optimizers", "optimizer_tensors"]

_NAME = "checkpoint.safetensors"


def _read(path: Path) -> tuple[State, dict[str, Any]]:
    try:
        with safetensors.safe_open(path, framework="pt") as stream:
            tensors = {key: stream.get_tensor(key) for key in stream.keys()}  # noqa: SIM118 (not a mapping)
            metadata = stream.metadata() or {}
        return tensors, json.loads(metadata.get("state", "{}"))
    except (OSError, safetensors.SafetensorError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as a checkpoint ({error}); delete the folder to start anew") from error


def _write(path: Path, tensors: State, state: dict[str, Any]) -> None:
    # Cloned because safetensors refuses tensors that share memory, as tied weights do.
    clean = {key: value.detach().to("cpu", copy=True).contiguous() for key, value in tensors.items()}
    with atomic_write(path) as temporary:
        save_file(clean, temporary, metadata={"state": json.dumps(state)})


class Checkpoint:
    """The checkpoint in ``folder``, which may not exist yet."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def exists(self) -> bool:
        return (self.folder / _NAME).is_file()

    def save(self, tensors: State, state: dict[str, Any], best: Sequence[BestEpoch]) -> None:
        """Replace the checkpoint.

        Args:
            tensors: Everything learned, by name.
            state: Everything else, as JSON can hold it (NaN allowed).
            best: Best epochs, best first.
        """
        for entry in best:
            path = self._best(entry.epoch)
            if not path.exists():
                _write(path, entry.state, {"epoch": entry.epoch, "validation_loss": entry.validation_loss})
        named = [[entry.epoch, entry.validation_loss] for entry in best]
        _write(self.folder / _NAME, tensors, {**state, "best": named})
        wanted = {self._best(entry.epoch).name for entry in best}
        for path in self.folder.glob("best-*.safetensors"):
            if path.name not in wanted:
                path.unlink(missing_ok=True)

    def load(self) -> tuple[State, dict[str, Any], list[BestEpoch]]:
        """What :meth:`save` was given.

        Raises:
            UserError: A file is missing, truncated or of another kind.
        """
        tensors, state = _read(self.folder / _NAME)
        best = [BestEpoch(epoch, loss, _read(self._best(epoch))[0]) for epoch, loss in state.pop("best", [])]
        return tensors, state, best

    def forget_strays(self) -> None:
        """Delete what a killed process wrote for epochs that the checkpoint does not know: they will be done again."""
        best = _read(self.folder / _NAME)[1].get("best", []) if self.exists() else []
        known = {self._best(epoch).name for epoch, _ in best}
        for path in self.folder.glob("best-*.safetensors"):
            if path.name not in known:
                path.unlink(missing_ok=True)
        for path in self.folder.glob(".writing-*"):
            path.unlink(missing_ok=True)

    def _best(self, epoch: int) -> Path:
        return self.folder / f"best-{epoch:06d}.safetensors"


def optimizer_tensors(optimizers: Sequence[Optimizer]) -> tuple[State, list[Any]]:
    """The optimisers' states as named tensors and JSON."""
    tensors: State = {}
    plain: list[Any] = []
    for i, optimizer in enumerate(optimizers):
        state = optimizer.state_dict()
        scalars: dict[str, dict[str, Any]] = {}
        for index, entries in state["state"].items():
            for name, value in entries.items():
                if isinstance(value, Tensor):
                    tensors[f"optimizer.{i}.{index}.{name}"] = value
                else:
                    scalars.setdefault(str(index), {})[name] = value
        plain.append(scalars)
    return tensors, plain


def load_optimizers(optimizers: Sequence[Optimizer], tensors: State, plain: list[Any]) -> None:
    """Put back what :func:`optimizer_tensors` gave; the groups (rates, decay) stay as the optimisers were made."""
    for i, optimizer in enumerate(optimizers):
        prefix = f"optimizer.{i}."
        state: dict[int, dict[str, Any]] = {int(index): dict(entries) for index, entries in plain[i].items()}
        for key, value in tensors.items():
            if key.startswith(prefix):
                index, name = key.removeprefix(prefix).split(".", 1)
                # Copied: load_state_dict keeps a tensor that needs no cast, and the optimiser would write into it.
                state.setdefault(int(index), {})[name] = value.clone()
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
