"""Compute ``jetnet.json``: FPD and KPD of a few samples with the jetnet library itself.

The library is no dependency.  To redo the numbers (jetnet 0.2.5, numpy 2.4, scipy 1.17 gave them)::

    python -m venv reference
    reference/bin/pip install . awkward matplotlib numba requests     # this package brings torch, scipy, pandas, ...
    reference/bin/pip install --no-deps jetnet energyflow wasserstein
    reference/bin/python make_jetnet.py > jetnet.json

``coffea``, which the library imports for its data sets only, is replaced by a dummy.
"""

from __future__ import annotations

import json
import sys
import warnings

import numpy as np

SETTINGS = {"min_samples": 1000, "max_samples": 5000, "batch_size": 1000}


def samples() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Pairs of a reference and a sample."""
    rng = np.random.default_rng(20250101)
    x, y = rng.standard_normal((2, 6000, 6))
    turned = y @ np.linalg.qr(rng.standard_normal((6, 6)))[0] * np.linspace(0.5, 1.5, 6)
    return {
        "same": (x, y),
        "shifted": (x, 1.1 * y + 0.2),
        "turned": (x, turned),
        "skewed": (np.exp(0.5 * x[:, :3]), np.exp(0.6 * y[:4000, :3])),
        "constant": (np.pad(x[:, :2], ((0, 0), (0, 1))), np.pad(1.3 * y[:, :2], ((0, 0), (0, 1)))),
    }


def main() -> None:
    from unittest.mock import MagicMock

    for module in ("coffea", "coffea.nanoevents", "coffea.nanoevents.methods", "coffea.nanoevents.methods.vector"):
        sys.modules[module] = MagicMock()
    from jetnet.evaluation import fpd, kpd

    warnings.simplefilter("ignore")
    sizes = {key: SETTINGS[key] for key in ("min_samples", "max_samples")}
    result = {
        name: {
            "fpd": [float(v) for v in fpd(x, y, **sizes)],
            "kpd": [float(v) for v in kpd(x, y, batch_size=SETTINGS["batch_size"])],
        }
        for name, (x, y) in samples().items()
    }
    sys.stdout.write(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
