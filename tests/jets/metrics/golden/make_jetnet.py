"""Compute ``jetnet.json``: the metrics of a few synthetic jets with the jetnet library itself.

The library is no dependency.  To redo the numbers (jetnet 0.2.5, energyflow 1.4.0, wasserstein 1.1.0, coffea 2026.9.0,
torch_geometric 2.8.1, numpy 2.4 gave them)::

    python -m venv reference
    reference/bin/pip install . jetnet==0.2.5 energyflow==1.4.0 coffea numba torch_geometric
    python -m venv old
    old/bin/pip install "numpy<2" wasserstein
    reference/bin/python make_jetnet.py old/bin/python > jetnet.json

``wasserstein``, with which energyflow computes distances of jets, was compiled for numpy 1 and runs in a process of its
own.  ``torch_cluster`` has to be compiled; its nearest-neighbour graph, all that is used of it, is written out here.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import types
import warnings

import numpy as np
import torch

SETTINGS = {"num_eval_samples": 400, "num_batches": 3}
COVERAGE = {"num_eval_samples": 12, "num_batches": 2}
SEED = 7


def jets(stream: int, count: int = 300, width: int = 30) -> np.ndarray:
    """Jets ``(count, width, 3)``: etarel, phirel, ptrel, zero-padded; a few of one or two particles."""
    rng = np.random.default_rng([20250102, stream])
    number = rng.integers(3, width + 1, count)
    number[:4] = [1, 2, 1, 2]
    present = np.arange(width) < number[:, None]
    pt = np.sort(rng.exponential(1.0, (count, width)) ** (1.3 + 0.1 * stream) * present, axis=1)[:, ::-1]
    pt = pt / pt.sum(axis=1, keepdims=True)
    angles = rng.standard_normal((count, width, 2)) * (0.12 + 0.01 * stream) * (1.2 - pt[..., None])
    return np.concatenate([angles * present[..., None], pt[..., None]], axis=-1)


def weights() -> dict[str, torch.Tensor]:
    """Numbers for every tensor of the library's ParticleNet, in the order of their names."""
    sizes, rng = [3, 64, 128, 256], np.random.default_rng(11)
    total = np.cumsum(sizes)
    shapes: dict[str, tuple[int, ...]] = {"fc1.0.weight": (256, int(total[-1])), "fc1.0.bias": (256,)}
    shapes |= {"fc2.weight": (5, 256), "fc2.bias": (5,)}
    for block, width in enumerate(sizes[1:]):
        for layer in range(3):
            inputs = 2 * int(total[block]) if layer == 0 else width
            for owner in (f"edge_nets.{block}", f"edge_convs.{block}.nn"):
                linear, norm = f"{owner}.model.{3 * layer}", f"{owner}.model.{3 * layer + 1}"
                shapes |= {f"{linear}.weight": (width, inputs), f"{linear}.bias": (width,)}
                shapes |= {f"{norm}.{name}": (width,) for name in ("weight", "bias", "running_mean", "running_var")}
                shapes[f"{norm}.num_batches_tracked"] = ()
    state: dict[str, torch.Tensor] = {}
    for name in sorted(shapes):
        shape = shapes[name]
        if name.startswith("edge_nets"):
            # The library registers each of these networks twice.
            state[name] = state[name.replace("edge_nets", "edge_convs").replace(".model", ".nn.model", 1)]
        elif name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(1)
        else:
            scale = 1.0 / np.sqrt(shape[-1]) if len(shape) == 2 else 0.2
            values = scale * rng.standard_normal(shape)
            state[name] = torch.from_numpy(np.abs(values) + 0.5 if name.endswith("var") else values)
    return {name: value.float() if value.is_floating_point() else value for name, value in state.items()}


def _knn_graph(x: torch.Tensor, k: int, batch: torch.Tensor) -> torch.Tensor:
    distance = torch.cdist(x.double(), x.double())
    distance[batch[:, None] != batch[None, :]] = torch.inf
    distance.fill_diagonal_(torch.inf)
    neighbours = distance.topk(k, largest=False).indices
    return torch.stack([neighbours.reshape(-1), torch.arange(len(x)).repeat_interleave(k)])


# As energyflow 1.4.0 calls it in emds().
_EMDS = """
import io, sys, numpy as np, wasserstein
files = np.load(io.BytesIO(sys.stdin.buffer.read()))
pairwise = wasserstein.PairwiseEMD(1.0, 1.0, False, 1, 0, False, throw_on_error=True)
pairwise.set_network_simplex_params(100000, 10000.0, 1.0)
pairwise(files["first"], files["second"], gdim=None, mask=False)
np.save(sys.stdout.buffer, np.asarray(pairwise.emds()))
"""


def _emds(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    buffer = io.BytesIO()
    np.savez(buffer, first=first, second=second)
    done = subprocess.run([sys.argv[1], "-c", _EMDS], input=buffer.getvalue(), capture_output=True, check=True)
    return np.load(io.BytesIO(done.stdout))


def main() -> None:
    warnings.simplefilter("ignore")
    import torch_geometric  # noqa: F401  (looks for torch_cluster when it is imported)

    sys.modules["torch_cluster"] = types.SimpleNamespace(knn_graph=_knn_graph)  # type: ignore[assignment]
    from jetnet import utils
    from jetnet.datasets import JetNet
    from jetnet.evaluation import gen_metrics
    from jetnet.evaluation.particlenet import _ParticleNet

    def seeded() -> None:
        gen_metrics.rng = np.random.default_rng(SEED)

    first, second = jets(0), jets(1)
    result: dict[str, object] = {"mass": utils.jet_features(first)["mass"][:8].tolist()}
    for name in ("w1m", "w1p", "w1efp"):
        seeded()
        extra = {"efp_jobs": 1} if name == "w1efp" else {}
        mean, spread = getattr(gen_metrics, name)(first, second, **SETTINGS, **extra)
        result[name] = {"mean": np.asarray(mean).tolist(), "std": np.asarray(spread).tolist()}
    seeded()
    gen_metrics.emds = _emds
    result["cov_mmd"] = [float(v) for v in gen_metrics.cov_mmd(first, second, use_tqdm=False, **COVERAGE)]
    for name, arguments in (("efps", [("d<=", 4)]), ("efps_w1", [("n==", 4), ("d==", 4), ("p==", 1)])):
        from energyflow import EFPSet

        found = EFPSet(*arguments, measure="hadr", beta=1, normed=None, coords="ptyphim")
        values = utils.efps(first[:8], efpset_args=arguments, efp_jobs=1)
        graphs = [[list(edge) for edge in graph] for graph in found.graphs()]
        result[name] = {"graphs": graphs, "values": values.tolist()}
    ordered = [x[:6][..., [2, 0, 1]] for x in (first, second)]
    result["emd"] = _emds(ordered[0], ordered[1] * [1.3, 1.0, 1.0]).tolist()
    network = _ParticleNet(30, 3)
    network.load_state_dict(weights())
    network.eval()
    inputs = torch.from_numpy(first[:6]).float()
    JetNet.fpnd_norm(inputs, inplace=True)
    with torch.no_grad():
        activations = network(inputs, ret_activations=True)
    result["activations"] = activations[:, :16].double().numpy().round(6).tolist()
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
