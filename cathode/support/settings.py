"""What the settings of all jobs share: types of fields, and checks with messages of one kind."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator

from cathode.support.errors import UserError

__all__ = ["Files", "at_least", "require"]

# One file may be written without the brackets of a list.
Files = Annotated[tuple[str, ...], BeforeValidator(lambda v: (v,) if isinstance(v, str) else v)]


def require(where: str, good: bool, expected: str, got: Any) -> None:
    """Refuse a setting unless it is ``good``.

    Raises:
        UserError: ``where``: must be ``expected``, got ``got``.
    """
    if not good:
        raise UserError(f"{where}: must be {expected}, got {got!r}")


def at_least(where: str, settings: Any, least: int, *names: str) -> None:
    """Refuse settings whose fields ``names`` are below ``least``.

    Raises:
        UserError: Names the field.
    """
    for name in names:
        require(f"{where}.{name}", getattr(settings, name) >= least, f"{least} or more", getattr(settings, name))
