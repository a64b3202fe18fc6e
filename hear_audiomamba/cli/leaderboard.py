"""`hear-audiomamba leaderboard`: tables, pictures and a page from evaluation results."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..errors import DataError, require


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--results", type=Path, nargs="+", default=[], metavar="DIR",
        help="folders of studies or of results, or single files")  # fmt: skip
    add("--out", type=Path, default=Path("leaderboard"),
        help="folder for tables, pictures and page (default: leaderboard)")  # fmt: skip
    add("--no-published", action="store_true", help="leave out the published rows")
    add("--overall", choices=("naive", "min-max"), default="naive",
        help="s(m) from HEAR-Naive to the best (default), or from the lowest to the best model")  # fmt: skip
    add("--title", default="HEAR leaderboard", help="of the page")
    add("--tasks", nargs="+", default=[], metavar="TASK", help="only these columns, in this order")
    add("--models", nargs="+", default=[], metavar="MODEL", help="only these rows")
    add("--transpose", action="store_true", help="LaTeX: models as columns")
    add("--caption", help="LaTeX: caption of the table")
    add("--compare", nargs=2, metavar=("A", "B"), help="also the paired differences of two models of a study")


def run(args: argparse.Namespace) -> int:
    from ..evaluate.board.compare import compare, compare_table
    from ..evaluate.board.gather import build_board
    from ..evaluate.board.latex import CAPTION, latex
    from ..evaluate.board.page import page
    from ..evaluate.board.pictures import all_pictures
    from ..evaluate.board.tables import comma_separated, markdown
    from ..io.files import write_text

    require("scipy", "the benchmark", "hear_audiomamba[evaluate]")
    files = _files(args.results)
    board = build_board(files, published=not args.no_published, form=args.overall)
    for reason in board.refused:
        print(f"hear-audiomamba: not used: {reason}", file=sys.stderr)
    if not board.rows:
        raise DataError("nothing to show: no usable results, and published rows are left out")
    board = board.select(args.tasks, args.models)
    pictures = all_pictures(board)
    texts = {
        "leaderboard.md": markdown(board),
        "leaderboard.csv": comma_separated(board),
        "leaderboard.tex": latex(
            board if args.tasks or args.models else board.for_a_page(),
            transpose=args.transpose,
            caption=args.caption or CAPTION,
        ),
        "index.html": page(board, args.title),
        **{f"{name}.svg": picture for name, picture in pictures.items()},
    }
    if args.compare:
        texts["comparison.md"] = compare_table(compare(files, *args.compare), *args.compare)
    for name, text in texts.items():
        write_text(args.out / name, text)
    if args.compare:
        print(texts["comparison.md"])
    own = sum(row.own for row in board.rows)
    print(f"models evaluated here: {own}, published rows: {len(board.rows) - own}; {args.out / 'index.html'}")
    return 1 if board.refused else 0


def _files(given: list[Path]) -> list[Path]:
    files: list[Path] = []
    for path in given:
        if path.is_file():
            files.append(path)
        elif path.is_dir():
            folder = path / "results" if (path / "results").is_dir() else path
            files.extend(sorted(folder.glob("*.json")))
        else:
            raise DataError(f"no results at {path}")
    return files
