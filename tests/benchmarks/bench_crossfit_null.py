"""How much does cross-fitting widen the count above a cut when there is nothing to find?

Data and template follow one distribution.  Classifiers are cross-fitted and the data above the per-fold cut are
counted; over repetitions, the variance of the count is compared with what independent folds would give (Poisson of
data and template).  A linear classifier would give a factor two on the data's part.

    python tests/benchmarks/bench_crossfit_null.py [--repetitions 70]
"""

from __future__ import annotations

import argparse

import numpy as np

from cathode.classifiers.crossfit import CrossFit
from cathode.statistics.efficiency import fold_thresholds
from cathode.support.progress import progress
from cathode.support.threads import limit_threads

EFFICIENCIES = np.array([0.1, 0.01, 0.003])
OVERSAMPLING = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=70)
    parser.add_argument("--events", type=int, default=4000)
    parser.add_argument("--members", type=int, default=10)
    parser.add_argument("--quick", action="store_true", help="four repetitions: checks the script only")
    arguments = parser.parse_args()
    limit_threads(1)
    repetitions = 4 if arguments.quick else arguments.repetitions
    n = arguments.events
    excess = []
    for repetition in progress(range(repetitions), description="repetitions"):
        random = np.random.default_rng([1, repetition])
        data, template = random.normal(size=(n, 4)), random.normal(size=(OVERSAMPLING * n, 4))
        fitting = CrossFit({"kind": "trees", "members": arguments.members}, folds=5, seed=repetition)
        scores = fitting.run(data, template, data_id=np.arange(n))
        cuts = [fold_thresholds(scores.template, scores.template_fold, e) for e in EFFICIENCIES]
        passed = np.array([cut.passed(scores.data, scores.data_fold).sum() for cut in cuts])
        excess.append(passed / (n * EFFICIENCIES) - 1)
    table = np.array(excess)
    independent = (1 - EFFICIENCIES) / (n * EFFICIENCIES) * (1 + 1 / OVERSAMPLING)
    for k, efficiency in enumerate(EFFICIENCIES):
        ratio = table[:, k].var(ddof=1) / independent[k]
        bias, error = table[:, k].mean(), table[:, k].std() / np.sqrt(repetitions)
        print(
            f"eps_B = {efficiency:g}: bias {bias:+.4f} +- {error:.4f}, variance over that of independent folds "
            f"{ratio:.2f} +- {ratio * np.sqrt(2 / repetitions):.2f}"
        )


if __name__ == "__main__":
    main()
