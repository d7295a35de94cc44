r"""Known sums that amounts share: what is left of each sum when a feature's turn comes.

Energies of the cells of a layer add up to the energy of the layer.  When the sum is known beforehand, an autoregressive
density needs the *remainder* :math:`R_i = S - \sum_{j<i} x_j` of the block to get the last amounts right, and with a
detection threshold :math:`t` it obeys hard rules: an amount is 0, or at least t and either the whole remainder or small
enough to leave another t.  Everything here works in the order of generation.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["Budgets"]


class Budgets(nn.Module):
    """Blocks of neighbouring features with known sums.

    Args:
        sizes: Number of features of each block, in the order of generation; together they are all features.
        groups: Group number of each feature (see :class:`~cathode.density.networks.grouped_made.GroupedMade`); no
            group may reach over the end of a block.
        threshold: t > 0; amounts are 0 or at least t.

    Raises:
        ValueError: Blocks that do not fit the groups.
    """

    block: Tensor
    last: Tensor
    start: Tensor

    def __init__(self, sizes: list[int], groups: list[int], threshold: float) -> None:
        super().__init__()
        if sum(sizes) != len(groups) or min(sizes, default=0) < 1:
            raise ValueError(f"blocks of {sizes} features do not add up to {len(groups)}")
        ends = torch.tensor(sizes).cumsum(0)
        self.sizes, self.threshold = list(sizes), threshold
        block = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
        group = torch.tensor(groups)
        if bool((group[1:] == group[:-1])[block[1:] != block[:-1]].any()):
            raise ValueError("a group of features reaches over the end of a block")
        self.block_of, self.ends = block.tolist(), [False] * len(groups)
        for end in ends.tolist():
            self.ends[end - 1] = True
        last = torch.zeros(len(groups), dtype=torch.bool)
        last[ends - 1] = True
        self.register_buffer("block", block, persistent=False)
        self.register_buffer("last", last, persistent=False)
        # First feature of each feature's group: what is known when the group's distributions are computed.
        self.register_buffer("start", torch.searchsorted(group, group), persistent=False)

    def remainders(self, x: Tensor) -> Tensor:
        """``(B, D)``: sum of each feature and those after it in its block; exactly 0 behind the last positive one."""
        # From the back and in float64, so that an amount that is the whole remainder equals it to the last digit.
        pieces = [p.double().flip(1).cumsum(1).flip(1) for p in x.split(self.sizes, 1)]
        return torch.cat(pieces, 1).to(x.dtype)

    def features(self, remainder: Tensor, total: Tensor) -> Tensor:
        """``(…, 4)``: the remainder as numbers of unit scale that a network can use."""
        t = self.threshold
        log = torch.log(remainder / t + 0.1)
        share = remainder / total.clamp_min(t)
        return torch.stack(
            [0.25 * log - 0.5, (remainder > 0).to(log), (log - torch.log(total / t + 0.1)) / 3.0, share], -1
        )

    def spend(self, wanted: Tensor, remainder: Tensor, *, ends_block: bool) -> tuple[Tensor, Tensor]:
        """Amounts of one group by the rules above: ``(B, n)`` and what is left ``(B,)``.

        Args:
            wanted: ``(B, n)``, sampled without the rules: 0, at least t, or infinite for the whole remainder.
            remainder: ``(B,)`` before the group.
            ends_block: The last feature of the group takes whatever is left.
        """
        # A huge but finite amount: sums of it stay comparable.
        wanted = wanted.clamp_max(1e30)
        before = torch.cat([torch.zeros_like(wanted[:, :1]), wanted[:, :-1].cumsum(1)], 1)
        left = remainder.unsqueeze(1) - before
        takes_all = wanted > left - self.threshold
        if ends_block:
            takes_all = torch.cat([takes_all[:, :-1], torch.ones_like(takes_all[:, -1:])], 1)
        rank = takes_all.to(wanted.dtype).cumsum(1)
        amounts = torch.where(rank < 0.5, wanted, torch.where(takes_all & (rank < 1.5), left, torch.zeros_like(left)))
        # "Takes all" is also what a zero looks like when nothing is left.
        amounts = amounts.clamp_min(0.0)
        rest = torch.where(rank[:, -1] > 0.5, torch.zeros_like(remainder), remainder - amounts.sum(1))
        return amounts, rest
