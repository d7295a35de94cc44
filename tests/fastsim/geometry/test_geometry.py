from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cathode.support.errors import UserError
from fastsim.geometry import NAMES, Geometry, geometries_with, geometry, write_xml

# Published numbers of the CaloChallenge (arXiv 2410.21611): voxels, layer ids, first voxel of each layer.
PUBLISHED = {
    "ds1-photons": (368, (0, 1, 2, 3, 12), (0, 8, 168, 358, 363)),
    "ds1-pions": (533, (0, 1, 2, 3, 12, 13, 14), (0, 8, 108, 208, 213, 363, 523)),
    "ds2": (6480, tuple(range(45)), tuple(range(0, 6480, 144))),
    "ds3": (40500, tuple(range(45)), tuple(range(0, 40500, 900))),
}
PHOTON_XML = """<Bins>
  <Bin pid="22" etaMin="0" etaMax="130" name="photon">
    <Layer id="0" r_edges="0,5,10" n_bin_alpha="1" />
    <Layer id="1" r_edges="0" n_bin_alpha="1" />
    <Layer id="2" r_edges="0, 1 ,4,7" n_bin_alpha="4"/>
  </Bin>
  <Bin pid="211" name="pion"><Layer id="0" r_edges="0,10" n_bin_alpha="2"/></Bin>
</Bins>"""


@pytest.fixture
def photon_xml(tmp_path):
    path = tmp_path / "binning.xml"
    path.write_text(PHOTON_XML)
    return path


@pytest.mark.parametrize("name", PUBLISHED)
def test_public_binnings_have_their_published_voxels(name):
    voxels, ids, starts = PUBLISHED[name]
    one = geometry(name)
    assert one.n_voxels == voxels
    assert one.layer_ids == ids
    assert tuple(part.start for part in one.slices) == starts
    assert one.slices[-1].stop == voxels


def test_edges_of_public_binnings():
    photons, pions = geometry("ds1-photons"), geometry("ds1-pions")
    assert photons.n_alpha == (1, 10, 10, 1, 1)
    assert photons.n_r == (8, 16, 19, 5, 5)
    assert photons.layers[2].r_edges[-4:] == (250, 300, 350, 400)
    assert pions.n_alpha == (1, 10, 10, 1, 10, 10, 1)
    assert pions.n_r == (8, 10, 10, 5, 15, 16, 10)
    assert pions.layers[4].r_edges[:4] == (0, 10, 20, 30)
    ds2, ds3 = geometry("ds2"), geometry("ds3")
    assert ds2.shape == (45, 16, 9)
    assert ds3.shape == (45, 50, 18)
    np.testing.assert_allclose(ds2.layers[7].r_edges, 4.65 * np.arange(10))
    np.testing.assert_allclose(ds3.layers[44].r_edges, 2.325 * np.arange(19))
    assert (ds2.particle, photons.particle, pions.particle) == ("electron", "photon", "pion")
    assert photons.shape is None


def test_voxels_of_a_polar_layer_run_over_r_first():
    one = geometry("ds1-photons")
    layer = one.slices[1]
    edges = np.array([0, 2, 4, 6, 8, 10, 12, 15, 20, 30, 40, 50, 70, 90, 120, 150, 200])
    np.testing.assert_allclose(one.r[layer][:16], (edges[1:] + edges[:-1]) / 2)
    np.testing.assert_allclose(one.r[layer], np.tile(one.r[layer][:16], 10))
    np.testing.assert_allclose(one.alpha[layer][:16], -math.pi + math.pi / 10)
    np.testing.assert_allclose(one.alpha[layer][::16], -math.pi + math.pi / 10 + np.arange(10) * math.pi / 5)
    np.testing.assert_allclose(one.x, one.r * np.cos(one.alpha))
    np.testing.assert_allclose(one.y, one.r * np.sin(one.alpha))
    np.testing.assert_array_equal(one.layer[layer], 1)
    np.testing.assert_array_equal(one.z, one.layer)


@pytest.mark.parametrize("name", [*PUBLISHED, "calogan", "grid-24x24x24", "image-30x30"])
def test_areas_fill_the_layers(name):
    one = geometry(name)
    for layer, part in zip(one.layers, one.slices, strict=True):
        if one.kind == "polar":
            area = math.pi * (layer.r_edges[-1] ** 2 - layer.r_edges[0] ** 2)
        else:
            area = np.ptp(layer.x_edges) * np.ptp(layer.y_edges)
        assert one.size[part].sum() == pytest.approx(area)


@pytest.mark.parametrize("name", NAMES)
def test_round_trip_through_plain_data(name):
    one = geometry(name)
    again = Geometry.from_dict(json.loads(json.dumps(one.to_dict())))
    assert again == one
    assert hash(again) == hash(one)
    assert again.name == one.name
    assert geometry(one) is one


def test_equality_is_by_content_not_name(tmp_path):
    one = geometry("ds1-photons")
    write_xml(one, tmp_path / "copy.xml")
    assert geometry(tmp_path / "copy.xml") == one
    assert one.renamed("another") == one
    assert geometry("ds2") != geometry("ds3")
    assert one.with_depths([(i, i + 1) for i in range(5)]) != one
    assert one != "ds1-photons"


def test_depths_give_z():
    one = geometry("ds1-photons").with_depths([(0, 10), (10, 100), (100, 400), (400, 450), (450, 500)])
    assert set(one.z[one.slices[2]]) == {250.0}
    with pytest.raises(UserError, match="2 depths for 5 layers"):
        one.with_depths([(0, 1), (1, 2)])
    with pytest.raises(UserError, match="front < back"):
        one.with_depths([(1, 0)] * 5)


def test_xml_drops_absent_layers_and_chooses_the_particle(photon_xml):
    one = geometry(f"{photon_xml}:photon")
    assert one.layer_ids == (0, 2)
    assert one.n_voxels == 2 + 12
    assert geometry(f"{photon_xml}:pion").n_voxels == 2
    assert Geometry.from_xml(photon_xml, "pion").name == "binning"


def test_grid_order_of_axes():
    one = Geometry.from_grid((2, 3, 4), cell=(5.0, 2.0, 1.0))
    assert one.shape == (2, 3, 4)
    np.testing.assert_allclose(one.x[:4], [-1.5, -0.5, 0.5, 1.5])
    np.testing.assert_allclose(one.y[:12:4], [-2, 0, 2])
    assert set(one.z) == {2.5, 7.5}
    assert set(one.size) == {2.0}
    other = Geometry.from_grid((3, 4), cell=(2.0, 1.0), fast="y")
    assert other.shape == (1, 3, 4)
    np.testing.assert_allclose(other.y[:4], [-1.5, -0.5, 0.5, 1.5])
    np.testing.assert_allclose(other.x[::4], [-2, 0, 2])


def test_cells_from_a_table():
    table = {"layer": [3, 3, 7], "x": [0.0, 10.0, 5.0], "y": [0.0, 0.0, 1.0], "z_front": [0, 0, 5], "z_back": [4, 4, 9]}
    one = Geometry.from_cells(table | {"size": [100.0, 100.0, 25.0]}, particle="pion")
    assert one.layer_ids == (3, 7)
    assert one.shape is None
    np.testing.assert_allclose(one.z, [2, 2, 7])
    np.testing.assert_allclose(one.r, [0, 10, math.hypot(5, 1)])
    assert one.neighbours.tolist() == [[0, 1], [0, 2], [1, 2]]
    np.testing.assert_array_equal(
        one.find(np.array([0, 0, 1, 1]), np.array([1.0, 30, 5, 9]), np.zeros(4)), [0, -1, 2, -1]
    )


@pytest.mark.parametrize("name", ["ds1-photons", "ds1-pions", "ds2", "calogan", "grid-24x24x24", "image-30x30"])
def test_every_voxel_is_found_at_its_middle(name):
    one = geometry(name)
    np.testing.assert_array_equal(one.find(one.layer, one.x, one.y), np.arange(one.n_voxels))
    assert (one.find(one.layer, one.x + 1e6, one.y) == -1).all()


def test_neighbours_of_a_ring_are_periodic():
    one = geometry("ds2")
    pairs = {tuple(pair) for pair in one.neighbours.tolist()}
    assert (0, 9 * 15) in pairs  # alpha 0 and alpha 15 of the innermost ring
    assert (0, 1) in pairs
    assert (0, 144) in pairs
    assert (0, 2) not in pairs
    # Per layer: 16 * 8 along r and 16 * 9 along alpha; 144 between layers.
    assert len(pairs) == 45 * (16 * 8 + 16 * 9) + 44 * 144


def test_neighbours_of_a_grid():
    one = Geometry.from_grid((2, 3, 4))
    assert len(one.neighbours) == 1 * 12 + 2 * 2 * 4 + 2 * 3 * 3
    assert (one.neighbours[:, 0] < one.neighbours[:, 1]).all()


def test_neighbours_between_layers_overlap(photon_xml):
    one = geometry(f"{photon_xml}:photon")
    # Rings 0-5, 5-10 above sectors of 0-1, 1-4, 4-7: the inner one touches all, the outer one only the last.
    between = [(a, b - 2) for a, b in one.neighbours.tolist() if a < 2 <= b]
    assert {ring for a, ring in between if a == 0} == set(range(12))
    assert {ring % 3 for a, ring in between if a == 1} == {2}


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.lists(st.integers(1, 50), min_size=1, max_size=5), st.integers(1, 7)), min_size=1, max_size=4)
)
def test_any_polar_geometry_is_consistent(layers):
    content = {
        "name": "any",
        "particle": None,
        "kind": "polar",
        "layers": [
            {"id": i, "r_edges": [0, *np.cumsum(steps).tolist()], "n_alpha": n} for i, (steps, n) in enumerate(layers)
        ],
        "z_edges": None,
    }
    one = Geometry.from_dict(content)
    assert one.n_voxels == sum(len(steps) * n for steps, n in layers)
    np.testing.assert_array_equal(one.find(one.layer, one.x, one.y), np.arange(one.n_voxels))
    pairs = one.neighbours
    assert len(np.unique(pairs, axis=0)) == len(pairs)
    assert (pairs[:, 0] < pairs[:, 1]).all()
    # Everything hangs together, as a calorimeter does, when layers lie on each other.
    reached = np.arange(one.n_voxels)
    for _ in range(one.n_voxels):
        low = np.minimum(reached[pairs[:, 0]], reached[pairs[:, 1]])
        before = reached.copy()
        np.minimum.at(reached, pairs[:, 0], low)
        np.minimum.at(reached, pairs[:, 1], low)
        if (before == reached).all():
            break
    assert (reached == 0).all()


def test_arrays_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        geometry("ds2").r[0] = 1


def test_geometries_by_count():
    assert geometries_with(368) == ("ds1-photons",)
    assert geometries_with(7) == ()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ds4", "unknown geometry 'ds4'; give one of ds1-photons"),
        ("missing.xml", "no binning file missing.xml"),
        ("missing.xml:muon", "unknown particle 'muon'.*photon, pion, electron"),
    ],
)
def test_unknown_names(name, message):
    with pytest.raises(UserError, match=message):
        geometry(name)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<Bins><Bin", "not readable as XML"),
        ("<a/>", "no <Bin> element"),
        ('<Bins><Bin name="photon"><Layer id="0" r_edges="0"/></Bin></Bins>', "no layers"),
        ('<Bins><Bin name="photon"><Layer id="0" r_edges="0,5"/></Bin></Bins>', "a <Layer> lacks 'n_bin_alpha'"),
        ('<Bins><Bin name="photon"><Layer id="0" r_edges="0,5,3" n_bin_alpha="1"/></Bin></Bins>', "increasing"),
        ('<Bins><Bin name="photon"><Layer id="0" r_edges="-1,3" n_bin_alpha="1"/></Bin></Bins>', "cannot be negative"),
        ('<Bins><Bin name="photon"><Layer id="0" r_edges="0,x" n_bin_alpha="1"/></Bin></Bins>', "could not convert"),
        ('<Bins><Bin name="photon"><Layer id="0" r_edges="0,1" n_bin_alpha="0"/></Bin></Bins>', "at least 1"),
        (
            '<Bins><Bin name="muon"><Layer id="0" r_edges="0,1" n_bin_alpha="1"/></Bin></Bins>',
            "unknown particle 'muon'",
        ),
        (
            f'<Bins><Bin name="photon">{2 * """<Layer id="0" r_edges="0,1" n_bin_alpha="1"/>"""}</Bin></Bins>',
            "same layer id twice",
        ),
    ],
)
def test_broken_binning_files(tmp_path, content, message):
    path = tmp_path / "broken.xml"
    path.write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        geometry(path)
    assert "broken.xml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_particle_must_be_in_the_file(photon_xml):
    with pytest.raises(UserError, match=r"several particles .photon, pion.: say which"):
        geometry(photon_xml)
    with pytest.raises(UserError, match="no particle 'electron', it has photon, pion"):
        geometry(f"{photon_xml}:electron")
    with pytest.raises(UserError, match=r"no particle 'muon'.*known particles are photon, pion, electron"):
        Geometry.from_xml(photon_xml, "muon")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"layer": [0], "x": [1.0]}, "lacks y"),
        ({"layer": [0, 0], "x": [1.0], "y": [1.0, 2.0]}, "equal, positive length"),
        ({"layer": [0, 1, 0], "x": [1.0] * 3, "y": [1.0] * 3}, "not consecutive"),
        ({"layer": [0.0], "x": [1.0], "y": [1.0]}, "must be integers"),
        ({"layer": [0], "x": [1.0], "y": [math.nan]}, "finite"),
        ({"layer": [0], "x": [1.0], "y": [1.0], "size": [0.0]}, "sizes positive"),
        ({"layer": [0], "x": ["a"], "y": [1.0]}, "no number"),
    ],
)
def test_broken_cell_tables(table, message):
    with pytest.raises(UserError, match=message):
        Geometry.from_cells(table)


def test_other_broken_input():
    with pytest.raises(UserError, match="2 or 3 positive counts"):
        Geometry.from_grid((2, 0, 3))
    with pytest.raises(UserError, match="2 or 3 positive counts"):
        Geometry.from_grid((2, 3), cell=(1.0, 1.0, 1.0))
    with pytest.raises(UserError, match="fast axis"):
        Geometry.from_grid((2, 3), fast="z")
    with pytest.raises(UserError, match="this is no geometry"):
        Geometry.from_dict({"kind": "round"})
    with pytest.raises(UserError, match="polar layers only"):
        write_xml(geometry("image-30x30"), "unused.xml")
