"""Figures written to files: PNG to look at, PDF to print."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cathode.page.style import figure_bytes
from cathode.support.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["write_figures"]


def write_figures(
    figures: Mapping[str, Figure],
    folder: str | Path,
    *,
    kinds: tuple[Literal["png", "pdf", "svg"], ...] = ("png", "pdf"),
) -> list[Path]:
    """Write every figure as ``<name>.<kind>`` into ``folder``, which is created if needed; returns the paths.

    Raises:
        UserError: The folder cannot be written to.
    """
    paths = []
    for name, figure in figures.items():
        for kind in kinds:
            path = Path(folder) / f"{name}.{kind}"
            with atomic_write(path) as temporary:
                temporary.write_bytes(figure_bytes(figure, kind))
            paths.append(path)
    return paths
