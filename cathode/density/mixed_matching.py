r"""Flow matching of events that have numbers and classes: one time axis, one network.

Every column follows its own path from noise to data, and all paths share the time (the *multimodal flow* of Campbell et
al., arXiv 2402.04997, Sec. 4.1, Multiflow):

* continuous columns move along the straight lines of :mod:`cathode.density.matching`, in its preconditioned coordinates
  for data of unit variance: with ``theta = arctan(t / (1 - t))`` a pair of noise z and event x is at ``y = cos(theta) z
  + sin(theta) x`` and moves with ``dy/dtheta = cos(theta) x - sin(theta) z``, which the network regresses;
* categorical columns jump as in :mod:`cathode.density.categorical`; the network learns the posterior of their classes
  by cross-entropy.

The network sees the numbers and the indicators of the classes (a hidden class is all zeros: its first layer is the
table of embeddings), and returns velocities and logits in the same places, so every network of
:mod:`cathode.density.networks` will do: sets stay equivariant, masks stay respected.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from cathode.density.base import ConditionalDensity
from cathode.density.bijections import Bijection, Columns
from cathode.density.categorical import corrupt, jump, one_hot, start, states
from cathode.density.networks.mlp import ResNet
from cathode.density.registry import buildable

__all__ = ["MixedMatching", "fit_present", "joint_features"]

_SOLVERS = ("euler", "heun")


def joint_features(features: int, categories: Sequence[int]) -> int:
    """Features of the network for events of ``features`` columns, the last of which have ``categories`` classes."""
    return features - len(categories) + sum(categories)


def fit_present(bijection: Columns, x: Tensor, present: Tensor, *, weight: Tensor | None = None) -> Columns:
    """``bijection`` with each member fitted on the rows that have its columns.

    Args:
        bijection: One member for each column, or block of neighbouring columns, of ``x``.
        x: ``(..., F)`` numbers.
        present: bool, of the shape of ``x``: the entry is real and its column exists for its class; a block counts
            where all of its columns do.
        weight: ``(...)``.

    Raises:
        UserError: As the members' ``fit``, also where a column exists nowhere.
    """
    rows, exists = x.reshape(-1, x.shape[-1]), present.reshape(-1, x.shape[-1])
    weights = None if weight is None else weight.reshape(-1)
    members: list[nn.Module] = []
    for member, part, there in zip(
        bijection.bijections, rows.split(bijection.sizes, -1), exists.split(bijection.sizes, -1), strict=True
    ):
        assert isinstance(member, Bijection)
        keep = there.all(-1)
        members.append(member.fit(part[keep], weight=None if weights is None else weights[keep]))
    fitted = copy.deepcopy(bijection)
    fitted.bijections = nn.ModuleList(members)
    return fitted


@buildable("mixed-matching")
class MixedMatching(ConditionalDensity):
    """Density of vectors ``(B, F)`` or masked sets ``(B, P, F)`` whose last columns are class indices.

    Classes are whole numbers 0 … S-1 stored as floats; what :meth:`decode` gives is such a number exactly.

    Args:
        event_shape: F, or ``[P, F]`` for sets.
        context_features: C.
        categories: Number of classes S of each of the last columns.
        network: Buildable network of :func:`joint_features` features; for vectors the default is a :class:`ResNet`.
        bijection: Of the continuous columns, fitted; should leave them with mean 0 and variance 1.
        present: For each class of the *first* categorical column, which continuous columns exist for it (0 or 1).
            A missing value is 0 on the way in and out; in between it is a standard normal number of its own, so
            that it cannot tell the class and costs the network nothing.
        interpolation: ``"masking"`` or ``"uniform"``, see :mod:`cathode.density.categorical`.
        stochasticity: Of the jumps, when decoding.
        class_weight: Weight of the cross-entropy (mean over entries and categorical columns) against the squared error
            (mean over entries and continuous columns).
        solver: ``"euler"`` (one evaluation of the network per step) or ``"heun"`` (two: classes jump with the
            posterior at the start of the step, numbers move with the mean of the velocities before and after).
        steps: Steps of equal length in theta.  Classes that jump in one step do so independently, so correlations
            between classes want steps: their error falls like 1 / steps.

    Raises:
        ValueError: An argument outside its range or parts that do not fit each other.
    """

    exists: Tensor | None

    def __init__(
        self,
        event_shape: int | Sequence[int],
        context_features: int = 0,
        *,
        categories: Sequence[int],
        network: nn.Module | None = None,
        bijection: Bijection | None = None,
        present: Sequence[Sequence[int]] | None = None,
        interpolation: str = "masking",
        stochasticity: float = 0.0,
        class_weight: float = 1.0,
        solver: str = "heun",
        steps: int = 30,
    ) -> None:
        super().__init__()
        self.event_shape = (event_shape,) if isinstance(event_shape, int) else tuple(event_shape)
        self.context_features = context_features
        self.categories = tuple(categories)
        self.continuous = self.event_shape[-1] - len(self.categories)
        if not self.categories or self.continuous < 1:
            raise ValueError(
                f"{len(self.categories)} categorical of {self.event_shape[-1]} columns: at least one of each kind"
                " is needed"
            )
        for size in self.categories:
            states(size, interpolation)
        if network is None:
            if len(self.event_shape) != 1:
                raise ValueError("sets have no default network: give SetTransformer or EPiC")
            network = ResNet(joint_features(self.event_shape[-1], self.categories), context_features)
        wanted = joint_features(self.event_shape[-1], self.categories)
        if getattr(network, "features", wanted) != wanted:
            raise ValueError(f"the network has {network.features} features, the columns and classes make {wanted}")
        if bijection is not None and bijection.features != self.continuous:
            raise ValueError(f"the bijection has {bijection.features} features for {self.continuous} columns")
        if not (math.isfinite(stochasticity) and stochasticity >= 0):
            raise ValueError(f"stochasticity is {stochasticity}; give 0 or more")
        if not (math.isfinite(class_weight) and class_weight > 0):
            raise ValueError(f"class_weight is {class_weight}; give a positive number")
        if solver not in _SOLVERS:
            raise ValueError(f"unknown solver {solver!r}; known: {', '.join(_SOLVERS)}")
        if steps < 1:
            raise ValueError(f"solver steps is {steps}; give at least 1")
        self.network, self.bijection = network, bijection
        self.interpolation, self.stochasticity, self.class_weight = interpolation, stochasticity, class_weight
        self.solver, self.steps = solver, steps
        table = None
        if present is not None:
            table = torch.tensor([list(row) for row in present])
            if tuple(table.shape) != (self.categories[0], self.continuous) or bool(((table != 0) & (table != 1)).any()):
                raise ValueError(
                    f"present must have 0 or 1 for each of the {self.categories[0]} classes and"
                    f" {self.continuous} continuous columns"
                )
            table = table.bool()
        self.register_buffer("exists", table, persistent=False)

    @property
    def noise_features(self) -> int:
        """Numbers per entry: a normal one for each continuous column, then uniform ones for each class: its start (if
        there is a choice) and its jump in each step."""
        jumps = self.steps + (self.interpolation != "masking")
        return self.continuous + len(self.categories) * jumps

    @property
    def evaluations(self) -> int:
        """Evaluations of the network per decoded event."""
        return self.steps * (2 if self.solver == "heun" else 1)

    def noise(
        self, count: int, *, mask: Tensor | None = None, generator: torch.Generator, dtype: torch.dtype | None = None
    ) -> Tensor:
        """``(count, [P,] noise_features)``: normal numbers for the continuous columns, then uniform ones in [0, 1)."""
        if mask is not None:
            shape: tuple[int, ...] = (count, mask.shape[1])
        else:
            shape = (count, *self.event_shape[:-1])
        options: dict[str, Any] = {"generator": generator, "device": generator.device, "dtype": dtype}
        normal = torch.randn((*shape, self.continuous), **options)
        uniform = torch.rand((*shape, self.noise_features - self.continuous), **options)
        noise = torch.cat([normal, uniform], -1)
        return noise if mask is None else noise * mask.unsqueeze(-1)

    def loss(
        self,
        x: Tensor,
        context: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Squared error of the velocity plus weighted cross-entropy of the classes still unknown, ``(B,)``.

        Raises:
            ValueError: A class that is not a whole number from 0 to S-1.
        """
        if mask is not None:
            x = x.masked_fill(~mask.unsqueeze(-1), 0.0)
        device = x.device if generator is None else generator.device
        random: dict[str, Any] = {"generator": generator, "device": device, "dtype": x.dtype}
        classes = self._classes(x)
        data = x[..., : self.continuous]
        noise = torch.randn(data.shape, **random).to(x.device)
        data = self._forward(data, classes, torch.randn(data.shape, **random).to(x.device), mask)
        uniform = torch.rand((2, *classes.shape), **random).to(x.device)
        # Times spread evenly over [0, 1) from one random offset, as in FlowMatching.
        offset = torch.rand((), **random).to(x.device)
        t = (offset + torch.arange(len(x), device=x.device, dtype=x.dtype) / max(len(x), 1)) % 1.0
        theta = torch.atan2(t, 1.0 - t).view(-1, *[1] * (x.dim() - 1))
        cos, sin = theta.cos(), theta.sin()
        at = t.view(-1, *[1] * (x.dim() - 1))
        state = torch.stack(
            [
                corrupt(classes[..., i], at[..., 0], uniform[0, ..., i], uniform[1, ..., i], size, **self._kind)
                for i, size in enumerate(self.categories)
            ],
            -1,
        )
        velocity, logits = self._evaluate(cos * noise + sin * data, state, t, context, mask)
        squares = (velocity - (cos * data - sin * noise)).square().mean(-1)
        entropy = torch.zeros_like(squares)
        for i, values in enumerate(logits):
            surprise = -log_softmax(values, -1).gather(-1, classes[..., i : i + 1]).squeeze(-1)
            if self.interpolation == "masking":
                # A class that is visible is known.
                surprise = surprise * (state[..., i] == self.categories[i])
            entropy = entropy + surprise
        total = squares + self.class_weight / len(self.categories) * entropy
        if mask is not None:
            return (total * mask).sum(1) / mask.sum(1).clamp(min=1)
        return total.flatten(1).mean(1) if total.dim() > 1 else total

    def decode(self, noise: Tensor, context: Tensor | None = None, *, mask: Tensor | None = None) -> Tensor:
        """Events ``(B, [P,] F)`` for noise ``(B, [P,] noise_features)``; padded entries 0.

        Raises:
            ValueError: The noise was drawn for another number of steps.
        """
        if noise.shape[-1] != self.noise_features:
            raise ValueError(f"the noise has {noise.shape[-1]} numbers per entry, {self.noise_features} are needed")
        if mask is not None:
            noise = noise.masked_fill(~mask.unsqueeze(-1), 0.0)
        y = noise[..., : self.continuous]
        uniform = noise[..., self.continuous :].unflatten(-1, (-1, len(self.categories)))
        if self.interpolation == "masking":
            first = torch.zeros_like(uniform[..., 0, :])
        else:
            first, uniform = uniform[..., 0, :], uniform[..., 1:, :]
        state = torch.stack([start(first[..., i], size, **self._kind) for i, size in enumerate(self.categories)], -1)
        length = 0.5 * math.pi / self.steps
        for step in range(self.steps):
            t, following = self._time(step), self._time(step + 1)
            velocity, logits = self._evaluate(y, state, y.new_full((len(y),), t), context, mask)
            moved = [
                jump(
                    state[..., i],
                    values.softmax(-1),
                    t,
                    following,
                    uniform[..., step, i],
                    stochasticity=self.stochasticity,
                    **self._kind,
                )
                for i, values in enumerate(logits)
            ]
            state = torch.stack(moved, -1)
            if self.solver == "heun":
                ahead = y + length * velocity
                later, _ = self._evaluate(ahead, state, y.new_full((len(y),), following), context, mask)
                velocity = 0.5 * (velocity + later)
            y = y + length * velocity
        data = y if self.bijection is None else self.bijection.inverse_and_log_det(y, mask=mask)[0]
        there = self._there(state)
        if there is not None:
            data = torch.where(there, data, 0.0)
        event = torch.cat([data, state.to(data.dtype)], -1)
        return event if mask is None else event.masked_fill(~mask.unsqueeze(-1), 0.0)

    @property
    def _kind(self) -> dict[str, str]:
        return {"interpolation": self.interpolation}

    def _time(self, step: int) -> float:
        if step >= self.steps:
            return 1.0
        theta = 0.5 * math.pi * step / self.steps
        return math.sin(theta) / (math.sin(theta) + math.cos(theta))

    def _classes(self, x: Tensor) -> Tensor:
        """The class indices of an event, int64 ``(B, [P,] K)``, checked."""
        values = x[..., self.continuous :]
        sizes = torch.tensor(self.categories, device=x.device)
        classes = values.round().long()
        wrong = (classes != values) | (classes < 0) | (classes >= sizes)
        if bool(wrong.any()):
            column = int(wrong.reshape(-1, len(self.categories)).any(0).nonzero()[0, 0])
            raise ValueError(
                f"categorical column {column} holds values other than the classes 0 to {self.categories[column] - 1}"
            )
        return classes

    def _there(self, classes: Tensor) -> Tensor | None:
        """Which continuous values exist, ``(B, [P,] F)``, or None if all do."""
        return None if self.exists is None else self.exists[classes[..., 0]]

    def _forward(self, data: Tensor, classes: Tensor, filling: Tensor, mask: Tensor | None) -> Tensor:
        """Continuous columns as the network sees them at ``t = 1``; what does not exist is ``filling``."""
        there = self._there(classes)
        if self.bijection is not None:
            if there is not None:
                # Any value inside the domain of the bijection.
                inside = self.bijection.inverse_and_log_det(torch.zeros_like(data), mask=mask)[0]
                data = torch.where(there, data, inside)
            data = self.bijection.forward_and_log_det(data, mask=mask)[0]
        return data if there is None else torch.where(there, data, filling)

    def _evaluate(
        self, y: Tensor, state: Tensor, t: Tensor, context: Tensor | None, mask: Tensor | None
    ) -> tuple[Tensor, list[Tensor]]:
        """Velocities ``(B, [P,] F)`` and the logits of each categorical column ``(B, [P,] S)``."""
        indicators = [one_hot(state[..., i], size, y.dtype) for i, size in enumerate(self.categories)]
        out = self.network(torch.cat([y, *indicators], -1), t, context, mask=mask)
        velocity, *logits = out.split([self.continuous, *self.categories], -1)
        return velocity, logits
