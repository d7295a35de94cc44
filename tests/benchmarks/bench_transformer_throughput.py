"""Training throughput of the set transformer against ``torch.nn.TransformerEncoder`` with zero-padding.

    python tests/benchmarks/bench_transformer_throughput.py [--file CONSTITUENTS.h5]

Both are the same network from the same weights: embedding, class token, pre-norm blocks of the same width, heads and
feed-forward size, norm, head on the class token, binary cross-entropy, fused AdamW.  The other one pads every set to
the largest possible size and gives ``nn.TransformerEncoder`` the key padding mask.  A repetition is the same few steps
(forward, backward, update) of both in one process, in alternating order; the ratio is the median over repetitions of
the ratios within each.  One thread and CPU time, so a busy machine disturbs both alike.  The largest difference of the
losses along the way is printed too.

Multiplicities are those of a file of constituents in the LHC Olympics layout (jets, and events of two jets), or else
like them: half of the sets full, the rest falling off to few; and like those of jets of up to 150 particles (log-normal
about 50).  Features are random: the time does not depend on them.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from cathode.classifiers.transformer.network import Architecture, SetNetwork
from cathode.support.threads import limit_threads

FEATURES = 5


class Padded(nn.Module):
    """The network of :class:`SetNetwork` (one set, no globals) in torch's own modules, with the weights of ``twin``."""

    def __init__(self, twin: SetNetwork) -> None:
        super().__init__()
        a = twin.architecture
        self.embed = nn.Sequential(nn.Linear(a.features, a.width), nn.GELU(), nn.Linear(a.width, a.width))
        self.class_token = nn.Parameter(torch.zeros(a.width))
        layer = nn.TransformerEncoderLayer(
            a.width, a.heads, a.expansion * a.width, 0.0, "gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, a.blocks, norm=nn.LayerNorm(a.width), enable_nested_tensor=False)
        self.head = nn.Sequential(nn.Linear(a.width, a.width), nn.GELU(), nn.Linear(a.width, a.outputs))
        with torch.no_grad():
            self.class_token.copy_(twin.encoder.class_token)
        self.embed.load_state_dict(twin.encoder.embed.state_dict())
        self.head.load_state_dict(twin.head.state_dict())
        self.encoder.norm.load_state_dict(twin.encoder.norm.state_dict())
        for theirs, block in zip(self.encoder.layers, twin.encoder.blocks, strict=True):
            theirs.load_state_dict(
                {
                    "self_attn.in_proj_weight": torch.cat([block.query.weight, block.key_value.weight]),
                    "self_attn.in_proj_bias": torch.cat([block.query.bias, block.key_value.bias]),
                    "self_attn.out_proj.weight": block.out.weight,
                    "self_attn.out_proj.bias": block.out.bias,
                    "linear1.weight": block.feed_forward[0].weight,
                    "linear1.bias": block.feed_forward[0].bias,
                    "linear2.weight": block.feed_forward[2].weight,
                    "linear2.bias": block.feed_forward[2].bias,
                    **{f"norm1.{k}": v for k, v in block.norm1.state_dict().items()},
                    **{f"norm2.{k}": v for k, v in block.norm2.state_dict().items()},
                }
            )

    def forward(self, points: Tensor, mask: Tensor) -> Tensor:
        tokens = torch.cat([self.class_token.expand(len(points), 1, -1), self.embed(points)], dim=1)
        padding = nn.functional.pad(~mask, (1, 0), value=False)
        return self.head(self.encoder(tokens, src_key_padding_mask=padding)[:, 0])


def olympics_like(sets: int, size: int, generator: np.random.Generator) -> np.ndarray:
    """Multiplicities of which half are ``size`` and the rest have a mean of two thirds of it."""
    spread = np.rint(generator.normal(0.66 * size, 0.2 * size, sets)).astype(int)
    return np.where(generator.random(sets) < 0.45, size, np.clip(spread, 2, size))


def multiplicities(file: Path | None, sets: int) -> dict[str, tuple[np.ndarray, int]]:
    """Name -> multiplicities and largest size."""
    generator = np.random.default_rng(0)
    if file is None:
        jets = olympics_like(2 * sets, 64, generator)
        source = "like"
    else:
        import h5py

        with h5py.File(file) as content:
            jets = (content["constituents"][:sets][..., 0] > 0).sum(-1).ravel()
        source = "of file"
    jetnet = np.clip(np.rint(np.exp(generator.normal(np.log(50), 0.45, sets))), 5, 150).astype(int)
    return {
        f"jets of 64 ({source})": (jets[:sets], 64),
        f"two jets, 128 ({source})": (jets.reshape(-1, 2).sum(1), 128),
        "JetNet-150-like": (jetnet, 150),
    }


def compare(
    counts: np.ndarray, size: int, batch: int, repetitions: int, steps: int, settings: dict[str, Any]
) -> tuple[float, float, list[float], float]:
    """Sets per CPU second of both, ratios of the repetitions, and the largest difference of the losses."""
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        ours = SetNetwork(Architecture(FEATURES, **settings))
        theirs = Padded(ours)
    models: dict[str, nn.Module] = {"ours": ours, "theirs": theirs}
    optimizers = {k: torch.optim.AdamW(m.parameters(), lr=1e-4, fused=True) for k, m in models.items()}
    mask = torch.arange(size) < torch.from_numpy(counts)[:, None]
    points = torch.randn(len(counts), size, FEATURES, generator=generator) * mask.unsqueeze(2)
    label = torch.randint(0, 2, (len(counts),), generator=generator).float()
    seconds: dict[str, list[float]] = {name: [] for name in models}
    losses: dict[str, list[float]] = {name: [] for name in models}
    for repetition in range(repetitions + 1):
        chosen = [torch.randperm(len(counts), generator=generator)[:batch] for _ in range(steps)]
        for name in list(models)[:: 1 if repetition % 2 else -1]:
            began = time.process_time()
            for rows in chosen:
                logits = models[name](points[rows], mask[rows]).squeeze(1)
                loss = binary_cross_entropy_with_logits(logits, label[rows])
                optimizers[name].zero_grad(set_to_none=True)
                loss.backward()
                optimizers[name].step()
                losses[name].append(loss.item())
            seconds[name].append(time.process_time() - began)
    # The first repetition pays for allocations.
    ratios = [b / a for a, b in zip(seconds["ours"][1:], seconds["theirs"][1:], strict=True)]
    rates = [batch * steps / statistics.median(seconds[name][1:]) for name in models]
    difference = max(abs(a - b) for a, b in zip(losses["ours"], losses["theirs"], strict=True))
    return rates[0], rates[1], ratios, difference


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", type=Path, help="HDF5 file with the dataset constituents (N, 2, P, 3)")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--blocks", type=int, default=3)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--sets", type=int, default=2000)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one repetition of one step: checks the script only")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.repetitions, arguments.steps, arguments.batch = 1, 1, 32
    limit_threads()
    settings = {name: getattr(arguments, name) for name in ("width", "heads", "blocks")}
    print(f"{'sets':<26}{'mean':>6}{'ours /s':>9}{'padded /s':>10}{'ratio':>7}{'loss':>9}  ratio of each repetition")
    for name, (counts, size) in multiplicities(arguments.file, arguments.sets).items():
        ours, theirs, ratios, difference = compare(
            counts, size, arguments.batch, arguments.repetitions, arguments.steps, settings
        )
        print(
            f"{name:<26}{counts.mean():>6.1f}{ours:>9.0f}{theirs:>10.0f}{statistics.median(ratios):>7.2f}"
            f"{difference:>9.0e}  " + " ".join(f"{r:.2f}" for r in ratios),
            flush=True,
        )


if __name__ == "__main__":
    main()
