"""Layer energies through the u variables, and any density of the core for these (CaloFlow, CaloINN, CaloDREAM)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from cathode.density.autoregressive import AutoregressiveMixture
from cathode.density.base import ConditionalDensity
from cathode.density.dequantised import Dequantised
from cathode.density.flows import CouplingSpline
from cathode.density.matching import FlowMatching
from cathode.density.networks import ResNet
from cathode.density.preprocessed import Preprocessed
from cathode.support.seeding import derive_seed
from fastsim.generators.preprocessing import context_bijection, energy_bijection

__all__ = ["UVariableEnergies", "u_variable_density"]


@dataclass(frozen=True)
class UVariableEnergies:
    """Layer energies as total response and shares of the remainder.

    Args:
        model: ``mixture`` (autoregressive), ``coupling`` (rational-quadratic splines) or ``flow-matching``.
        width: Width of the networks.
        blocks: Hidden layers, coupling layers or residual blocks.
        components: Mixture components, or bins of the splines.
        steps: Solver steps of flow matching.
    """

    kind: Literal["u-variables"] = "u-variables"
    model: Literal["mixture", "coupling", "flow-matching"] = "mixture"
    width: int = 256
    blocks: int = 2
    components: int = 16
    steps: int = 8


def u_variable_density(
    settings: UVariableEnergies, layer_energies: Tensor, context: Tensor, *, threshold: float, seed: int
) -> ConditionalDensity:
    """Untrained density of layer energies ``(B, L)`` [MeV] given ``(B, C)``, preprocessing fitted.

    Energies below the threshold are zeros: filled log-uniformly in training, and zero again when decoded.

    Args:
        settings: Of the model.
        layer_energies: ``(N, L)`` [MeV] of the training showers.
        context: ``(N, C)``: incident energy [MeV], further conditions.
        threshold: Smallest energy of a layer [MeV].
        seed: Of the initial weights and the filling that the preprocessing is fitted on.
    """
    layers, columns = layer_energies.shape[1], context.shape[1]
    conditions = context_bijection(context, plain=range(1, columns))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "energy", "weights"))
        model: ConditionalDensity
        if settings.model == "coupling":
            hidden = [settings.width] * 2
            model = CouplingSpline(layers, columns, settings.blocks, hidden=hidden, bins=settings.components)
        elif settings.model == "flow-matching":
            network = ResNet(layers, columns, width=settings.width, blocks=settings.blocks, context_frequencies=2)
            model = FlowMatching(layers, columns, network=network, solver="midpoint", steps=settings.steps)
        else:
            hidden = [settings.width] * settings.blocks
            model = AutoregressiveMixture(layers, columns, hidden=hidden, components=settings.components)
    unfitted = Dequantised(Preprocessed(energy_bijection(layers), model, conditions), threshold, noise="log-uniform")
    filled = unfitted.fill(layer_energies, generator=torch.Generator().manual_seed(derive_seed(seed, "energy", "fill")))
    bijection = energy_bijection(layers).fit(filled, context=context)
    return Dequantised(Preprocessed(bijection, model, conditions), threshold, noise="log-uniform")
