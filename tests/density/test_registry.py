"""Modules described as plain data and built again."""

from __future__ import annotations

import pytest
import torch
import yaml
from torch import nn

from cathode.density.networks.made import Made, MaskedLinear
from cathode.density.registry import build, buildable, describe, kinds


@buildable("test-leaf")
class Leaf(nn.Module):
    def __init__(self, size: int, scale: float = 2.0, names: list[str] | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(size))


@buildable("test-branch")
class Branch(nn.Module):
    def __init__(self, leaf: nn.Module, leaves: list[nn.Module]) -> None:
        super().__init__()
        self.leaf, self.leaves = leaf, nn.ModuleList(leaves)


def test_a_description_is_yaml_and_builds_the_same_module():
    branch = Branch(Leaf(3, names=["a", "b"]), [Leaf(1), Leaf(2, scale=0.5)])
    description = yaml.safe_load(yaml.safe_dump(describe(branch)))
    assert description["leaves"][1] == {"kind": "test-leaf", "size": 2, "scale": 0.5, "names": None}
    twin = build(description)
    assert {k: v.shape for k, v in twin.state_dict().items()} == {k: v.shape for k, v in branch.state_dict().items()}
    assert describe(twin) == describe(branch)


def test_refusals_say_what_is_wrong():
    with pytest.raises(ValueError, match="unknown kind 'nothing'"):
        build({"kind": "nothing"})
    with pytest.raises(ValueError, match=r"cannot build 'test-leaf'.*colour"):
        build({"kind": "test-leaf", "size": 1, "colour": "red"})
    with pytest.raises(TypeError, match="Linear is not buildable"):
        describe(nn.Linear(1, 1))
    with pytest.raises(TypeError, match="cannot be described"):
        Leaf(torch.tensor(3))
    with pytest.raises(ValueError, match="already taken by Leaf"):
        buildable("test-leaf")(Leaf)
    assert "test-leaf" in kinds()


def test_masked_weights_do_not_matter():
    mask = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    layer = MaskedLinear(mask)
    x = torch.randn(5, 2)
    before = layer(x)
    with torch.no_grad():
        layer.weight[0, 1] = 1e6
    assert torch.equal(layer(x), before)


def test_made_shapes_and_context():
    made = Made(3, 2, 4, [8, 8])
    x, c = torch.randn(6, 3), torch.randn(6, 2)
    assert made(x, c).shape == (6, 3, 4)
    assert not torch.equal(made(x, c)[:, 0], made(x, c + 1)[:, 0])
    assert Made(1, 0, 2, [4])(torch.randn(6, 1)).shape == (6, 1, 2)
