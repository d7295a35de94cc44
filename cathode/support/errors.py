"""Errors that end a command with one clear line.

A :class:`UserError` is about what the user gave (a file, a column, a setting), not about the code.  Its message is a
single line that says what is wrong, where, and what to do.  The command line prints it without a traceback and exits
with code 2.
"""

from __future__ import annotations

import importlib
from types import ModuleType

__all__ = ["MissingExtraError", "UserError", "require"]


class UserError(Exception):
    """Unusable input.  The message is one line: what, where, what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class MissingExtraError(UserError):
    """A feature needs a package of an optional extra that is not installed."""


def require(module: str, extra: str) -> ModuleType:
    """Import ``module`` or say which extra brings it.

    Args:
        module: Dotted name of the module to import.
        extra: Name of the ``cathode-hep`` extra that installs it.

    Raises:
        MissingExtraError: The module is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != module.split(".")[0]:
            raise
        raise MissingExtraError(
            f"this needs the package {module!r}, which is not installed: pip install 'cathode-hep[{extra}]'"
        ) from error
