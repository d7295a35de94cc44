"""Boosted trees on what a pre-trained transformer has learned to see in each jet.

With a few dozen signal events among thousands, a network of many weights fits noise whatever its start; trees on a
handful of columns do not.  The encoder is not trained further: each jet becomes its summary vector, of which the
leading principal components are kept (of all training events together, without labels), and boosted trees separate the
classes in these and the jets' masses.  This is fine-tuning of the head alone ("linear probing", Alain and Bengio, arXiv
1610.01644, with trees in place of a linear classifier).
"""

from __future__ import annotations

import json
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin

from cathode.classifiers.base import check_features, load_arrays, logit, save_arrays
from cathode.classifiers.transformer.components import JetComponents, split_jets
from cathode.classifiers.transformer.features import jet_axis
from cathode.classifiers.transformer.inputs import SetInputs
from cathode.classifiers.transformer.network import Architecture, SetEncoder
from cathode.classifiers.transformer.packing import pack
from cathode.classifiers.transformer.pretrained import load_encoder, pretrained_architecture
from cathode.classifiers.trees import TreeEnsemble
from cathode.support.errors import UserError
from cathode.support.files import atomic_directory, write_json

__all__ = ["EmbeddedTrees", "embed_jets"]

_CHUNK = 512


class EmbeddedTrees(ClassifierMixin, BaseEstimator):
    """Trees on the principal components of a pre-trained encoder's summaries, and on the masses of the jets.

    The jets of an event are ordered by mass, lightest first, so that it does not matter which of two has the larger pT.

    Args:
        members: Of the ensemble of trees, see :class:`~cathode.classifiers.trees.TreeEnsemble`.
        pretrained: Folder of a pre-trained encoder; needed.
        variance: Fraction of the summaries' variance that the kept components have.
        template_per_data: As for the trees.
        device: Torch device of the encoder.
        first_member: Number of the first member.
        random_state: Seed.
    """

    def __init__(
        self,
        members: int = 50,
        *,
        pretrained: str | None = None,
        variance: float = 0.9,
        template_per_data: float | None = 2.0,
        device: str = "cpu",
        first_member: int = 0,
        random_state: int = 0,
    ) -> None:
        self.members = members
        self.pretrained = pretrained
        self.variance = variance
        self.template_per_data = template_per_data
        self.device = device
        self.first_member = first_member
        self.random_state = random_state

    def fit(
        self, X: SetInputs | ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None, *, progress: bool = False
    ) -> EmbeddedTrees:
        """Embed, find the components, and train the trees.

        Args:
            X: N events with momenta, or what :func:`embed_jets` made of them: embedding takes longer than all trees, so
                who trains many classifiers on the same events embeds them once.
            y: Labels ``(N,)``: 1 data, 0 template.
            sample_weight: Non-negative weights ``(N,)``.
            progress: Show a bar over the members.

        Raises:
            UserError: Unusable input or settings, or no pre-trained encoder.
        """
        if not 0.0 < self.variance <= 1.0:
            raise UserError(f"EmbeddedTrees: variance={self.variance} must be above 0 and at most 1")
        self._load_encoder()
        summaries, masses = self._embedded(X)
        self.components_ = JetComponents.fitted(summaries, self.variance)
        self.groups_, self.classes_, self.input_kind_ = summaries.shape[1], np.array([0, 1]), _kind(X)
        columns = self.components_.columns(summaries, masses)
        self.trees_ = self._trees().fit(columns, y, sample_weight, progress=progress)
        self.history_ = self.trees_.history_
        return self

    def predict_proba(self, X: SetInputs | ArrayLike) -> np.ndarray:
        """Probability of both classes ``(N, 2)``, averaged over members.

        Raises:
            UserError: Unusable input.
        """
        if _kind(X) != self.input_kind_:
            raise UserError(f"events have {_kind(X)}, but the classifier was trained on {self.input_kind_}")
        return self.trees_.predict_proba(self.components_.columns(*self._embedded(X, groups=self.groups_)))

    def decision_function(self, X: SetInputs | ArrayLike) -> np.ndarray:
        """Logarithm of the odds of class 1, ``(N,)``."""
        return logit(self.predict_proba(X)[:, 1])

    def predict(self, X: SetInputs | ArrayLike) -> np.ndarray:
        """The likelier class, ``(N,)``."""
        return (self.predict_proba(X)[:, 1] > 0.5).astype(np.int64)

    def save(self, folder: str | Path) -> None:
        """Write ``classifier.json``, ``components.npz``, ``encoder.safetensors`` and the folder ``trees``.

        Raises:
            UserError: The folder cannot be written to.
        """
        from safetensors.torch import save_file

        with atomic_directory(folder) as inside:
            description = {
                "kind": "transformer-trees",
                "settings": self.get_params(),
                "input_kind": self.input_kind_,
                "groups": self.groups_,
                "architecture": self.architecture_.as_dict(),
            }
            write_json(inside / "classifier.json", description)
            arrays = {"mean": self.components_.mean, "components": self.components_.directions}
            save_arrays(inside / "components.npz", arrays)
            weights = {name: tensor.detach().cpu().contiguous() for name, tensor in self.encoder_.state_dict().items()}
            save_file(weights, inside / "encoder.safetensors")
            self.trees_.save(inside / "trees")

    @classmethod
    def load(cls, folder: str | Path) -> EmbeddedTrees:
        """The classifier that :meth:`save` wrote.

        Raises:
            UserError: Missing or damaged files.
        """
        folder = Path(folder)
        try:
            description = json.loads((folder / "classifier.json").read_text(encoding="utf-8"))
            model = cls().set_params(**description["settings"])
            model.input_kind_, model.groups_ = description["input_kind"], description["groups"]
            arrays = load_arrays(folder / "components.npz")
            model.components_ = JetComponents(arrays["mean"], arrays["components"])
            model.architecture_ = Architecture(**description["architecture"])
            model.encoder_ = SetEncoder(model.architecture_)
            load_encoder(model.encoder_, folder)
        except (OSError, KeyError, ValueError, TypeError, BadZipFile) as error:
            raise UserError(f"cannot load a classifier from {folder}: {error!r}") from error
        model.classes_, model.trees_ = np.array([0, 1]), TreeEnsemble.load(folder / "trees")
        model.history_ = model.trees_.history_
        return model

    def _load_encoder(self) -> None:
        if self.pretrained is None:
            raise UserError("transformer-trees need a pre-trained encoder: set pretrained to its folder")
        self.architecture_ = pretrained_architecture(self.pretrained)
        self.encoder_ = SetEncoder(self.architecture_)
        load_encoder(self.encoder_, self.pretrained)

    def _trees(self) -> TreeEnsemble:
        return TreeEnsemble(
            self.members,
            template_per_data=self.template_per_data,
            first_member=self.first_member,
            random_state=self.random_state,
        )

    def _embedded(self, X: SetInputs | ArrayLike, groups: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Summaries ``(N, J, W)`` and masses ``(N, J)`` of the jets of each event."""
        if isinstance(X, SetInputs):
            table = _embedding(X, self.encoder_, width=self.architecture_.width, device=self.device, groups=groups)
        else:
            table = check_features(X)
        return split_jets(table, self.architecture_.width, jets=groups)


def embed_jets(X: SetInputs, pretrained: str | Path, *, device: str = "cpu") -> np.ndarray:
    """What a pre-trained encoder sees of events: summary and mass of each jet, ``(N, J (W + 1))``.

    Args:
        X: N events of J jets, with momenta.
        pretrained: Folder of the encoder.
        device: Torch device.

    Raises:
        UserError: No encoder, or events that are not usable.
    """
    if not isinstance(X, SetInputs):
        raise UserError(f"the transformer takes SetInputs, not {type(X).__name__}: make them of points and a mask")
    architecture = pretrained_architecture(pretrained)
    encoder = SetEncoder(architecture)
    load_encoder(encoder, pretrained)
    return _embedding(X, encoder, width=architecture.width, device=device)


@torch.no_grad()
def _embedding(X: SetInputs, encoder: SetEncoder, *, width: int, device: str, groups: int | None = None) -> np.ndarray:
    if X.momenta is None:
        raise UserError("transformer-trees need the momenta of the points: give SetInputs with momenta")
    encoder = encoder.to(device).eval()
    jets = []
    for which in range(X.groups if groups is None else groups):
        mask = X.mask if X.group is None else X.mask & (X.group == which)
        # Short jets with short ones, each cut to the longest of its chunk.
        places = np.argsort(~mask, axis=1, kind="stable")
        counts = mask.sum(axis=1)
        rows = np.empty((len(X), width + 1))
        rows[:, -1] = jet_axis(X.momenta[..., :3], mask)[:, 3]
        for chunk in np.array_split(np.argsort(counts, kind="stable"), -(-len(X) // _CHUNK)) if len(X) else []:
            longest = max(int(counts[chunk].max(initial=0)), 1)
            place = places[chunk, :longest, None]
            real = torch.from_numpy(np.arange(longest) < counts[chunk, None]).to(device)
            points, momenta = (
                torch.from_numpy(np.take_along_axis(a[chunk], place, axis=1)).to(device) for a in (X.points, X.momenta)
            )
            packing = pack(real)
            tokens = encoder.tokens(packing, encoder.points(packing, points))
            rows[chunk, :-1] = encoder(tokens, packing, encoder.biases(packing, momenta)).double().cpu().numpy()
        jets.append(rows)
    return np.concatenate(jets, axis=1)


def _kind(X: SetInputs | ArrayLike) -> str:
    return X.kind if isinstance(X, SetInputs) else "columns of embed_jets"
