"""A model folder: a trained density as four plain files.

=======================  ==============================================================================================
``config.yaml``          ``format`` (version of this layout), ``density`` (the description of
                         :func:`cathode.density.registry.describe`), ``modules`` (where its classes are defined),
                         ``dtype`` (when the whole density was cast after it was built), ``config`` (whatever the
                         caller adds)
``weights.safetensors``  the ``state_dict``: parameters, and buffers with fitted statistics
``history.csv``          one row per epoch
``provenance.json``      package versions, git revision, environment, SHA-256 of the weights, and what the caller adds:
                         seeds, hashes of the data, timings
=======================  ==============================================================================================

Nothing is pickled, so loading a folder runs no code but the package's own.
"""

from __future__ import annotations

import dataclasses
import importlib
import math
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import safetensors
import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor, nn

import cathode.density
from cathode.density.base import ConditionalDensity
from cathode.density.registry import build, describe
from cathode.support.errors import UserError
from cathode.support.files import atomic_directory, sha256_of, write_json
from cathode.support.provenance import environment, git_revision, versions

__all__ = ["load_density", "load_history", "save_density"]

FORMAT = 1
_CONFIG, _WEIGHTS, _HISTORY, _PROVENANCE = "config.yaml", "weights.safetensors", "history.csv", "provenance.json"
_OWN_PACKAGES = ("cathode.", "fastsim.")


def save_density(
    density: ConditionalDensity,
    folder: str | Path,
    *,
    history: pd.DataFrame | None = None,
    provenance: Mapping[str, Any] | None = None,
    config: Any = None,
) -> Path:
    """Write ``density`` to ``folder``, whole or not at all; an old folder is replaced.

    Args:
        density: Made of buildable modules.
        folder: The model folder.
        history: Of the fit, one row per epoch; without it the file has a header only.
        provenance: JSON-able facts to add: seeds, hashes of the data, timings.  NaN and infinity become null.
        config: Settings to keep with the model: plain data or a dataclass.

    Returns:
        The folder.

    Raises:
        TypeError: The density is not buildable.
        ValueError: It cannot be built again from its description with the same weights.
        UserError: The folder cannot be written.
    """
    folder = Path(folder)
    if folder.exists() and not (folder / _CONFIG).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: exists and is not a model folder; choose another name")
    description = describe(density)
    state = {key: value.detach().to("cpu", copy=True).contiguous() for key, value in density.state_dict().items()}
    dtype = _cast_type(_build(description), state)
    document = {
        "format": FORMAT,
        "density": description,
        "modules": _modules(density),
        "dtype": None if dtype is None else str(dtype).removeprefix("torch."),
        "config": _plain(config),
    }
    with atomic_directory(folder) as temporary:
        text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
        (temporary / _CONFIG).write_text(text, encoding="utf-8")
        save_file(state, temporary / _WEIGHTS)
        table = pd.DataFrame(columns=["epoch"]) if history is None else history
        table.to_csv(temporary / _HISTORY, index=False)
        facts = {
            "versions": versions(),
            "git_revision": git_revision(),
            "environment": environment(),
            "weights_sha256": sha256_of(temporary / _WEIGHTS),
            **dict(provenance or {}),
        }
        write_json(temporary / _PROVENANCE, _plain(facts))
    return folder


def load_density(folder: str | Path, *, device: torch.device | str = "cpu") -> ConditionalDensity:
    """The density in a model folder, in eval mode, with gradients as it was built.

    Raises:
        UserError: A file is missing, unreadable or truncated, or the weights do not fit the description; the message
            names the file and the mismatch.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such model folder")
    for name in (_CONFIG, _WEIGHTS, _HISTORY, _PROVENANCE):
        if not (folder / name).is_file():
            raise UserError(f"{folder / name}: missing; this is not a complete model folder")
    document = _read_config(folder / _CONFIG)
    state = _read_weights(folder / _WEIGHTS)
    _import_classes(document.get("modules") or [], folder / _CONFIG)
    try:
        density = _build(document["density"])
    except (ValueError, TypeError, RuntimeError) as error:
        raise UserError(f"{folder / _CONFIG}: {error}") from error
    if not isinstance(density, ConditionalDensity):
        raise UserError(f"{folder / _CONFIG}: describes a {type(density).__name__}, which is not a density")
    if document.get("dtype"):
        density = density.to(_dtype(document["dtype"], folder / _CONFIG))
    mismatch = _mismatch(density.state_dict(), state)
    if mismatch:
        raise UserError(f"{folder / _WEIGHTS}: does not fit {_CONFIG}: {mismatch}")
    density.load_state_dict(state)
    return density.to(device).eval()


def load_history(folder: str | Path) -> pd.DataFrame:
    """The history of the fit, one row per epoch.

    Raises:
        UserError: The file is missing or not a table.
    """
    path = Path(folder) / _HISTORY
    try:
        return pd.read_csv(path, engine="python")  # the parser whose floats are exact in every version
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as a table: {error}") from error


def _build(description: dict[str, Any]) -> nn.Module:
    # Initial weights come from torch's global stream, which is none of the caller's concern here.
    with torch.random.fork_rng(devices=[]):
        return build(description)


def _modules(density: nn.Module) -> list[str]:
    found = {type(module).__module__ for module in density.modules() if hasattr(module, "_arguments")}
    return sorted(name for name in found if name.startswith(_OWN_PACKAGES))


def _import_classes(names: list[str], path: Path) -> None:
    """Import the package's modules that define the classes; a folder cannot name any other code."""
    for name in names:
        if not str(name).startswith(_OWN_PACKAGES):
            raise UserError(f"{path}: modules: {name!r} is not a module of this package")
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            raise UserError(f"{path}: modules: {name} does not exist in this version of the package") from error
    if not names:
        for module in pkgutil.walk_packages(cathode.density.__path__, "cathode.density."):
            importlib.import_module(module.name)


def _read_config(path: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: not readable as YAML: {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get("density"), dict):
        raise UserError(f"{path}: has no entry 'density' that describes a density")
    if document.get("format") != FORMAT:
        raise UserError(f"{path}: format {document.get('format')!r}, this version reads format {FORMAT}")
    return document


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        with safetensors.safe_open(path, framework="pt") as stream:
            return {key: stream.get_tensor(key) for key in stream.keys()}  # noqa: SIM118 (not a mapping)
    except (OSError, safetensors.SafetensorError) as error:
        raise UserError(f"{path}: truncated or not a safetensors file: {error}") from error


def _dtype(name: Any, path: Path) -> torch.dtype:
    dtype = getattr(torch, str(name), None)
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise UserError(f"{path}: dtype {name!r} is not a floating-point type of torch")
    return dtype


def _cast_type(fresh: nn.Module, state: Mapping[str, Tensor]) -> torch.dtype | None:
    """The type that a freshly built density must be cast to before ``state`` fits; None if it fits as it is."""
    mismatch = _mismatch(fresh.state_dict(), state)
    if not mismatch:
        return None
    types = {value.dtype for value in state.values() if value.is_floating_point()}
    if len(types) == 1:
        dtype = types.pop()
        mismatch = _mismatch(fresh.to(dtype).state_dict(), state)
        if not mismatch:
            return dtype
    raise ValueError(f"the density's weights do not follow from its constructor arguments: {mismatch}")


def _mismatch(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str:
    """The first thing that does not fit, in words; empty when everything does."""
    missing = [key for key in expected if key not in found]
    unknown = [key for key in found if key not in expected]
    if missing:
        return f"{len(missing)} of {len(expected)} tensors are missing, first {missing[0]!r}"
    if unknown:
        return f"{len(unknown)} unknown tensors, first {unknown[0]!r}"
    for key, value in expected.items():
        if value.shape != found[key].shape:
            return f"{key!r} has shape {tuple(found[key].shape)}, expected {tuple(value.shape)}"
        if value.dtype != found[key].dtype:
            return f"{key!r} has type {found[key].dtype}, expected {value.dtype}"
    return ""


def _plain(value: Any) -> Any:
    """Plain data that YAML and strict JSON can hold."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain(dataclasses.asdict(value))
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"{type(value).__name__} cannot be kept as plain data")
