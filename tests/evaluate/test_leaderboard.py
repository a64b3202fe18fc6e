"""The leaderboard's files, from results good and bad."""

from __future__ import annotations

import csv
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from hear_audiomamba.cli import main
from hear_audiomamba.evaluate.board.board import build_board, hear_task_names, hear_task_table, read_results
from hear_audiomamba.evaluate.board.page import page
from hear_audiomamba.evaluate.board.tables import comma_separated, latex, markdown
from hear_audiomamba.evaluate.study.results import SCHEMA


def results(path: Path, model: str, tasks: dict[str, list[float]], *, seeds: int = 2, nan: int = 0) -> Path:
    """A results file as a study writes it."""
    runs = {
        task: [
            {
                "seed": 42 + i,
                "score": "top1_acc",
                "value": v,
                "scores": {},
                "folds": {},
                "ended_by_nan": nan,
                "seconds": 1,
            }
            for i, v in enumerate(values)
        ]
        for task, values in tasks.items()
    }
    report = {
        "schema": SCHEMA, "model": model, "parameters": 4_800_000,
        "protocol": {"engine": "heareval", "grid": "default", "grid_points": 8, "grid_seed": 42,
                     "seeds": list(range(42, 42 + seeds))},
        "tasks": {t: {"score": "top1_acc", "state": "done", "runs": r, "failures": {}} for t, r in runs.items()},
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report))
    return path


@pytest.fixture
def ten(tmp_path: Path) -> Path:
    return results(tmp_path / "ours.json", "ours", {t: [0.70, 0.74] for t in hear_task_table()})


def test_results_and_published_rows_stand_together_each_with_its_mark(ten: Path) -> None:
    board = build_board([ten])
    own = board.rows[0]
    assert own.own and own.scores["ESC-50"].mean == pytest.approx(72.0)
    assert board.mean(own) == pytest.approx(72.0) and board.overall(own) is not None
    text = markdown(board)
    assert "| **ours** | a | 72.0 ± 25.4 |" in text
    assert "- b: HEAR 2021 leaderboard" in text and "do not compare one to one" in text
    rows = list(csv.DictReader(io.StringIO(comma_separated(board))))
    esc = next(r for r in rows if r["model"] == "ours" and r["task"] == "ESC-50")
    assert (
        float(esc["score"]) == pytest.approx(72.0)
        and esc["runs"] == "2"
        and esc["protocol"].startswith("heareval")
    )
    assert all(r["source"] and r["protocol"] for r in rows)
    tex = latex(board)
    assert tex.count(r"\midrule") == 4 and r"72.0\,$\pm$\,25.4" in tex and "±" not in tex.split("% ")[0]


def test_missing_tasks_and_runs_are_shown_and_not_averaged(tmp_path: Path) -> None:
    first, *others = list(hear_task_table())[:9]
    tasks = {first: [0.7], **{task: [0.7, 0.7] for task in others}}
    board = build_board([results(tmp_path / "part.json", "part", tasks, nan=3)])
    row = board.rows[0]
    assert board.mean(row) is None and board.overall(row) is None
    assert board.missing(row) == ["VoxLingua107 top10"]
    text = markdown(board)
    assert re.search(
        r"part: no VoxLingua107 top10; Beijing Opera: 1 of 2 runs; trainings ended by a NaN score: Beijing Opera 3",
        text,
    )


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda text: text[: len(text) // 2], "cannot be read"),
        (lambda text: text.replace(SCHEMA, "something/9"), "schema"),
        (lambda text: text.replace('"value": 0.7', '"value": "nan"', 1), "damaged"),
        (lambda text: text.replace('"protocol"', '"protocols"'), "damaged"),
        (lambda text: "[]", "expected a JSON object"),
    ],
)
def test_damaged_results_are_refused_by_name(ten: Path, damage, said: str) -> None:
    ten.write_text(damage(ten.read_text()))
    board = build_board([ten])
    assert not any(r.own for r in board.rows)
    (reason,) = board.refused
    assert "ours.json" in reason and said in reason


class _Reader(HTMLParser):
    """Collects what a page would load from elsewhere, and its embedded data."""

    def __init__(self) -> None:
        super().__init__()
        self.outside: list[str] = []
        self.data, self.inside = "", False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.inside = values.get("id") == "data"
        for name in ("src", "href"):
            if values.get(name) and not str(values[name]).startswith("data:"):
                self.outside.append(str(values[name]))

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.data, self.inside = data, False


def test_the_page_is_complete_in_itself(tmp_path: Path) -> None:
    hostile = results(tmp_path / "x.json", "</script><b>ours", {t: [0.7, 0.8] for t in hear_task_table()})
    board = build_board([hostile])
    text = page(board, {"bars": b"\x89PNG"})
    reader = _Reader()
    reader.feed(text)
    assert reader.outside == [] and "http://" not in text and "@import" not in text
    data = json.loads(reader.data.replace("<\\/", "</"))
    assert data["rows"][0]["model"] == "</script><b>ours" and data["tasks"][:10] == hear_task_names()
    assert 'name="viewport"' in text and "<!--" not in text


def test_the_command_writes_all_files(ten: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "board"
    assert main(["leaderboard", "--results", str(ten.parent), "--out", str(out)]) == 0
    names = {p.name for p in out.iterdir()}
    assert names == {
        "index.html", "leaderboard.md", "leaderboard.csv", "leaderboard.tex", "bars.png", "radar.png", "parameters.png",
    }  # fmt: skip
    assert all((out / n).read_bytes().startswith(b"\x89PNG") for n in names if n.endswith(".png"))
    ten.write_text("{")
    assert main(["leaderboard", "--results", str(ten), "--out", str(out)]) == 1
    assert "ours.json" in capsys.readouterr().err


def test_the_note_on_the_overall_score_says_how_it_was_measured(ten: Path, tmp_path: Path) -> None:
    for form, low in (("naive", "HEAR-Naive"), ("min-max", "the lowest")):
        out = tmp_path / form
        assert main(["leaderboard", "--results", str(ten), "--out", str(out), "--overall", form]) == 0
        for name in ("leaderboard.md", "leaderboard.tex", "index.html"):
            note = re.search(
                r"s\(m\): mean over the ten tasks of \(score - ([\w -]+)\)", (out / name).read_text()
            )
            assert note and note[1] == low, (form, name)


def test_reading_keeps_names_and_sizes(ten: Path) -> None:
    row = read_results(ten)
    assert row.model == "ours" and row.parameters == 4_800_000 and row.source == str(ten)


def test_without_scipy_one_line_says_what_to_install(tmp_path: Path) -> None:
    import subprocess
    import sys

    program = (
        "import sys; sys.modules['scipy'] = None; import importlib.util as u; found = u.find_spec\n"
        "u.find_spec = lambda name, *more: None if name == 'scipy' else found(name, *more)\n"
        "from hear_audiomamba.cli import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    for words in (["leaderboard", "--out", "board"], ["evaluate", "--tasks-dir", "demo", "--out", "study"]):
        done = subprocess.run(
            [sys.executable, "-c", program, *words], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 1, done.stdout
        lines = done.stderr.strip().splitlines()
        assert len(lines) == 1 and "pip install 'hear_audiomamba[evaluate]'" in lines[0], done.stderr
