"""`AudioClassifier` is an estimator as scikit-learn defines it."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import save_file
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from hear_audiomamba import AudioClassifier
from hear_audiomamba.classify.model_file import load_classifier
from hear_audiomamba.errors import CheckpointError


@parametrize_with_checks([AudioClassifier()])
def test_it_passes_the_checks_of_scikit_learn(estimator, check):
    check(estimator)


def blobs(count: int = 60, width: int = 8, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    y = np.arange(count) % 3
    return random.standard_normal((count, width)) + 1.2 * np.eye(3, width)[y], np.array(["a", "b", "c"])[y]


def test_it_fits_what_scikit_learn_fits():
    X, y = blobs()
    own = AudioClassifier(strength=10.0).fit(X, y)
    peer = make_pipeline(
        StandardScaler(), LogisticRegression(C=10.0 / X.shape[1], tol=1e-8, max_iter=1000)
    ).fit(X, y)
    # Before calibration, which changes no order; both stop close to the one minimum.
    np.testing.assert_allclose(own._head.layers[0].weight, peer[-1].coef_.T, atol=0.05)
    assert (own.predict(X) == peer.predict(X)).mean() > 0.97


def test_its_file_gives_the_same_estimator(tmp_path):
    X, y = blobs()
    own = AudioClassifier(precision=0.9, class_weight="balanced").fit(X, y)
    own.save(tmp_path / "own.safetensors")
    loaded = AudioClassifier.load(tmp_path / "own.safetensors")
    np.testing.assert_array_equal(loaded.predict_proba(X), own.predict_proba(X))
    assert loaded.get_params() == own.get_params() and loaded.predict(X).tolist() == own.predict(X).tolist()
    (tmp_path / "bad.safetensors").write_bytes(b"\x80\x04pickle")
    with pytest.raises(CheckpointError, match="not what AudioClassifier"):
        AudioClassifier.load(tmp_path / "bad.safetensors")
    save_file({"a": np.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="not what AudioClassifier.save writes: other tensors"):
        AudioClassifier.load(tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match=r"not a classifier of recordings; .*AudioClassifier"):
        load_classifier(tmp_path / "own.safetensors")


def test_it_lives_in_pipelines_and_searches():
    X, y = blobs()
    search = GridSearchCV(
        make_pipeline(StandardScaler(), AudioClassifier()), {"audioclassifier__strength": [0.1, 10.0]}
    )
    assert search.fit(X, y).best_score_ > 0.5
    assert clone(AudioClassifier(folds=3)).get_params()["folds"] == 3


def test_groups_stay_together():
    """Ten copies of each row look easy to cross-validation unless the copies stay on one side."""
    random = np.random.default_rng(1)
    X, y, group = random.standard_normal((30, 40)), np.arange(30) % 2, np.arange(30)
    X, y, group = (np.repeat(values, 10, axis=0) for values in (X, y, group))
    alone = AudioClassifier().fit(X, y).predict_proba(X)
    together = AudioClassifier().fit(X, y, groups=group).predict_proba(X)
    assert np.abs(together - 0.5).mean() < 0.5 * np.abs(alone - 0.5).mean()


def test_the_package_does_not_import_scikit_learn():
    program = "import sys, hear_audiomamba; hear_audiomamba.load_model; print('sklearn' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
