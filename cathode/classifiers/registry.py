"""Classifiers from plain descriptions, and from the folders that they were saved to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cathode.classifiers.base import Classifier
from cathode.classifiers.mlp import MLPEnsemble
from cathode.classifiers.transformer.classifier import SetClassifier
from cathode.classifiers.transformer.embedded import EmbeddedTrees
from cathode.classifiers.trees import TreeEnsemble
from cathode.support.errors import UserError

__all__ = ["CLASSIFIERS", "SET_CLASSIFIERS", "build_classifier", "load_classifier"]

# Of rows of features, and of sets of points.
CLASSIFIERS: dict[str, type[TreeEnsemble] | type[MLPEnsemble]] = {"trees": TreeEnsemble, "mlp": MLPEnsemble}
SET_CLASSIFIERS: dict[str, type[SetClassifier] | type[EmbeddedTrees]] = {
    "transformer": SetClassifier,
    "transformer-trees": EmbeddedTrees,
}


def build_classifier(description: dict[str, Any]) -> TreeEnsemble | MLPEnsemble | SetClassifier | EmbeddedTrees:
    """The untrained classifier described by ``{"kind": "trees" | "mlp" | "transformer" | "transformer-trees", ...}``.

    Raises:
        UserError: Unknown kind or setting.
    """
    settings = dict(description)
    cls = _class_of(settings.pop("kind", None))
    known = cls().get_params()
    unknown = sorted(set(settings) - set(known))
    if unknown:
        raise UserError(
            f"unknown setting {', '.join(map(repr, unknown))} of classifier {description['kind']!r}; "
            f"known: {', '.join(known)}"
        )
    return cls().set_params(**{name: tuple(v) if isinstance(v, list) else v for name, v in settings.items()})


def load_classifier(folder: str | Path) -> Classifier:
    """The trained classifier saved in ``folder``, whatever its kind.

    Raises:
        UserError: Missing or damaged files, or an unknown kind.
    """
    path = Path(folder) / "classifier.json"
    try:
        kind = json.loads(path.read_text(encoding="utf-8"))["kind"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"cannot read {path}: {error!r}") from error
    return _class_of(kind).load(folder)


def _class_of(kind: Any) -> type[TreeEnsemble] | type[MLPEnsemble] | type[SetClassifier] | type[EmbeddedTrees]:
    if kind in SET_CLASSIFIERS:
        return SET_CLASSIFIERS[kind]
    if kind not in CLASSIFIERS:
        raise UserError(f"unknown classifier kind {kind!r}; known: {', '.join([*CLASSIFIERS, *SET_CLASSIFIERS])}")
    return CLASSIFIERS[kind]
