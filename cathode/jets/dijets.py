r"""Kinematics of two jets at a given dijet mass, in coordinates without edges.

A background model of whole events must give two jets whose invariant mass is the one that was asked for, inside the
acceptance of the selection.  :class:`DijetKinematics` is the bijection that makes this exact.  With
:math:`r = p_{T2}/p_{T1}`, :math:`\mu_i = m_i/p_{Ti}`, :math:`s_i = \sqrt{1+\mu_i^2}`, :math:`\delta` the angle between
the jets in :math:`\phi` and :math:`\Delta y` their difference in rapidity,

.. math::
    m_{JJ} = p_{T1} \sqrt{Q}, \qquad Q = \mu_1^2 + r^2 \mu_2^2 + 2 r (s_1 s_2 \cosh\Delta y - \cos\delta),

so the leading :math:`p_T` follows from the other six numbers and needs no density.  Each of the six is taken relative
to the range that the acceptance (:math:`p_{T1} > p_T^{min}`, :math:`p_{T1} \ge p_{T2}`, :math:`|\eta_i| <
\eta^{max}`) and the numbers before it leave, and that range is stretched to the whole axis by a logit: every point
of :math:`\mathbb{R}^6` is an event inside the acceptance, and every such event is one point.

Jets are massive: the acceptance in pseudorapidity becomes :math:`|y_i| < Y_i = \operatorname{arsinh}(\sinh\eta^{max} /
s_i)`, which depends on :math:`\mu_i` alone.

The azimuth of the leading jet and the side on which the other one lies carry no physics; they are left out by
:meth:`DijetKinematics.features` and given to :meth:`DijetKinematics.axes`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from cathode.jets.schema import ConstituentEvents
from cathode.support.errors import UserError

__all__ = ["KINEMATIC_FEATURES", "DijetKinematics", "dijet_mass", "in_acceptance", "ordered_axes"]

Array = NDArray[np.float64]

#: Columns of :meth:`DijetKinematics.features`.
KINEMATIC_FEATURES = ("mu1", "mu2", "acoplanarity", "pt_ratio", "delta_y", "boost")

_GEV_PER_TEV = 1e3
# exp(-40) is below the spacing of float64 at 1: larger coordinates are the edge itself.
_LARGEST = 40.0


def dijet_mass(axes: ArrayLike) -> Array:
    """Invariant mass of two jets ``(N,)`` in TeV from their axes ``(N, 2, 4)``: pT [GeV], eta, phi, m [GeV].

    Raises:
        UserError: Another shape.
    """
    jets = _axes(axes)
    pt, mass = jets[..., 0], jets[..., 3]
    mt = np.hypot(pt, mass)
    y = np.arcsinh(pt * np.sinh(jets[..., 1]) / mt)
    # The difference of mT1 mT2 and pT1 pT2, written so that it does not cancel for light jets.
    masses = mass**2
    apart = (masses[:, 0] * mt[:, 1] ** 2 + masses[:, 1] * pt[:, 0] ** 2) / (mt.prod(1) + pt.prod(1))
    angles = mt.prod(1) * np.sinh(0.5 * (y[:, 0] - y[:, 1])) ** 2
    angles += pt.prod(1) * np.sin(0.5 * (jets[:, 0, 2] - jets[:, 1, 2])) ** 2
    squared: Array = masses.sum(1) + 2 * apart + 4 * angles
    return np.sqrt(squared) / _GEV_PER_TEV


def ordered_axes(events: ConstituentEvents) -> tuple[ConstituentEvents, Array]:
    """Events with the jet of larger pT first, and the axes ``(N, 2, 4)`` of their constituents.

    Jets are ordered by what is stored of them: cutting constituents may have turned their order.
    """
    axes = events.flat().axis.reshape(len(events), 2, 4)
    turned = axes[:, 1, 0] > axes[:, 0, 0]
    if not turned.any():
        return events, axes
    order = np.where(turned[:, None], [1, 0], [0, 1])
    points = np.take_along_axis(events.points, order[:, :, None, None], axis=1)
    mask = np.take_along_axis(events.mask, order[:, :, None], axis=1)
    swapped = ConstituentEvents(points, mask, events.mass, events.event_id, events.weight)
    return swapped, np.take_along_axis(axes, order[:, :, None], axis=1)


@dataclass(frozen=True)
class DijetKinematics:
    """Bijection between two jets and ``(m_JJ, six unbounded features)``; exact in float64.

    Args:
        leading_pt: Lower limit on the transverse momentum of the leading jet, GeV.
        max_eta: Limit on the absolute pseudorapidity of both jets.

    Raises:
        UserError: Limits that are not positive.
    """

    leading_pt: float = 1200.0
    max_eta: float = 2.5

    def __post_init__(self) -> None:
        if not (np.isfinite(self.leading_pt) and self.leading_pt > 0):
            raise UserError(f"dijets: leading_pt must be positive, got {self.leading_pt!r}")
        if not (np.isfinite(self.max_eta) and self.max_eta > 0):
            raise UserError(f"dijets: max_eta must be positive, got {self.max_eta!r}")

    def inside(self, axes: ArrayLike) -> NDArray[np.bool_]:
        """Events ``(N,)`` in the acceptance, from axes ``(N, 2, 4)``.

        The leading jet above ``leading_pt``, jets ordered by pT, both of positive mass and within ``max_eta``.
        """
        jets = _axes(axes)
        pt, eta, mass = jets[..., 0], jets[..., 1], jets[..., 3]
        ordered = (pt[:, 0] > self.leading_pt) & (pt[:, 0] >= pt[:, 1]) & (pt[:, 1] > 0)
        whole = np.isfinite(jets).all((1, 2)) & (mass > 0).all(1)
        kept: NDArray[np.bool_] = ordered & whole & (np.abs(eta) < self.max_eta).all(1)
        return kept

    def features(self, axes: ArrayLike) -> tuple[Array, Array]:
        """Unbounded features ``(N, 6)`` and the dijet mass ``(N,)`` in TeV.

        Args:
            axes: ``(N, 2, 4)``: pT [GeV], eta, phi, m [GeV]; the leading jet first.

        Raises:
            UserError: Another shape, or events that are not :meth:`inside`.
        """
        jets = _axes(axes)
        outside = int((~self.inside(jets)).sum())
        if outside:
            raise UserError(
                f"dijets: {outside} of {len(jets)} events are outside of the acceptance (leading jet above "
                f"{self.leading_pt:g} GeV, |eta| < {self.max_eta:g}, ordered by pT, massive): leave them out"
            )
        pt, mass = jets[..., 0], jets[..., 3]
        mjj = dijet_mass(jets)
        mu = mass / pt
        y = np.arcsinh(np.sinh(jets[..., 1]) / np.hypot(1.0, mu))
        delta = np.abs((jets[:, 0, 2] - jets[:, 1, 2] + np.pi) % (2 * np.pi) - np.pi)
        ratio, difference, boost = pt[:, 1] / pt[:, 0], y[:, 0] - y[:, 1], 0.5 * (y[:, 0] + y[:, 1])
        limit = self._limit(mjj)
        edge = self._edge(mu)
        largest_ratio = _largest_ratio(mu, delta, limit)
        largest = self._largest_difference(mu, delta, ratio, limit)
        low, high = _boost_range(edge, difference)
        columns = [
            _logit(mu[:, 0] / limit),
            np.log(mu[:, 1]),
            _logit((np.pi - delta) / np.pi),
            _logit(ratio / largest_ratio),
            _logit(0.5 * (1 + difference / largest)),
            _logit((boost - low) / (high - low)),
        ]
        return np.stack(columns, axis=1), mjj

    def axes(self, features: ArrayLike, mass: ArrayLike, *, phi: ArrayLike = 0.0, side: ArrayLike = 1.0) -> Array:
        """The two jets ``(N, 2, 4)``: pT [GeV], eta, phi, m [GeV]; their mass is ``mass`` to rounding.

        Args:
            features: ``(N, 6)``, any finite numbers.
            mass: Dijet mass ``(N,)`` in TeV.
            phi: Azimuth of the leading jet ``(N,)``.
            side: +1 or -1 ``(N,)``: the side on which the second jet lies.

        Raises:
            UserError: Shapes that do not fit, numbers that are not finite, or masses that are not positive.
        """
        x, mjj = np.asarray(features, dtype=np.float64), np.asarray(mass, dtype=np.float64)
        if mjj.ndim != 1 or x.shape != (len(mjj), len(KINEMATIC_FEATURES)):
            raise UserError(f"dijets: features of shape {x.shape} for masses {mjj.shape}, expected (N, 6) and (N,)")
        if not (np.isfinite(x).all() and np.isfinite(mjj).all() and (mjj > 0).all()):
            raise UserError("dijets: features must be finite and masses positive")
        x = np.clip(x, -_LARGEST, _LARGEST)
        limit = self._limit(mjj)
        mu = np.stack([limit * expit(x[:, 0]), np.exp(x[:, 1])], axis=1)
        delta = np.pi * expit(-x[:, 2])
        ratio = _largest_ratio(mu, delta, limit) * expit(x[:, 3])
        largest = self._largest_difference(mu, delta, ratio, limit)
        difference = largest * np.tanh(0.5 * x[:, 4])
        low, high = _boost_range(self._edge(mu), difference)
        boost = low + (high - low) * expit(x[:, 5])
        pt1 = mjj * _GEV_PER_TEV / np.sqrt(_square(mu, delta, ratio, difference))
        pt = np.stack([pt1, ratio * pt1], axis=1)
        y = np.stack([boost + 0.5 * difference, boost - 0.5 * difference], axis=1)
        eta = np.arcsinh(np.hypot(1.0, mu) * np.sinh(y))
        first = np.broadcast_to(np.asarray(phi, dtype=np.float64), mjj.shape)
        second = first - np.broadcast_to(np.asarray(side, dtype=np.float64), mjj.shape) * delta
        azimuth = (np.stack([first, second], axis=1) + np.pi) % (2 * np.pi) - np.pi
        return np.stack([pt, eta, azimuth, mu * pt], axis=2)

    def _limit(self, mass: Array) -> Array:
        """sqrt(Q) where the leading jet is at its limit, which is also the largest mu1."""
        return mass * _GEV_PER_TEV / self.leading_pt

    def _edge(self, mu: Array) -> Array:
        return np.arcsinh(np.sinh(self.max_eta) / np.hypot(1.0, mu))

    def _largest_difference(self, mu: Array, delta: Array, ratio: Array, limit: Array) -> Array:
        """|Delta y| at which the leading jet falls to its limit, or both jets reach the edge in pseudorapidity."""
        room = np.maximum(limit**2 - _square(mu, delta, ratio, np.zeros_like(ratio)), 0.0)
        scale = 4 * ratio * np.hypot(1.0, mu).prod(1)
        by_pt = 2 * np.arcsinh(np.sqrt(room / np.maximum(scale, np.finfo(np.float64).tiny)))
        # Where a logit has saturated the range is a point; a tiny width keeps the ratio to it defined.
        return np.maximum(np.minimum(by_pt, self._edge(mu).sum(1)), np.finfo(np.float64).tiny)


def _axes(axes: ArrayLike) -> Array:
    values = np.asarray(axes, dtype=np.float64)
    if values.ndim != 3 or values.shape[1:] != (2, 4):
        raise UserError(f"dijets: axes have shape {values.shape}, expected (N, 2, 4): pT, eta, phi, m of two jets")
    return values


def _apart(mu: Array, delta: Array) -> Array:
    """s1 s2 - cos(delta), without cancellation."""
    s = np.hypot(1.0, mu).prod(1)
    squares = mu**2
    return (squares.sum(1) + squares.prod(1)) / (s + 1) + 2 * np.sin(0.5 * delta) ** 2


def _square(mu: Array, delta: Array, ratio: Array, difference: Array) -> Array:
    """Q of the module's formula."""
    s = np.hypot(1.0, mu).prod(1)
    opening = _apart(mu, delta) + 2 * s * np.sinh(0.5 * difference) ** 2
    return mu[:, 0] ** 2 + (ratio * mu[:, 1]) ** 2 + 2 * ratio * opening


def _largest_ratio(mu: Array, delta: Array, limit: Array) -> Array:
    """Largest pT2 / pT1 for which the leading jet can be above its limit at all: the root of Q(r) = limit^2."""
    rest = np.maximum(limit**2 - mu[:, 0] ** 2, 0.0)
    b = _apart(mu, delta)
    denominator = b + np.sqrt(b**2 + mu[:, 1] ** 2 * rest)
    return np.minimum(rest / np.maximum(denominator, np.finfo(np.float64).tiny), 1.0)


def _boost_range(edge: Array, difference: Array) -> tuple[Array, Array]:
    low = np.maximum(-edge[:, 0] - 0.5 * difference, -edge[:, 1] + 0.5 * difference)
    high = np.minimum(edge[:, 0] - 0.5 * difference, edge[:, 1] + 0.5 * difference)
    return low, high


def _logit(share: Array) -> Array:
    """Logit of a share in [0, 1]; shares that rounding put at or beyond an edge are moved to it."""
    tiny = np.finfo(np.float64).tiny
    with np.errstate(divide="ignore", invalid="ignore"):
        value = np.log(np.maximum(share, tiny)) - np.log1p(-np.minimum(share, 1.0 - 1e-16))
    return np.clip(value, -_LARGEST, _LARGEST)


def in_acceptance(
    events: ConstituentEvents, kinematics: DijetKinematics, *, particles: int | None = None
) -> tuple[ConstituentEvents, int]:
    """Events in the acceptance, leading jet first, and how many were outside.

    Args:
        events: Two jets each.
        kinematics: The acceptance, on jets that are the sum of their stored constituents.
        particles: Leading constituents of each jet that are kept, before all else; None for all.

    Raises:
        UserError: Events that do not have two jets.
    """
    if events.points.shape[1] != 2:
        raise UserError(f"dijets: events must have two jets, these have {events.points.shape[1]}")
    if particles is not None:
        events = events.leading(particles)
    events, axes = ordered_axes(events)
    inside = kinematics.inside(axes)
    if inside.all():
        return events, 0
    return events.select(inside), int((~inside).sum())
