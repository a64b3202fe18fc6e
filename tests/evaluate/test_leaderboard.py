"""The leaderboard's files, from results good and bad."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from hear_audiomamba.cli import main
from hear_audiomamba.errors import DataError
from hear_audiomamba.evaluate.board.compare import compare
from hear_audiomamba.evaluate.board.gather import build_board
from hear_audiomamba.evaluate.board.latex import latex
from hear_audiomamba.evaluate.board.page import page
from hear_audiomamba.evaluate.board.pictures import all_pictures
from hear_audiomamba.evaluate.board.rows import read_results
from hear_audiomamba.evaluate.board.tables import comma_separated, markdown
from hear_audiomamba.evaluate.study.results import SCHEMA
from hear_audiomamba.evaluate.tasks.catalogue import hear_task_names, hear_tasks


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
    path.write_text(json.dumps(report), encoding="utf-8")
    return path


@pytest.fixture
def ten(tmp_path: Path) -> Path:
    return results(tmp_path / "ours.json", "ours", {t: [0.70, 0.74] for t in hear_tasks()})


def test_results_and_published_rows_stand_together_each_with_its_mark(ten: Path) -> None:
    board = build_board([ten])
    own = board.rows[0]
    assert own.own and own.scores["ESC-50"].mean == pytest.approx(72.0)
    assert board.mean(own) == pytest.approx(72.0) and board.overall(own) is not None
    text = markdown(board)
    assert "| ▸ ours | a | 72.0 ± 25.4† |" in text and "ESC-50 (top1_acc)" in text
    assert "†: the interval of two runs" in text
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
    assert (
        tex.count(r"\midrule") == 4
        and r"72.0\,{\scriptsize$\pm$25.4\textsuperscript{\dag}}" in tex
        and "±" not in tex.split("% ")[0]
    )


def test_missing_tasks_and_runs_are_shown_and_not_averaged(tmp_path: Path) -> None:
    first, *others = list(hear_tasks())[:9]
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
    ten.write_text(damage(ten.read_text(encoding="utf-8")), encoding="utf-8")
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
    hostile = results(tmp_path / "x.json", "</script><b>ours", {t: [0.7, 0.8] for t in hear_tasks()})
    board = build_board([hostile])
    text = page(board)
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
        "index.html", "leaderboard.md", "leaderboard.csv", "leaderboard.tex", "scores.svg", "parameters.svg",
    }  # fmt: skip
    ten.write_text("{", encoding="utf-8")
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


def two(tmp_path: Path) -> list[Path]:
    first, second = list(hear_tasks())[:2]
    return [
        results(tmp_path / "a.json", "a", {first: [0.80, 0.82, 0.81], second: [0.5, 0.6, 0.7]}, seeds=3),
        results(tmp_path / "b.json", "b", {first: [0.70, 0.73, 0.72], second: [0.6, 0.5, 0.7]}, seeds=3),
    ]


def test_bold_is_the_best_of_a_protocol_in_every_table(tmp_path: Path) -> None:
    board = build_board(two(tmp_path), published=False)
    lines = markdown(board).splitlines()
    head, a, b = lines[0], *(next(line for line in lines if line.startswith(f"| ▸ {n} ")) for n in "ab")
    assert "Beijing Opera (top1_acc)" in head
    assert re.search(r"\*\*81.0 ± 2.5\*\*", a) and "**" not in b.split("|")[3]
    # Equal means are both the best.
    assert a.count("**60.0") == b.count("**60.0") == 1
    tex = latex(board)
    assert r"\textbf{81.0}\,{\scriptsize$\pm$2.5}" in tex and r"\textbf{71.7}" not in tex
    alone = build_board(two(tmp_path)[:1], published=False)
    assert "**" not in markdown(alone) and "textbf" not in latex(alone)


def test_tables_of_some_tasks_and_models_and_turned(tmp_path: Path) -> None:
    files = [*map(str, two(tmp_path))]
    words = ["leaderboard", "--results", *files, "--out", str(tmp_path / "out")]
    more = ["--tasks", "CREMA-D", "--models", "b", "SSAM-Base", "--transpose", "--caption", "Mine & yours"]
    assert main([*words, *more]) == 0
    tex = (tmp_path / "out" / "leaderboard.tex").read_text()
    body = tex[tex.index(r"\toprule") : tex.index(r"\bottomrule")]
    assert body.count("CREMA-D") == 1 and "ESC-50" not in body and "SSAM-Base" in body
    assert r"\caption{Mine & yours" in tex and r"\resizebox{\textwidth}" in tex
    for wrong in (["--tasks", "CREMA-E"], ["--models", "SSAM-Bose"]):
        assert main([*words, *wrong]) == 1
    assert "ESC-50" in markdown(build_board([]))


def test_paired_differences_of_two_models(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = two(tmp_path)
    first, second, overall = compare(files, "a", "b")
    assert (first.task, first.pairs, first.sign) == ("Beijing Opera", 3, "+")
    assert first.mean == pytest.approx(28 / 3) and 8.99 < first.low < first.mean < first.high < 10.01
    assert second.sign == "" and second.low <= -10 + 1e-6 and second.high >= 10 - 1e-6
    assert overall.mean == pytest.approx((first.mean + second.mean) / 2)
    backwards = compare(files, "b", "a")
    assert [d.mean for d in backwards] == pytest.approx([-d.mean for d in (first, second, overall)])
    words = ["leaderboard", "--results", *map(str, files), "--out", str(tmp_path / "out"), "--compare"]
    assert main([*words, "a", "b"]) == 0
    assert "| Beijing Opera | +9.3 |" in capsys.readouterr().out
    assert (tmp_path / "out" / "comparison.md").is_file()
    assert main([*words, "a", "c"]) == 1
    files[0].write_text(files[0].read_text().replace('"folds"', '"fields"'))
    with pytest.raises(DataError, match="damaged"):
        compare(files, "a", "b")


def test_pictures_are_whole_svg_without_labels_on_one_another(ten: Path) -> None:
    from xml.etree import ElementTree

    pictures = all_pictures(build_board([ten]))
    assert set(pictures) == {"scores", "parameters"}
    space = "{http://www.w3.org/2000/svg}"
    for picture in pictures.values():
        root = ElementTree.fromstring(picture)
        assert "prefers-color-scheme:dark" in picture
        placed = [
            (float(t.get("x", 0)), float(t.get("y", 0)), t.text or "")
            for t in root.iter(f"{space}text")
            if t.get("class") in ("t", "t w") and t.get("text-anchor") is None
        ]
        for i, (x, y, text) in enumerate(placed):
            for other_x, other_y, other in placed[:i]:
                apart = (
                    abs(y - other_y) >= 14 or x >= other_x + 7 * len(other) or other_x >= x + 7 * len(text)
                )
                assert apart, (text, other)


# Signs that Markdown, HTML or LaTeX take for their own.
ODD_NAME = r"50%_of #1 & {x}~^\<b>|$ü"


def test_any_sign_in_a_name_is_plain_in_every_table(tmp_path: Path) -> None:
    odd = results(tmp_path / "odd.json", ODD_NAME, {"a_task-v1": [0.7, 0.8, 0.9]}, seeds=3)
    board = build_board([odd], published=False)
    table = markdown(board).split("\n\n")[0].splitlines()
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in table} == {5} and r"\<b>\|" in table[-1]
    assert next(csv.DictReader(io.StringIO(comma_separated(board))))["model"] == ODD_NAME
    text = latex(board).split("\n% ")[0]
    plain = (
        r"50\%\_of \#1 \& \{x\}\textasciitilde{}\textasciicircum{}\textbackslash{}\textless{}b\textgreater{}"
    )
    assert f"{plain}|\\$ü" in text


def test_a_table_with_names_that_are_not_latin_says_how_to_compile_it(tmp_path: Path) -> None:
    for name, unknown in (("größer — “Tiny”", ""), ("модель", "делмоь"), ("音声", "声音")):
        row = results(tmp_path / "row.json", name, {"a_task-v1": [0.7, 0.8, 0.9]}, seeds=3)
        text = latex(build_board([row], published=False))
        hint = [line for line in text.splitlines() if "xelatex" in line]
        assert len(hint) == bool(unknown) and all(line.startswith("% pdflatex") for line in hint)
        assert not unknown or f"for {unknown}:" in hint[0]


def test_a_study_in_bfloat16_is_another_protocol(tmp_path: Path) -> None:
    for name in ("first", "second"):
        path = results(tmp_path / f"{name}.json", name, {"a-v1": [0.7, 0.8]})
        if name == "second":
            report = json.loads(path.read_text())
            report["protocol"] |= {"engine": "fast", "precision": "bfloat16"}
            path.write_text(json.dumps(report))
    files = sorted(tmp_path.glob("*.json"))
    assert "fast engine in bfloat16" in "".join(build_board(files, published=False).protocols.values())
    files[0].write_text(files[0].read_text().replace("heareval", "fast"))
    with pytest.raises(DataError, match="precision is float32 and bfloat16"):
        compare(files, "first", "second")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
@pytest.mark.parametrize("more", [[], ["--transpose", "--models", "ours", "SSAM-Base"]])
def test_the_latex_table_compiles(ten: Path, tmp_path: Path, more: list[str]) -> None:
    import subprocess

    results(ten.parent / "odd.json", ODD_NAME, {"a_task-v1": [0.7, 0.8, 0.9]}, seeds=3)
    assert main(["leaderboard", "--results", str(ten.parent), "--out", str(tmp_path / "out"), *more]) == 0
    page = (
        r"\documentclass{article}\usepackage{booktabs}\usepackage{graphicx}\begin{document}"
        + (tmp_path / "out" / "leaderboard.tex").read_text()
        + r"\end{document}"
    )
    (tmp_path / "t.tex").write_text(page)
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"], cwd=tmp_path, capture_output=True
    )
    assert done.returncode == 0, done.stdout[-2000:]
