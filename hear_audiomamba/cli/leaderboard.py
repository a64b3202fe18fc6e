"""`hear-audiomamba leaderboard`: tables, plots and a page from evaluation results."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..errors import DataError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--results",
        type=Path,
        nargs="+",
        default=[],
        metavar="DIR",
        help="folders of results, or single files",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the tables, plots and the page")
    parser.add_argument("--no-published", action="store_true", help="leave out the published rows")
    parser.add_argument(
        "--overall",
        choices=("naive", "min-max"),
        default="naive",
        help="s(m) from HEAR-Naive to the best (default), or from the lowest to the best model",
    )
    parser.add_argument("--title", default="HEAR leaderboard", help="of the page")


def run(args: argparse.Namespace) -> int:
    from ..evaluate.board.board import build_board
    from ..evaluate.board.page import page
    from ..evaluate.board.plots import all_plots
    from ..evaluate.board.tables import comma_separated, latex, markdown
    from ..evaluate.packages import require_scipy
    from ..io.files import write_bytes, write_text

    require_scipy()
    board = build_board(_files(args.results), published=not args.no_published, form=args.overall)
    for reason in board.refused:
        print(f"hear-audiomamba: not used: {reason}", file=sys.stderr)
    if not board.rows:
        raise DataError("nothing to show: no usable results, and published rows are left out")
    plots = all_plots(board)
    texts = {
        "leaderboard.md": markdown(board),
        "leaderboard.csv": comma_separated(board),
        "leaderboard.tex": latex(board),
        "index.html": page(board, plots, args.title),
    }
    for name, text in texts.items():
        write_text(args.out / name, text)
    for name, image in plots.items():
        write_bytes(args.out / f"{name}.png", image)
    own = sum(row.own for row in board.rows)
    print(f"{own} results and {len(board.rows) - own} published rows: {args.out / 'index.html'}")
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
