"""The background template: masses from a model of the spectrum, features from the density at these masses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from cathode.data.events import Events
from cathode.data.regions import Regions
from cathode.density.base import sample
from cathode.search.background import Background
from cathode.search.settings import SignificanceSettings, TemplateSettings
from cathode.statistics.binning import good_binning
from cathode.statistics.massfit import SidebandFit, fit_sidebands
from cathode.statistics.massmodels import FittedMass, KdeMass, MassModel
from cathode.support.seeding import numpy_generator, torch_generator

__all__ = ["Template", "conditional_template", "mass_model", "sample_template", "spectrum_fit"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Template:
    """Events drawn from the background model.

    Attributes:
        features: ``(M, D)`` in the units of the data.
        mass: ``(M,)`` TeV.
        member: Which member of the density ensemble each event came from ``(M,)``.
        outside: Events with a feature outside the range of the sideband training data.  They are kept, because dropping
            them would bias the template, and counted, because a good density makes few.
    """

    features: Array
    mass: Array
    member: NDArray[np.int64]
    outside: int

    def __len__(self) -> int:
        return len(self.mass)


# The dijet function describes a falling spectrum; below this goodness of fit the turn-on is still felt.
_GOOD_FIT = 0.05
# Choosing the number of parameters on few events biases the test: in bootstraps of 3000 background events the F-test
# gave Z = 0.26 +- 1.23 on average, three parameters -0.02 +- 0.98.  They are kept while they describe the sidebands.
_FEW_EVENTS, _BAD_FIT = 10_000, 0.01


def spectrum_fit(
    mass: Array, regions: Regions, settings: SignificanceSettings, *, low: float | None = None
) -> SidebandFit:
    """Dijet function fitted to the sidebands of a mass spectrum, the signal region blinded.

    Without a lower limit (``low``, or ``settings.fit_range``) the fit starts at the peak of the spectrum and moves up
    bin by bin until the sidebands are described (p > 0.05): thresholds on the jets make any dijet spectrum turn on, and
    only its falling part follows the function.  The signal region takes no part in that choice.

    With ``fit_parameters: auto`` an F-test chooses the number of parameters; below 10,000 events three are used if they
    describe the sidebands.

    Args:
        mass: ``(N,)`` TeV, signal region and sidebands.
        regions: Signal region and outer limits.
        settings: Number of parameters, bins and range of the fit.
        low: Start of the fit in TeV.

    Raises:
        UserError: Too few events or bins for a fit.
    """
    mass = mass[regions.in_range(mass)]
    start = low if low is not None else settings.fit_range[0]
    end = settings.fit_range[1] if settings.fit_range[1] is not None else regions.sideband[1]
    window = regions.signal
    width = (window[1] - window[0]) / settings.fit_bins

    def fitted(start: float) -> SidebandFit:
        selected = mass[mass > start] if end is None else mass[(mass > start) & (mass < end)]
        edges = good_binning(selected, blind=window, window_bins=settings.fit_bins, low=start, high=end)
        counts, _ = np.histogram(selected, edges)
        if settings.fit_parameters == "auto" and len(selected) < _FEW_EVENTS:
            fit = fit_sidebands(counts, edges, blind=window, parameters=3, sqrt_s=settings.sqrt_s)
            if fit.valid and fit.p_value > _BAD_FIT:
                return fit
        return fit_sidebands(counts, edges, blind=window, parameters=settings.fit_parameters, sqrt_s=settings.sqrt_s)

    if start is not None:
        return fitted(start)
    # A sideband narrower than a bin, or empty, still gets one start: the fit says what is missing.
    below = 0 if len(mass) == 0 else int((window[0] - mass.min()) / width)
    steps = np.arange(1, max(below, 1) + 1)
    starts = window[0] - width * steps
    counts = np.array([np.sum((mass > s) & (mass <= s + width)) for s in starts])
    candidates = starts[: int(np.argmax(counts)) + 1][::-1]
    # At least three bins must stay below the signal region, or the interpolation becomes an extrapolation.
    candidates = candidates[: max(len(candidates) - 2, 1)]
    best: SidebandFit | None = None
    for candidate in candidates:
        fit = fitted(float(candidate))
        if fit.valid and fit.p_value > _GOOD_FIT:
            return fit
        if best is None or (fit.valid and fit.p_value > best.p_value):
            best = fit
    assert best is not None
    return best


def mass_model(
    events: Events, regions: Regions, settings: TemplateSettings, significance: SignificanceSettings
) -> MassModel:
    """Model of the masses in the signal region; only ``kde`` looks at the signal region."""
    if settings.mass_model == "kde":
        return KdeMass(events.mass[regions.in_signal(events.mass)], bandwidth=settings.kde_bandwidth)
    return FittedMass(spectrum_fit(events.mass, regions, significance), *regions.signal)


def sample_template(background: Background, masses: MassModel, count: int, *, seed: int) -> Template:
    """Draw ``count`` events in the signal region."""
    return conditional_template(background, masses.sample(count, numpy_generator(seed, "template mass")), seed=seed)


def conditional_template(
    background: Background, mass: Array, *, seed: int, member: NDArray[np.int64] | None = None
) -> Template:
    """Draw one event at each given mass.

    Args:
        background: The fitted density.
        mass: ``(M,)`` TeV.
        seed: Fixes the events.
        member: Which member of the ensemble draws each event ``(M,)``; by default equal shares in random order.
    """
    members = background.members
    if member is None:
        member = numpy_generator(seed, "template member").permutation(np.arange(len(mass)) % len(members))
    features = np.empty((len(mass), len(background.lowest)))
    for index, density in enumerate(members):
        rows = member == index
        context = torch.as_tensor(mass[rows, None])
        generator = torch_generator(seed, "template features", index)
        features[rows] = sample(density, context, generator=generator).double().cpu().numpy()
    outside = ((features < background.lowest) | (features > background.highest)).any(1)
    return Template(features=features, mass=mass, member=member, outside=int(outside.sum()))
