"""CaloChallenge binning files.

``<Bins><Bin pid="22" name="photon"><Layer id="0" r_edges="0,5,..." n_bin_alpha="1"/>...</Bin></Bins>``, edges in mm.  A
layer that the detector region lacks has a single edge and is dropped (arXiv 2410.21611).
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from cathode.support.errors import UserError
from cathode.support.files import atomic_write
from fastsim.geometry.geometry import PARTICLES, Geometry
from fastsim.geometry.layers import Layer, PolarLayer

__all__ = ["read_xml", "write_xml"]

_PIDS = {"photon": 22, "pion": 211, "electron": 11}


def read_xml(path: str | Path, particle: str | None = None, *, name: str | None = None) -> Geometry:
    """Read the binning of one particle.

    Args:
        path: The file.
        particle: ``photon``, ``pion`` or ``electron``; may be left out when the file has one particle only.
        name: Name of the geometry; default the file's name without suffix.

    Raises:
        UserError: The file is missing, is no such XML, or does not have that particle.
    """
    path = Path(path)
    try:
        root = ElementTree.parse(path).getroot()
    except FileNotFoundError as error:
        raise UserError(f"no binning file {path}") from error
    except (OSError, ElementTree.ParseError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not readable as XML: {error}") from error
    bins = {_particle(bin_): bin_ for bin_ in root.iter("Bin")}
    if not bins:
        raise UserError(f"{path}: no <Bin> element; this is not a CaloChallenge binning file")
    known = ", ".join(bins)
    if particle is None:
        if len(bins) > 1:
            raise UserError(f"{path} has several particles ({known}): say which, as {path}:PARTICLE")
        particle = next(iter(bins))
    if particle not in bins:
        hint = "" if particle in PARTICLES else f"; known particles are {', '.join(PARTICLES)}"
        raise UserError(f"{path} has no particle {particle!r}, it has {known}{hint}")
    try:
        layers = [_layer(element) for element in bins[particle].iter("Layer")]
        return Geometry(name or path.stem, particle, tuple(layer for layer in layers if layer is not None))
    except (UserError, KeyError, ValueError) as error:
        what = f"a <Layer> lacks {error}" if isinstance(error, KeyError) else str(error)
        raise UserError(f"{path}: {what}") from error


def write_xml(geometry: Geometry, path: str | Path) -> None:
    """Write a polar geometry as a binning file (without depths).

    Raises:
        UserError: The geometry is not polar, or the file cannot be written.
    """
    if geometry.kind != "polar":
        raise UserError(f"geometry {geometry.name!r} is {geometry.kind}; binning files describe polar layers only")
    attributes = {"name": geometry.particle or "photon"}
    attributes["pid"] = str(_PIDS[attributes["name"]])
    root = ElementTree.Element("Bins")
    element = ElementTree.SubElement(root, "Bin", attributes)
    present = {layer.id: layer for layer in geometry.layers if isinstance(layer, PolarLayer)}
    for number in range(max(present) + 1):
        layer = present.get(number)
        edges = "0" if layer is None else ",".join(f"{edge:.15g}" for edge in layer.r_edges)
        sectors = "1" if layer is None else str(layer.n_alpha)
        ElementTree.SubElement(element, "Layer", {"id": str(number), "r_edges": edges, "n_bin_alpha": sectors})
    ElementTree.indent(root)
    with atomic_write(path) as temporary:
        ElementTree.ElementTree(root).write(temporary, encoding="utf-8", xml_declaration=False)


def _particle(element: ElementTree.Element) -> str:
    name, pid = element.get("name"), element.get("pid")
    return name or next((key for key, value in _PIDS.items() if str(value) == pid), f"pid {pid}")


def _layer(element: ElementTree.Element) -> Layer | None:
    edges = tuple(float(edge) for edge in element.attrib["r_edges"].split(","))
    if len(set(edges)) < 2:
        return None
    return PolarLayer(int(element.attrib["id"]), edges, int(element.attrib["n_bin_alpha"]))
