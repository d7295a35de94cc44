"""How much is spent on the classifiers."""

from __future__ import annotations

from dataclasses import dataclass, replace

from cathode.support.errors import UserError
from fastsim.evaluation.classifiers.networks import Training

__all__ = ["PROFILES", "Profile", "TreeSettings", "profile_named"]


@dataclass(frozen=True)
class TreeSettings:
    """Histogram-gradient-boosted trees, stopped early on the validation showers.

    Args:
        trees: At most.
        leaves: Per tree.
        learning_rate: Shrinkage.
        min_samples_leaf: Showers per leaf.
        l2: Penalty on leaf values.
        features_per_split: Fraction of the features that each split may choose from; at least ten.
        patience: Stop after so many trees without a lower validation loss.
        max_features: Of larger geometries the trees see the voxels that separate best in the training showers.
    """

    trees: int = 400
    leaves: int = 31
    learning_rate: float = 0.1
    min_samples_leaf: int = 20
    l2: float = 10.0
    features_per_split: float = 0.1
    patience: int = 15
    max_features: int = 1000


@dataclass(frozen=True)
class Profile:
    """Settings of one run of the classifier tests.

    Args:
        name: Of the profile.
        folds: Folds of the cross-fit (``strict``).
        validation: Fraction of each fold's training showers that chooses the epoch and calibrates (``strict``).
        hidden: Widths of the network's layers.
        dropout: Of the hidden layers (``strict``).
        training: Of the networks.
        cnn: Train the three-dimensional residual network where the geometry is a regular grid.
        cnn_training: Its training.
        runs: Repetitions with other seeds and splits (``calochallenge``).
        trees: Settings of the boosted trees.
    """

    name: str
    folds: int
    validation: float
    hidden: tuple[int, ...]
    dropout: float
    training: Training
    cnn: bool
    cnn_training: Training
    runs: int = 1
    trees: TreeSettings = TreeSettings()


_STRICT = Training(epochs=30, batch_size=512, learning_rate=1e-3, patience=6, anneal=True, choose_by="loss")
_CNN = Training(epochs=30, batch_size=256, learning_rate=1e-3, patience=6, anneal=True, choose_by="loss")
_PUBLISHED = Training(epochs=50, batch_size=1000, learning_rate=2e-4, choose_by="accuracy")

# ``quick`` trains on as many showers as ``standard`` (64 % of them) and with the same trees; its network is half as
# wide and loses nothing measurable with 10,000 showers (low-level AUC 0.769 and 0.762, +- 0.003, on the same 4000).
PROFILES: dict[str, Profile] = {
    "quick": Profile("quick", 4, 0.15, (256, 256, 256), 0.5, replace(_STRICT, epochs=20, patience=4), False, _CNN),
    "standard": Profile("standard", 5, 0.2, (512, 512, 512), 0.5, _STRICT, True, _CNN),
    "published": Profile("published", 5, 0.2, (2048, 2048, 2048), 0.5, _PUBLISHED, True, _PUBLISHED),
}


def profile_named(profile: str | Profile) -> Profile:
    """The profile of that name, or the one given.

    Raises:
        UserError: Unknown name.
    """
    if isinstance(profile, Profile):
        return profile
    if profile not in PROFILES:
        raise UserError(f"unknown classifier profile {profile!r}: use {', '.join(PROFILES)}")
    return PROFILES[profile]
