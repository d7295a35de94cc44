r"""Models of the shape of a shower: voxel energies given the incident conditions and the energy of each layer.

A shape model is put together from a *frame*, which makes showers unbounded, smooth and about Gaussian, and a *model*
of what the frame leaves:

* ``copula``: every voxel's distribution given the energy of its layer, zeros included, and a Gaussian of all voxels
  together given the whole context, fitted in closed form (:mod:`cathode.density.copula`).  With the model ``gaussian``
  this is a complete generator; any other model refines it and starts from it.
* ``cyclic-copula``: the same for showers that look the same turned in alpha and mirrored, on regular polar grids of
  any size, with the energies of the layers built in (:mod:`cathode.density.cyclic_copula`); ``copula`` with the model
  ``gaussian`` is this on such grids of more than 1,500 voxels, where a dense covariance would be too large.
* ``marginals``: every voxel's distribution given the energy of its layer.
* ``logit``, ``log``, ``power``: fractions of the layer energy, transformed voxel by voxel: what CaloINN and CaloDREAM
  use.

A model is ``gaussian``, a rational-quadratic coupling flow (``coupling``, CaloINN-like), ``flow-matching`` or ``edm``,
the last two with a residual network or, for regular grids, a patch transformer (CaloDREAM-like).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch
from torch import Tensor, nn

from cathode.density.base import ConditionalDensity
from cathode.density.bijections import Bijection, Compose, ConditionalWhiten
from cathode.density.canonical import Canonical
from cathode.density.copula import StandardNormal, fit_copula, impute
from cathode.density.dequantised import Dequantised
from cathode.density.diffusion import EDM
from cathode.density.flows import CouplingSpline
from cathode.density.matching import FlowMatching
from cathode.density.networks import PatchTransformer, ResNet
from cathode.density.preprocessed import Preprocessed
from cathode.support.errors import UserError
from cathode.support.seeding import derive_seed
from cathode.training import FitConfig, TrainingData, fit
from fastsim.generators.cyclic import DENSE_LIMIT, fit_cyclic_shape, turns_whole
from fastsim.generators.preprocessing import context_bijection, fraction_bijection, marginal_bijection
from fastsim.geometry import Geometry
from fastsim.geometry.layers import PolarLayer

__all__ = ["FramedFit", "FramedShape", "NetworkSettings", "fit_framed_shape"]

logger = logging.getLogger(__name__)

#: Up to this many turning layers, the first of them choose the frame.
_FEW_LAYERS = 8
#: Rows that go through a frame at once.
_ROWS = 2048


@dataclass(frozen=True)
class NetworkSettings:
    """Network of flow matching and EDM, or of a coupling flow's layers.

    Args:
        kind: ``resnet``, or ``patch-transformer`` for regular grids.
        width: Width of the layers or of the tokens.
        blocks: Residual blocks, transformer blocks, or coupling layers.
        patch: Cells of a patch along depth, alpha and r.
        heads: Attention heads.
        context_frequencies: Fourier frequencies of each context column.
    """

    kind: Literal["resnet", "patch-transformer"] = "resnet"
    width: int = 512
    blocks: int = 3
    patch: tuple[int, int, int] = (3, 4, 3)
    heads: int = 4
    context_frequencies: int = 2


@dataclass(frozen=True)
class FramedShape:
    """How the shape stage is built.

    Args:
        frame: ``copula``, ``cyclic-copula``, ``marginals``, ``logit``, ``log`` or ``power``; see the module.
        model: ``gaussian``, ``flow-matching``, ``edm`` or ``coupling``.
        network: Of the model.
        nodes: Nodes in the logarithm of a layer's energy, of the voxels' distributions.
        knots: Quantiles of each distribution.
        energy_nodes: Nodes in the logarithm of the incident energy, of the Gaussian; as many as there are energies,
            where these are few and evenly spaced in the logarithm.
        rounds: Rounds of filling and fitting of the dense copula.
        draws: Fillings of each training shower that a model on top of the copula is trained on.
        steps: Solver steps of flow matching and EDM.
        bins: Bins of the splines.
        symmetry: Whether showers are equally likely turned in alpha, and mirrored: each is then learned in a frame of
            its own (:mod:`cathode.density.canonical`).
    """

    kind: Literal["framed"] = "framed"
    frame: Literal["copula", "cyclic-copula", "marginals", "logit", "log", "power"] = "copula"
    model: Literal["gaussian", "flow-matching", "edm", "coupling"] = "gaussian"
    network: NetworkSettings = field(default_factory=NetworkSettings)
    nodes: int = 12
    knots: int = 27
    energy_nodes: int = 8
    rounds: int = 10
    draws: int = 3
    steps: int = 4
    bins: int = 8
    symmetry: Literal["none", "rotations", "rotations and mirror"] = "none"

    def __post_init__(self) -> None:
        for name, least in (("nodes", 2), ("knots", 4), ("energy_nodes", 2), ("rounds", 0), ("draws", 1), ("steps", 1)):
            if getattr(self, name) < least:
                raise UserError(f"shape setting {name}: must be at least {least}, got {getattr(self, name)}")
        if self.frame == "cyclic-copula" and self.model != "gaussian":
            raise UserError("shape setting model: the frame 'cyclic-copula' is a complete model; use 'gaussian'")
        if self.model == "gaussian" and self.frame not in ("copula", "cyclic-copula"):
            raise UserError(
                f"shape setting model: 'gaussian' without correlations under the frame {self.frame!r} is no shower "
                "model; use the frame 'copula' or another model"
            )


@dataclass(frozen=True)
class FramedFit:
    """A fitted shape stage.

    Attributes:
        density: Of voxel energies ``(B, V)`` [MeV] given ``(B, C + L)``.
        history: Of the training, None where nothing was trained.
        seconds: Of the whole fit.
    """

    density: ConditionalDensity
    history: pd.DataFrame | None
    seconds: float


def fit_framed_shape(
    train: tuple[Tensor, Tensor],
    validation: tuple[Tensor, Tensor],
    *,
    geometry: Geometry,
    threshold: float,
    settings: FramedShape,
    fit_config: FitConfig,
    seed: int,
    checkpoint_dir: str | Path | None = None,
) -> FramedFit:
    """Fit the shape of showers given their conditions and layer energies.

    Args:
        train: Showers ``(N, V)`` [MeV] and context ``(N, C + L)``: incident energy, conditions, layer energies.
        validation: The same, for the validation loss.
        geometry: Of the voxels.
        threshold: Voxels below are zeros [MeV].
        settings: What is built.
        fit_config: How the model is trained.
        seed: Fixes everything.
        checkpoint_dir: Of the training.

    Raises:
        UserError: Settings that do not fit the geometry or the data.
    """
    started = time.monotonic()
    x, context = train
    if _is_cyclic(settings, geometry):
        cyclic = fit_cyclic_shape(
            x,
            context,
            geometry=geometry,
            threshold=threshold,
            nodes=settings.nodes,
            knots=settings.knots,
            energy_nodes=settings.energy_nodes,
            seed=seed,
        )
        return FramedFit(cyclic.eval(), None, time.monotonic() - started)
    turned = _canonical(geometry, settings)
    if turned is not None:
        x, validation = turned(x), (turned(validation[0]), validation[1])
    frame = _Frame(geometry, threshold, settings, conditions=context.shape[1] - geometry.n_layers)
    latents = frame.fit(x, context, seed=seed)
    if settings.model == "gaussian":
        gaussian = Preprocessed(frame.bijection, StandardNormal(x.shape[1], context.shape[1]))
        density = _outer(Dequantised(gaussian, threshold), geometry, settings)
        return FramedFit(density.eval(), None, time.monotonic() - started)
    columns = context_bijection(context, plain=frame.plain, offset=threshold)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "shape", "weights"))
        model = _model(geometry, context.shape[1], settings)
    seen = columns.forward_and_log_det(context)[0]
    held_out = frame.latents(*validation, seed=derive_seed(seed, "shape", "validation"))
    result = fit(
        model,
        TrainingData(latents, seen.repeat(len(latents) // len(seen), 1)),
        TrainingData(held_out, columns.forward_and_log_det(validation[1])[0]),
        fit_config,
        seed=derive_seed(seed, "shape", "fit"),
        checkpoint_dir=checkpoint_dir,
    )
    trained = Preprocessed(frame.bijection, result.density.cpu(), columns)
    density = _outer(Dequantised(trained, threshold), geometry, settings)
    return FramedFit(density.eval(), result.history, time.monotonic() - started)


def _is_cyclic(settings: FramedShape, geometry: Geometry) -> bool:
    if settings.frame == "cyclic-copula":
        return True
    large = geometry.n_voxels > DENSE_LIMIT and turns_whole(geometry)
    return settings.frame == "copula" and settings.model == "gaussian" and large


def _outer(density: ConditionalDensity, geometry: Geometry, settings: FramedShape) -> ConditionalDensity:
    """``density`` with its symmetry around it."""
    if settings.symmetry == "none":
        return density
    turning = [layer for layer in geometry.layers if isinstance(layer, PolarLayer) and layer.n_alpha > 1]
    turns = {layer.n_alpha for layer in turning}
    if len(turns) != 1:
        raise UserError(
            f"shape setting symmetry: {geometry.name} has no layers with one common number of bins in alpha; use 'none'"
        )
    count = turns.pop()
    blocks = [
        [part.start, (part.stop - part.start) // count]
        for part, layer in zip(geometry.slices, geometry.layers, strict=True)
        if layer in turning
    ]
    # Few layers: the first with energy decides, where the shower is still narrow; many: all together.
    leaders = list(range(len(blocks))) if len(blocks) <= _FEW_LAYERS else None
    return Canonical(density, count, blocks, mirror=settings.symmetry == "rotations and mirror", leaders=leaders)


def _canonical(geometry: Geometry, settings: FramedShape) -> Callable[[Tensor], Tensor] | None:
    """Showers to their own frame, or None without a symmetry."""
    outer = _outer(StandardNormal(geometry.n_voxels), geometry, settings)
    return outer.frame if isinstance(outer, Canonical) else None


class _Frame:
    """The frame of a shape model: fitted once, and then a way from showers to latent values."""

    bijection: Bijection

    def __init__(self, geometry: Geometry, threshold: float, settings: FramedShape, *, conditions: int) -> None:
        if conditions < 1:
            raise ValueError("the context needs the incident energy before the layer energies")
        self.slices = [(part.start, part.stop) for part in geometry.slices]
        self.threshold, self.settings, self.conditions = threshold, settings, conditions
        #: Conditions other than energies: directions and positions have any sign.
        self.plain = list(range(1, conditions))

    def fit(self, x: Tensor, context: Tensor, *, seed: int) -> Tensor:
        """Fit on training showers; returns their latent values, ``draws`` times one after another."""
        s = self.settings
        if s.frame in ("copula", "marginals"):
            marginals = marginal_bijection(
                self.slices, first=self.conditions, threshold=self.threshold, nodes=s.nodes, knots=s.knots
            )
        if s.frame == "copula":
            whitening = ConditionalWhiten(
                x.shape[1], context.shape[1], nodes=s.energy_nodes, floor=self.threshold, plain=self.plain
            )
            fitted = fit_copula(marginals, whitening, x, context, rounds=s.rounds, seed=derive_seed(seed, "copula"))
            self.marginals, self.whitening = fitted.marginals, fitted.whitening
            self.bijection = Compose([fitted.marginals, fitted.whitening])
            if s.model == "gaussian":
                return fitted.latent
            generator = torch.Generator().manual_seed(derive_seed(seed, "copula", "draws"))
            draws = [fitted.latent]
            for _ in range(s.draws - 1):
                draws.append(
                    impute(self.marginals, self.whitening, x, context, start=draws[-1], sweeps=2, generator=generator)
                )
            return torch.cat([self._whitened(draw, context) for draw in draws])
        if s.frame == "marginals":
            chain: Bijection = marginals
        else:
            chain = fraction_bijection(self.slices, first=self.conditions, threshold=self.threshold, transform=s.frame)
        generator = torch.Generator().manual_seed(derive_seed(seed, "fill"))
        fills = [self._filled(x, generator) for _ in range(s.draws)]
        self.bijection = chain.fit(fills[0], context=context)
        return torch.cat([_through(self.bijection, filled, context) for filled in fills])

    def latents(self, x: Tensor, context: Tensor, *, seed: int) -> Tensor:
        """Latent values of other showers, ``(N, V)``."""
        generator = torch.Generator().manual_seed(seed)
        if self.settings.frame == "copula":
            filled = impute(self.marginals, self.whitening, x, context, sweeps=10, generator=generator)
            return self._whitened(filled, context)
        return _through(self.bijection, self._filled(x, generator), context)

    def _filled(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return Dequantised(StandardNormal(x.shape[1]), self.threshold).fill(x, generator=generator)

    def _whitened(self, latent: Tensor, context: Tensor) -> Tensor:
        return _through(self.whitening, latent, context)


def _through(bijection: Bijection, x: Tensor, context: Tensor) -> Tensor:
    pieces = zip(x.split(_ROWS), context.split(_ROWS), strict=True)
    return torch.cat([bijection.forward_and_log_det(part, given)[0].float() for part, given in pieces])


def _model(geometry: Geometry, context_features: int, settings: FramedShape) -> ConditionalDensity:
    voxels, s, n = geometry.n_voxels, settings, settings.network
    if s.model == "coupling":
        return CouplingSpline(voxels, context_features, transforms=n.blocks, hidden=[n.width, n.width], bins=s.bins)
    network = _network(geometry, context_features, n)
    if s.model == "edm":
        # The paper's -1.2 and 1.2 are for images, which show at little noise.  What voxels of unit variance know of
        # each other shows where noise and data are about equal; there its loss has something to learn.
        return EDM(
            voxels,
            context_features,
            network=network,
            sigma_max=20.0,
            steps=max(s.steps, 2),
            P_mean=0.0,
            P_std=1.6,
        )
    return FlowMatching(voxels, context_features, network=network, solver="midpoint", steps=s.steps)


def _network(geometry: Geometry, context_features: int, settings: NetworkSettings) -> nn.Module:
    common: dict[str, Any] = {
        "width": settings.width,
        "blocks": settings.blocks,
        "context_frequencies": settings.context_frequencies,
    }
    if settings.kind == "resnet":
        return ResNet(geometry.n_voxels, context_features, **common)
    if geometry.shape is None:
        raise UserError(f"a patch transformer needs a regular grid; {geometry.name} has layers of different binning")
    depth, second, third = geometry.shape
    if any(cells % size for cells, size in zip(geometry.shape, settings.patch, strict=True)):
        raise UserError(f"network setting patch: {settings.patch} does not divide the grid {geometry.shape}")
    around = geometry.kind == "polar"
    first_layer = slice(0, second * third)
    if around:
        angles = geometry.alpha[first_layer].reshape(second, third)[:, 0].tolist()
        radii = geometry.r[first_layer].reshape(second, third)[0].tolist()
        coordinates = [[float(k) for k in range(depth)], angles, radii]
    else:
        coordinates = [[float(k) for k in range(size)] for size in geometry.shape]
    return PatchTransformer(
        list(geometry.shape),
        list(settings.patch),
        context_features,
        coordinates=coordinates,
        periodic=[False, around, False],
        local_context=context_features - geometry.n_layers,
        heads=settings.heads,
        **common,
    )
