"""Settings of an evaluation of jets."""

from __future__ import annotations

from dataclasses import dataclass

from cathode.jets.observables import OBSERVABLES
from cathode.support.errors import UserError

__all__ = ["EVALUATION_OBSERVABLES", "JetsEvaluationSettings"]

#: Histograms, and the inputs of the classifier of observables.
EVALUATION_OBSERVABLES = (
    "mass",
    "pt",
    "eta",
    "mass_over_pt",
    "multiplicity",
    "tau21",
    "tau32",
    "c2",
    "d2",
    "ptd",
    "width",
    "lha",
    "leading_share",
    "softdrop_mass",
    "softdrop_zg",
    "softdrop_rg",
)
_LEAST_JETS = 200


@dataclass(frozen=True)
class JetsEvaluationSettings:
    """How generated jets are judged.

    Args:
        particles: Compare the leading so many constituents of every jet; None for all.
        own_axis: Take coordinates relative to the sum of the constituents that are compared, not to the axis that the
            files give.
        quick: Fewer jets, batches and a smaller transformer: some minutes for 20,000 against 20,000 jets of 30
            constituents.
        observables: Of :data:`cathode.jets.observables.OBSERVABLES`: histograms, and inputs of the classifier.
        max_jets: Use at most so many jets of each sample, drawn at random.
        num_eval_samples: Jets drawn of each sample for W1M, W1P, W1EFP.
        num_batches: Repetitions of that.
        coverage: Coverage and minimum matching distance; they take minutes.
        classifiers: Two-sample tests with boosted trees on the observables.
        transformer: Two-sample test with a transformer on the constituents.
        floor: Compare truth with truth too, for the values that a perfect generator would get.
        fpnd: Folder of the JetNet library's ParticleNet, for the Frechet ParticleNet Distance; None leaves it out.
        fpnd_type: ``g``, ``q`` or ``t`` for the library's own jets of that type; None for those of the reference.
        seed: Of draws, splits and classifiers.
    """

    particles: int | None = None
    own_axis: bool = False
    quick: bool = False
    observables: tuple[str, ...] = EVALUATION_OBSERVABLES
    max_jets: int | None = None
    num_eval_samples: int = 50_000
    num_batches: int = 5
    coverage: bool = True
    classifiers: bool = True
    transformer: bool = True
    floor: bool = True
    fpnd: str | None = None
    fpnd_type: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.particles is not None and self.particles < 1:
            raise UserError(f"particles must be at least 1, got {self.particles}")
        if self.max_jets is not None and self.max_jets < _LEAST_JETS:
            raise UserError(f"max-jets must be at least {_LEAST_JETS}, got {self.max_jets}")
        if self.num_eval_samples < 1 or self.num_batches < 1:
            raise UserError("num-eval-samples and num-batches must be at least 1")
        unknown = [name for name in self.observables if name not in OBSERVABLES]
        if unknown:
            raise UserError(f"no observable {unknown[0]!r} of jets; there are {', '.join(OBSERVABLES)}")
        if not self.observables:
            raise UserError("observables: give at least one to compare")
        if self.fpnd is not None and (self.particles is None or self.particles > 30):
            raise UserError("the Frechet ParticleNet Distance is defined for 30 constituents: add particles 30")
        if self.fpnd_type is not None and self.fpnd_type not in ("g", "q", "t"):
            raise UserError(f"fpnd-type must be g, q or t, got {self.fpnd_type!r}")
