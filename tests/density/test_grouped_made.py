"""Which output depends on which input, and steps that compute what one pass computes."""

from __future__ import annotations

import pytest
import torch

from cathode.density.networks.grouped_made import GroupedMade

GROUPS = [0, 0, 1, 2, 2, 2, 3]


def network(groups=GROUPS, *, hidden=40, context=2, layers=2):
    torch.manual_seed(1)
    made = GroupedMade(groups, 2, 3, context, hidden, layers, 8).double()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return made


@pytest.mark.parametrize("hidden", [3, 40])
def test_outputs_see_earlier_groups_and_no_others(hidden):
    made = network(hidden=hidden)
    inputs, context = torch.randn(1, 7, 2, dtype=torch.float64), torch.randn(1, 2, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda z: made(z, context)[0], inputs)[:, :, 0]
    touched = jacobian.abs().amax((1, 3)) > 0
    group = torch.tensor(GROUPS)
    earlier = group[:, None] > group
    assert not (touched & ~earlier).any()
    if hidden == 40:
        assert torch.equal(touched, earlier)


def test_every_output_sees_the_context():
    made = network()
    inputs, context = torch.randn(1, 7, 2, dtype=torch.float64), torch.randn(1, 2, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda c: made(inputs, c)[0], context)
    assert (jacobian.abs().amax((1, 2, 3)) > 0).all()


@pytest.mark.parametrize("groups", [[0], [0, 0, 0], GROUPS, list(range(9))])
@pytest.mark.parametrize(("context", "hidden"), [(0, 3), (2, 40)])
def test_steps_give_what_one_pass_gives(groups, context, hidden):
    made = network(groups, hidden=hidden, context=context)
    inputs = torch.randn(5, len(groups), 2, dtype=torch.float64)
    seen = torch.randn(5, context, dtype=torch.float64) if context else None
    expected = made(inputs, seen)
    stepper = made.stepper(seen, 5)
    for group, members in enumerate(made.members):
        torch.testing.assert_close(stepper.outputs(group), expected[:, members], rtol=1e-12, atol=1e-12)
        stepper.push(inputs[:, members])


@pytest.mark.parametrize("groups", [[], [1], [0, 2], [0, 1, 0], [-1, 0]])
def test_groups_that_are_none(groups):
    with pytest.raises(ValueError, match="without gaps"):
        GroupedMade(groups, 1, 1)
