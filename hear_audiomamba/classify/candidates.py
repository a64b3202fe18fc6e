"""What is tried for a task: logistic regressions of several strengths, or MLPs of the HEAR benchmark."""

from __future__ import annotations

from collections.abc import Sequence

from ..io.labels import LabelTable
from .head import Floats, Head
from .logistic import STRENGTHS, fit_logistic
from .mlp import mlp_fitter
from .outcome import FitOptions
from .trials import Fitter, Mask


def make_fitter(table: LabelTable, options: FitOptions) -> Fitter:
    """Return what is tried for these labels and options."""
    if options.head == "mlp":
        return mlp_fitter(table.kind, table.classes, options.seed)

    def fit(rows: Floats, targets: Floats, valid: Mask, wanted: Sequence[int]) -> list[Head]:
        strengths = [STRENGTHS[index] for index in wanted]
        return fit_logistic(rows, targets, table.kind, table.classes, strengths, options.class_weight)

    return Fitter(fit, tuple(f"logistic regression, strength {strength:g}" for strength in STRENGTHS))
