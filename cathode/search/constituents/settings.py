"""Settings of a search on constituents, the section ``constituents`` of the configuration."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from cathode.jets.generators.cells import Cells
from cathode.jets.generators.settings import ConstituentSettings as PointSettings
from cathode.jets.generators.settings import SequencePoints
from cathode.support.settings import Files, at_least, require

__all__ = ["ConstituentSettings", "ReweightingSettings", "SetTestSettings"]


def _require(where: str, good: bool, expected: str, got: Any) -> None:
    require(f"constituents.{where}", good, expected, got)


@dataclass(frozen=True)
class SetTestSettings:
    """The two-sample test with a transformer on the constituents, data against template in the held-out sidebands.

    Args:
        limits: Limits (warn, fail) on the distance of its AUC from 0.5.
        fails: Let the gate fail beyond the second limit; otherwise the test only warns.
        max_events: Events per sample; 0 leaves the test out.
        quick: A smaller network and fewer epochs.
    """

    limits: tuple[float, float] = (0.15, 0.25)
    fails: bool = False
    max_events: int = 5000
    quick: bool = False


@dataclass(frozen=True)
class ReweightingSettings:
    """Reweighting of generated events to sideband data: ``cathode.search.constituents.reweighting``.

    Args:
        encoder: Folder of a pre-trained encoder, whose principal components are seen beside the observables
            (``data.features``) and the mass; null: observables and mass alone.
        variance: Fraction of the variance of its summaries that the kept components have.
        trees, networks: Members of the two ensembles whose log-ratios are averaged; 0 leaves one of them out.
        repeats: Generated events for each sideband event to learn from.
        largest: Weights above are cut; so many events are generated for each that is kept.
        device: Torch device of the encoder.
    """

    encoder: str | None = None
    variance: float = 0.9
    trees: int = 10
    networks: int = 5
    repeats: int = 2
    largest: float = 4.0
    device: str = "cpu"

    def __post_init__(self) -> None:
        at_least("constituents.reweighting", self, 1, "repeats")
        at_least("constituents.reweighting", self, 0, "trees", "networks")
        _require("reweighting", self.trees + self.networks > 0, "of trees or networks at least one", 0)
        _require("reweighting.variance", 0 < self.variance <= 1, "above 0 and at most 1", self.variance)
        _require("reweighting.largest", self.largest > 1, "above 1", self.largest)


@dataclass(frozen=True)
class ConstituentSettings:
    """How events made of constituents are selected, modelled and compared.

    The mass of an event is that of its stored constituents, in data and template alike, and so are the kinematics that
    the acceptance cuts on.

    Args:
        leading_pt: Acceptance: the leading jet above this transverse momentum, TeV.
        max_eta: Acceptance: both jets within this pseudorapidity.
        outside: Events outside the acceptance (jets lose momentum where constituents were cut): ``drop`` them and say
            how many, or ``fail``.
        particles: Constituents that are kept of each jet, those of largest pT; null for all that are stored.
        models: Files of finished models of the constituents of a jet, made by an earlier search or by ``cathode jets
            train`` (with ``data.exclude_mass`` and ``data.particles: null``); none: train ``members`` of them here.
            A model that has seen an event of the signal region is refused.
        points: The model of the constituents of a jet and its training.
        cells: Lattice on which some of the constituents sit; null: none.
        conserve: What constituents are made to have in common with the jet that was asked for, see
            :class:`~cathode.jets.generators.settings.JetGeneratorSettings`.
        validation_fraction: Jets of the training that choose its epochs.
        members: Models trained here: of two or more, each is trained on the sideband events that the others leave out
            and stands for those it did not see; a single one leaves out ``test_fraction``.
        test_fraction: Sideband events that a single model does not see.
        tries: Draws of the kinematics at each mass until the generated event lies in the acceptance.
        events_per_task: Events that are generated at once; a killed run repeats at most that many.
        batch_size: Jets that are generated at once.
        classifier_particles: Constituents of each jet that the classifier sees, those of largest pT; null for all.
        closure_events: Held-out sideband events that are compared with generated ones.
        reweighting: Reweight generated events to those sideband events that are not compared with them; null: do not.
        set_test: The two-sample test on constituents.
    """

    leading_pt: float = 1.2
    max_eta: float = 2.5
    outside: Literal["drop", "fail"] = "drop"
    particles: int | None = None
    models: Files = ()
    points: PointSettings = field(default_factory=lambda: PointSettings(model=SequencePoints()))
    cells: Cells | None = None
    conserve: Literal["none", "axis", "momentum"] = "momentum"
    validation_fraction: float = 0.05
    members: int = 2
    test_fraction: float = 0.2
    tries: int = 8
    events_per_task: int = 5000
    batch_size: int = 1000
    classifier_particles: int | None = None
    closure_events: int = 20_000
    reweighting: ReweightingSettings | None = None
    set_test: SetTestSettings = field(default_factory=SetTestSettings)

    def __post_init__(self) -> None:
        _require("leading_pt", self.leading_pt > 0, "positive", self.leading_pt)
        _require("max_eta", self.max_eta > 0, "positive", self.max_eta)
        _require("particles", self.particles is None or self.particles >= 2, "at least 2", self.particles)
        seen = self.classifier_particles
        _require("classifier_particles", seen is None or seen >= 2, "at least 2", seen)
        _require("validation_fraction", 0 < self.validation_fraction < 1, "between 0 and 1", self.validation_fraction)
        _require("batch_size", self.batch_size >= 1, "at least 1", self.batch_size)
        _require("members", self.members >= 1, "at least 1", self.members)
        _require("test_fraction", 0 < self.test_fraction < 1, "between 0 and 1", self.test_fraction)
        _require("tries", self.tries >= 1, "at least 1", self.tries)
        _require("events_per_task", self.events_per_task >= 1, "at least 1", self.events_per_task)
        _require("closure_events", self.closure_events >= 100, "at least 100", self.closure_events)
