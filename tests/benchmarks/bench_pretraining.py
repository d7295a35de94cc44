"""What pre-training is worth with few signal events: SIC of idealized detectors on constituents.

Half of the signal-region background with 2 % of signal against the other half, cross-fitted, judged on the other half
and on the rest of the signal: a transformer from scratch, the same fine-tuned, and trees on the frozen encoder.
Without files the shipped samples are used, which are too small to say anything.

    python tests/benchmarks/bench_pretraining.py BACKGROUND SIGNAL --encoder FOLDER
    python tests/benchmarks/bench_pretraining.py --quick
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from cathode.classifiers.crossfit import CrossFit
from cathode.classifiers.transformer.inputs import SetInputs
from cathode.jets.commands.pretrain import PretrainJets, run_pretrain
from cathode.jets.readers import read_constituent_events
from cathode.search.constituents.representation import set_inputs
from cathode.statistics.sic import roc_curve

REGION = (3.3, 3.7)


def in_region(path: str) -> SetInputs:
    """Events of the signal region as the classifiers see them."""
    events = read_constituent_events(path)
    events = events.select((events.mass > REGION[0]) & (events.mass < REGION[1]))
    return set_inputs(events, reference_mass=sum(REGION) / 2, particles=30, pairs=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("background", nargs="?", default="sample:lhco_constituents")
    parser.add_argument("signal", nargs="?", default="sample:lhco_constituents_signal")
    parser.add_argument("--encoder", help="pre-trained encoder; default: one that learns observables of sideband jets")
    parser.add_argument("--strength", type=float, default=0.02, help="signal over background")
    parser.add_argument("--folds", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--draws", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="checks the script only")
    given = parser.parse_args()
    folds, epochs, draws = (2, 1, 1) if given.quick else (given.folds, given.epochs, given.draws)
    background, signal = in_region(given.background), in_region(given.signal)
    with tempfile.TemporaryDirectory() as folder:
        encoder = given.encoder
        if encoder is None:
            encoder = str(Path(folder) / "encoder")
            run_pretrain(
                PretrainJets(
                    (given.background,), Path(encoder), exclude_mass=REGION, epochs=1 if given.quick else 10,
                    rows=(0, 500) if given.quick else None,
                )
            )  # fmt: skip
        network = {"kind": "transformer", "event": "jets", "mixing": 1, "epochs": epochs, "batch_size": 128}
        kinds = {
            "transformer from scratch": network,
            "transformer fine-tuned": {**network, "pretrained": encoder, "encoder_rate": 0.03},
            "trees on the frozen encoder": {"kind": "transformer-trees", "pretrained": encoder, "members": 10},
        }
        for draw in range(draws):
            random = np.random.default_rng(draw)
            b, s = random.permutation(len(background)), random.permutation(len(signal))
            half, count = len(b) // 2, max(round(given.strength * (len(b) // 2)), 1)
            data = SetInputs.concatenate([background[b[:half]], signal[s[:count]]])
            for name, description in kinds.items():
                scores = CrossFit(description, folds=folds, seed=draw).run(
                    data, background[b[half:]], data_id=np.arange(len(data)), evaluation={"signal": signal[s[count:]]}
                )
                sic = []
                for fold in range(folds):
                    own = scores.template[scores.template_fold == fold]
                    test = scores.evaluation["signal"][fold]
                    curve = roc_curve(np.concatenate([test, own]), np.repeat([True, False], [len(test), len(own)]))
                    efficiency = max(0.01, 2.0 / len(own))
                    sic.append(curve.sic_at(efficiency).sic)
                error = np.std(sic) / np.sqrt(folds)
                print(f"draw {draw}, {count} signal events, {name}: SIC at 1e-2 = {np.mean(sic):.2f} +- {error:.2f}")


if __name__ == "__main__":
    main()
