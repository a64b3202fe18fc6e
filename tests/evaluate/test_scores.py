"""Scene scores against scikit-learn, with ties, absent classes and saturated probabilities."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from hear_audiomamba.evaluate.predictions.scores import (
    area_under_roc,
    average_precision,
    chroma_accuracy,
    d_prime,
    mean_average_precision,
    top1_accuracy,
)


@given(
    st.integers(0, 2**32 - 1), st.integers(2, 60), st.integers(2, 6), st.sampled_from([1, 2, 8, 64, 10**6])
)
def test_average_precision_and_area_are_scikit_learns(
    seed: int, rows: int, classes: int, levels: int
) -> None:
    rng = np.random.default_rng(seed)
    # Few levels make many ties; float32 sigmoids saturate at 0 and 1 in the same way.
    predictions = (np.round(rng.random((rows, classes)) * levels) / levels).astype(np.float32)
    targets = (rng.random((rows, classes)) < rng.random(classes)).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = [average_precision_score(t, p) for t, p in zip(targets.T, predictions.T, strict=True)]
        areas = [
            roc_auc_score(t, p) if 0 < t.sum() < rows else np.nan
            for t, p in zip(targets.T, predictions.T, strict=True)
        ]
    assert average_precision(predictions, targets) == pytest.approx(expected, abs=1e-9)
    assert area_under_roc(predictions, targets) == pytest.approx(areas, abs=1e-9, nan_ok=True)


def test_accuracies_count_rows() -> None:
    predictions = np.eye(36, dtype=np.float32)[[0, 12, 13, 35]]
    targets = np.eye(36, dtype=np.float32)[[0, 0, 1, 34]]
    assert top1_accuracy(predictions, targets) == 0.25
    assert chroma_accuracy(predictions, targets) == 0.75


def test_of_equal_probabilities_the_first_class_counts() -> None:
    assert top1_accuracy(np.full((1, 3), 0.5), np.array([[1.0, 0, 0]])) == 1.0


def test_a_perfect_class_has_infinite_d_prime_and_an_absent_one_none() -> None:
    targets = np.array([[1.0, 0], [0, 1]])
    assert d_prime(targets, targets) == np.inf
    assert mean_average_precision(targets, np.array([[1.0, 0], [0, 0]])) == 0.5
    assert np.isnan(d_prime(targets, np.array([[1.0, 0], [0, 0]])))
