"""The report of a fit: one page that needs nothing beside it, and the same numbers as JSON."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import asdict
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from ..errors import counted
from ..io.files import strict_json, write_json, write_text
from ..io.names import path_of
from .head import Floats
from .metrics import ClassScores, Interval
from .outcome import Fitted, Mistake, Trial

MOST_MISTAKES = 60
# A confusion matrix of more classes cannot be read on a page.
MOST_CLASSES_IN_MATRIX = 60
CURVE_POINTS = 200


def write_report(fitted: Fitted, page: str | Path, title: str) -> None:
    """Write a page, and beside it a JSON file of the same name.

    Args:
        fitted: what `fit_labels` returned.
        page: the .html file.
        title: stands at its head.

    Raises:
        OutputError: a file cannot be written.
    """
    page = Path(page)
    write_json(page.with_suffix(".json"), report_numbers(fitted))
    write_text(page, report_page(fitted, title, page.parent))


def report_numbers(fitted: Fitted) -> dict[str, Any]:
    """Return everything that the page shows as plain values, and the confusion matrix and curves."""
    trial, head = fitted.trial, fitted.classifier.head
    numbers: dict[str, Any] = {
        "kind": head.kind, "tried_on": trial.source, "summary": trial.summary, "notes": list(trial.notes),
        "classes": [
            {**asdict(score), "threshold": float(threshold)}
            for score, threshold in zip(trial.scores, head.thresholds)
        ],
        "curves": {
            score.name: {"recall": recall.tolist(), "precision": precision.tolist()}
            for score, (recall, precision) in zip(trial.scores, curves(trial))
        },
        "mistakes": [one._asdict() for one in trial.mistakes[:MOST_MISTAKES]],
        "unreadable": list(fitted.errors),
    }  # fmt: skip
    if head.kind == "single":
        numbers["confusion"] = confusion(trial).tolist()
    plain = strict_json(numbers)
    assert isinstance(plain, dict)
    return plain


def confusion(trial: Trial) -> Floats:
    """Return how often each class (row) was taken for each class (column), `(C, C)`."""
    n_classes = trial.targets.shape[1]
    matrix = np.zeros((n_classes, n_classes), np.int64)
    np.add.at(matrix, (trial.targets.argmax(axis=1), trial.probabilities.argmax(axis=1)), 1)
    return matrix


def curves(trial: Trial) -> list[tuple[Floats, Floats]]:
    """Return recall and precision over all thresholds of each class, thinned out for drawing."""
    found = []
    for index in range(trial.targets.shape[1]):
        order = np.argsort(-trial.probabilities[:, index], kind="stable")
        values, own = trial.probabilities[order, index], trial.targets[order, index] > 0
        ends = np.flatnonzero(np.append(values[1:] < values[:-1], True))
        hits = np.cumsum(own)[ends]
        recall, precision = hits / max(int(own.sum()), 1), hits / (ends + 1)
        kept = np.unique(np.linspace(0, len(ends) - 1, CURVE_POINTS).round().astype(int))
        found.append((recall[kept].round(4), precision[kept].round(4)))
    return found


def report_page(fitted: Fitted, title: str, folder: Path) -> str:
    """Return the page; links to audio are relative to `folder`."""
    trial, head = fitted.trial, fitted.classifier.head
    events = head.kind == "events"
    text = files(__package__).joinpath("report.html").read_text(encoding="utf-8")
    tried = counted(len(trial.rows), "labelled recording" if events else "labelled clip")
    parts = {
        "title": escape(title),
        "subtitle": escape(
            f"{counted(len(head.classes), 'class', 'classes')}, tried on {tried} that the classifier "
            f"was not fitted on ({trial.source}); embeddings of {fitted.classifier.embedding.variant}"
        ),
        "numbers": "".join(_number(name, value) for name, value in trial.summary.items()),
        "notes": f'<ul class="notes">{"".join(f"<li>{escape(note)}</li>" for note in trial.notes)}</ul>',
        "class_words": "Labels, found and right count events."
        if events
        else "Labels, found and right count clips.",
        "classes": "".join(_class(score) for score in trial.scores),
        "confusion": _matrix(trial, head.classes) if head.kind == "single" else "",
        "curve_words": "At every threshold"
        + (", counted by short stretches of time instead of events." if events else ".")
        + " The area under a curve is its average precision.",
        "curves": "".join(_curve(s, r, p) for s, (r, p) in zip(trial.scores, curves(trial))),
        "mistake_words": f"{len(trial.mistakes)} in all, the most certain first. Some may be wrong labels.",
        "mistakes": "".join(_mistake(one, folder) for one in trial.mistakes[:MOST_MISTAKES]),
    }
    # In one pass, so that no label is taken for the name of a part.
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], text)


def _number(name: str, value: float) -> str:
    shown = f"{value:.0f}" if name in ("rows", "recordings") else f"{value:.3f}"
    return f"<li><b>{shown}</b>{escape(name.replace('_', ' ').replace('f1', 'F1'))}</li>"


def _class(score: ClassScores) -> str:
    cells = [
        (score.precision, score.precision_interval), (score.recall, score.recall_interval),
        (score.f1, score.f1_interval), (score.ap, score.ap_interval),
    ]  # fmt: skip
    few = (
        ""
        if score.enough
        else ' <span class="few" title="too few labels to trust these numbers">few labels</span>'
    )
    counts = f"<td>{score.labels}</td><td>{score.found}</td><td>{score.right}</td>"
    return f"<tr><td>{escape(score.name)}{few}</td>{counts}{''.join(_cell(*cell) for cell in cells)}</tr>"


def _cell(value: float, interval: Interval) -> str:
    shown = "–" if np.isnan(value) else f"{value:.2f}"
    return f'<td>{shown}<br><span class="range">{interval[0]:.2f} to {interval[1]:.2f}</span></td>'


def _matrix(trial: Trial, classes: Sequence[str]) -> str:
    """Draw the confusion matrix."""
    matrix = confusion(trial)
    if len(classes) > MOST_CLASSES_IN_MATRIX:
        return f"<h2>Confusions</h2><p class='soft'>{len(classes)} classes: see the JSON file.</p>"
    size = 28 if len(classes) <= 25 else 18
    margin = 12 + 6.5 * max(len(name) for name in classes)
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    marks = []
    for row, name in enumerate(classes):
        middle = margin + row * size + size / 2 + 4
        marks.append(f'<text x="{margin - 6}" y="{middle:.0f}" text-anchor="end">{escape(name)}</text>')
        turned = f'transform="translate({middle:.0f} {margin - 6}) rotate(-90)"'
        marks.append(f"<text {turned}>{escape(name)}</text>")
        for column in np.flatnonzero(matrix[row]).tolist():
            x, y = margin + column * size, margin + row * size
            colour = "var(--bar)" if row == column else "var(--bad)"
            told = f"{name} taken for {classes[column]}: {matrix[row, column]}"
            opacity = 0.15 + 0.85 * share[row, column]
            marks.append(
                f'<rect x="{x}" y="{y}" width="{size - 1}" height="{size - 1}" fill="{colour}" '
                f'fill-opacity="{opacity:.2f}"><title>{escape(told)}</title></rect>'
            )
            if size > 20:
                ink = ' style="fill: var(--page)"' if opacity > 0.6 else ""
                marks.append(
                    f'<text x="{x + size / 2 - 0.5}" y="{y + size / 2 + 4}" text-anchor="middle"{ink}>'
                    f"{matrix[row, column]}</text>"
                )
    edge = margin + size * len(classes) + 4
    return (
        "<h2>Confusions</h2><p class='soft'>Rows are what people heard, columns what the classifier found.</p>"
        f'<div class="wide"><svg viewBox="0 0 {edge:.0f} {edge:.0f}" width="{edge:.0f}" role="img" '
        f'aria-label="confusion matrix">{"".join(marks)}</svg></div>'
    )


def _curve(score: ClassScores, recall: Floats, precision: Floats) -> str:
    points = " ".join(f"{4 + 112 * r:.1f},{116 - 112 * p:.1f}" for r, p in zip(recall, precision))
    value = "–" if np.isnan(score.ap) else f"{score.ap:.2f}"
    return (
        f'<figure><svg viewBox="0 0 120 120" role="img" aria-label="precision over recall of {escape(score.name)}">'
        '<rect x="4" y="4" width="112" height="112" fill="none" stroke="var(--line)"/>'
        f'<polyline points="{points}" fill="none" stroke="var(--bar)" stroke-width="2"/></svg>'
        f"<figcaption><b>{value}</b> {escape(score.name)}</figcaption></figure>"
    )


def _mistake(one: Mistake, folder: Path) -> str:
    link = _link(one.path, folder)
    timed = not np.isnan(one.start)
    # A media fragment: browsers play that stretch only.
    part = f"#t={one.start:.2f},{one.end:.2f}" if timed else ""
    when = f" <span class='range'>{one.start:.2f} to {one.end:.2f} s</span>" if timed else ""
    label = escape(one.label) or "<span class='soft'>nothing</span>"
    said = escape(one.said) or "<span class='soft'>nothing</span>"
    return (
        f'<tr><td>{label}</td><td class="left">{said}</td><td>{one.surprise:.2f}</td>'
        f'<td class="path"><a href="{link}{part}">{escape(one.path)}</a>{when}</td>'
        f'<td class="left"><audio controls preload="none" src="{link}{part}"></audio></td></tr>'
    )


def _link(path: str, folder: Path) -> str:
    try:
        relative = os.path.relpath(path, folder)
    except ValueError:  # another drive
        return Path(path).absolute().as_uri()
    return quote(os.fsencode(path_of(relative.replace(os.sep, "/"))))  # the bytes of its name, in any locale
