"""Agreement with the JetNet library, whose numbers for synthetic jets are in ``golden/jetnet.json``."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

from cathode.jets.metrics import cov_mmd, emd, fpnd, relative_mass, w1efp, w1m, w1p
from cathode.jets.metrics.fpnd import activations
from cathode.jets.metrics.particlenet import load_particlenet
from cathode.jets.observables import efps, w1efp_graphs
from cathode.jets.observables.efps import _pieces
from cathode.jets.schema import Jets
from cathode.support.errors import UserError

GOLDEN = Path(__file__).parent / "golden"
RECIPE = runpy.run_path(str(GOLDEN / "make_jetnet.py"))
REFERENCE = json.loads((GOLDEN / "jetnet.json").read_text())
SEED = RECIPE["SEED"]


def jets(stream: int) -> Jets:
    """The library's input with an axis that makes relative coordinates of it again."""
    relative = RECIPE["jets"](stream)[..., [2, 0, 1]]
    axis = np.tile([1000.0, 0.3, 1.0, 0.0], (len(relative), 1))
    return Jets.from_relative(relative, relative[..., 0] > 0, axis)


def test_masses():
    np.testing.assert_allclose(relative_mass(jets(0))[:8], REFERENCE["mass"], rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize(("metric", "name"), [(w1m, "w1m"), (w1p, "w1p")])
def test_wasserstein_distances_draw_by_draw(metric, name):
    found = metric(jets(0), jets(1), seed=SEED, **RECIPE["SETTINGS"])
    # Jets are stored in single precision.
    np.testing.assert_allclose(found.mean, np.ravel(REFERENCE[name]["mean"]), rtol=1e-5)
    np.testing.assert_allclose(found.std, np.ravel(REFERENCE[name]["std"]), rtol=1e-4)
    assert found.average[0] == pytest.approx(np.mean(REFERENCE[name]["mean"]), rel=1e-5)


def test_energy_flow_polynomials_have_the_values_of_the_library():
    for key in ("efps", "efps_w1"):
        graphs = [tuple(tuple(edge) for edge in graph) for graph in REFERENCE[key]["graphs"]]
        found = efps(RECIPE["jets"](0)[:8][..., [2, 0, 1]], graphs)
        np.testing.assert_allclose(found, REFERENCE[key]["values"], rtol=1e-10, atol=1e-16)


def test_the_default_graphs_are_those_of_the_library():
    from cathode.jets.observables import graphs

    library = {_pieces(tuple(tuple(edge) for edge in graph)) for graph in REFERENCE["efps"]["graphs"]}
    assert {_pieces(graph) for graph in graphs(4)} == library
    assert len(library) == 36


def test_w1efp_draw_by_draw():
    found = w1efp(jets(0), jets(1), seed=SEED, **RECIPE["SETTINGS"])
    library = [_pieces(tuple(tuple(edge) for edge in graph)) for graph in REFERENCE["efps_w1"]["graphs"]]
    order = [library.index(_pieces(graph)) for graph in w1efp_graphs()]
    np.testing.assert_allclose(found.mean, np.array(REFERENCE["w1efp"]["mean"])[order], rtol=1e-5)
    np.testing.assert_allclose(found.std, np.array(REFERENCE["w1efp"]["std"])[order], rtol=1e-4)


def test_energy_movers_distances():
    first, second = (RECIPE["jets"](k)[:6][..., [2, 0, 1]] for k in (0, 1))
    found = [[emd(a, b * [1.3, 1.0, 1.0]) for b in second] for a in first]
    np.testing.assert_allclose(found, REFERENCE["emd"], rtol=1e-9)


def test_coverage_and_mmd_draw_by_draw():
    found = cov_mmd(jets(0), jets(1), seed=SEED, **RECIPE["COVERAGE"])
    assert found.coverage == pytest.approx(REFERENCE["cov_mmd"][0], abs=1e-12)
    assert found.mmd == pytest.approx(REFERENCE["cov_mmd"][1], rel=1e-5)


@pytest.fixture
def resources(tmp_path: Path) -> Path:
    torch.save(RECIPE["weights"](), tmp_path / "pnet_state_dict.pt")
    return tmp_path


def test_activations_of_particlenet(resources):
    network = load_particlenet(resources / "pnet_state_dict.pt")
    found = activations(jets(0).select(slice(0, 6)), network)
    assert found.shape == (6, 256)
    expected = np.array(REFERENCE["activations"])
    # What tells jets apart is much smaller than the activations themselves.
    np.testing.assert_allclose(found[:, :16], expected, atol=0.01 * expected.std(axis=0).min() + 2e-6)


def test_fpnd_is_the_frechet_distance_of_the_activations(resources):
    network = load_particlenet(resources / "pnet_state_dict.pt")
    sample = jets(0).select(slice(0, 40))
    seen = activations(sample, network)
    np.savetxt(resources / "q_mu.txt", seen.mean(axis=0) + 0.01)
    np.savetxt(resources / "q_sigma.txt", np.cov(seen, rowvar=False))
    assert fpnd(sample, "q", resources) == pytest.approx(256 * 0.01**2, rel=1e-4)
    assert fpnd(sample, sample, resources) == pytest.approx(0.0, abs=1e-8)
    assert fpnd(jets(1).select(slice(0, 40)), sample, resources) > 1e-7


def test_fpnd_refuses_what_does_not_fit(resources):
    sample = jets(0).select(slice(0, 4))
    with pytest.raises(UserError, match="no statistics of jets of type 'w'"):
        fpnd(sample, "w", resources)
    with pytest.raises(UserError, match="no weights of ParticleNet at"):
        fpnd(sample, "q", resources / "elsewhere")
    with pytest.raises(UserError, match="FPND is defined for 30 constituents"):
        fpnd(sample.padded(31), sample, resources)
    (resources / "pnet_state_dict.pt").write_bytes(b"not weights")
    with pytest.raises(UserError, match="cannot be read as weights"):
        fpnd(sample, "q", resources)
    state = RECIPE["weights"]()
    state.pop("fc2.bias")
    torch.save(state, resources / "pnet_state_dict.pt")
    with pytest.raises(UserError, match="do not fit the JetNet library's ParticleNet"):
        fpnd(sample, "q", resources)
