"""The house stays as it was built: layers import downwards only, and the import stays light."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "hear_audiomamba"

# Each layer may import those before it, and itself.
LAYERS = [
    {"errors", "config", "_moved"},
    {"io"},
    {"frontends"},
    {"ops"},
    {"modules"},
    {"encoders"},
    {"models"},
    {"embedding"},
    {"hear"},
    {"archive", "pretrain", "evaluate"},
    {"classify", "adapters", "onnx_runtime"},
    {"cli"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
BESIDE = {"archive", "pretrain", "evaluate"}  # never one another


def imported(path: Path):
    """Yield the top-level part of each import of this package in a file, and its line."""
    package = list(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        targets = []
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level] if node.level else []
            full = [*base, *(node.module.split(".") if node.module else [])]
            targets = [[*full, alias.name] for alias in node.names] if len(full) < 2 else [full]
        elif isinstance(node, ast.Import):
            targets = [alias.name.split(".") for alias in node.names]
        for target in targets:
            if target[0] == PACKAGE.name and len(target) > 1 and not target[1].startswith("__"):
                yield target[1], node.lineno


def modules():
    """All files but the entry points, which stand above the layers."""
    files = (p for p in PACKAGE.rglob("*.py") if p.name != "__main__.py")
    return sorted(p for p in files if p != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_downwards(path):
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    assert own in LEVEL, f"{own} has no layer: add it to LAYERS"
    for other, line in imported(path):
        assert other in LEVEL, f"line {line}: {other} has no layer"
        assert LEVEL[other] <= LEVEL[own], f"line {line}: {own} imports {other}, a layer above"
        assert not (own in BESIDE and other in BESIDE and own != other), f"line {line}: {own} imports {other}"


def test_the_design_page_shows_these_layers():
    page = (PACKAGE.parent / "docs/design.md").read_text(encoding="utf-8")
    shown = re.search(r"```\n(errors config .*?)```", page, re.DOTALL)
    assert shown is not None
    layers = [set(re.findall(r"\w+", layer)) for layer in shown[1].split("←")]
    assert layers == [names - {"_moved"} for names in LAYERS]  # old import paths belong to no design
    for name in LEVEL:
        assert f"`{name}/`" in page or f"`{name}.py`" in page, f"docs/design.md does not explain {name}"


def test_import_is_light_and_offline():
    program = (
        "import socket, sys\n"
        "def refuse(*a, **k): raise AssertionError('network')\n"
        "socket.socket.connect = refuse; socket.getaddrinfo = refuse\n"
        "from hear_audiomamba import list_models, load_model; list_models()\n"
        "heavy = 'pandas matplotlib transformers triton soundfile sklearn pyarrow rich huggingface_hub'\n"
        "print(' '.join(m for m in heavy.split() if m in sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_no_print_in_library_code():
    for path in modules():
        if path.relative_to(PACKAGE).parts[0] == "cli":
            continue
        calls = [n.lineno for n in ast.walk(ast.parse(path.read_text()))
                 if isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id == "print"]  # fmt: skip
        assert not calls, f"{path.relative_to(PACKAGE)}: print in lines {calls}"
