"""The leaderboard as a LaTeX table that fits a page: booktabs, bold, caption."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .aggregate import Estimate
from .board import Board
from .rows import Row
from .tables import FEW_RUNS, cell, notes, overall_heads, overall_values, sorted_rows

CAPTION = "Scores in percent on the tasks of HEAR."
_NEEDS = "% \\usepackage{booktabs} \\usepackage{graphicx}"
_NOT_LATIN = (
    "% pdflatex has no letters for {0}: compile with xelatex or lualatex, with "
    "\\usepackage{{fontspec}} \\setmainfont{{...}} and a font that has them"
)
_LAST_LATIN = "\u017f"  # what pdflatex knows without further packages; and marks such as dashes and quotes
_MARKS = range(0x2010, 0x2027)
_PLAIN = {sign: f"\\{sign}" for sign in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"\(\pm\)",
    "–": "--",
}


def latex(board: Board, *, transpose: bool = False, caption: str = CAPTION, label: str = "tab:hear") -> str:
    """Return a table environment.

    Args:
        board: the rows and tasks to be shown.
        transpose: models as columns and tasks as rows.
        caption: of the table; what the signs mean is added to it.
        label: for \\ref.

    Returns:
        LaTeX for the packages booktabs and graphicx; the table is scaled to the width of the text. The best value of
        a protocol is bold where several rows have one. Where names are not in Latin letters, a comment says how to
        compile it.
    """
    rows = sorted_rows(board)
    body = _transposed(board, rows) if transpose else _straight(board, rows)
    said = [caption, *_meaning(board, rows)]
    lines = [_NEEDS, *_hint("".join([*said, *body])), r"\begin{table}[t]", r"\centering"]
    lines += [rf"\caption{{{' '.join(said)}}}", rf"\label{{{label}}}", r"\resizebox{\textwidth}{!}{%"]
    lines += [*body, r"\end{tabular}}", r"\end{table}"]
    lines += [f"% {line}" for line in notes(board) if line]
    return "\n".join(lines) + "\n"


def _hint(text: str) -> list[str]:
    """Return a comment on how to compile text with letters that pdflatex does not know, if there are any."""
    unknown = sorted({sign for sign in text if sign > _LAST_LATIN and ord(sign) not in _MARKS})
    return [_NOT_LATIN.format("".join(unknown[:10]))] if unknown else []


def _straight(board: Board, rows: Sequence[Row]) -> list[str]:
    columns = [*board.tasks, *overall_heads(board)]
    heads = ["Model", *(rf"\rotatebox{{60}}{{{tex(name)}}}" for name in columns)]
    lines = [rf"\begin{{tabular}}{{l{'r' * len(columns)}}}", r"\toprule", _line(heads)]
    last = None
    for row in rows:
        if row.protocol != last:
            title = rf"\multicolumn{{{len(heads)}}}{{l}}{{\emph{{({board.mark(row)}) {tex(row.protocol)}}}}}"
            lines += [r"\midrule", title + r" \\"]
            last = row.protocol
        lines.append(_line([tex(row.label), *_cells(board, row)]))
    return [*lines, r"\bottomrule"]


def _transposed(board: Board, rows: Sequence[Row]) -> list[str]:
    columns = [_cells(board, row) for row in rows]
    names = [*board.tasks, *overall_heads(board)]
    heads = ["Task", "Metric", *(rf"{tex(row.label)} ({board.mark(row)})" for row in rows)]
    lines = [rf"\begin{{tabular}}{{ll{'r' * len(rows)}}}", r"\toprule", _line(heads), r"\midrule"]
    for i, name in enumerate(names):
        if i == len(board.tasks):
            lines.append(r"\midrule")
        metric = board.metric(name) if i < len(board.tasks) else ""
        lines.append(_line([tex(name), tex(metric), *(column[i] for column in columns)]))
    return [*lines, r"\bottomrule"]


def _cells(board: Board, row: Row) -> list[str]:
    scores = [_score(board, row, task, row.scores.get(task)) for task in board.tasks]
    for name, value in zip(overall_heads(board), overall_values(board, row), strict=True):
        text = "--" if value is None else f"{value:.1f}"
        scores.append(rf"\textbf{{{text}}}" if board.is_best(row, name, value) else text)
    return scores


def _score(board: Board, row: Row, task: str, estimate: Estimate | None) -> str:
    if estimate is None:
        return "--"
    mean, _, rest = cell(estimate, "±").replace(FEW_RUNS, r"\textsuperscript{\dag}").partition("±")
    if board.is_best(row, task, estimate.mean):
        mean = rf"\textbf{{{mean}}}"
    return rf"{mean}\,{{\scriptsize$\pm${rest}}}" if rest else mean


def _meaning(board: Board, rows: Sequence[Row]) -> list[str]:
    said = [_metrics(board)] if _metrics(board) else []
    said += [r"Bold: the best of a protocol."] if len(rows) > 1 else []
    if any(e.half_width is not None for row in rows for e in row.scores.values()):
        said.append(r"$\pm$: half the width of the 95\,\% interval.")
    if any(e.few_runs for row in rows for e in row.scores.values()):
        said.append(r"\textsuperscript{\dag}: of fewer than three runs.")
    return said


def _metrics(board: Board) -> str:
    """Say what the scores are: one metric, and the tasks that have another."""
    known = [board.metric(task) for task in board.tasks if board.metric(task)]
    if not known:
        return ""
    usual = max(dict.fromkeys(known), key=known.count)
    others = [f"{t} {board.metric(t)}" for t in board.tasks if board.metric(t) not in ("", usual)]
    return tex(f"Metric: {usual}{'; ' if others else ''}{', '.join(others)}.")


def _line(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"


def tex(text: str) -> str:
    """Return text with what LaTeX takes for commands made plain."""
    return "".join(_PLAIN.get(sign, sign) for sign in text)
