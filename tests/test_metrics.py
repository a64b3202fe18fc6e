"""Tagging metrics against scikit-learn and SciPy."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hear_audiomamba.errors import InputError
from hear_audiomamba.metrics import average_precision, d_prime, roc_auc, tagging_scores


@settings(max_examples=200, deadline=None)
@given(
    st.integers(2, 60).flatmap(
        lambda n: st.tuples(
            st.lists(st.booleans(), min_size=n, max_size=n),
            st.lists(st.integers(-3, 3) | st.floats(-5, 5), min_size=n, max_size=n),
        )
    )
)
def test_one_class_agrees_with_sklearn_also_with_ties(case):
    sklearn = pytest.importorskip("sklearn.metrics")
    target, score = np.array(case[0]), np.array(case[1], dtype=np.float64)
    if target.any():
        assert average_precision(target, score) == pytest.approx(
            sklearn.average_precision_score(target, score), abs=1e-12
        )
        if not target.all():
            assert roc_auc(target, score) == pytest.approx(sklearn.roc_auc_score(target, score), abs=1e-12)
    else:
        assert math.isnan(average_precision(target, score))
        assert math.isnan(roc_auc(target, score))


def test_audioset_sized_matrix_agrees_with_sklearn_and_scipy():
    sklearn = pytest.importorskip("sklearn.metrics")
    stats = pytest.importorskip("scipy.stats")
    generator = np.random.default_rng(0)
    targets = generator.random((400, 527)) < 0.02
    targets[0] = True  # every class once, so that sklearn's means are defined
    scores = generator.random((400, 527)) + 0.3 * targets
    found = tagging_scores(targets, scores)
    assert found.mean_average_precision == pytest.approx(
        sklearn.average_precision_score(targets, scores, average="macro"), abs=1e-12
    )
    auc = sklearn.roc_auc_score(targets, scores, average="macro")
    assert found.mean_auc == pytest.approx(auc, abs=1e-12)
    assert found.d_prime == pytest.approx(math.sqrt(2) * stats.norm.ppf(auc), abs=1e-9)


def test_classes_without_positives_are_left_out_of_the_means():
    targets = np.array([[1, 0, 1], [0, 0, 1]])
    scores = np.array([[0.9, 0.5, 0.1], [0.2, 0.4, 0.2]])
    found = tagging_scores(targets, scores)
    assert found.average_precision[0] == 1.0 and found.auc[0] == 1.0
    assert math.isnan(found.average_precision[1]) and math.isnan(found.auc[2])
    assert found.mean_average_precision == 1.0 and found.mean_auc == 1.0


@pytest.mark.parametrize(("auc", "expected"), [(0.5, 0.0), (1.0, math.inf), (0.0, -math.inf)])
def test_d_prime_at_its_corners(auc, expected):
    assert d_prime(auc) == expected


def test_d_prime_of_the_papers():
    assert d_prime(0.970) == pytest.approx(2.660, abs=1e-3)


def test_what_does_not_fit():
    with pytest.raises(InputError, match="expected two arrays"):
        tagging_scores(np.zeros((2, 3)), np.zeros((3, 2)))
    with pytest.raises(InputError, match="NaN"):
        tagging_scores(np.zeros((1, 1)), np.array([[np.nan]]))
