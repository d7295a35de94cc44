"""The ParticleNet of the JetNet library, which the Frechet ParticleNet Distance looks through.

Three edge convolutions on the 16 nearest neighbours, by angle in the first and by all features after it, each with its
input appended; mean over the 30 constituents; one linear layer, whose output is the activation (Qu and Gouskos,
https://arxiv.org/abs/1902.08570, in the variant of https://arxiv.org/abs/2106.11535).  Names and shapes of the weights
are the library's, so its file can be loaded.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from cathode.support.errors import UserError

__all__ = ["JetNetParticleNet", "load_particlenet"]

_NEIGHBOURS = 16
_WIDTHS = (64, 128, 256)
_ACTIVATIONS = 256
_CLASSES = 5


class _EdgeNetwork(nn.Module):
    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for size in (2 * inputs, width, width):
            layers += [nn.Linear(size, width), nn.BatchNorm1d(width), nn.ReLU()]
        self.model = nn.Sequential(*layers)

    def forward(self, edges: Tensor) -> Tensor:
        flat = edges.reshape(-1, edges.shape[-1])
        result: Tensor = self.model(flat)
        return result.reshape(*edges.shape[:-1], -1)


class JetNetParticleNet(nn.Module):
    """Activations ``(B, 256)`` of jets ``(B, P, 3)``: eta, phi, pt, normalised as the library does.

    Padding takes part, as it does in the library: zeros are constituents like any other.
    """

    def __init__(self, features: int = 3) -> None:
        super().__init__()
        self.edge_nets = nn.ModuleList()
        size = features
        for width in _WIDTHS:
            self.edge_nets.append(_EdgeNetwork(size, width))
            size += width
        self.fc1 = nn.Sequential(nn.Linear(size, _ACTIVATIONS))
        self.fc2 = nn.Linear(_ACTIVATIONS, _CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 3 or x.shape[1] <= _NEIGHBOURS:
            raise UserError(f"ParticleNet needs jets of more than {_NEIGHBOURS} slots, got {tuple(x.shape)}")
        for layer, network in enumerate(self.edge_nets):
            neighbours = _nearest(x[..., :2] if layer == 0 else x)
            other = torch.take_along_dim(x[:, None], neighbours[..., None], dim=2)
            own = x[:, :, None].expand_as(other)
            x = torch.cat([network(torch.cat([own, other - own], dim=-1)).mean(dim=2), x], dim=-1)
        result: Tensor = self.fc1(x.mean(dim=1))
        return result


def load_particlenet(path: str | Path) -> JetNetParticleNet:
    """The network with the weights of ``path``, a file of the JetNet library (``pnet_state_dict.pt``).

    Only tensors are read from the file, never code.

    Raises:
        UserError: The file is missing, is no such file, or its weights do not fit.
    """
    path = Path(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"no weights of ParticleNet at {path}: give the folder of the JetNet library") from error
    except Exception as error:
        raise UserError(f"{path} cannot be read as weights of ParticleNet: {error}") from error
    # The library registers its networks twice, under edge_nets and under edge_convs.
    kept = {name: value for name, value in state.items() if not name.startswith("edge_convs.")}
    network = JetNetParticleNet()
    try:
        network.load_state_dict(kept)
    except RuntimeError as error:
        raise UserError(f"the weights in {path} do not fit the JetNet library's ParticleNet: {error}") from error
    return network.eval().requires_grad_(False)


def _nearest(x: Tensor) -> Tensor:
    """Indices ``(B, P, 16)`` of each point's nearest other points."""
    points = x.double()
    distance = torch.cdist(points, points)
    distance.diagonal(dim1=1, dim2=2).fill_(torch.inf)
    return distance.topk(_NEIGHBOURS, dim=2, largest=False).indices
