"""What README and docs tell people to type is valid: every block parses, every option exists."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from hear_audiomamba import __version__
from hear_audiomamba.cli.program import VERBS, make_parser, split_verb

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("weights/*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
SHELL = ("sh", "bash")


def blocks(page: Path) -> list[tuple[int, str, str]]:
    """Return line number, language and text of every code block of a page."""
    text = page.read_text(encoding="utf-8")
    return [(text[: m.start()].count("\n") + 1, m[1], m[2]) for m in FENCE.finditer(text)]


def commands(text: str) -> list[list[str]]:
    """Return the words of each command line of ours in a shell block, without comments."""
    lines = re.sub(r"\$\{?\w+\}?", "0", text.replace("\\\n", " ")).splitlines()
    words = [shlex.split(line, comments=True) for line in lines if "hear-audiomamba" in line]
    return [line for line in words if line and line[0] == "hear-audiomamba"]


PARAMETERS = [
    pytest.param(page, line, language, text, id=f"{page.name}:{line}")
    for page in PAGES
    for line, language, text in blocks(page)
]


@pytest.mark.parametrize(("page", "line", "language", "text"), PARAMETERS)
def test_every_block_parses(page, line, language, text):
    assert language or "hear-audiomamba" not in text, "a block with commands must be marked as sh"
    if language == "python":
        imports = [n for n in ast.parse(text).body if isinstance(n, ast.Import | ast.ImportFrom)]
        for node in imports:  # what the page tells people to import is there
            exec(compile(ast.Module([node], []), page.name, "exec"), {})
    elif language in SHELL:
        shell = shutil.which("bash" if language == "bash" else "sh")
        done = subprocess.run([shell, "-n"], input=text, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        for line in commands(text):
            verb, words = split_verb(line[1:])
            assert verb in VERBS, f"no verb {verb!r}"
            make_parser(verb).parse_intermixed_args(words)


SECTION = re.compile(r"\s*(Args|Returns|Raises|Warns|Yields|Attributes):")
SECOND_ERROR = re.compile(r"[.;] [A-Z]\w+(Error|Warning): ")


def test_sections_of_docstrings_are_found_by_the_reference():
    """A section without a blank line before it, and a second error on a line, are shown as running text."""
    wrong = []
    for path in sorted(ROOT.glob("hear_audiomamba/**/*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                lines = ["", *(ast.get_docstring(node) or "").splitlines()]
                glued = [line for above, line in pairwise(lines) if SECTION.fullmatch(line) and above.strip()]
                wrong += [f"{path}: {line}" for line in [*glued, *filter(SECOND_ERROR.search, lines)]]
    assert wrong == []


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == __version__
    assert all(paper["title"] and paper["authors"] and paper["url"] for paper in citation["references"])


def test_no_block_is_left_open():
    for page in PAGES:
        assert page.read_text(encoding="utf-8").count("\n```") % 2 == 0, page.name


def test_the_page_on_reproducing_names_the_benchmarks():
    """Every script is listed, and every script that is listed exists."""
    page = (ROOT / "docs/reproducing.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"\b(\w+\.py)\b", page))
    assert listed == {path.name for path in ROOT.glob("benchmarks/*.py")}
