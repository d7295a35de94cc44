"""The core: everything that learns p(x | context).  Knows no physics, and no files but its model folder.

Importing this package registers all families, so that a description (a model folder, a configuration) can be built.
"""

from __future__ import annotations

from cathode.density.analytic import GaussianMixture, GaussianMixtureDenoiser, GaussianMixtureVelocity, LinearGaussian
from cathode.density.autoregressive import AutoregressiveMixture
from cathode.density.base import ConditionalDensity, NonFiniteError, Tractable, log_prob, sample
from cathode.density.canonical import Canonical
from cathode.density.copula import StandardNormal, censored_copula, fit_copula
from cathode.density.cyclic_copula import CyclicCopula
from cathode.density.cyclic_fit import fit_cyclic_copula
from cathode.density.dequantised import Dequantised
from cathode.density.diffusion import EDM, stochastic_sample
from cathode.density.ensemble import Ensemble
from cathode.density.epic_gan import EPiCGAN
from cathode.density.flows import MAF, AutoregressiveSpline, CouplingSpline
from cathode.density.folder import load_density, load_history, save_density
from cathode.density.matching import FlowMatching
from cathode.density.mixed_matching import MixedMatching
from cathode.density.nflows_backend import NflowsAutoregressiveSpline, NflowsCouplingSpline, NflowsMAF
from cathode.density.preprocessed import Preprocessed, fit_preprocessing
from cathode.density.registry import build, buildable, describe, kinds

__all__ = [
    "EDM",
    "MAF",
    "AutoregressiveMixture",
    "AutoregressiveSpline",
    "Canonical",
    "ConditionalDensity",
    "CouplingSpline",
    "CyclicCopula",
    "Dequantised",
    "EPiCGAN",
    "Ensemble",
    "FlowMatching",
    "GaussianMixture",
    "GaussianMixtureDenoiser",
    "GaussianMixtureVelocity",
    "LinearGaussian",
    "MixedMatching",
    "NflowsAutoregressiveSpline",
    "NflowsCouplingSpline",
    "NflowsMAF",
    "NonFiniteError",
    "Preprocessed",
    "StandardNormal",
    "Tractable",
    "build",
    "buildable",
    "censored_copula",
    "describe",
    "fit_copula",
    "fit_cyclic_copula",
    "fit_preprocessing",
    "kinds",
    "load_density",
    "load_history",
    "log_prob",
    "sample",
    "save_density",
    "stochastic_sample",
]
