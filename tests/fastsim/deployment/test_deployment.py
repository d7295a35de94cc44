"""Exported files have the showers of the generator under every contract; bad input leaves nothing behind."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from cathode.density import FlowMatching, Preprocessed
from cathode.density.base import ConditionalDensity
from cathode.density.bijections import Affine, Columns, Compose, Identity, Log
from cathode.density.export import OnnxModel, exportable
from cathode.density.networks.mlp import ResNet
from cathode.support.errors import UserError
from fastsim.data import Showers
from fastsim.deployment.agreement import agreement
from fastsim.deployment.commands import Export, LatencyCommand, run_export, run_latency
from fastsim.deployment.contracts import make_contract
from fastsim.deployment.export import export_generator, inputs_of, run_exported
from fastsim.deployment.latency import (
    Latency,
    LatencySettings,
    _extrapolated,
    measure_latency,
    table,
    time_calls,
)
from fastsim.deployment.quality import quality_loss
from fastsim.deployment.quantisation import quantise
from fastsim.generators.generator import ShowerGenerator, save_generator
from fastsim.geometry import Geometry

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

THRESHOLD = 1.0


def _stage(features: int, context: int, mean: float, width: int = 16) -> ConditionalDensity:
    flow = FlowMatching(
        features, context, network=ResNet(features, context, width=width, blocks=1), solver="midpoint", steps=1
    )
    logs = Compose([Log(features), Affine(features, shift=mean, scale=1.5)])
    seen = Compose(
        [Columns([Log(1), *[Identity(1)] * (context - 1)]), Affine(context, scale=[8.0, *[1e3] * (context - 1)])]
    )
    return Preprocessed(logs, flow, seen)


def _generator(*conditions: str, grid: bool = True, width: int = 16) -> ShowerGenerator:
    geometry = (
        Geometry.from_grid((3, 2, 4))
        if grid
        else Geometry.from_cells({"layer": [0] * 12 + [1] * 12, "x": list(range(24)), "y": [0.0] * 24})
    )
    layers, columns = geometry.n_layers, 1 + len(conditions)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = ShowerGenerator(
            _stage(layers, columns, 4.0, width),
            _stage(geometry.n_voxels, columns + layers, 1.0, width),
            {"layout": geometry.to_dict()},
            THRESHOLD,
            [1e3, 1e5],
            list(conditions),
            [[0.5, 1.5]] * len(conditions),
        )
        with torch.no_grad():
            for parameter in made.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
    return made.eval()


def _reference(generator: ShowerGenerator, noise: torch.Tensor, context: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        return generator.decode(noise, context).numpy()


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    generator = _generator()
    path = tmp_path_factory.mktemp("export") / "generator.onnx"
    return generator, export_generator(generator, path, check_showers=100)


# The contracts.

CASES = [
    ("generic", ()),
    ("generic", ("angle",)),
    ("par04", ()),
    ("par04", ("incident_theta",)),
    ("ddml", ()),
    ("ddml", ("dx", "dy", "dz")),
    ("fastcalosim", ()),
    ("fastcalosim", ("eta",)),
]


@pytest.mark.parametrize(("name", "conditions"), CASES)
def test_contract_is_the_generator_in_other_clothes(name, conditions):
    generator = _generator(*conditions)
    contract = make_contract(name, exportable(generator))
    inputs, noise, context = inputs_of(generator, contract, count=40, seed=3)
    assert {port.name: tuple(inputs[port.name].shape[1:]) for port in contract.inputs} == {
        port.name: port.columns for port in contract.inputs
    }
    with torch.no_grad():
        output = contract.module(*inputs.values())
    assert tuple(output.shape[1:]) == contract.output.columns
    reference = _reference(generator, noise, context)
    assert (reference > 0).mean() > 0.1
    found = agreement(reference, contract.unpack(output, context).numpy())
    assert found.within(1e-5)
    assert found.turned == 0


def test_par04_is_fractions_of_the_energy_looped_over_r_phi_z():
    generator = _generator()
    contract = make_contract("par04", generator, max_energy=1e6)
    noise, context = generator.noise(5, generator=torch.Generator().manual_seed(0)), torch.full((5, 1), 2e4)
    row = torch.cat([noise, torch.tensor([[0.02, 0.5, 0.0, 1.0]]).expand(5, 4)], 1)
    with torch.no_grad():
        output = contract.module(row).numpy()
    voxels = _reference(generator, noise, context).reshape(5, 3, 2, 4)
    for r, phi, z in [(0, 0, 0), (3, 1, 2), (1, 0, 2)]:
        np.testing.assert_allclose(output[:, (r * 2 + phi) * 3 + z], voxels[:, z, phi, r] / 2e4, rtol=1e-5)
    assert contract.notes["mesh"] == {"r": 4, "phi": 2, "z": 3}


def test_fastcalosim_names_units_and_boundaries():
    generator = _generator("eta")
    contract = make_contract("fastcalosim", generator)
    assert [port.name for port in contract.inputs] == ["inn_eta_in", "inn_einc_in", "cfm_z_shape", "inn_z_energy"]
    noise = generator.noise(4, generator=torch.Generator().manual_seed(0))
    first, second = noise.split(generator.noise_widths, 1)
    context = torch.tensor([[5e3, 0.7]]).expand(4, 2)
    with torch.no_grad():
        found = contract.module(torch.full((4, 1), 7.0), torch.full((4, 1), 5e3), second, first).numpy()
    np.testing.assert_allclose(found, _reference(generator, noise, context), rtol=1e-5)
    assert contract.notes["boundaries"] == [0, 8, 16, 24]
    assert contract.notes["one_number_per_voxel_and_layer"] is True


@pytest.mark.parametrize(
    ("name", "conditions", "grid", "match"),
    [
        ("par04", ("angle",), True, "contract par04 has no input for the condition 'angle'"),
        ("fastcalosim", ("incident_theta",), True, "contract fastcalosim has no input for the condition"),
        ("ddml", ("incident_theta", "theta"), True, "the same input"),
        ("par04", (), False, "needs a regular mesh"),
        ("athena", (), True, "unknown contract 'athena'; known: generic, par04"),
    ],
)
def test_contract_that_does_not_fit_is_refused(name, conditions, grid, match):
    with pytest.raises(UserError, match=match):
        make_contract(name, _generator(*conditions, grid=grid))


# Files.


def test_onnx_file_has_the_showers_of_the_generator(exported):
    generator, done = exported
    assert done.agreement.within(1e-4)
    assert done.agreement.showers == 100
    contract = make_contract("generic", generator)
    inputs, noise, context = inputs_of(generator, contract, count=150, seed=9)
    found = run_exported(OnnxModel(done.path), inputs)
    reference = _reference(generator, noise, context)
    result = agreement(reference, found)
    assert result.turned <= 1
    assert result.deviation < 1e-4
    lit = found[found > 0]
    assert lit.min() >= THRESHOLD * (1 - 1e-6)
    assert 0.05 < (found == 0).mean() < 0.95


def test_description_says_what_goes_in_and_comes_out(exported):
    _, done = exported
    content = json.loads(done.description.read_text(encoding="utf-8"))
    assert done.description.name == "generator.json"
    assert content["contract"] == "generic"
    assert [(p["name"], p["shape"][1:]) for p in content["inputs"]] == [("noise", [27]), ("context", [1])]
    assert content["geometry"]["boundaries"] == [0, 8, 16, 24]
    assert content["threshold_mev"] == THRESHOLD
    assert content["agreement"]["deviation"] < 1e-4
    assert OnnxModel(done.path).metadata["contract"] == "generic"


def test_torchscript_file_has_the_showers_of_the_generator(tmp_path):
    generator = _generator("dx", "dy", "dz")
    done = export_generator(generator, tmp_path / "model.pt", contract="ddml", format="torchscript", check_showers=50)
    assert done.agreement.within(1e-4)
    loaded = torch.jit.load(str(done.path))
    contract = make_contract("ddml", generator)
    inputs, noise, context = inputs_of(generator, contract, count=20, seed=9)
    output = torch.from_numpy(run_exported(loaded, inputs))
    assert agreement(_reference(generator, noise, context), contract.unpack(output, context).numpy()).within(1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "conditions"), [("par04", ("incident_theta",)), ("ddml", ("incident_theta",)), ("fastcalosim", ())]
)
def test_onnx_file_under_other_contracts(name, conditions, tmp_path):
    done = export_generator(_generator(*conditions), tmp_path / "model.onnx", contract=name, check_showers=100)
    assert done.agreement.within(1e-4)
    content = json.loads(done.description.read_text(encoding="utf-8"))
    assert [p.name for p in OnnxModel(done.path).inputs] == [p["name"] for p in content["inputs"]]


def test_file_of_another_format_and_showers_that_differ_leave_nothing(tmp_path, monkeypatch):
    generator = _generator()
    with pytest.raises(UserError, match=r"format onnx ends in \.onnx"):
        export_generator(generator, tmp_path / "model.pt")
    actual = ShowerGenerator.decode
    calls = []

    def drifting(self, noise, context=None, *, mask=None):
        calls.append(None)
        return actual(self, noise, context, mask=mask) * (1.0 if len(calls) < 3 else 1.001)

    monkeypatch.setattr(ShowerGenerator, "decode", drifting)
    with pytest.raises(UserError, match="the exported showers are not those of the generator: 0 of 30 differ"):
        export_generator(generator, tmp_path / "model.pt", format="torchscript", check_showers=30)
    assert list(tmp_path.iterdir()) == []


# Agreement.


def test_agreement_tells_turned_decisions_from_rounding():
    rng = np.random.default_rng(0)
    reference = (5 + rng.random((200, 10))).astype(np.float32)
    found = reference * (1 + 3e-5)
    found[7, 2] = 0.0
    found[8] = reference[8, ::-1]
    result = agreement(reference, found.astype(np.float32))
    assert (result.showers, result.turned) == (200, 2)
    assert result.deviation == pytest.approx(3e-5, rel=0.02)
    assert result.mean_deviation == pytest.approx(3e-5, rel=0.02)
    assert result.within(1e-4)
    assert not result.within(2e-5)
    found[:10, 0] = 0.0
    assert not agreement(reference, found.astype(np.float32)).within(1e-4)
    found[50] = np.nan
    assert agreement(reference, found.astype(np.float32)).turned == 11


# INT8.


def test_int8_is_smaller_and_nearly_the_same(exported, tmp_path):
    generator, done = exported
    small = quantise(done.path, tmp_path / "int8.onnx", smallest=64)
    assert small.matrices >= 4
    assert small.products >= small.matrices
    import onnx

    kinds = {node.op_type for node in onnx.load(str(small.path)).graph.node}
    assert {"MatMulInteger", "DynamicQuantizeLinear"} <= kinds
    inputs, noise, context = inputs_of(generator, make_contract("generic", generator), count=400, seed=1)
    reference = _reference(generator, noise, context)
    found = run_exported(OnnxModel(small.path), inputs)
    assert not np.allclose(found, reference, rtol=1e-4)
    assert found.sum() == pytest.approx(reference.sum(), rel=0.05)
    assert np.corrcoef(np.log1p(found.ravel()), np.log1p(reference.ravel()))[0, 1] > 0.9
    showers = [Showers.unchecked(context.numpy(), x, generator.geometry, None, ()) for x in (reference, found)]
    loss = quality_loss(
        *showers, threshold=THRESHOLD, auc=lambda a, b: 0.25 if a is showers[0] and b is showers[1] else 1.0
    )
    assert loss.mean_total == pytest.approx(found.sum() / reference.sum(), rel=1e-4)
    assert loss.lit_voxels == pytest.approx((found > 0).mean() / (reference > 0).mean(), rel=1e-6)
    assert loss.auc == 0.25
    assert len(loss.mean_layers) == 3
    assert 0 <= loss.separation < 0.2


def test_quality_loss_of_nothing_is_nothing(exported):
    generator, _ = exported
    _, noise, context = inputs_of(generator, make_contract("generic", generator), count=200, seed=1)
    same = Showers.unchecked(context.numpy(), _reference(generator, noise, context), generator.geometry, None, ())
    loss = quality_loss(same, same, threshold=THRESHOLD)
    assert (loss.mean_total, loss.lit_voxels, loss.separation, loss.auc) == (1.0, 1.0, 0.0, None)
    assert set(loss.mean_layers) == {1.0}
    twice = replace(same, energies=2 * same.energies)
    assert quality_loss(same, twice, threshold=THRESHOLD).mean_total == pytest.approx(2.0, rel=1e-6)


def test_int8_without_matrices_is_refused(exported, tmp_path):
    with pytest.raises(UserError, match="no matrix of at least 1000000 entries"):
        quantise(exported[1].path, tmp_path / "int8.onnx", smallest=1_000_000)
    with pytest.raises(UserError, match="no such file"):
        quantise(tmp_path / "absent.onnx", tmp_path / "int8.onnx")
    assert list(tmp_path.iterdir()) == []


# Latency.


def test_time_calls_keeps_to_repeats_and_budget():
    calls = []
    assert len(time_calls(lambda: calls.append(None), seconds=10.0, repeats=5).wall) == 5
    assert len(calls) == 6
    time_calls(lambda: calls.append(None), seconds=1.0, repeats=1, expected=0.6)
    assert len(calls) == 7
    import time

    slept = time_calls(lambda: time.sleep(0.05), seconds=0.12, repeats=100)
    assert len(slept.wall) == 1
    assert slept.cpu[0] < 0.02 < slept.wall[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model"
    save_generator(_generator(), path)
    return path


def test_latency_command_writes_what_evaluation_reads(folder, tmp_path, capsys):
    from fastsim.evaluation.timing import read_timing

    output = tmp_path / "latency.json"
    run_latency(
        LatencyCommand(folder, batch_sizes=(1, 10, 50), backends=("pytorch",), seconds=0.5, repeats=5, output=output)
    )
    shown = capsys.readouterr().out
    assert "batch 10" in shown
    assert "pytorch" in shown
    assert "threads: 1" in shown
    content = json.loads(output.read_text(encoding="utf-8"))
    cases = {case["batch"]: case for case in content["cases"]}
    assert all(0 < c["low"] <= c["milliseconds"] <= c["high"] for c in cases.values())
    assert cases[50]["milliseconds"] < cases[1]["milliseconds"]
    timing = read_timing(output, "unused.hdf5")
    assert timing is not None
    assert timing.milliseconds == {f"cpu_batch{b}": pytest.approx(c["milliseconds"]) for b, c in cases.items()}


@pytest.mark.slow
def test_latency_of_every_backend(folder, tmp_path, capsys):
    output = tmp_path / "latency.json"
    run_latency(LatencyCommand(folder, batch_sizes=(1, 20), seconds=10.0, repeats=5, output=output))
    content = json.loads(output.read_text(encoding="utf-8"))
    assert [(c["backend"], c["batch"]) for c in content["cases"]] == [
        (b, n) for b in ("pytorch", "torch.compile", "onnx", "onnx-int8") for n in (1, 20)
    ]
    assert all(c["milliseconds"] or c["note"].startswith("not measured: ") for c in content["cases"])
    assert all(c["milliseconds"] for c in content["cases"] if c["backend"].startswith("onnx"))
    assert content["int8"]["quality"]["mean_total"] == pytest.approx(1.0, abs=0.05)
    assert "INT8" in capsys.readouterr().out


def test_cost_of_large_batches_is_extrapolated_from_the_two_largest():
    assert _extrapolated({}, 100) == 0.0
    assert _extrapolated({1: 0.2}, 10) == pytest.approx(2.0)
    assert _extrapolated({1: 0.2, 10: 0.29, 100: 1.19}, 1000) == pytest.approx(10.19)


def test_case_beyond_the_budget_is_left_out(folder):
    result = measure_latency(
        folder, LatencySettings(batch_sizes=(1, 10**9), backends=("pytorch",), seconds=0.2, repeats=2)
    )
    assert result.cases[0].milliseconds > 0
    assert result.cases[1].milliseconds is None
    assert result.cases[1].note.startswith("not measured: a call takes about")


def test_table_says_why_a_case_is_missing():
    cases = (Latency("onnx", 1, 2.5, 2.0, 3.0, 2.2, 9), Latency("onnx", 100, None, note="not measured: too slow"))
    lines = table(cases).splitlines()
    assert lines[0].split("  ")[0] == "ms per shower"
    assert "2.5 [2, 3] cpu 2.2" in lines[1]
    assert lines[2] == "onnx, batch 100: not measured: too slow"


def test_compile_without_a_compiler_says_so(folder, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    result = measure_latency(folder, LatencySettings(batch_sizes=(1,), backends=("torch.compile",)))
    assert [case.note for case in result.cases] == ["not measured: no C++ compiler on this machine"]


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"backends": ("tensorrt",)}, "unknown backend 'tensorrt'"),
        ({"batch_sizes": (0,)}, "batch sizes must be positive"),
        ({"seconds": 0.0}, "must be positive"),
    ],
)
def test_latency_settings_out_of_range(settings, match):
    with pytest.raises(UserError, match=match):
        LatencySettings(**settings)


# Commands.


def test_export_command(folder, tmp_path, capsys):
    run_export(Export(folder, tmp_path / "model.pt", check_showers=20))
    assert "20 showers agree with the generator" in capsys.readouterr().out
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.json", "model.pt"]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"output": "model.bin"}, r"must end in \.onnx or \.pt"),
        ({"output": "model.pt", "int8": True}, "--int8 needs an ONNX file"),
        ({"max_energy": 1e6}, "contract par04 only"),
        ({"check_showers": 0}, "give a positive number"),
        ({"model": "absent"}, "no such model folder"),
    ],
)
def test_export_command_refuses_in_one_line_and_writes_nothing(folder, tmp_path, change, match):
    options = {"model": folder, "output": "model.onnx", **change}
    options["model"] = tmp_path / options["model"] if options["model"] == "absent" else options["model"]
    options["output"] = tmp_path / options["output"]
    with pytest.raises(UserError, match=match) as caught:
        run_export(Export(**options))
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
