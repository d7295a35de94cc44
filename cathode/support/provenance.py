"""Where a result came from: versions, git revision, machine."""

from __future__ import annotations

import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

__all__ = ["environment", "git_revision", "versions"]

_PACKAGES = ("cathode-hep", "torch", "zuko", "nflows", "numpy", "pandas", "scikit-learn", "scipy", "h5py", "iminuit")


def versions() -> dict[str, str]:
    """Versions of Python, this package and the libraries that numbers depend on."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def git_revision() -> str | None:
    """Revision of the checkout this package runs from, with ``+`` when it is modified; None outside a checkout."""
    here = Path(__file__).resolve().parent
    try:
        revision = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()
        dirty = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            cwd=here,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
    return revision + ("+" if dirty else "")


def environment() -> dict[str, str]:
    """Platform and interpreter of this process."""
    return {"platform": platform.platform(), "machine": platform.machine(), "implementation": sys.implementation.name}
