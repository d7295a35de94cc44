"""Incident energies from a command line: values taken in turn, or a range."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cathode.support.errors import UserError

__all__ = ["incident_energies"]


def incident_energies(words: tuple[str, ...], count: int, generator: np.random.Generator) -> npt.NDArray[np.float64]:
    """``count`` incident energies [MeV].

    Args:
        words: One or more values, taken in turn; or ``LOW:HIGH`` (log-uniform) or ``LOW:HIGH:flat``.
        count: How many.
        generator: For a range.

    Raises:
        UserError: Anything else.
    """
    try:
        if len(words) == 1 and ":" in words[0]:
            low, high, *shape = words[0].split(":")
            bounds = float(low), float(high)
            if not 0 < bounds[0] < bounds[1] < np.inf or shape not in ([], ["flat"], ["log"]):
                raise ValueError
            uniform = generator.random(count)
            if shape == ["flat"]:
                return bounds[0] + uniform * (bounds[1] - bounds[0])
            return bounds[0] * np.exp(uniform * np.log(bounds[1] / bounds[0]))
        values = np.array([float(word) for word in words])
        if not len(values) or not bool(np.all(np.isfinite(values) & (values > 0))):
            raise ValueError
    except ValueError as error:
        raise UserError(
            "--energies must be positive values in MeV, or LOW:HIGH or LOW:HIGH:flat with 0 < LOW < HIGH, "
            f"got {' '.join(words)}"
        ) from error
    return values[np.arange(count) % len(values)]
