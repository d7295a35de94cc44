"""The three-dimensional residual network of the CaloChallenge's classifier test on regular grids.

ResNet-18 (He et al., arXiv:1512.03385) with 3 x 3 x 3 convolutions, planes 32, 64, 64, 128, a 7 x 7 x 7 convolution
with stride 2 and max-pooling in front; log10 E_inc, batch-normalised, joins before the last linear layer
(arXiv:2410.21611).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["ResNet18"]


class _Convolution(nn.Module):
    """Convolution without bias; with ``circular`` the second axis (alpha) closes on itself."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int, circular: bool) -> None:
        super().__init__()
        self.pad = kernel // 2
        self.circular = circular
        self.convolution = nn.Conv3d(inputs, outputs, kernel, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        p = self.pad
        if p and self.circular:
            around = torch.arange(-p, x.shape[3] + p) % x.shape[3]
            x = functional.pad(x[:, :, :, around], (p, p, 0, 0, p, p))
        elif p:
            x = functional.pad(x, (p,) * 6)
        return self.convolution(x)


class _Block(nn.Module):
    """Two convolutions beside an identity, or beside a 1 x 1 x 1 convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, *, stride: int, circular: bool) -> None:
        super().__init__()
        self.first = _Convolution(inputs, outputs, 3, stride=stride, circular=circular)
        self.first_norm = nn.BatchNorm3d(outputs)
        self.second = _Convolution(outputs, outputs, 3, stride=1, circular=circular)
        self.second_norm = nn.BatchNorm3d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                _Convolution(inputs, outputs, 1, stride=stride, circular=circular), nn.BatchNorm3d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        inner = functional.relu(self.first_norm(self.first(x)))
        return functional.relu(self.second_norm(self.second(inner)) + self.shortcut(x))


class ResNet18(nn.Module):
    """Voxels ``(B, 1, n_z, n_alpha, n_r)`` and log10 E_inc ``(B, 1)`` to logits ``(B, 1)``.

    Args:
        planes: Channels of the four stages.
        circular: Close the alpha axis.  The published network does not.
    """

    def __init__(self, planes: tuple[int, int, int, int] = (32, 64, 64, 128), *, circular: bool = False) -> None:
        super().__init__()
        self.stem = _Convolution(1, planes[0], 7, stride=2, circular=circular)
        self.stem_norm = nn.BatchNorm3d(planes[0])
        self.circular = circular
        stages: list[nn.Module] = []
        inputs = planes[0]
        for stage, outputs in enumerate(planes):
            stages.append(_Block(inputs, outputs, stride=1 if stage == 0 else 2, circular=circular))
            stages.append(_Block(outputs, outputs, stride=1, circular=circular))
            inputs = outputs
        self.stages = nn.Sequential(*stages)
        self.energy_norm = nn.BatchNorm1d(1)
        self.last = nn.Linear(inputs + 1, 1)

    def forward(self, voxels: Tensor, log_energy: Tensor) -> Tensor:
        x = functional.relu(self.stem_norm(self.stem(voxels)))
        if self.circular:
            around = torch.arange(-1, x.shape[3] + 1) % x.shape[3]
            x = functional.max_pool3d(x[:, :, :, around], 3, stride=2, padding=(1, 0, 1))
        else:
            x = functional.max_pool3d(x, 3, stride=2, padding=1)
        x = self.stages(x).mean(dim=(2, 3, 4))
        return self.last(torch.cat([x, self.energy_norm(log_energy)], dim=1))
