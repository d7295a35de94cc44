"""Probability density distillation: an inverse autoregressive flow learns from tractable teachers."""

from __future__ import annotations

import pytest
import torch

from cathode.density import MAF, ConditionalDensity, LinearGaussian, Preprocessed, load_density, sample, save_density
from cathode.density.bijections import Standardize
from cathode.density.distillation import InverseAutoregressive, inverse_student_of
from cathode.density.flows import AutoregressiveSpline
from cathode.support.errors import UserError
from cathode.training import FitConfig, TrainingData, fit
from cathode.training.distillation import DistillationStep

F64 = torch.float64


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def spline(seed=0, transforms=2, features=4, context=1):
    """A flow that is far from the identity."""
    torch.manual_seed(seed)
    flow = AutoregressiveSpline(features, context, transforms, [16, 16])
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.mul_(2.5)
    return flow


def teacher_of():
    return LinearGaussian([0.5, -1.0, 0.2], [[1.0, 0, 0], [0.6, 0.5, 0], [-0.4, 0.3, 0.7]], [[0.5], [-0.5], [0.3]])


def data_of(teacher, count, seed):
    context = torch.rand(count, 1, generator=generator(seed)) * 2 - 1
    return TrainingData(sample(teacher, context.double(), generator=generator(seed + 1)).float(), context)


def config(epochs, **settings):
    common = {"batch_size": 256, "learning_rate": 3e-3, "ema_halflife_events": 10_000.0, "device": "cpu"}
    return FitConfig(epochs=epochs, **(common | settings))


@pytest.mark.parametrize("reverse", [False, True])
def test_the_two_directions_and_densities_agree(reverse):
    student = InverseAutoregressive(spline().double(), reverse=reverse)
    z, c = torch.randn(30, 4, generator=generator(), dtype=F64), torch.rand(30, 1, generator=generator(1), dtype=F64)
    x, log_density = student.decode_and_log_prob(z, c)
    assert torch.equal(x, student.decode(z, c))
    torch.testing.assert_close(student.encode(x, c), z, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(student.log_prob(x, c), log_density, rtol=1e-5, atol=1e-5)
    # Against the Jacobian by automatic differentiation.
    jacobian = torch.func.vmap(torch.func.jacrev(lambda z, c: student.decode(z[None], c[None])[0]))(z, c)
    normal = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(1)
    torch.testing.assert_close(log_density, normal - torch.linalg.slogdet(jacobian).logabsdet, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("transforms", [1, 2, 3])
def test_each_layer_has_the_order_of_the_teachers_layer_it_undoes(transforms):
    teacher = spline(transforms=transforms)
    student = inverse_student_of(teacher, hidden=[16])
    assert len(student.flow.layers) == transforms
    z, c = torch.randn(3, 4, generator=generator()), torch.rand(3, 1, generator=generator(1))

    def dependence(layer_function, x):
        """Which output depends on which input."""
        jacobian = torch.autograd.functional.jacobian(lambda v: layer_function(v).sum(0), x).sum(1)
        return jacobian.abs() > 1e-9

    for k in range(transforms):
        mine = dependence(
            lambda v, k=k: student._turned(student.flow.layers[k](c).call_and_ladj(student._turned(v))[0]), z
        )
        theirs = dependence(lambda v, k=k: teacher.layers[transforms - 1 - k](c).call_and_ladj(v)[0], z)
        # The inverse of a triangular map is triangular in the same order.
        lower = torch.ones(4, 4).tril().bool()
        orders = [bool((m & ~lower).any()) for m in (mine, theirs)]
        assert orders[0] == orders[1], k


def test_the_inverse_of_the_teacher_has_no_loss():
    teacher = spline().double()

    class Exact(InverseAutoregressive):
        """Decodes by the teacher itself, in all the coordinates between."""

        def _passes(self, noise, context):
            points = [noise]
            for layer in reversed(teacher.layers):
                points.append(layer(context).inv(points[-1]))
            return points, noise.new_zeros(len(noise))

    x, c = torch.randn(50, 4, generator=generator(), dtype=F64), torch.rand(50, 1, generator=generator(1), dtype=F64)
    other = spline(seed=3).double()
    assert Exact(other).distillation_loss(teacher, x, c, generator=generator()).max() < 1e-12
    assert InverseAutoregressive(other).distillation_loss(teacher, x, c, generator=generator()).mean() > 0.1


@pytest.mark.parametrize(
    "weights",
    [{}, {"z_weight": 1.0, "x_weight": 0.0}, {"z_weight": 0.0}, {"divergence_weight": 1.0}],
    ids=["both", "z", "x", "divergence"],
)
def test_every_loss_teaches(weights):
    teacher = teacher_of()
    data, held_out = data_of(teacher, 2048, 1), data_of(teacher, 256, 3)
    torch.manual_seed(0)
    student = inverse_student_of(teacher, transforms=2, hidden=[32], **weights)
    result = fit(student, data, held_out, config(10, batch_size=128), seed=1, step=DistillationStep(teacher))
    assert result.validation_loss < 0.1 * result.history.validation_loss.iloc[0]


def test_distilled_student_has_the_teachers_moments_and_density(tmp_path):
    teacher = teacher_of()
    data, held_out = data_of(teacher, 4096, 1), data_of(teacher, 512, 3)
    torch.manual_seed(0)
    student = inverse_student_of(teacher, transforms=2, hidden=[32])
    result = fit(student, data, held_out, config(12), seed=1, step=DistillationStep(teacher))
    context = torch.full((20_000, 1), 0.5)
    events = sample(result.density, context, generator=generator())
    exact = sample(teacher, context.double(), generator=generator(1)).float()
    torch.testing.assert_close(events.mean(0), exact.mean(0), rtol=0, atol=0.06)
    torch.testing.assert_close(events.T.cov(), exact.T.cov(), rtol=0, atol=0.1)
    exact_density = teacher.log_prob(held_out.x, held_out.context)

    def error(density):
        with torch.no_grad():
            return float((density.log_prob(held_out.x, held_out.context) - exact_density).abs().mean())

    assert error(result.density) < 0.25 * error(student)
    save_density(result.density, tmp_path / "student")
    again = load_density(tmp_path / "student")
    first, second = (sample(d, context[:100], generator=generator()) for d in (result.density, again))
    assert torch.equal(first, second)


def test_teacher_inside_preprocessing():
    inner = spline(features=3)
    bijection = Standardize(3).fit(5.0 + 10.0 * torch.randn(500, 3, generator=generator()))
    teacher = Preprocessed(bijection, inner)
    context = torch.rand(1024, 1, generator=generator(1))
    data = TrainingData(sample(teacher, context, generator=generator(2)), context)
    student = inverse_student_of(teacher, hidden=[32])
    assert isinstance(student, Preprocessed)
    result = fit(student, data, data, config(6), seed=0, step=DistillationStep(teacher))
    assert result.validation_loss < 0.5 * result.history.validation_loss.iloc[0]


def test_errors():
    with pytest.raises(ValueError, match="without batch normalisation"):
        InverseAutoregressive(MAF(3, transforms=1, hidden=[8]))
    with pytest.raises(ValueError, match="z_weight or x_weight positive"):
        InverseAutoregressive(spline(), z_weight=0.0, x_weight=0.0)
    student = InverseAutoregressive(spline())
    with pytest.raises(ValueError, match="takes no mask"):
        student.decode(torch.zeros(2, 4), torch.zeros(2, 1), mask=torch.ones(2, 4, dtype=torch.bool))

    class Silent(ConditionalDensity):
        event_shape, context_features = (4,), 1

    with pytest.raises(UserError, match="Silent has no density"):
        inverse_student_of(Silent())
    with pytest.raises(UserError, match="Silent has no density"):
        student.distillation_loss(Silent(), torch.zeros(2, 4), torch.zeros(2, 1))
