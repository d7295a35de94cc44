"""Networks of the density core; all map ``(x, t, context, mask)`` to the shape of ``x`` and start at zero
output.
"""

from __future__ import annotations

from cathode.density.networks.embeddings import ConditionEmbedding, FourierFeatures
from cathode.density.networks.epic import EPiC
from cathode.density.networks.mlp import MLP, ResNet
from cathode.density.networks.patch_transformer import PatchTransformer
from cathode.density.networks.set_transformer import SetTransformer

__all__ = ["MLP", "ConditionEmbedding", "EPiC", "FourierFeatures", "PatchTransformer", "ResNet", "SetTransformer"]
