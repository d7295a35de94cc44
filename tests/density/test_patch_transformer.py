from __future__ import annotations

import pytest
import torch

from cathode.density import FlowMatching, build, describe
from cathode.density.networks import PatchTransformer

SHAPE, PATCH = (4, 6, 2), (2, 3, 1)


def network(**changes):
    arguments = {"periodic": [False, True, False], "width": 16, "heads": 2, "blocks": 2, **changes}
    torch.manual_seed(0)
    net = PatchTransformer(SHAPE, PATCH, 5, **arguments)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return net.eval()


def inputs(count=3):
    g = torch.Generator().manual_seed(1)
    return torch.randn(count, 48, generator=g), torch.rand(count, generator=g), torch.randn(count, 5, generator=g)


def test_starts_at_zero_and_keeps_the_shape():
    x, t, context = inputs()
    out = PatchTransformer(SHAPE, PATCH, 5)(x, t, context)
    assert out.shape == x.shape
    assert (out == 0).all()


def test_patches_hold_neighbouring_cells_and_go_back():
    net = network()
    x = torch.arange(48.0)[None].repeat(2, 1)
    patches = net.patches(x)
    assert patches.shape == (2, 8, 6)
    grid = x[0].view(SHAPE)
    assert torch.equal(patches[0, 0], grid[:2, :3, :1].flatten())
    assert torch.equal(patches[0, 7], grid[2:, 3:, 1:].flatten())
    assert torch.equal(net.grid(patches), x)


def test_every_cell_can_see_every_other():
    net = network()
    x, t, context = inputs(1)
    jacobian = torch.autograd.functional.jacobian(lambda v: net(v, t, context), x)[0, :, 0]
    assert (jacobian.abs() > 0).all()


def test_places_differ_only_by_their_embedding():
    net = network()
    with torch.no_grad():
        net.place.zero_()
        net.embed_position.weight.zero_()
    x, t, context = inputs(1)
    order = torch.tensor([3, 1, 0, 2, 7, 6, 5, 4])
    moved = net.grid(net.patches(x)[:, order])
    torch.testing.assert_close(net.patches(net(moved, t, context)), net.patches(net(x, t, context))[:, order])
    torch.testing.assert_close(network()(moved, t, context).shape, x.shape)
    different = network()
    assert not torch.allclose(
        different.patches(different(moved, t, context)), different.patches(different(x, t, context))[:, order]
    )


def test_a_periodic_axis_has_no_end():
    """Distance between embeddings of neighbours is the same across the end of the period."""
    net = PatchTransformer((1, 8, 1), (1, 1, 1), periodic=[False, True, False])
    steps = (net.positions - net.positions.roll(1, 0)).norm(dim=1)
    torch.testing.assert_close(steps, steps[:1].expand(8))
    straight = PatchTransformer((1, 8, 1), (1, 1, 1), position_frequencies=2)
    steps = (straight.positions - straight.positions.roll(1, 0)).norm(dim=1)
    assert steps[0] > 1.2 * steps[1:].max()


def test_coordinates_decide_the_embedding():
    even = PatchTransformer((4,), (1,), coordinates=[[0.0, 1.0, 2.0, 3.0]])
    shifted = PatchTransformer((4,), (1,), coordinates=[[10.0, 12.0, 14.0, 16.0]])
    skewed = PatchTransformer((4,), (1,), coordinates=[[0.0, 0.1, 0.5, 3.0]])
    torch.testing.assert_close(even.positions, shifted.positions)
    assert not torch.allclose(even.positions, skewed.positions)


def test_local_context_reaches_its_own_layer():
    net = network(local_context=1)
    with torch.no_grad():  # cut the common condition and the attention, only the local path is left
        net.embed_condition[0].weight.zero_()
        for block in net.blocks:
            block.attention.out.weight.zero_()
    x, t, context = inputs(1)
    changed = context.clone()
    changed[0, 1] += 1.0  # the first position of the first axis: tokens 0 … 3
    moved = (net(x, t, changed) - net(x, t, context)).view(SHAPE).abs().amax((1, 2))
    assert (moved[:2] > 0).all()
    assert (moved[2:] == 0).all()


def test_built_from_its_description_inside_a_flow():
    density = FlowMatching(48, 5, network=network(local_context=0), steps=2, solver="midpoint")
    again = build(describe(density))
    again.load_state_dict(density.state_dict())
    x, _, context = inputs()
    assert torch.equal(again.decode(x, context), density.decode(x, context))
    loss = density.loss(x, context, generator=torch.Generator().manual_seed(0))
    assert loss.shape == (3,)
    assert torch.isfinite(loss).all()


def test_exports_with_any_batch_size():
    net = network(local_context=0)
    x, t, context = inputs()
    batch = torch.export.Dim("batch", min=1, max=64)
    shapes = {"x": {0: batch}, "t": {0: batch}, "context": {0: batch}}
    program = torch.export.export(net, (x, t, context), dynamic_shapes=shapes, strict=False)
    y, s, c = inputs(5)
    torch.testing.assert_close(program.module()(y, s, c), net(y, s, c))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shape": (4, 6), "patch": (3, 2)}, "do not divide"),
        ({"width": 10, "heads": 4}, "multiple of heads"),
        ({"local_context": 3}, "columns from there on"),
        ({"coordinates": [[0.0]]}, "for each of the 3 axes"),
        ({"coordinates": [[0.0], [0.0], [0.0]]}, "4 cells and 1 coordinates"),
    ],
)
def test_refuses(arguments, message):
    arguments = {"shape": SHAPE, "patch": PATCH, **arguments}
    with pytest.raises(ValueError, match=message):
        PatchTransformer(arguments.pop("shape"), arguments.pop("patch"), 5, **arguments)


def test_refuses_a_mask():
    x, t, context = inputs()
    with pytest.raises(ValueError, match="without a mask"):
        network()(x, t, context, mask=torch.ones(3, 48, dtype=torch.bool))
