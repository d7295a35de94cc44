"""Classifier tests: networks and trees that try to tell generated showers from the reference."""

from fastsim.evaluation.classifiers.profiles import PROFILES, Profile, TreeSettings
from fastsim.evaluation.classifiers.results import (
    ClassifierResults,
    ClassifierScore,
    Interval,
    Roc,
    SeparatingFeature,
)
from fastsim.evaluation.classifiers.run import classifier_tests

__all__ = [
    "PROFILES",
    "ClassifierResults",
    "ClassifierScore",
    "Interval",
    "Profile",
    "Roc",
    "SeparatingFeature",
    "TreeSettings",
    "classifier_tests",
]
