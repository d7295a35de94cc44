"""Modules that can be described as plain data and built again from the description.

A model folder stores the *description* of its modules as YAML and their numbers as safetensors; nothing is pickled.
For that, every bijection, network and density is a class decorated with :func:`buildable`:

* its constructor takes only YAML-able values, other buildable modules, or lists of these;
* everything learned or fitted lives in parameters and buffers **whose shapes follow from the constructor arguments**.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from torch import nn

__all__ = ["buildable", "build", "describe", "kinds"]

_CLASSES: dict[str, type[nn.Module]] = {}
M = TypeVar("M", bound=nn.Module)


def buildable(kind: str) -> Callable[[type[M]], type[M]]:
    """Class decorator: register the module class under the name ``kind`` and remember its constructor arguments."""

    def decorate(cls: type[M]) -> type[M]:
        if kind in _CLASSES:
            raise ValueError(f"kind {kind!r} is already taken by {_CLASSES[kind].__name__}")
        original = cls.__init__
        signature = inspect.signature(original)

        @functools.wraps(original)
        def remember(self: M, *args: Any, **kwargs: Any) -> None:
            bound = signature.bind(self, *args, **kwargs)
            bound.apply_defaults()
            arguments = dict(list(bound.arguments.items())[1:])
            original(self, *args, **kwargs)
            if type(self) is cls:
                object.__setattr__(self, "_arguments", {k: _plain(v) for k, v in arguments.items()})

        cls.__init__ = remember  # type: ignore[method-assign,assignment]
        cls.kind = kind  # type: ignore[attr-defined]
        _CLASSES[kind] = cls
        return cls

    return decorate


def _plain(value: Any) -> Any:
    if isinstance(value, nn.Module):
        return describe(value)
    if isinstance(value, (list, tuple, nn.ModuleList)):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"constructor argument of type {type(value).__name__} cannot be described as plain data")


def describe(module: nn.Module) -> dict[str, Any]:
    """Plain-data description of a buildable module: ``{"kind": …, argument: value, …}``, nested for sub-modules."""
    if not hasattr(module, "_arguments"):
        raise TypeError(f"{type(module).__name__} is not buildable: decorate its class with @buildable(kind)")
    return {"kind": type(module).kind, **module._arguments}  # type: ignore[attr-defined, dict-item]


def build(description: dict[str, Any]) -> nn.Module:
    """The module that ``description`` describes, freshly initialised.

    Raises:
        ValueError: Unknown kind, or arguments that the class does not take.
    """
    arguments = dict(description)
    kind = arguments.pop("kind", None)
    if kind not in _CLASSES:
        raise ValueError(f"unknown kind {kind!r}; known: {', '.join(kinds())}")
    cls = _CLASSES[kind]
    try:
        return cls(**{k: _built(v) for k, v in arguments.items()})
    except TypeError as error:
        raise ValueError(f"cannot build {kind!r}: {error}") from error


def _built(value: Any) -> Any:
    if isinstance(value, dict) and "kind" in value:
        return build(value)
    if isinstance(value, list):
        return [_built(v) for v in value]
    return value


def kinds() -> list[str]:
    """Names of all registered classes."""
    return sorted(_CLASSES)
