"""Configuration files: YAML in, frozen settings out, and back.

One place turns text into settings objects; unknown keys, wrong types and values out of range end with one line that
names the key as the user wrote it.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError, create_model

from cathode.support.errors import UserError

__all__ = ["dump_settings", "load_settings", "parse_overrides", "settings_from_dict"]

S = TypeVar("S")


def load_settings(kind: type[S], path: str | Path, overrides: Sequence[str] = ()) -> S:
    """Read ``path``, apply ``KEY=VALUE`` overrides, check everything.

    Relative paths inside the file stay as written: they are relative to the folder the command runs in.

    Raises:
        UserError: Missing or unreadable file, YAML that does not parse, unknown key, wrong value.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise UserError(f"configuration file {path} does not exist") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"configuration file {path} cannot be read: {error}") from error
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"configuration file {path} is not valid YAML: {' '.join(str(error).split())}") from error
    if content is None:
        content = {}
    if not isinstance(content, dict):
        raise UserError(
            f"configuration file {path} must contain a mapping of settings, found a {type(content).__name__}"
        )
    content = merge(content, parse_overrides(overrides))
    return settings_from_dict(kind, content, source=str(path))


def parse_overrides(overrides: Sequence[str]) -> dict[str, Any]:
    """``["a.b=3", …]`` as a nested mapping; values are YAML.

    Raises:
        UserError: An override without ``=`` or with a value that is not YAML.
    """
    nested: dict[str, Any] = {}
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator or not key.strip():
            raise UserError(f"--set {override!r}: expected KEY=VALUE, for example --set density.members=3")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise UserError(f"--set {override!r}: the value is not valid YAML") from error
        # YAML 1.1 reads 1e-3 as a string; nobody who writes it means one.
        value = _number(value)
        target = nested
        *parents, last = key.strip().split(".")
        for part in parents:
            target = target.setdefault(part, {})
            if not isinstance(target, dict):
                raise UserError(f"--set {override!r}: {part} has been given a value already")
        target[last] = value
    return nested


def _number(value: Any) -> Any:
    if isinstance(value, list):
        return [_number(v) for v in value]
    if isinstance(value, dict):
        return {k: _number(v) for k, v in value.items()}
    if isinstance(value, str) and "e" in value.lower():
        try:
            return float(value)
        except ValueError:
            return value
    return value


def merge(base: dict[str, Any], update: dict[str, Any]) -> dict[str, Any]:
    """``base`` with ``update`` laid over it, key by key; another ``kind`` replaces the whole mapping."""
    if "kind" in update and update["kind"] != base.get("kind"):
        return dict(update)
    merged = dict(base)
    for key, value in update.items():
        if isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = merge(merged[key], value)
        else:
            merged[key] = value
    return merged


def settings_from_dict(kind: type[S], content: dict[str, Any], *, source: str = "configuration") -> S:
    """Check ``content`` against the dataclass ``kind`` and build it.

    Raises:
        UserError: Unknown key (with the nearest known one), wrong type, value out of range.
    """
    # Stdlib dataclasses carry no pydantic settings of their own; a model around them hands its strictness down.
    # Laying the file over the defaults keeps the tuned defaults of a section that is only partly overridden.
    complete = merge(dump_settings(kind()), _number(content))
    wrapper = create_model("Configuration", __config__=ConfigDict(extra="forbid"), settings=(kind, ...))
    try:
        settings: S = wrapper(settings=complete).settings  # type: ignore[attr-defined]
    except ValidationError as error:
        raise UserError(f"{source}: {_explain(kind, content, error)}") from error
    return settings


def _explain(kind: type[Any], content: dict[str, Any], error: ValidationError) -> str:
    problems = error.errors(include_url=False)
    first = problems[0]
    path = [str(p) for p in first["loc"][1:]]
    shown = ".".join(p for p in path if p not in _TAGS) or "the configuration"
    if first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        known = _keys_beside(kind, content, path)
        near = difflib.get_close_matches(path[-1], known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}"
        return f"unknown key {shown!r}; {hint}"
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{shown}: {first['msg'].removeprefix('Value error, ')}, got {first.get('input')!r}{more}"


# Names that pydantic puts into the path of an error for the member of a union it tried.
_TAGS = {
    "autoregressive", "maf", "nflows-maf", "rqs-autoregressive", "rqs-coupling", "nflows-rqs-autoregressive",
    "nflows-rqs-coupling", "flow-matching", "edm", "trees", "mlp", "transformer", "framed", "u-variables",
    "point-sequence", "epic-gan", "epic", "set-transformer",
    "function-after",
}  # fmt: skip


def _keys_beside(kind: type[Any], content: dict[str, Any], path: list[str]) -> list[str]:
    here: Any = dump_settings(kind())
    for part in path[:-1]:
        if part not in _TAGS:
            here = here.get(part, {}) if isinstance(here, dict) else {}
    return sorted(here) if isinstance(here, dict) else []


def dump_settings(settings: Any) -> dict[str, Any]:
    """Settings as plain nested data, ready for YAML, with every default filled in."""
    content: dict[str, Any] = TypeAdapter(type(settings)).dump_python(settings, mode="json")
    return content


def settings_yaml(settings: Any) -> str:
    """Settings as YAML text in the order of their definition."""
    if not dataclasses.is_dataclass(settings):
        raise TypeError("settings must be a dataclass")
    return yaml.safe_dump(dump_settings(settings), sort_keys=False, width=100)
