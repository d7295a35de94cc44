r"""Known sums that amounts share: what is left of each sum when a feature's turn comes.

Energies of the cells of a ring add up to the energy of the ring.  When the sum is known beforehand, an autoregressive
density needs the *remainder* :math:`R_i = S - \sum_{j<i} x_j` of the block to get the last amounts right, and with a
detection threshold :math:`t` it obeys hard rules: an amount is 0, or at least t and either the whole remainder or small
enough to leave another t.  Everything here works in the order of generation.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["Budgets"]


class Budgets(nn.Module):
    """Blocks of features with known sums.

    Args:
        blocks: Block number of each feature, in the order of generation.
        groups: Group number of each feature (see :class:`~cathode.density.networks.grouped_made.GroupedMade`).  No two
            features of a group may belong to one block: they would spend the same remainder.
        threshold: t > 0; amounts are 0 or at least t.

    Raises:
        ValueError: Blocks with gaps in their numbers, or that do not fit the groups.
    """

    block: Tensor
    last: Tensor
    members: Tensor
    place: Tensor
    left: Tensor

    def __init__(self, blocks: list[int], groups: list[int], threshold: float) -> None:
        super().__init__()
        count = max(blocks, default=-1) + 1
        if len(blocks) != len(groups) or set(blocks) != set(range(count)):
            raise ValueError(f"blocks must number all {len(groups)} features from 0 on, without gaps")
        if len(set(zip(blocks, groups, strict=True))) < len(blocks):
            raise ValueError("two features of one group share a block: give them different groups")
        self.count, self.threshold = count, threshold
        rows = [[i for i, b in enumerate(blocks) if b == block] for block in range(count)]
        longest = max(len(row) for row in rows)
        # Column len(blocks) is a column of zeros that fills short blocks up.
        table = torch.tensor([row + [len(blocks)] * (longest - len(row)) for row in rows])
        last = torch.zeros(len(blocks), dtype=torch.bool)
        last[[row[-1] for row in rows]] = True
        place = torch.zeros(len(blocks) + 1, dtype=torch.long)
        place[table.flatten()] = torch.arange(table.numel())
        self.register_buffer("block", torch.tensor(blocks), persistent=False)
        self.register_buffer("last", last, persistent=False)
        self.register_buffer("members", table, persistent=False)
        self.register_buffer("place", place[:-1], persistent=False)
        left = [sum(b == block for b in blocks[i:]) for i, block in enumerate(blocks)]
        self.register_buffer("left", torch.tensor(left, dtype=torch.float32), persistent=False)

    def remainders(self, x: Tensor) -> Tensor:
        """``(B, D)``: sum of each feature and those after it in its block; exactly 0 behind the last positive one."""
        # From the back and in float64, so that an amount that is the whole remainder equals it to the last digit.
        padded = torch.cat([x, torch.zeros_like(x[:, :1])], 1).double()
        table = padded[:, self.members.flatten()].unflatten(1, self.members.shape)
        left = table.flip(2).cumsum(2).flip(2)
        return left.flatten(1)[:, self.place].to(x.dtype)

    def features(self, remainder: Tensor, total: Tensor) -> Tensor:
        """``(…, 4)``: the remainder as numbers of unit scale that a network can use."""
        t = self.threshold
        log = torch.log(remainder / t + 0.1)
        share = remainder / total.clamp_min(t)
        return torch.stack(
            [0.25 * log - 0.5, (remainder > 0).to(log), (log - torch.log(total / t + 0.1)) / 3.0, share], -1
        )

    def share(self, remainder: Tensor, part: slice) -> Tensor:
        """Logarithm of an equal share of the remainder ``(B, n)`` of ``part``, in units of the threshold."""
        return torch.log(remainder / (self.threshold * self.left[part].to(remainder)) + 0.05)

    def spend(self, wanted: Tensor, remainder: Tensor, part: slice) -> Tensor:
        """Amounts ``(B, n)`` of the features ``part`` by the rules above.

        Args:
            wanted: ``(B, n)``, sampled without the rules: 0, at least t, or infinite for the whole remainder.
            remainder: ``(B, n)`` before them, each 0 or at least t.
            part: Which features they are; the last of a block takes whatever is left.

        Returns:
            ``(B, n)``: each 0 or at least t, and so is what it leaves.
        """
        # What would be left, rounded as `charge` rounds it: comparing wanted with R - t can leave less than t.
        takes_all = (remainder - wanted < self.threshold) | self.last[part]
        return torch.where(takes_all, remainder, wanted)

    def charge(self, remainders: Tensor, amounts: Tensor, part: slice) -> Tensor:
        """Remainders of all blocks ``(B, blocks)`` after the features ``part`` took ``amounts (B, n)``."""
        # A product with zeros and ones is exact: what is taken whole leaves exactly 0.
        owner = (self.block[part].unsqueeze(1) == torch.arange(self.count, device=amounts.device)).to(amounts.dtype)
        return remainders - amounts @ owner
