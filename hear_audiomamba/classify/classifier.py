"""A scikit-learn estimator over embeddings that you have, with a file format of its own.

This file imports scikit-learn and is itself imported only when `AudioClassifier` is used.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..errors import CheckpointError, DataError, one_line
from ..io.files import replacing
from ..io.tensors import system_errors
from .calibrate import choose_thresholds, fit_calibration
from .folds import make_folds
from .head import Calibration, Floats, Head, Layer, to_probabilities
from .logistic import STRENGTHS, fit_logistic
from .model_file import KEY
from .trials import Choice, Fitter, Mask, choose, unseen_logits

try:
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError:
    raise DataError("AudioClassifier needs scikit-learn: pip install 'hear-audiomamba[classify]'") from None

_KEY = "hear_audiomamba_estimator"


class AudioClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Logistic regression for embeddings: strength chosen by cross-validation, probabilities calibrated.

    It does on a matrix what `hear-audiomamba fit` does on labelled files, for labels of one class a clip.

    Args:
        strength: how closely the rows are fitted; None chooses among 0.1, 1, 10 and 100 by cross-validation.
        class_weight: "balanced" counts every class alike, however few rows it has; a mapping of labels to
            weights counts each as it says, 1 where it says nothing; None each row alike.
        folds: of cross-validation; fewer where a class has fewer rows.
        precision: share of right ones wanted among those found; sets `thresholds_`.
        random_state: seed of the folds.

    Attributes:
        classes_: the labels, sorted.
        n_features_in_: width of the embeddings.
        strength_: the one chosen.
        thresholds_: `(C,)` probability from which to believe a class, for the `precision` asked for.
    """

    def __init__(
        self,
        strength: float | None = None,
        class_weight: Literal["balanced"] | Mapping[Any, float] | None = None,
        folds: int = 5,
        precision: float | None = None,
        random_state: int = 0,
    ) -> None:
        self.strength = strength
        self.class_weight = class_weight
        self.folds = folds
        self.precision = precision
        self.random_state = random_state

    def fit(self, X: Any, y: Any, groups: Any = None) -> AudioClassifier:
        """Fit to embeddings.

        Args:
            X: `(n, K)` embeddings, numpy or torch.
            y: `(n,)` one label each.
            groups: `(n,)` rows of one group are never on both sides of cross-validation.

        Returns:
            This estimator.
        """
        X, y = validate_data(self, X, y, dtype=np.float32)
        check_classification_targets(y)
        self.classes_, index = np.unique(y, return_inverse=True)
        n_classes = len(self.classes_)
        targets = np.eye(n_classes, dtype=np.float32)[index]
        strengths = STRENGTHS if self.strength is None else (float(self.strength),)
        names = [str(number) for number in range(n_classes)]

        balanced, of_class = self.class_weight, np.ones(n_classes)
        if isinstance(balanced, Mapping):
            of_class = np.array([balanced.get(label, 1.0) for label in self.classes_.tolist()])
            balanced = None

        def fit(rows: Floats, wanted: Floats, valid: Mask, which: Sequence[int]) -> list[Head]:
            chosen = [strengths[at] for at in which]
            return fit_logistic(rows, wanted, "single", names, chosen, balanced, wanted @ of_class)

        made = self._choose(Fitter(fit, tuple(map(str, strengths))), X, targets, groups)
        (head,) = fit(X, targets, np.zeros(len(X), bool), [made.candidate])
        self._head = head.with_decisions(made.calibration, made.thresholds)
        self.strength_ = strengths[made.candidate]
        self.thresholds_ = self._head.thresholds
        return self

    def _choose(self, fitter: Fitter, X: Floats, targets: Floats, groups: Any) -> Choice:
        """Cross-validate, as far as the rows go."""
        n_classes = targets.shape[1]
        groups = np.arange(len(X)) if groups is None else np.asarray(groups)
        if targets.sum(axis=0).min() < 2 or n_classes < 2 or len(np.unique(groups)) < 2:
            middle = len(fitter.candidates) // 2
            return Choice(middle, Calibration.none(n_classes), np.zeros(n_classes, np.float32))
        units = [(str(group), None, str(group)) for group in groups.tolist()]
        fold = make_folds(units, targets, self.folds, self.random_state).fold
        logits = unseen_logits(fitter, X, targets, fold)
        made = choose(logits, targets, "single", None)
        if self.precision is None:
            return made
        calibration = fit_calibration(logits[made.candidate], targets, "single")
        chances = to_probabilities(logits[made.candidate], "single", calibration)
        return Choice(
            made.candidate, calibration, choose_thresholds(chances, targets, "single", self.precision)
        )

    def decision_function(self, X: Any) -> Floats:
        """Return calibrated logits: `(n, C)`, or of two classes `(n,)` for the second against the first."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float32, reset=False)
        scores = self._head.logits(X) * self._head.calibration.slope + self._head.calibration.offset
        return np.asarray(scores[:, 1] - scores[:, 0] if scores.shape[1] == 2 else scores)

    def predict_proba(self, X: Any) -> Floats:
        """Return calibrated probabilities `(n, C)`; each row adds up to 1."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float32, reset=False)
        chances = self._head.probabilities(X).astype(np.float64)
        return np.asarray(chances / chances.sum(axis=1, keepdims=True))

    def predict(self, X: Any) -> Any:
        """Return the most probable label of each row, `(n,)`."""
        chances = self.predict_proba(X)
        return self.classes_[chances.argmax(axis=1)]

    def save(self, path: str | Path) -> None:
        """Write to a safetensors file, in which nothing can run; a mapping of class weights is not kept.

        Raises:
            DataError: the labels are neither text nor numbers.
            OutputError: the file cannot be written.
        """
        from safetensors.numpy import save_file

        check_is_fitted(self)
        head, classes = self._head, self.classes_.tolist()
        if not all(isinstance(label, (str, int, float, bool)) for label in classes):
            raise DataError("only labels that are text or numbers can be saved")
        arrays = {
            "mean": head.mean, "scale": head.scale, "weight": head.layers[0].weight, "bias": head.layers[0].bias,
            "slope": head.calibration.slope, "offset": head.calibration.offset, "thresholds": head.thresholds,
        }  # fmt: skip
        parameters = {
            **self.get_params(),
            "class_weight": self.class_weight if self.class_weight == "balanced" else None,
        }
        meaning = {"classes": classes, "parameters": parameters, "strength": self.strength_}
        arrays = {name: np.ascontiguousarray(value, np.float32) for name, value in arrays.items()}
        with replacing(path) as partial, system_errors():
            save_file(arrays, partial, {_KEY: json.dumps(meaning)})

    @classmethod
    def load(cls, path: str | Path) -> AudioClassifier:
        """Read what `save` wrote.

        Raises:
            CheckpointError: the file is missing, damaged, or something else.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="numpy") as file:
                metadata = file.metadata() or {}
                if _KEY not in metadata:
                    what = (
                        "`hear-audiomamba fit` wrote it, for `predict`"
                        if KEY in metadata
                        else "other tensors"
                    )
                    raise CheckpointError(f"{path}: not what AudioClassifier.save writes: {what}")
                meaning = json.loads(metadata[_KEY])
                held = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            loaded = cls(**meaning["parameters"])
            loaded.classes_ = np.asarray(meaning["classes"])
            loaded.strength_, loaded.thresholds_ = meaning["strength"], held["thresholds"]
            loaded._head = Head(
                "single", tuple(map(str, meaning["classes"])), held["mean"], held["scale"],
                (Layer(held["weight"], held["bias"]),), Calibration(held["slope"], held["offset"]),
                held["thresholds"],
            )  # fmt: skip
        except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
            reason = one_line(error)
            raise CheckpointError(f"{path}: not what AudioClassifier.save writes: {reason}") from None
        loaded.n_features_in_ = loaded._head.embedding_size
        return loaded
