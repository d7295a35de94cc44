"""The background template as a product of its own: weighted events and histograms with uncertainties, for any fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cathode.data.events import Events
from cathode.search.composition import regions_of
from cathode.search.histograms import feature_histograms
from cathode.search.results import FeatureHistogram, plain
from cathode.search.settings import SearchSettings
from cathode.search.template import spectrum_fit
from cathode.support.errors import UserError

if TYPE_CHECKING:
    from cathode.search.pipeline import TemplateProducts

__all__ = ["TemplateSummary", "summarise_template", "template_events"]


@dataclass(frozen=True)
class TemplateSummary:
    """What a template predicts.

    Attributes:
        expected, expected_error: Background events in the signal region from the sideband fit of the mass spectrum,
            with the error of the fit; the weights of the events add up to ``expected``.
        normalisation: ``"sideband fit"``, or ``"signal-region data"`` where the spectrum could not be fitted.
        counts: Events of each kind.
        outside: Template events with a feature outside the range of the sideband data.
        validation_nll: Of the density, nats per event.
        histograms: Every feature in signal region and held-out sidebands, statistical and model errors apart.
        seconds: Stage name -> wall time.
    """

    expected: float
    expected_error: float
    normalisation: str
    counts: dict[str, int]
    outside: int
    validation_nll: float
    histograms: list[FeatureHistogram]
    seconds: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """Everything but the histograms, JSON-able."""
        result: dict[str, Any] = plain({k: v for k, v in vars(self).items() if k != "histograms"})
        return result


def summarise_template(data: Events, products: TemplateProducts, settings: SearchSettings) -> TemplateSummary:
    """Normalise the template and fill its histograms.

    The normalisation comes from the sidebands alone, so a signal does not raise it.
    """
    regions = regions_of(settings)
    n_data = float(len(products.signal_region))
    try:
        fit = spectrum_fit(data.mass, regions, settings.significance)
        expected, error = fit.expected_in(*regions.signal)
        source = "sideband fit"
    except UserError:
        expected, error, source = n_data, float(np.sqrt(n_data)), "signal-region data"
    return TemplateSummary(
        expected=expected,
        expected_error=error,
        normalisation=source,
        counts={
            "signal_region": len(products.signal_region),
            "template": len(products.template),
            "sideband_train": len(products.splits[0].train),
            "sideband_validation": len(products.splits[0].validation),
            "sideband_test": len(products.held_out),
        },
        outside=products.template.outside,
        validation_nll=products.background.summary.validation_nll,
        histograms=feature_histograms(
            products.signal_region, products.template, products.held_out, products.sideband_template
        ),
        seconds=products.seconds,
    )


def template_events(products: TemplateProducts, summary: TemplateSummary) -> Events:
    """The template as events whose weights add up to the expected background."""
    template = products.template
    return Events(
        features=template.features,
        names=products.signal_region.names,
        mass=template.mass,
        event_id=np.arange(len(template)),
        weight=np.full(len(template), summary.expected / len(template)),
    )
