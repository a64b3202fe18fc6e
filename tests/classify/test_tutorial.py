"""docs/classifying.md works as it is typed, from recordings to a Raven table."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np

from hear_audiomamba.cli import main
from hear_audiomamba.io.labels import read_labels

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/classifying.md").read_text(encoding="utf-8")


def test_the_tutorial(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    part = PAGE.partition("## A tutorial")[2].partition("\n## Labels")[0]
    program, *_ = re.findall(r"```python\n(.*?)```", part, re.DOTALL)
    exec(compile(program, "docs/classifying.md", "exec"), {})
    commands = [
        line for block in re.findall(r"```sh\n(.*?)```", part, re.DOTALL) for line in block.splitlines()
    ]
    assert [shlex.split(line)[1] for line in commands] == [
        "fit", "predict", "fit", "embed", "explore", "fit", "predict",
    ]  # fmt: skip
    for line in commands:
        if " labels.csv " in line:
            write_labels_of_the_map(tmp_path)
        words = shlex.split(line)
        assert main(words[1:]) == 0, line
    assert {path.name for path in (tmp_path / "found").iterdir()} == {
        "night6.selections.txt",
        "night7.selections.txt",
    }
    found = read_labels(tmp_path / "found", rare="keep")
    assert set(found.classes) <= {"click", "tone", "word"} and len(found.rows) >= 4
    assert {p.name for p in (tmp_path / "found.plots").iterdir()} == {f"{name}.png" for name in found.classes}
    assert len((tmp_path / "calls.suggest.csv").read_text().splitlines()) == 6
    assert (tmp_path / "pieces.csv").read_text().startswith("path,start,end,label,score\n")


def write_labels_of_the_map(folder: Path) -> None:
    """Label pieces as somebody who hears them would, in the form that the page downloads."""
    lines = ["path,label,start,end"]
    for row in read_labels(folder / "field/labelled").rows:
        middle = (row.start + row.end) / 2
        first = int(np.floor(middle))
        lines.append(f"{Path(row.path).absolute()},{row.labels[0]},{first},{first + 1}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
