"""W1M, W1P and W1EFP: 1-Wasserstein distances of masses, constituents and energy flow polynomials.

Definitions and defaults are those of the JetNet library, version 0.2.5 (Kansal et al., https://arxiv.org/abs/2106.11535
and https://arxiv.org/abs/2211.10295), on coordinates relative to the jet's axis; for equal draws the numbers agree.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cathode.jets.clustering import four_momenta, invariant_mass
from cathode.jets.metrics.bootstrap import Bootstrapped, Column, resampled_w1
from cathode.jets.observables.efps import efps, w1efp_graphs
from cathode.jets.observables.padded import Floats, blocks
from cathode.jets.schema import Jets
from cathode.support.errors import UserError

__all__ = ["W1EFP_NAMES", "relative_mass", "w1_of_features", "w1efp", "w1m", "w1p"]

#: The graphs of W1EFP by their edges.
W1EFP_NAMES = tuple(" ".join(f"{a}{b}" for a, b in graph) for graph in w1efp_graphs())


def relative_mass(jets: Jets) -> Floats:
    """Mass of the constituents in relative coordinates ``(N,)``: their mass in units of the jet's pT."""
    found = np.zeros(len(jets))
    for rows in blocks(jets):
        relative = jets.select(rows).relative().astype(np.float64, copy=False)
        found[rows] = np.maximum(invariant_mass(four_momenta(relative).sum(axis=1)), 0.0)
    return found


def w1m(
    reference: Jets, generated: Jets, *, num_eval_samples: int = 50_000, num_batches: int = 5, seed: int = 0
) -> Bootstrapped:
    """W1M: distance of the relative jet masses.

    Args:
        reference: Jets of the truth.
        generated: Jets that are tested.
        num_eval_samples: Jets drawn of each, with replacement.
        num_batches: Repetitions.
        seed: Of the draws.

    Raises:
        UserError: No jets, or settings below 1.
    """
    masses = [relative_mass(jets)[:, None] for jets in (reference, generated)]
    settings = {"num_eval_samples": num_eval_samples, "num_batches": num_batches, "seed": seed}
    return w1_of_features(masses[0], masses[1], ["mass"], **settings)


def w1p(
    reference: Jets, generated: Jets, *, num_eval_samples: int = 50_000, num_batches: int = 5, seed: int = 0
) -> Bootstrapped:
    """W1P: distances of ``eta_rel``, ``phi_rel`` and ``pt_rel`` of all constituents; the score is their ``average``.

    Arguments and errors as :func:`w1m`.
    """
    columns: list[list[Column]] = []
    for jets in (reference, generated):
        owner, _ = np.nonzero(jets.mask)
        relative = jets.relative()[jets.mask]
        columns.append([(np.ascontiguousarray(relative[:, k]), owner) for k in (1, 2, 0)])
    return resampled_w1(
        columns[0],
        columns[1],
        (len(reference), len(generated)),
        ["eta_rel", "phi_rel", "pt_rel"],
        num_eval_samples=num_eval_samples,
        num_batches=num_batches,
        seed=seed,
    )


def w1efp(
    reference: Jets, generated: Jets, *, num_eval_samples: int = 50_000, num_batches: int = 5, seed: int = 0
) -> Bootstrapped:
    """W1EFP: distances of the five energy flow polynomials of four vertices and four edges; the score is ``average``.

    Arguments and errors as :func:`w1m`.  The library's order of the five is another one.
    """
    found = [efps(jets.relative(), w1efp_graphs()) for jets in (reference, generated)]
    settings = {"num_eval_samples": num_eval_samples, "num_batches": num_batches, "seed": seed}
    return w1_of_features(found[0], found[1], W1EFP_NAMES, **settings)


def w1_of_features(
    reference: Floats,
    generated: Floats,
    names: Sequence[str],
    *,
    num_eval_samples: int = 50_000,
    num_batches: int = 5,
    seed: int = 0,
) -> Bootstrapped:
    """The same distance for any features of jets, ``(N, F)`` and ``(M, F)``, one value per jet.

    Args:
        reference: Features of the truth.
        generated: Features that are tested.
        names: ``F`` names.
        num_eval_samples: Jets drawn of each, with replacement.
        num_batches: Repetitions.
        seed: Of the draws.

    Raises:
        UserError: No jets, settings below 1, or features that are not finite.
    """
    for values in (reference, generated):
        if not np.isfinite(values).all():
            raise UserError("features of jets are not finite: are the axes of the jets right?")
    first, second = (
        [(np.ascontiguousarray(f[:, k]), np.arange(len(f))) for k in range(f.shape[1])] for f in (reference, generated)
    )
    return resampled_w1(
        first,
        second,
        (len(reference), len(generated)),
        names,
        num_eval_samples=num_eval_samples,
        num_batches=num_batches,
        seed=seed,
    )
