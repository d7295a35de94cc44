"""A resonance search whose every answer is known exactly.

Background: mass ``m`` from an exponential of rate 1.6 / TeV truncated to 2.3-5 TeV, and four features

    x | m = k c (m - 3.5) + (1 + 0.15 k (m - 3.5)) L z,      z ~ N(0, 1_4),

so ``k`` sets how strongly the features depend on the mass.  Signal: ``m ~ N(3.5, 0.07)`` TeV and
``x ~ N(mu_S, 0.48^2 1_4)``, independent of ``m``.  A conditional affine autoregressive flow can represent the
background exactly, the latent ``z`` of the background is exactly standard normal and independent of the
mass, and the Neyman-Pearson statistic is known, so densities, interpolation, classifiers and p-values can
all be held to the truth.

``L`` is lower triangular with diagonal (1, 0.9, 0.8, 0.9).  Its entries below the diagonal are chosen such
that the optimum is like the one of the LHC Olympics R&D data: a significance improvement of 8.5 at a
background efficiency of 1e-2, 15 at 1e-3, below 19 everywhere.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cathode.support.errors import UserError
from cathode.support.seeding import numpy_generator

if TYPE_CHECKING:
    from cathode.data.events import Events

__all__ = ["FEATURE_NAMES", "ResonanceToy", "ToyOptimum", "toy_events"]

Array = NDArray[np.float64]
Region = str | tuple[float, float] | None

FEATURE_NAMES = ("x1", "x2", "x3", "x4")

_RATE = 1.6  # per TeV
_CENTRE = 3.5  # TeV
_SLOPE = np.array([0.6, -0.4, 0.3, 0.0])
_FACTOR = np.array([[1.0, 0.0, 0.0, 0.0], [0.5, 0.9, 0.0, 0.0], [0.0, 0.0, 0.8, 0.0], [-0.5, 0.5, 0.0, 0.9]])
_FACTOR_INVERSE = np.linalg.inv(_FACTOR)
_LOG_DET = float(np.log(np.diag(_FACTOR)).sum())
_SIGNAL_MEAN = np.array([1.5, 0.9, -0.8, 1.1])
_SIGNAL_WIDTH = 0.48
_SIGNAL_MASS_WIDTH = 0.07  # TeV
_DIMENSION = 4
_LOG_2PI = math.log(2 * math.pi)


@dataclass(frozen=True)
class ToyOptimum:
    """The best that any classifier can reach between signal and background inside the signal region.

    Attributes:
        background_efficiencies: Background efficiencies that were asked for.
        signal_efficiencies: Signal efficiency of the Neyman-Pearson test at each.
        sic: Significance improvement, signal efficiency / sqrt(background efficiency), at each.
        sic_errors: Monte Carlo standard errors of ``sic``.
        max_sic: Largest SIC for background efficiencies of 1e-5 and more.
        auc: Area under the ROC curve.
        auc_error: Its Monte Carlo standard error.
    """

    background_efficiencies: tuple[float, ...]
    signal_efficiencies: tuple[float, ...]
    sic: tuple[float, ...]
    sic_errors: tuple[float, ...]
    max_sic: float
    auc: float
    auc_error: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


@dataclass(frozen=True)
class ResonanceToy:
    """The toy of the module's first lines.

    Args:
        k: Strength of the dependence of the background's features on the mass; 0 makes them independent.
        mass_range: Range of the background's mass, TeV.
        signal_region: Borders of the signal region, TeV; a mass ``m`` is inside when ``low < m < high``.

    Raises:
        UserError: The width ``1 + 0.15 k (m - 3.5)`` is not positive everywhere, or the ranges are not
            nested.
    """

    k: float = 0.0
    mass_range: tuple[float, float] = (2.3, 5.0)
    signal_region: tuple[float, float] = (3.3, 3.7)

    def __post_init__(self) -> None:
        low, high = self.mass_range
        if not low < self.signal_region[0] < self.signal_region[1] < high:
            raise UserError(f"toy: the signal region {self.signal_region} must lie inside the range {self.mass_range}")
        if min(1 + 0.15 * self.k * (m - _CENTRE) for m in self.mass_range) <= 0:
            raise UserError(f"toy: k={self.k} makes the width of the features negative in {self.mass_range} TeV")

    # -- mass --------------------------------------------------------------------------------------

    def _intervals(self, region: Region) -> list[tuple[float, float]]:
        low, high = self.mass_range
        inner_low, inner_high = self.signal_region
        if region is None or region == "full":
            return [(low, high)]
        if region == "signal":
            return [(inner_low, inner_high)]
        if region == "sideband":
            return [(low, inner_low), (inner_high, high)]
        if isinstance(region, str):
            raise UserError(f"toy: unknown region {region!r}; use 'full', 'signal', 'sideband' or (low, high) in TeV")
        if not low <= region[0] < region[1] <= high:
            raise UserError(f"toy: the region {region} must be increasing and inside {self.mass_range} TeV")
        return [(float(region[0]), float(region[1]))]

    def background_fraction(self, region: Region) -> float:
        """Probability that a background event lies in ``region``."""
        return self._mass_integral(self._intervals(region)) / self._mass_integral([self.mass_range])

    @staticmethod
    def _mass_integral(intervals: list[tuple[float, float]]) -> float:
        return sum(math.exp(-_RATE * (a - _CENTRE)) - math.exp(-_RATE * (b - _CENTRE)) for a, b in intervals) / _RATE

    def log_prob_mass(self, m: Array, *, region: Region = None) -> Array:
        """Log density (N,) of the background's mass, per TeV, normalised in ``region``; -inf outside it."""
        m = np.asarray(m, dtype=np.float64)
        intervals = self._intervals(region)
        inside = np.any([(m >= a) & (m <= b) for a, b in intervals], axis=0)
        log_density = -_RATE * (m - _CENTRE) - math.log(self._mass_integral(intervals))
        return np.where(inside, log_density, -np.inf)

    def sample_mass(self, n: int, generator: np.random.Generator, *, region: Region = None) -> Array:
        """Background masses (n,) in TeV, by the inverse of the cumulative distribution."""
        intervals = self._intervals(region)
        integrals = np.array([self._mass_integral([interval]) for interval in intervals])
        start = np.concatenate([[0.0], np.cumsum(integrals)])
        u = generator.random(n) * start[-1]
        index = np.minimum(np.searchsorted(start, u, side="right") - 1, len(intervals) - 1)
        edge = np.exp(-_RATE * (np.array([a for a, _ in intervals])[index] - _CENTRE))
        return _CENTRE - np.log(edge - _RATE * (u - start[index])) / _RATE

    # -- features ----------------------------------------------------------------------------------

    def _width(self, m: Array) -> Array:
        return 1 + 0.15 * self.k * (m - _CENTRE)

    def from_latent(self, z: Array, m: Array) -> Array:
        """Background features (N, 4) of latent ``z`` (N, 4) at masses ``m`` (N,)."""
        m = np.asarray(m, dtype=np.float64)
        return self.k * (m - _CENTRE)[:, None] * _SLOPE + self._width(m)[:, None] * (np.asarray(z) @ _FACTOR.T)

    def latent(self, x: Array, m: Array) -> Array:
        """Latent ``z`` (N, 4): standard normal and independent of ``m`` for background."""
        m = np.asarray(m, dtype=np.float64)
        return ((np.asarray(x) - self.k * (m - _CENTRE)[:, None] * _SLOPE) @ _FACTOR_INVERSE.T) / self._width(m)[
            :, None
        ]

    def sample_background(self, n: int, generator: np.random.Generator, region: Region = None) -> tuple[Array, Array]:
        """Background features (n, 4) and masses (n,) in ``region``: None, "signal", "sideband" or (low,
        high) TeV.
        """
        m = self.sample_mass(n, generator, region=region)
        return self.from_latent(generator.standard_normal((n, _DIMENSION)), m), m

    def sample_signal(self, n: int, generator: np.random.Generator, region: Region = None) -> tuple[Array, Array]:
        """Signal features (n, 4) and masses (n,) in ``region``; by default masses are not restricted."""
        kept: list[Array] = []
        missing = n
        intervals = [(-np.inf, np.inf)] if region is None else self._intervals(region)
        # Nothing reasonable is rarer than this; without the limit an empty region would never end.
        for _ in range(1000):
            if missing <= 0:
                break
            m = generator.normal(_CENTRE, _SIGNAL_MASS_WIDTH, size=max(2 * missing, 64))
            m = m[np.any([(m > a) & (m < b) for a, b in intervals], axis=0)][:missing]
            kept.append(m)
            missing -= len(m)
        if missing > 0:
            raise UserError(f"toy: the region {region} holds next to no signal (3.5 +- 0.07 TeV)")
        mass = np.concatenate(kept) if kept else np.empty(0)
        return _SIGNAL_MEAN + _SIGNAL_WIDTH * generator.standard_normal((n, _DIMENSION)), mass

    def log_prob_background(self, x: Array, m: Array) -> Array:
        """Exact conditional log density (N,) of the background, ln p(x | m), nats."""
        z = self.latent(x, m)
        width = self._width(np.asarray(m, dtype=np.float64))
        return -0.5 * (z**2).sum(axis=1) - 0.5 * _DIMENSION * _LOG_2PI - _LOG_DET - _DIMENSION * np.log(width)

    def log_prob_signal(self, x: Array, m: Array | None = None) -> Array:
        """Exact conditional log density (N,) of the signal, ln p(x | m), nats; it does not depend on
        ``m``.
        """
        pull = (np.asarray(x) - _SIGNAL_MEAN) / _SIGNAL_WIDTH
        return -0.5 * (pull**2).sum(axis=1) - 0.5 * _DIMENSION * _LOG_2PI - _DIMENSION * math.log(_SIGNAL_WIDTH)

    def log_prob_signal_mass(self, m: Array) -> Array:
        """Log density (N,) of the signal's mass inside the signal region, per TeV; -inf outside it."""
        m = np.asarray(m, dtype=np.float64)
        low, high = self.signal_region
        scale = _SIGNAL_MASS_WIDTH * math.sqrt(2)
        inside = 0.5 * (math.erf((high - _CENTRE) / scale) - math.erf((low - _CENTRE) / scale))
        log_density = -0.5 * ((m - _CENTRE) / _SIGNAL_MASS_WIDTH) ** 2 - math.log(
            _SIGNAL_MASS_WIDTH * math.sqrt(2 * math.pi) * inside
        )
        return np.where((m >= low) & (m <= high), log_density, -np.inf)

    def _mass_quadrature(self, region: Region, nodes: int = 16) -> tuple[Array, Array]:
        """Masses and probabilities (they add up to 1) of a Gauss-Legendre rule for the background's mass."""
        unit, unit_weight = np.polynomial.legendre.leggauss(nodes)
        m = np.concatenate([0.5 * (a + b) + 0.5 * (b - a) * unit for a, b in self._intervals(region)])
        w = np.concatenate([0.5 * (b - a) * unit_weight for a, b in self._intervals(region)])
        return m, w * np.exp(self.log_prob_mass(m, region=region))

    def expected_nll(self, region: Region = None) -> float:
        """Exact mean of -ln p(x | m) over background in ``region``, nats: the least any conditional density
        reaches.
        """
        m, probability = self._mass_quadrature(region, nodes=64)
        mean_log_width = float((probability * np.log(self._width(m))).sum())
        return 0.5 * _DIMENSION * (_LOG_2PI + 1) + _LOG_DET + _DIMENSION * mean_log_width

    # -- the best possible test --------------------------------------------------------------------

    def neyman_pearson(self, x: Array, m: Array, *, use_mass: bool = False) -> Array:
        """Log likelihood ratio (N,) of signal to background inside the signal region: the optimal classifier.

        Args:
            x: Features, (N, 4).
            m: Masses in the signal region, TeV, (N,).
            use_mass: False is the optimum of classifiers that see only ``x``, ln p_S(x) - ln p_B(x | signal
                region); True adds the mass, ln p_S(x, m) - ln p_B(x, m).
        """
        if use_mass:
            background = self.log_prob_background(x, m) + self.log_prob_mass(m, region="signal")
            return self.log_prob_signal(x, m) + self.log_prob_signal_mass(m) - background
        if self.k == 0:
            return self.log_prob_signal(x) - self.log_prob_background(x, m)
        masses, probabilities = self._mass_quadrature("signal")
        mixture = np.full(len(x), -np.inf)
        for mass, probability in zip(masses, probabilities, strict=True):
            term = self.log_prob_background(x, np.full(len(x), mass)) + math.log(probability)
            mixture = np.logaddexp(mixture, term)
        return self.log_prob_signal(x) - mixture

    def optimum(
        self,
        background_efficiencies: tuple[float, ...] = (1e-2, 1e-3, 1e-4),
        *,
        n: int = 400_000,
        seed: int = 0,
        use_mass: bool = False,
        batches: int = 20,
    ) -> ToyOptimum:
        """The optimal test's efficiencies by Monte Carlo.

        With the likelihood ratio ``r = p_S / p_B`` the background efficiency of the cut ``r > c`` is the
        signal's mean of ``1/r`` above the cut, so signal events alone give even tiny background efficiencies
        to a per mille.

        Args:
            background_efficiencies: Where to evaluate, each in (0, 0.1].
            n: Signal events drawn, all in the signal region.
            seed: Seed of the draw.
            use_mass: Let the test use the mass (see :meth:`neyman_pearson`).
            batches: Groups of events whose scatter gives the errors.
        """
        target = np.asarray(background_efficiencies, dtype=np.float64)
        if target.size == 0 or target.min() <= 0 or target.max() > 0.1:
            raise UserError(f"toy: background efficiencies must be in (0, 0.1], not {background_efficiencies}")
        if batches < 2 or n < 100 * batches:
            raise UserError(f"toy: n={n} events do not fill {batches} batches of at least 100")
        x, m = self.sample_signal(n, numpy_generator(seed, "toy optimum"), region="signal")
        statistic = self.neyman_pearson(x, m, use_mass=use_mass)

        signal, max_sic, auc = _roc_from_signal(statistic, target)
        parts = [_roc_from_signal(part, target) for part in np.array_split(statistic, batches)]
        errors = np.std([part[0] for part in parts], axis=0, ddof=1) / math.sqrt(batches)
        auc_error = float(np.std([part[2] for part in parts], ddof=1) / math.sqrt(batches))
        return ToyOptimum(
            background_efficiencies=tuple(target.tolist()),
            signal_efficiencies=tuple(signal.tolist()),
            sic=tuple((signal / np.sqrt(target)).tolist()),
            sic_errors=tuple((errors / np.sqrt(target)).tolist()),
            max_sic=max_sic,
            auc=auc,
            auc_error=auc_error,
        )


def _roc_from_signal(statistic: Array, target: Array) -> tuple[Array, float, float]:
    """Signal efficiencies at the ``target`` background efficiencies, maximum SIC, AUC, from signal's log
    ratios.
    """
    ordered = np.sort(statistic)[::-1]
    inverse_ratio = np.exp(-ordered)
    background = np.cumsum(inverse_ratio) / len(ordered)
    signal = np.arange(1, len(ordered) + 1) / len(ordered)
    usable = background >= 1e-5
    best = float((signal[usable] / np.sqrt(background[usable])).max())
    # 1 - AUC = P(a background event is above a signal event).
    auc = 1 - float(np.mean(inverse_ratio * (1 - signal + 0.5 / len(ordered))))
    return np.interp(np.log(target), np.log(background), signal), best, auc


def toy_events(n_background: int, n_signal: int, *, k: float = 0.0, seed: int = 0) -> tuple[Events, NDArray[np.bool_]]:
    """Toy events in random order, and the truth beside them.

    Args:
        n_background: Background events over the full mass range.
        n_signal: Signal events.
        k: Strength of the mass dependence (see :class:`ResonanceToy`).
        seed: Same seed, same events.

    Returns:
        The events with features x1 to x4 and masses in TeV, and ``is_signal`` (N,), aligned with them.
    """
    from cathode.data.events import Events

    toy = ResonanceToy(k=k)
    background = toy.sample_background(n_background, numpy_generator(seed, "toy background"))
    signal = toy.sample_signal(n_signal, numpy_generator(seed, "toy signal"), region="full")
    order = numpy_generator(seed, "toy order").permutation(n_background + n_signal)
    events = Events(
        features=np.concatenate([background[0], signal[0]])[order],
        names=FEATURE_NAMES,
        mass=np.concatenate([background[1], signal[1]])[order],
        event_id=np.arange(n_background + n_signal),
    )
    return events, order >= n_background
