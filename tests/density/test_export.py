"""Exported graphs are the densities they came from, with other noise, other contexts and another batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cathode.density import EDM, MAF, CouplingSpline, Ensemble, FlowMatching, LinearGaussian, Preprocessed
from cathode.density.autoregressive import AutoregressiveMixture
from cathode.density.base import ConditionalDensity
from cathode.density.bijections import Compose, Gaussianize, Log, Logit, Power, Standardize
from cathode.density.censored import CensoredAutoregressive
from cathode.density.elementary import elementary_erfc
from cathode.density.export import OnnxModel, export_onnx, export_torchscript, exportable
from cathode.density.networks.mlp import ResNet
from cathode.density.sequence import AmountSequence, CellContext
from cathode.density.unrolled import mixture_quantile
from cathode.support.errors import UserError

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

D, C = 4, 2


def _network() -> ResNet:
    return ResNet(D, C, width=16, blocks=1)


def _censored(
    groups: list[int] | None = None, *, sums: bool = True, threshold: float | None = 1.0
) -> ConditionalDensity:
    order = [3, 0, 4, 1, 5, 2]
    blocks, totals = ([0, 0, 0, 1, 1, 1], [1, 2]) if sums else (None, None)
    return CensoredAutoregressive(
        6, 3, threshold=threshold, order=order, groups=groups, blocks=blocks, totals=totals, hidden=20, head=8
    )


DENSITIES = {
    "flow-matching": lambda: FlowMatching(D, C, network=_network(), solver="heun", steps=2),
    "edm": lambda: EDM(D, C, network=_network(), sigma_max=3.0, steps=4),
    "rqs-coupling": lambda: CouplingSpline(D, C, transforms=2, hidden=[16]),
    "maf": lambda: MAF(D, C, transforms=2, hidden=[16]),
    "mixture": lambda: AutoregressiveMixture(D, C, hidden=[16, 16], components=3),
    "logistic-mixture": lambda: AutoregressiveMixture(D, C, hidden=[10, 16, 16], components=3, head="logistic"),
    "ensemble": lambda: Ensemble([MAF(D, C, transforms=1, hidden=[8]), MAF(D, C, transforms=1, hidden=[8])]),
}


def _perturbed(density: ConditionalDensity, size: float = 0.1) -> ConditionalDensity:
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in density.parameters():
            parameter.add_(size * torch.randn(parameter.shape, generator=generator))
    return density.eval()


def _contexts(rows: int, seed: int = 1) -> torch.Tensor:
    return 1.0 + 100.0 * torch.rand(rows, C, generator=torch.Generator().manual_seed(seed))


def _preprocessed(density: ConditionalDensity) -> Preprocessed:
    generator = torch.Generator().manual_seed(0)
    events = torch.rand(500, D, generator=generator)
    chain = Compose([Logit(D), Gaussianize(D, knots=9), Power(D), Standardize(D)]).fit(events)
    context_chain = Compose([Log(C), Standardize(C)]).fit(_contexts(500))
    return Preprocessed(chain, density, context_chain).eval()


def _budget_contexts(rows: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    context = torch.randn(rows, 3, generator=generator)
    context[:, 1:] = 40.0 * torch.rand(rows, 2, generator=generator)
    context[::5, 1] = 0.0
    return context


def _decode(density: ConditionalDensity, noise: torch.Tensor, context: torch.Tensor | None) -> np.ndarray:
    with torch.no_grad():
        return density.decode(noise, context).numpy()


def _noise(density: ConditionalDensity, rows: int) -> torch.Tensor:
    return density.noise(rows, generator=torch.Generator().manual_seed(7))


SLOW = {"edm", "maf", "mixture", "logistic-mixture", "ensemble"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in DENSITIES]
)
def test_onnx_graph_is_the_density(name, tmp_path):
    density = _preprocessed(_perturbed(DENSITIES[name]()))
    model = export_onnx(density, tmp_path / "model.onnx", context=_contexts(3))
    noise, context = _noise(density, 200), _contexts(200, seed=5)
    reference = _decode(density, noise, context)
    found = model(noise=noise, context=context)["events"]
    assert found.dtype == np.float32
    assert np.all(np.ptp(reference, axis=0) > 0.1)
    np.testing.assert_allclose(found, reference, rtol=1e-4, atol=1e-9)
    one = model(noise=noise[:1], context=context[:1])["events"]
    np.testing.assert_allclose(one, reference[:1], rtol=1e-4, atol=1e-9)
    assert [(p.name, p.shape[0]) for p in model.inputs] == [("noise", None), ("context", None)]


GROUPS = [0, 1, 1, 2, 3, 3]


@pytest.mark.parametrize(
    ("groups", "sums", "threshold"),
    [
        (None, True, 1.0),
        pytest.param(GROUPS, True, 1.0, marks=pytest.mark.slow),
        pytest.param(None, False, 1.0, marks=pytest.mark.slow),
        pytest.param(GROUPS, False, None, marks=pytest.mark.slow),
    ],
)
def test_censored_amounts_keep_zeros_and_sums_in_the_graph(groups, sums, threshold, tmp_path):
    density = _perturbed(_censored(groups, sums=sums, threshold=threshold), 0.02)
    model = export_onnx(density, tmp_path / "model.onnx", context=_budget_contexts(3))
    noise, context = _noise(density, 500), _budget_contexts(500)
    reference, found = _decode(density, noise, context), model(noise=noise, context=context)["events"]
    np.testing.assert_array_equal(found == 0, reference == 0)
    np.testing.assert_allclose(found, reference, rtol=1e-4, atol=1e-6)
    if threshold is not None:
        assert 0.05 < np.mean(found == 0) < 0.95
    if sums:
        totals = context[:, 1:].numpy()
        totals = totals * (totals >= 0.5)
        sums_found = np.stack([found[:, :3].sum(1), found[:, 3:].sum(1)], 1)
        np.testing.assert_allclose(sums_found, totals, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("groups", [None, GROUPS])
@pytest.mark.parametrize(("sums", "threshold"), [(True, 1.0), (False, 1.0), (False, None)])
def test_loop_of_the_censored_density_is_its_decode(groups, sums, threshold):
    density = _perturbed(_censored(groups, sums=sums, threshold=threshold), 0.02)
    noise, context = _noise(density, 500), _budget_contexts(500)
    np.testing.assert_allclose(
        _decode(exportable(density), noise, context), _decode(density, noise, context), rtol=1e-4, atol=1e-6
    )


def _sequence() -> ConditionalDensity:
    told = CellContext(3, 4, 5, 2, 8)
    cell = CensoredAutoregressive(
        4, told.columns, threshold=1.0, blocks=[0] * 4, totals=[told.total], hidden=16, head=8
    )
    return _perturbed(AmountSequence(cell, 3, 5, threshold=1.0, window=2, memory=8), 0.02)


def _sequence_contexts(rows: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    sums = 30.0 * torch.rand(rows, 3, generator=generator)
    return torch.cat([torch.randn(rows, 2, generator=generator), sums], 1)


def test_loop_of_a_sequence_is_its_decode():
    density = _sequence()
    noise, context = _noise(density, 200), _sequence_contexts(200)
    reference = _decode(density, noise, context)
    assert 0.05 < np.mean(reference == 0) < 0.95
    np.testing.assert_allclose(_decode(exportable(density), noise, context), reference, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_loop_within_a_loop_in_the_graph(tmp_path):
    density = _sequence()
    model = export_onnx(density, tmp_path / "model.onnx", context=_sequence_contexts(3))
    noise, context = _noise(density, 200), _sequence_contexts(200)
    found = model(noise=noise, context=context)["events"]
    np.testing.assert_allclose(found, _decode(density, noise, context), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", DENSITIES)
def test_exportable_copy_is_the_density_and_leaves_the_original_alone(name):
    density = _preprocessed(_perturbed(DENSITIES[name]()))
    before = {key: value.clone() for key, value in density.state_dict().items()}
    copy = exportable(density)
    noise, context = _noise(density, 100), _contexts(100)
    np.testing.assert_allclose(_decode(copy, noise, context), _decode(density, noise, context), rtol=1e-4)
    assert all(torch.equal(before[key], value) for key, value in density.state_dict().items())
    assert all(p.requires_grad for p in density.parameters())


@pytest.mark.parametrize("name", ["flow-matching", "rqs-coupling", "mixture"])
def test_torchscript_is_the_density(name, tmp_path):
    density = _preprocessed(_perturbed(DENSITIES[name]()))
    export_torchscript(density, tmp_path / "model.pt", context=_contexts(3))
    loaded = torch.jit.load(tmp_path / "model.pt")
    noise, context = _noise(density, 50), _contexts(50, seed=5)
    np.testing.assert_allclose(loaded(noise, context).numpy(), _decode(density, noise, context), rtol=1e-4)


def test_adaptive_solver_is_refused_and_writes_nothing(tmp_path):
    density = FlowMatching(D, C, network=_network(), solver="dopri5")
    with pytest.raises(UserError, match="no fixed graph: export with a fixed-step solver"):
        export_onnx(density, tmp_path / "model.onnx", context=_contexts(3))
    assert list(tmp_path.iterdir()) == []


def test_density_that_looks_at_values_is_refused_in_one_line(tmp_path):
    density = LinearGaussian([0.0] * C, torch.eye(C).tolist(), weight=torch.eye(C).tolist())
    with pytest.raises(UserError, match="this model has no ONNX form") as caught:
        export_onnx(density, tmp_path / "model.onnx", context=_contexts(3))
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_examples_must_fit(tmp_path):
    density = DENSITIES["maf"]()
    with pytest.raises(ValueError, match="context has 0 columns, the density has 2"):
        export_onnx(density, tmp_path / "model.onnx")
    with pytest.raises(ValueError, match="at least 2"):
        export_onnx(density, tmp_path / "model.onnx", context=_contexts(1))


def test_file_that_is_no_model(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        OnnxModel(tmp_path / "absent.onnx")
    (tmp_path / "text.onnx").write_text("hello")
    with pytest.raises(UserError, match="onnxruntime cannot run this file"):
        OnnxModel(tmp_path / "text.onnx")


@given(st.floats(-10.0, 10.0))
def test_elementary_erfc(x):
    value = torch.tensor(x, dtype=torch.float64)
    torch.testing.assert_close(elementary_erfc(value), torch.erfc(value), rtol=2e-14, atol=0.0)
    torch.testing.assert_close(elementary_erfc(value, degree=12), torch.erfc(value), rtol=5e-9, atol=0.0)


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from([0, 1, 2]),
    st.floats(-5.0, 5.0),
    st.integers(0, 2**31),
    st.floats(0.1, 2.0),
)
def test_quantile_of_a_mixture_has_its_probability(kind, z, seed, spread):
    from cathode.density.mixtures import HEADS

    head = list(HEADS.values())[kind]()
    raw = spread * torch.randn(1, 12, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    target = torch.tensor([z], dtype=torch.float64)
    found, reference = mixture_quantile(head, target, raw), head.decode(target, raw)
    torch.testing.assert_close(found, reference, rtol=1e-6, atol=1e-6)
