from __future__ import annotations

import pytest
import torch

from cathode.density import Preprocessed, build, describe, load_density, sample, save_density
from cathode.density.bijections import Standardize
from cathode.density.epic_gan import EPiCGAN, SetMoments, energy_score
from cathode.density.networks.epic import EPiCLayer

SMALL = {"width": 16, "global_width": 4, "global_noise": 3, "layers": 2, "discriminator_layers": 2}


@pytest.fixture
def gan():
    torch.manual_seed(0)
    return EPiCGAN(7, 3, 2, **SMALL).double()


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    mask = torch.arange(7) < torch.tensor([[7], [3], [1], [0], [5]])
    x = torch.randn((5, 7, 3), generator=generator, dtype=torch.float64) * mask.unsqueeze(-1)
    return x, torch.randn((5, 2), generator=generator, dtype=torch.float64), mask


def test_both_networks_are_stacks_of_the_shared_layers_with_weight_normalisation(gan):
    for network in (gan.generator, gan.discriminator):
        assert all(isinstance(layer, EPiCLayer) for layer in network.layers)
        linear = [m for m in network.modules() if isinstance(m, torch.nn.Linear)]
        assert linear
        assert all(hasattr(layer, "parametrizations") for layer in linear)


def test_generator_is_equivariant_and_discriminator_invariant(gan, batch):
    x, context, mask = batch
    noise = gan.noise(5, mask=mask, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(3))
    made = gan.decode(noise, context, mask=mask)
    torch.testing.assert_close(gan.decode(noise[:, order], context, mask=mask[:, order]), made[:, order])
    opinion = gan.judge(x, context, mask=mask)
    torch.testing.assert_close(gan.judge(x[:, order], context, mask=mask[:, order]), opinion)


def test_padding_changes_nothing(gan, batch):
    x, context, mask = batch
    noise = gan.noise(5, mask=mask, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    made, opinion = gan.decode(noise, context, mask=mask), gan.judge(x, context, mask=mask)
    longer = torch.cat([mask, mask.new_zeros(5, 4)], 1)
    rubbish = torch.full((5, 4, noise.shape[2]), torch.nan, dtype=torch.float64)
    again = gan.decode(torch.cat([noise, rubbish], 1), context, mask=longer)
    torch.testing.assert_close(again[:, :7], made)
    assert (again[~longer] == 0).all()
    torch.testing.assert_close(gan.judge(torch.cat([x, rubbish[..., :3]], 1), context, mask=longer), opinion)
    torch.testing.assert_close(
        gan.moments(torch.cat([x, rubbish[..., :3]], 1), longer), gan.moments(x, mask), rtol=1e-9, atol=1e-12
    )


def test_points_of_a_set_share_noise_and_sets_do_not(gan, batch):
    """The global noise correlates the points of a set; what one set is made of never reaches another."""
    _, context, mask = batch
    noise = gan.noise(5, mask=mask, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    changed = noise.clone()
    changed[0, 2, 3:] += 1.0
    moved = (gan.decode(changed, context, mask=mask) - gan.decode(noise, context, mask=mask)).abs().sum(2)
    assert (moved[0] > 0).all()
    assert (moved[1:] == 0).all()


def test_global_noise_is_standard_normal_for_any_number_of_points():
    torch.manual_seed(0)
    gan = EPiCGAN(6, 1, **SMALL)
    seen = []
    gan.generator.register_forward_hook(lambda module, inputs, output: seen.append(inputs[1]))
    for count in (1, 6):
        mask = (torch.arange(6) < count).expand(4000, 6)
        gan.decode(gan.noise(4000, mask=mask, generator=torch.Generator().manual_seed(4)), mask=mask)
    for shared in seen:
        torch.testing.assert_close(shared.mean(0), torch.zeros(3), atol=0.06, rtol=0)
        torch.testing.assert_close(shared.std(0), torch.ones(3), atol=0.05, rtol=0)


def test_losses_are_those_of_least_squares(gan, batch):
    x, context, mask = batch
    stream = torch.Generator().manual_seed(5)
    made = gan.draw(5, context, mask, torch.Generator().manual_seed(5))
    real, fake = gan.judge(x, context, mask=mask), gan.judge(made, context, mask=mask)
    expected = 0.5 * ((real - 1) ** 2 + fake**2)
    torch.testing.assert_close(gan.discriminator_loss(x, context, mask=mask, generator=stream), expected)
    found = gan.generator_loss(x, context, mask=mask, generator=torch.Generator().manual_seed(5))
    torch.testing.assert_close(found, 0.5 * (fake - 1) ** 2)


def test_energy_score_is_least_for_the_truth():
    generator = torch.Generator().manual_seed(6)

    def draw(mean, spread):
        return mean + spread * torch.randn((20_000, 3), generator=generator, dtype=torch.float64)

    truth = energy_score(draw(0, 1), draw(0, 1), draw(0, 1)).mean()
    for wrong in ((0.5, 1.0), (0.0, 0.5), (0.0, 2.0)):
        assert energy_score(draw(*wrong), draw(*wrong), draw(0, 1)).mean() > truth + 0.02


def test_moments_have_the_spread_of_chance_at_any_size():
    moments = SetMoments(2, 16).double()
    generator = torch.Generator().manual_seed(7)
    spreads = [moments(torch.randn((3000, n, 2), generator=generator, dtype=torch.float64)).std(0) for n in (4, 64)]
    torch.testing.assert_close(spreads[0], spreads[1], rtol=0.08, atol=0.01)
    torch.testing.assert_close(spreads[1][:2], torch.ones(2, dtype=torch.float64), rtol=0.05, atol=0)


def test_is_built_saved_and_loaded(tmp_path):
    torch.manual_seed(0)
    density = Preprocessed(Standardize(2).fit(torch.randn(100, 2)), EPiCGAN(5, 2, **SMALL))
    folder = save_density(density, tmp_path / "model")
    loaded = load_density(folder)
    assert describe(loaded) == describe(density)
    assert isinstance(build(describe(density)), Preprocessed)
    drawn = [sample(d, count=20, generator=torch.Generator().manual_seed(1)) for d in (density, loaded)]
    assert drawn[0].shape == (20, 5, 2)
    assert torch.equal(*drawn)


def test_sizes_and_contexts_are_checked(gan, batch):
    x, _, mask = batch
    with pytest.raises(ValueError, match="at least 1"):
        EPiCGAN(5, 3, layers=0)
    with pytest.raises(ValueError, match="0 columns, the network was built for 2"):
        gan.judge(x, mask=mask)
