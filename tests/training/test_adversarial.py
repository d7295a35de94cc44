from __future__ import annotations

import numpy as np
import pytest
import torch

from cathode.comparison.distances import energy_distance
from cathode.density import Preprocessed, sample
from cathode.density.bijections import Standardize
from cathode.density.epic_gan import EPiCGAN
from cathode.support.errors import UserError
from cathode.training import FitConfig, TrainingData, fit
from cathode.training.adversarial import AdversarialStep

SMALL = {"width": 32, "global_width": 6, "global_noise": 4, "layers": 2, "discriminator_layers": 2, "sum_scale": 0.1}


def rings(count, seed):
    """Sets of 4 to 12 points around a circle whose radius is the context, off centre by an amount of their own."""
    generator = torch.Generator().manual_seed(seed)
    radius = 1.0 + torch.rand((count, 1), generator=generator)
    n = torch.randint(4, 13, (count, 1), generator=generator)
    angle = 2 * torch.pi * torch.rand((count, 12), generator=generator)
    centre = 0.5 * torch.randn((count, 1, 2), generator=generator)
    points = radius.unsqueeze(2) * torch.stack([angle.cos(), angle.sin()], 2) + centre
    points = points + 0.1 * torch.randn(points.shape, generator=generator)
    mask = torch.arange(12) < n
    return TrainingData(points * mask.unsqueeze(-1), torch.cat([radius, n / 12], 1), mask)


def model(seed=0):
    torch.manual_seed(seed)
    return EPiCGAN(12, 2, 2, **SMALL)


def config(**changes):
    values = {
        "epochs": 2,
        "batch_size": 64,
        "learning_rate": 1e-3,
        "optimizer": "adam",
        "schedule": "constant",
        "ema_halflife_events": 3000.0,
        "device": "cpu",
    }
    return FitConfig(**(values | changes))


def describe(x, mask):
    """Numbers of each set: centre, and mean and spread of the distance from it."""
    weight = mask.unsqueeze(-1).float()
    centre = (x * weight).sum(1) / weight.sum(1)
    distance = (x - centre.unsqueeze(1)).norm(dim=2) * mask
    mean = distance.sum(1) / mask.sum(1)
    spread = ((distance - mean.unsqueeze(1)).square() * mask).sum(1) / mask.sum(1)
    return np.concatenate([centre.numpy(), mean[:, None].numpy(), spread.sqrt()[:, None].numpy()], 1)


def test_learns_rings():
    train, validation, test = rings(4000, 1), rings(300, 2), rings(2000, 3)
    step = AdversarialStep(discriminator_rate=2.0)
    result = fit(model(), train, validation, config(epochs=8, learning_rate=5e-4), seed=1, step=step)
    history = result.history
    assert {"train_loss", "discriminator_loss", "validation_loss"} <= set(history)
    # What is selected is the least distance between samples, not the least adversarial loss.
    assert result.validation_loss == history.loc[1:, "validation_loss"].min()
    made = sample(result.density, test.context, mask=test.mask, generator=torch.Generator().manual_seed(4))
    assert (made[~test.mask] == 0).all()
    truth = describe(test.x, test.mask)
    found = energy_distance(describe(made, test.mask), truth)
    untrained = sample(model(), test.context, mask=test.mask, generator=torch.Generator().manual_seed(4))
    before = energy_distance(describe(untrained, test.mask), truth)
    assert found < 0.4 < 4.0 < before
    # The radius follows the context.
    radius = describe(made, test.mask)[:, 2]
    assert np.corrcoef(radius, test.context[:, 0])[0, 1] > 0.4


def test_a_killed_fit_resumes_bit_by_bit(tmp_path):
    train, validation = rings(500, 1), rings(100, 2)
    settings = config(epochs=4, batch_size=128, best_epochs=2)
    expected = fit(model(), train, validation, settings, seed=1, step=AdversarialStep())

    class Dying(AdversarialStep):
        steps = 0

        def step(self, batch, generator):
            self.steps += 1
            if self.steps == 10:
                raise KeyboardInterrupt
            return super().step(batch, generator)

    with pytest.raises(KeyboardInterrupt):
        fit(model(), train, validation, settings, seed=1, step=Dying(), checkpoint_dir=tmp_path)
    found = fit(model(), train, validation, settings, seed=1, step=AdversarialStep(), checkpoint_dir=tmp_path)
    for key, value in found.density.state_dict().items():
        assert torch.equal(value, expected.density.state_dict()[key]), key
    columns = ["train_loss", "discriminator_loss", "validation_loss"]
    assert found.history[columns].equals(expected.history[columns])


def test_a_checkpoint_of_another_game_is_not_continued(tmp_path):
    train, validation = rings(200, 1), rings(50, 2)
    fit(model(), train, validation, config(epochs=1), seed=1, step=AdversarialStep(), checkpoint_dir=tmp_path)
    with pytest.raises(UserError, match="another fit, it differs in adversarial step"):
        fit(
            model(),
            train,
            validation,
            config(epochs=1),
            seed=1,
            step=AdversarialStep(discriminator_rate=2.0),
            checkpoint_dir=tmp_path,
        )


def test_each_player_moves_only_itself():
    train = rings(64, 1)
    density = model()
    step = AdversarialStep()
    step.setup(density, config())
    seen = []
    for name in ("discriminator_loss", "generator_loss"):
        original = getattr(density, name)

        def watched(*args, original=original, **kwargs):
            seen.append(
                [p.requires_grad for p in (next(density.generator.parameters()), density.discriminator.head3.bias)]
            )
            return original(*args, **kwargs)

        setattr(density, name, watched)
    before = {k: v.clone() for k, v in density.state_dict().items()}
    row = step.step(train, torch.Generator().manual_seed(1))
    assert seen == [[False, True], [True, False]]
    assert set(row) == {"loss", "gradient_norm", "discriminator_loss"}
    assert all(p.requires_grad for p in density.parameters())
    changed = {k for k, v in density.state_dict().items() if not torch.equal(v, before[k])}
    assert any(k.startswith("generator.") for k in changed)
    assert any(k.startswith("discriminator.") for k in changed)
    assert not any(k.startswith("moments.") for k in changed)


def test_weights_decide_what_is_learned():
    """Two kinds of points, one of which has no weight: only the other is learned."""
    generator = torch.Generator().manual_seed(1)
    side = (torch.arange(1500) % 2).float()
    x = 0.3 * torch.randn((1500, 3, 1), generator=generator) + (4.0 * side - 2.0)[:, None, None]
    data = TrainingData(x, weight=side)
    torch.manual_seed(0)
    density = EPiCGAN(3, 1, width=16, global_width=3, global_noise=2, layers=1, discriminator_layers=1)
    step = AdversarialStep(data.mean_weight)
    result = fit(density, data, data, config(epochs=15, learning_rate=3e-3), seed=1, step=step)
    made = sample(result.density, count=500, generator=torch.Generator().manual_seed(2))
    assert made.mean() == pytest.approx(2.0, abs=0.5)


def test_inside_a_preprocessing_the_game_is_played_behind_it():
    train = rings(64, 1)
    columns = Standardize(2).fit(train.x, mask=train.mask)
    density = Preprocessed(columns, model(), Standardize(2).fit(train.context))
    step = AdversarialStep()
    step.setup(density, config())
    losses = step.validation_loss(density, train, generator=torch.Generator().manual_seed(1))
    assert losses.shape == (64,)
    z, _ = columns.forward_and_log_det(train.x, mask=train.mask)
    context = density.transform_context(train.context)
    expected = density.density.loss(z, context, mask=train.mask, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(losses, expected)
    assert torch.isfinite(torch.tensor(list(step.step(train, torch.Generator().manual_seed(1)).values()))).all()


def test_what_cannot_be_played_is_refused():
    from cathode.density import MAF

    with pytest.raises(UserError, match="rates of generator and discriminator must be positive"):
        AdversarialStep(generator_rate=0.0)
    with pytest.raises(UserError, match=r"moments must be in \[0, 1\)"):
        AdversarialStep(beta1=1.0)
    with pytest.raises(UserError, match="MAF has no adversaries"):
        AdversarialStep().setup(MAF(2), config())
