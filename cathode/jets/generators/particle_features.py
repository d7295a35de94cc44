r"""What constituents are besides their momenta: particle type, charge, and displacement from the primary vertex.

Identity and charge are not independent (photons are neutral, muons are not), so they are *one* class out of eight, and
no combination that does not exist can be generated.  Impact parameters exist for tracks alone: neutral constituents
have none, which files write as exactly 0.  Both are what :class:`~cathode.density.mixed_matching.MixedMatching` models:
classes jump, impact parameters flow, and what a class does not have is exactly 0.

Displacements have a core (the resolution of the detector) and tails (decays of heavy hadrons) that reach a thousand
times further, so they are learned through ``arcsinh``, which keeps their sign and both scales (taggers use ``tanh``,
which loses the tails: H. Qu, C. Li, S. Qian, arXiv 2202.03772, Table 2).  Their uncertainties are positive and learned
as logarithms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from cathode.density.base import ConditionalDensity
from cathode.density.bijections import Arcsinh, Bijection, Columns, Compose, Identity, Log, Standardize
from cathode.density.mirrored import Mirrored
from cathode.density.mixed_matching import MixedMatching, fit_present, joint_features
from cathode.density.preprocessed import Preprocessed
from cathode.jets.readers import PIDS
from cathode.jets.schema import Jets
from cathode.support.errors import UserError

__all__ = ["ParticleFeatures", "ParticleTypes", "particle_density"]

# In the order of their class index: name in PIDS and charge.
_CLASSES = (
    ("photon", 0),
    ("neutral hadron", 0),
    ("charged hadron", -1),
    ("charged hadron", 1),
    ("electron", -1),
    ("electron", 1),
    ("muon", -1),
    ("muon", 1),
)
_NUMBER = {name: number for number, name in enumerate(PIDS, start=1)}


class ParticleTypes:
    """The eight kinds of constituents that particle flow tells apart, and the way to them and back.

    Attributes:
        names: Of the classes, by index: ``photon``, ``neutral hadron``, ``charged hadron -`` …
        pid: ``(8,)`` number of each class in :data:`cathode.jets.readers.PIDS`, counted from 1.
        charge: ``(8,)`` charge of each class.
    """

    names = tuple(name + {0: "", -1: " -", 1: " +"}[charge] for name, charge in _CLASSES)
    pid = np.array([_NUMBER[name] for name, _ in _CLASSES], dtype=np.int8)
    charge = np.array([charge for _, charge in _CLASSES], dtype=np.int8)

    @classmethod
    def classes(cls, pid: ArrayLike, charge: ArrayLike, mask: ArrayLike | None = None) -> NDArray[np.int64]:
        """Class indices of constituents, 0 in padding.

        Args:
            pid: Numbers in :data:`PIDS` from 1, any shape.
            charge: -1, 0 or 1, of the same shape.
            mask: Of the same shape; everything is a constituent if not given.

        Raises:
            UserError: A type without its charge (a neutral muon, a charged photon), or no known type.
        """
        numbers, charges = np.asarray(pid), np.asarray(charge)
        if numbers.shape != charges.shape:
            raise UserError(f"pid has shape {numbers.shape} and charge {charges.shape}: they must be the same")
        real = np.ones(numbers.shape, dtype=bool) if mask is None else np.asarray(mask, dtype=bool)
        fits = (numbers[..., None] == cls.pid) & (charges[..., None] == cls.charge)
        lost = real & ~fits.any(-1)
        if lost.any():
            number, value = numbers[lost][0], charges[lost][0]
            whole = float(number).is_integer() and 1 <= number <= len(PIDS)
            name = PIDS[int(number) - 1] if whole else f"pid {number:g}"
            raise UserError(
                f"{int(lost.sum())} of {int(real.sum())} constituents are no particle that exists (first: {name} of"
                f" charge {value:g}): check the columns pid and charge"
            )
        return np.where(real, fits.argmax(-1), 0)

    @classmethod
    def columns(cls, classes: ArrayLike, mask: ArrayLike | None = None) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
        """``pid`` and ``charge`` of class indices, 0 in padding; the inverse of :meth:`classes`.

        Raises:
            UserError: An index that is not 0 … 7.
        """
        given = np.asarray(classes)
        index = given.astype(np.int64)
        real = np.ones(given.shape, dtype=bool) if mask is None else np.asarray(mask, dtype=bool)
        if bool((real & ((index != given) | (index < 0) | (index >= len(cls.names)))).any()):
            raise UserError(f"classes of constituents must be whole numbers from 0 to {len(cls.names) - 1}")
        index = np.where(real, index, 0)
        return np.where(real, cls.pid[index], 0).astype(np.int8), np.where(real, cls.charge[index], 0).astype(np.int8)

    @classmethod
    def from_flags(cls, flags: ArrayLike, charge: ArrayLike) -> NDArray[np.int64]:
        """Class indices from one-hot flags ``(..., 5)`` in the order of :data:`PIDS`, and charges ``(...)``.

        Raises:
            UserError: Flags that are not one-hot, or a combination that does not exist.
        """
        hot = np.asarray(flags)
        if hot.shape[-1:] != (len(PIDS),) or not np.isin(hot, (0, 1)).all() or bool((hot.sum(-1) != 1).any()):
            raise UserError(f"flags must have one 1 among {len(PIDS)} columns: {', '.join(PIDS)}")
        return cls.classes(hot.argmax(-1) + 1, charge)

    @classmethod
    def flags(cls, classes: ArrayLike) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
        """One-hot flags ``(..., 5)`` and charges ``(...)``: the inverse of :meth:`from_flags`."""
        pid, charge = cls.columns(classes)
        return (pid[..., None] == np.arange(1, len(PIDS) + 1)).astype(np.int8), charge


@dataclass(frozen=True)
class ParticleFeatures:
    """Further columns of the constituents that a generator learns, beside pT, eta and phi.

    The columns, in this order: ``d0`` and ``dz`` [mm], ``d0_err`` and ``dz_err`` [mm], the class of
    :class:`ParticleTypes` (always).

    Args:
        displacements: Learn ``d0`` and ``dz``.
        errors: Learn their uncertainties.

    Raises:
        UserError: Uncertainties without displacements.
    """

    displacements: bool = True
    errors: bool = True

    def __post_init__(self) -> None:
        if self.errors and not self.displacements:
            raise UserError("errors: uncertainties of displacements need displacements: set displacements to true")

    @property
    def continuous(self) -> tuple[str, ...]:
        """Names of the continuous columns."""
        return ("d0", "dz")[: 2 * self.displacements] + ("d0_err", "dz_err")[: 2 * self.errors]

    @property
    def extras(self) -> tuple[str, ...]:
        """Columns of :class:`~cathode.jets.schema.Jets` that are needed, and made."""
        return ("pid", "charge", *self.continuous)

    @property
    def size(self) -> int:
        """Number of columns, the class included."""
        return len(self.continuous) + 1

    @property
    def network_features(self) -> int:
        """Features of the network of :func:`particle_density`."""
        return joint_features(3 + self.size, [len(ParticleTypes.names)])

    def present(self, before: int = 3) -> list[list[int]]:
        """For each class, which of the ``before`` other continuous columns and of these exist (1) for it."""
        return [[1] * before + [int(charge != 0)] * len(self.continuous) for charge in ParticleTypes.charge]

    def mirrored(self, before: int = 3) -> list[list[int]]:
        """Columns that change sign in a mirror of eta, and in one of phi, in points with ``before`` other columns.

        An impact parameter along the beam (``dz``) is mirrored with eta, a transverse one (``d0``, signed by the
        angular momentum around the beam) with phi.
        """
        place = {name: before + k for k, name in enumerate(self.continuous)}
        return [[place[name]] if name in place else [] for name in ("dz", "d0")]

    def columns(self, jets: Jets) -> NDArray[np.float32]:
        """``(N, P, size)`` of the constituents, zero in padding.

        Raises:
            UserError: A column is missing, particles that do not exist, neutral ones with a displacement, or charged
                ones with a negative uncertainty.
        """
        missing = [name for name in self.extras if name not in jets.extras]
        if missing:
            raise UserError(
                f"the jets have no column {', '.join(missing)} of their constituents (they have"
                f" {', '.join(sorted(jets.extras)) or 'none'}): read another file, or learn less"
            )
        classes = ParticleTypes.classes(jets.extras["pid"], jets.extras["charge"], jets.mask)
        neutral = jets.mask & (ParticleTypes.charge[classes] == 0)
        values = []
        for name in self.continuous:
            column = np.asarray(jets.extras[name], dtype=np.float32)
            wrong = neutral & (column != 0)
            if wrong.any():
                raise UserError(f"{int(wrong.sum())} neutral constituents have {name}: only tracks can")
            if name.endswith("_err") and bool((column < 0).any()):
                raise UserError(f"{int((column < 0).sum())} constituents have a negative {name}")
            values.append(column)
        return np.stack([*values, classes], -1).astype(np.float32)

    def split(self, columns: ArrayLike, mask: NDArray[np.bool_]) -> dict[str, NDArray[Any]]:
        """``extras`` of jets from ``(N, P, size)`` columns: the inverse of :meth:`columns`.

        Raises:
            UserError: Classes that are not 0 … 7.
        """
        values = np.asarray(columns)
        pid, charge = ParticleTypes.columns(values[..., -1], mask)
        made: dict[str, NDArray[Any]] = {"pid": pid, "charge": charge}
        for k, name in enumerate(self.continuous):
            made[name] = np.where(mask & (charge != 0), values[..., k], 0.0).astype(np.float32)
        return made

    def bijection(self, columns: Tensor, mask: Tensor) -> Columns:
        """Change of variables of the continuous columns, fitted on the tracks among ``columns (N, P, size)``.

        Raises:
            UserError: No tracks, or a column that is the same for all of them.
        """
        charged = torch.as_tensor(ParticleTypes.charge != 0)[columns[..., -1].long()] & mask
        members: list[Bijection] = []
        for k, name in enumerate(self.continuous):
            size = columns[..., k][charged].double().abs()
            size = size[size > 0]
            if len(size) == 0:
                raise UserError(f"no constituent has {name}: leave it out of what is learned")
            if name.endswith("_err"):
                # Tracks without an uncertainty get one below all others.
                first: Bijection = Log(1, epsilon=0.5 * float(size.min()))
            else:
                # Half of the tracks are seen linearly.
                first = Arcsinh(1, scale=float(size.median()))
            members.append(Compose([first, Standardize(1)]))
        present = charged.unsqueeze(-1).expand(*charged.shape, len(members))
        return fit_present(Columns(members), columns[..., : len(members)], present)


def particle_density(
    points: Tensor,
    mask: Tensor,
    context: Tensor,
    *,
    features: ParticleFeatures,
    frame: Bijection,
    network: nn.Module,
    context_bijection: Bijection | None = None,
    mirrors: list[list[int]] | None = None,
    steps: int = 20,
    solver: str = "heun",
    interpolation: str = "masking",
    class_weight: float = 1.0,
) -> ConditionalDensity:
    """Untrained density of constituents with types and displacements, for the points stage of a jet generator.

    Args:
        points: ``(N, P, 3 + size)`` of the training: pT fraction, distances to the axis in eta and phi, then
            :meth:`ParticleFeatures.columns`; what is changed before learning is fitted to them.
        mask: ``(N, P)``.
        context: ``(N, C)``.
        features: Which columns there are.
        frame: Change of variables of the first three columns, unfitted.
        network: For ``features.network_features`` features and C context columns.
        context_bijection: Fitted.
        mirrors: Jets are equally likely mirrored in eta and in phi; which columns of the context then change sign, for
            either.  None: they are not.
        steps: Of the solver.
        solver: See :class:`~cathode.density.mixed_matching.MixedMatching`.
        interpolation: Of the classes.
        class_weight: Of their cross-entropy.

    Raises:
        UserError: Columns that cannot be learned, see :meth:`ParticleFeatures.bijection`.
        ValueError: A network that does not fit.
    """
    places, columns = points.shape[1:]
    if columns != 3 + features.size:
        raise ValueError(f"the constituents have {columns} columns: {3 + features.size} are needed")
    parts: list[Bijection] = [frame.fit(points[..., :3], mask=mask)]
    if features.continuous:
        parts.append(features.bijection(points[..., 3:], mask))
    inner = MixedMatching(
        [places, columns],
        context.shape[1],
        categories=[len(ParticleTypes.names)],
        network=network,
        bijection=Columns(parts),
        present=features.present(),
        interpolation=interpolation,
        class_weight=class_weight,
        solver=solver,
        steps=steps,
    )
    density = Preprocessed(Identity(columns), inner, context_bijection)
    if mirrors is None:
        return density
    events = [[k, *more] for k, more in zip((1, 2), features.mirrored(), strict=True)]
    return Mirrored(density, events, mirrors)
