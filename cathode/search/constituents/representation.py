"""Events as a transformer sees them: the constituents of both jets as tokens, in coordinates relative to their jet.

Data and template pass through the same function, so they are cut and masked alike.  Transverse momenta are scaled by
one factor per event that brings its mass to the centre of the signal region: the classifier cannot see the mass
through the scale of the momenta, and the masses of the jets keep their meaning in a narrow signal region.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cathode.classifiers.transformer.features import event_inputs
from cathode.classifiers.transformer.inputs import SetInputs
from cathode.jets.schema import ConstituentEvents

__all__ = ["set_inputs"]


def set_inputs(
    events: ConstituentEvents,
    *,
    reference_mass: float,
    particles: int | None = None,
    pairs: bool = False,
    use_mass: bool = False,
) -> SetInputs:
    """Tokens of :func:`cathode.classifiers.transformer.features.event_inputs`, those of the leading jet first.

    Args:
        events: Two jets each, leading jet first.
        reference_mass: Mass in TeV that all events are scaled to.
        particles: Constituents of each jet that are seen, those of largest pT; None for all.  Momenta, masses and
            multiplicities of jets remain those of all constituents.
        pairs: Keep the momenta for the interaction of pairs.
        use_mass: Add the logarithm of the mass in TeV to the columns of the event.
    """
    scale = (reference_mass / events.mass)[:, None]
    axes = events.flat().axis.reshape(len(events), -1, 4)
    axes[..., 0] *= scale
    axes[..., 3] *= scale
    kept = events.particles if particles is None else min(particles, events.particles)
    points = events.points[:, :, :kept].copy()
    points[..., 0] *= scale[..., None].astype(np.float32)
    columns = []
    if kept < events.particles:
        columns.append(np.log1p(events.mask.sum(2)))
    if use_mass:
        columns.append(np.log(events.mass)[:, None])
    more = np.concatenate(columns, axis=1) if columns else None
    inputs = event_inputs(points, events.mask[:, :, :kept], axes, columns=more)
    return inputs if pairs else replace(inputs, momenta=None)
