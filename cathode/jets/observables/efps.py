r"""Energy flow polynomials (EFPs): every infrared- and collinear-safe observable is a sum of them.

A multigraph :math:`G` with vertices :math:`V` and edges :math:`E` stands for (Komiske, Metodiev, Thaler,
https://arxiv.org/abs/1712.07124, eq. 1.4)

.. math:: \mathrm{EFP}_G = \sum_{i_1} \cdots \sum_{i_V} z_{i_1} \cdots z_{i_V} \prod_{(k,l) \in E} \theta_{i_k i_l},

the graph without edges for :math:`\sum_i z_i`, and a graph of several pieces for the product of theirs.  Here
:math:`\theta_{ij} = (\Delta\eta_{ij}^2 + \Delta\phi_{ij}^2)^{\beta/2}`.

Vertices are summed one after the other.  One with a single neighbour is a product of a matrix with a vector, one with
two neighbours a product of matrices; what several graphs have in common is computed once.  Every connected graph with
up to five edges reduces in this way, and all those with up to four share a single product of matrices.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from itertools import combinations, permutations
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from cathode.jets.observables.padded import Floats, Padded, angles, blocks
from cathode.support.errors import UserError

__all__ = ["Graph", "connected_graphs", "efps", "graphs", "w1efp_graphs"]

#: Edges as pairs of vertices; a pair that occurs twice is a double edge.
Graph = tuple[tuple[int, int], ...]

# Symbols for what is computed: see _Engine.
_Key = tuple[Any, ...]


@cache
def connected_graphs(max_edges: int) -> tuple[Graph, ...]:
    """Every connected multigraph with 0 ... ``max_edges`` edges once: 1, 1, 2, 5, 12, 33 graphs of 0 ... 5 edges.

    Ordered by edges, vertices, then the edges themselves.
    """
    level: set[Graph] = {()}
    found = [*level]
    for _ in range(max_edges):
        larger: set[Graph] = set()
        for graph in level:
            vertices = _vertices(graph)
            # A new edge joins two vertices, or one of them and a new one; the first edge brings both.
            pairs = [*combinations(range(vertices), 2), *((v, vertices) for v in range(vertices))]
            larger |= {_canonical((*graph, pair)) for pair in pairs}
        level = larger
        found += sorted(level, key=lambda g: (_vertices(g), g))
    return tuple(found)


@cache
def graphs(max_edges: int) -> tuple[Graph, ...]:
    """Every multigraph without isolated vertices with up to ``max_edges`` edges, of one or more pieces: 36 for four.

    First the connected ones, in the order of :func:`connected_graphs`, then products of two and more.
    """
    connected = [graph for graph in connected_graphs(max_edges) if graph]
    composite: list[Graph] = []

    def extend(pieces: tuple[int, ...]) -> None:
        used = sum(len(connected[k]) for k in pieces)
        for k in range(pieces[-1] if pieces else 0, len(connected)):
            if used + len(connected[k]) <= max_edges:
                if pieces:
                    composite.append(_union([connected[i] for i in (*pieces, k)]))
                extend((*pieces, k))

    extend(())
    return (*connected_graphs(max_edges), *sorted(composite, key=lambda g: (len(g), _vertices(g), g)))


def w1efp_graphs() -> tuple[Graph, ...]:
    """The five connected graphs with four vertices and four edges, on which JetNet's W1EFP is defined."""
    return tuple(graph for graph in connected_graphs(4) if len(graph) == 4 and _vertices(graph) == 4)


def efps(points: ArrayLike, of: Iterable[Graph] | None = None, *, beta: float = 1.0) -> Floats:
    """Energy flow polynomials ``(N, G)`` of jets.

    Args:
        points: ``(N, P, 3)``: weight (pT, or pT relative to the jet), eta, phi; weight 0 is padding.
        of: Graphs; default: the 36 of :func:`graphs` with up to four edges, as JetNet's FPD and KPD take.
        beta: Angular exponent.

    Raises:
        UserError: Another shape, negative weights, or a graph with a vertex that cannot be reduced to two neighbours.
    """
    values = np.asarray(points, dtype=np.float64)
    if values.ndim != 3 or values.shape[2] != 3:
        raise UserError(f"EFPs need constituents (jets, constituents, 3: weight, eta, phi), got {values.shape}")
    if (values[..., 0] < 0).any() or not np.isfinite(values).all():
        raise UserError("EFPs need finite constituents without negative weights")
    if not (np.isfinite(beta) and beta > 0):
        raise UserError(f"EFPs need a positive exponent beta, got {beta!r}")
    chosen = graphs(4) if of is None else tuple(of)
    pieces = {piece for graph in chosen for piece in _pieces(graph)}
    found = np.empty((len(values), len(chosen)))
    for rows in blocks(values):
        z, eta, phi = (np.ascontiguousarray(values[rows, :, k]) for k in range(3))
        engine = _Engine(Padded(z, eta, phi, z > 0), beta)
        known = {piece: engine.connected(piece) for piece in pieces}
        for column, graph in enumerate(chosen):
            found[rows, column] = np.prod([known[piece] for piece in _pieces(graph)], axis=0)
    return found


class _Engine:
    """Sums over vertices for one block of jets, remembering every intermediate by a symbol.

    A weight is a sorted tuple of messages, whose product with z is a vector ``(B, P)``; a message is ``("m", edge,
    weight)``: the matrix of an edge times a weight.  An edge is ``("theta", k)``, k parallel edges; ``("path", left,
    weight, right)``, two edges through a vertex that was summed; or ``("times", ...)``, several of these side by side.
    """

    def __init__(self, block: Padded, beta: float) -> None:
        theta = angles(block)
        self._z = block.z
        self._matrices: dict[_Key, Floats] = {("theta", 1): theta if beta == 1.0 else theta**beta}
        self._vectors: dict[_Key, Floats] = {(): block.z}

    def connected(self, graph: Graph) -> Floats:
        """Values ``(B,)`` of one connected graph."""
        weights: dict[int, _Key] = dict.fromkeys(range(_vertices(graph)), ())
        edges: dict[tuple[int, int], _Key] = {}
        for pair in sorted(set(graph)):
            edges[pair] = ("theta", graph.count(pair))
        while len(weights) > 1:
            vertex = min(weights, key=lambda v: self._cost(v, weights, edges))
            around = [pair for pair in edges if vertex in pair]
            if len(around) > 2:
                raise UserError(f"the graph {graph} cannot be summed with matrices: every vertex has three neighbours")
            weight = weights.pop(vertex)
            ends = [pair[0] if pair[1] == vertex else pair[1] for pair in around]
            # Towards the vertex from the first neighbour, and from it to the second.
            keys = [edges.pop(pair) if pair[1] == vertex else _turned(edges.pop(pair)) for pair in around]
            if len(around) == 1:
                weights[ends[0]] = tuple(sorted((*weights[ends[0]], ("m", keys[0], weight)), key=repr))
                continue
            if ends[0] > ends[1]:
                ends, keys = ends[::-1], keys[::-1]
            path = ("path", keys[0], weight, _turned(keys[1]))
            pair = (ends[0], ends[1])
            edges[pair] = _beside(edges[pair], path) if pair in edges else path
        return np.asarray(self._vector(next(iter(weights.values()))).sum(axis=1))

    @staticmethod
    def _cost(vertex: int, weights: dict[int, _Key], edges: dict[tuple[int, int], _Key]) -> tuple[int, int, int]:
        around = [key for pair, key in edges.items() if vertex in pair]
        # Plain vertices with plain edges first: their sums are what graphs have in common.
        return len(around), len(repr(weights[vertex])), sum(len(repr(key)) + (key != ("theta", 1)) for key in around)

    def _vector(self, weight: _Key) -> Floats:
        if weight not in self._vectors:
            message = weight[-1]
            _, edge, inner = message
            value = np.matmul(self._matrix(edge), self._vector(inner)[:, :, None])[..., 0]
            self._vectors[weight] = value * self._vector(weight[:-1])
        return self._vectors[weight]

    def _matrix(self, key: _Key) -> Floats:
        if key not in self._matrices:
            if key[0] == "theta":
                self._matrices[key] = self._matrix(("theta", key[1] - 1)) * self._matrix(("theta", 1))
            elif key[0] == "path":
                _, left, weight, right = key
                self._matrices[key] = np.matmul(
                    self._matrix(left) * self._vector(weight)[:, None, :], self._matrix(right)
                )
            else:
                product = self._matrix(key[1])
                for other in key[2:]:
                    product = product * self._matrix(other)
                self._matrices[key] = product
        return self._matrices[key]


def _turned(key: _Key) -> _Key:
    """The transposed matrix."""
    if key[0] == "theta":
        return key
    if key[0] == "path":
        return ("path", _turned(key[3]), key[2], _turned(key[1]))
    return ("times", *sorted((_turned(k) for k in key[1:]), key=repr))


def _beside(first: _Key, second: _Key) -> _Key:
    members = [k for key in (first, second) for k in (key[1:] if key[0] == "times" else (key,))]
    return ("times", *sorted(members, key=repr))


def _vertices(graph: Graph) -> int:
    return 1 + max((v for edge in graph for v in edge), default=0)


def _canonical(graph: Sequence[tuple[int, int]]) -> Graph:
    """The smallest of all ways to number the vertices."""
    vertices = 1 + max(v for edge in graph for v in edge)
    return min(
        tuple(sorted((min(p[a], p[b]), max(p[a], p[b])) for a, b in graph)) for p in permutations(range(vertices))
    )


def _union(pieces: Sequence[Graph]) -> Graph:
    edges: list[tuple[int, int]] = []
    for piece in pieces:
        shift = _vertices(tuple(edges)) if edges else 0
        edges += [(a + shift, b + shift) for a, b in piece]
    return tuple(edges)


@cache
def _pieces(graph: Graph) -> tuple[Graph, ...]:
    """The connected pieces of a graph, each canonical."""
    groups: list[tuple[set[int], list[tuple[int, int]]]] = []
    for edge in graph:
        touching = [group for group in groups if group[0] & set(edge)]
        merged = (set(edge).union(*(g[0] for g in touching)), [edge, *(e for g in touching for e in g[1])])
        groups = [group for group in groups if group not in touching] + [merged]
    found: list[Graph] = []
    for vertices, edges in groups:
        number = {v: k for k, v in enumerate(sorted(vertices))}
        found.append(_canonical([(number[a], number[b]) for a, b in edges]))
    return tuple(sorted(found)) or ((),)
