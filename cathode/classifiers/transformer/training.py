"""How sets are trained on by :func:`cathode.training.fit`: their tensors, losses and learning rates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from cathode.classifiers.transformer.inputs import SetInputs
from cathode.classifiers.transformer.network import Architecture, SetNetwork
from cathode.density.base import ConditionalDensity
from cathode.training import FitConfig, TrainingData
from cathode.training.steps import LossStep

__all__ = ["Labels", "LayerwiseStep", "SetTensors", "network_with_seed"]


class SetTensors:
    """Where the arrays of :class:`SetInputs` lie in the tensors of a batch.

    Points, momenta and the number of the jet are the columns of ``x (B, P, ...)``; labels or targets and the columns of
    the event those of ``context (B, ...)``.
    """

    def __init__(self, architecture: Architecture) -> None:
        a = architecture
        self._widths = [a.features, a.momentum_columns, int(a.groups > 1)]
        self._global_features = a.global_features

    def points(self, inputs: SetInputs) -> Tensor:
        """``(N, P, columns)`` float32."""
        columns = [inputs.points]
        if self._widths[1] and inputs.momenta is not None:
            columns.append(inputs.momenta)
        if self._widths[2]:
            group = np.zeros(inputs.mask.shape, np.int8) if inputs.group is None else inputs.group
            columns.append(group[:, :, None].astype(np.float32))
        return torch.from_numpy(np.concatenate(columns, axis=2) if len(columns) > 1 else inputs.points.copy())

    def data(self, inputs: SetInputs, target: np.ndarray, weight: np.ndarray | None = None) -> TrainingData:
        """Training data with ``target (N, K)``."""
        context = [np.asarray(target, dtype=np.float32)]
        if self._global_features and inputs.globals is not None:
            context.append(inputs.globals)
        # Copies, because arrays may be read-only, which tensors cannot be.
        return TrainingData.unchecked(
            self.points(inputs),
            torch.from_numpy(np.concatenate(context, axis=1)),
            torch.from_numpy(inputs.mask.copy()),
            None if weight is None else torch.from_numpy(weight.astype(np.float32)),
        )

    def arguments(self, x: Tensor, context: Tensor | None) -> dict[str, Any]:
        """``points``, ``momenta``, ``group`` and ``columns`` of a batch, for :class:`SetNetwork`."""
        points, momenta, group = x.split(self._widths, dim=2)
        columns = None
        if self._global_features and context is not None:
            columns = context[:, context.shape[1] - self._global_features :]
        return {
            "points": points,
            "momenta": momenta if self._widths[1] else None,
            "group": group.squeeze(2) if self._widths[2] else None,
            "columns": columns,
        }


class Labels(ConditionalDensity):
    """Binary cross-entropy of a network of one logit, as the loss of a fit."""

    def __init__(self, network: SetNetwork) -> None:
        super().__init__()
        self.network = network
        self.tensors = SetTensors(network.architecture)
        self.event_shape, self.context_features = (0, network.architecture.features), 1

    def loss(
        self,
        x: Tensor,
        context: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Cross-entropy of each event ``(B,)``; the label is the first column of ``context``."""
        assert context is not None
        assert mask is not None
        logits = self.network(mask=mask, **self.tensors.arguments(x, context)).squeeze(1)
        return functional.binary_cross_entropy_with_logits(logits, context[:, 0], reduction="none")


def network_with_seed(architecture: Architecture, seed: int) -> SetNetwork:
    """A network whose initial weights depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return SetNetwork(architecture)


class LayerwiseStep(LossStep):
    """The step of :func:`cathode.training.fit`, with AdamW and learning rates by layer.

    Matrices decay; biases, normalisations and tokens do not.  The encoder learns at ``encoder_rate`` times the rate of
    the rest, and each block at ``layer_decay`` times that of the block above it (Clark et al., arXiv 2003.10555).

    Args:
        mean_weight: Mean weight of the training events.
        encoder_rate: Of the last block of the encoder, over the rate of the head.
        layer_decay: Ratio of the rates of successive blocks.
    """

    def __init__(self, mean_weight: float, *, encoder_rate: float = 1.0, layer_decay: float = 1.0) -> None:
        super().__init__(mean_weight)
        self._rates = encoder_rate, layer_decay

    def setup(self, density: ConditionalDensity, config: FitConfig) -> Sequence[Optimizer]:
        super().setup(density, config)
        groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
        for factor, parameter in self._by_rate(density):
            groups.setdefault((factor, parameter.ndim >= 2), []).append(parameter)
        self._optimizer = torch.optim.AdamW(
            [
                {
                    "params": parameters,
                    "lr": factor * config.learning_rate,
                    "weight_decay": config.weight_decay if decays else 0.0,
                }
                for (factor, decays), parameters in groups.items()
            ],
            fused=True,
        )
        return [self._optimizer]

    def identity(self) -> dict[str, Any]:
        """What else decides the fit."""
        return {"learning rates of the layers": list(self._rates)}

    def _by_rate(self, density: ConditionalDensity) -> Iterator[tuple[float, nn.Parameter]]:
        encoder_rate, decay = self._rates
        for name, parameter in density.named_parameters():
            if not parameter.requires_grad:
                continue
            if ".encoder." not in f".{name}":
                yield 1.0, parameter
                continue
            path = f".{name}".split(".encoder.", 1)[1].split(".")
            blocks = len(density.get_submodule(name.split("encoder.", 1)[0] + "encoder.blocks"))  # type: ignore[arg-type]
            # The embedding, below the first block, is one layer further down; the last norm is level with its block.
            below = blocks - 1 - int(path[1]) if path[0] == "blocks" else (0 if path[0] == "norm" else blocks)
            yield encoder_rate * decay**below, parameter
