"""Check the package with other versions of CPython, which npm's `pyodide` carries as WebAssembly.

python tools/other_pythons.py            every version
python tools/other_pythons.py 3.14       one

Needs node (20 or newer), npm and network. There is no torch in WebAssembly, so what runs is what needs none: every
file is compiled, every name imported from the standard library is looked up, and the command line shows its help.
Exit status 0 when all of it works.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parents[1]
PYODIDE = {"3.10": "0.22.1", "3.12": "0.27.7", "3.13": "0.29.4", "3.14": "314.0.7"}

IN_NODE = """
const [, , folders, program] = process.argv;
const { loadPyodide } = await import("pyodide");
const python = await loadPyodide({ indexURL: `${process.cwd()}/node_modules/pyodide` });
for (const [inside, outside] of Object.entries(JSON.parse(folders))) {
  python.FS.mkdirTree(inside);
  python.FS.mount(python.FS.filesystems.NODEFS, { root: outside }, inside);
}
process.exitCode = python.runPython(program);
"""

IN_PYTHON = """
import ast, contextlib, importlib, io, pathlib, sys, warnings

print(sys.version.split(" (")[0], end=": ")
problems, files, used = [], 0, set()
for top in ("hear_audiomamba", "recipes", "benchmarks", "tools", "examples", "tests"):
    for file in sorted(pathlib.Path("/checkout", top).rglob("*.py")):
        files += 1
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                tree = ast.parse(file.read_text(encoding="utf-8"), str(file))
                compile(tree, str(file), "exec")
            except (SyntaxError, Warning) as error:
                problems.append(f"{file}: {error}")
                continue
        if top == "hear_audiomamba":
            for node in ast.walk(tree):
                if isinstance(node, ast.ImportFrom) and node.level == 0:
                    used |= {(node.module, alias.name) for alias in node.names}
                elif isinstance(node, ast.Import):
                    used |= {(alias.name, "") for alias in node.names}

# WebAssembly lacks these.
ABSENT = {("fcntl", ""), ("venv", ""), ("concurrent.futures", "ProcessPoolExecutor")}
names = {(module, name) for module, name in used if module.split(".")[0] in sys.stdlib_module_names} - ABSENT
for module, name in sorted(names):
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        try:
            if name not in ("", *dir(importlib.import_module(module))):
                importlib.import_module(f"{module}.{name}")
        except (ImportError, DeprecationWarning) as error:
            problems.append(f"{module} {name}: {error}")

sys.path[:0] = ["/checkout", "/yaml"]
from hear_audiomamba.cli import VERBS, main

shown = 0
for words in [["--help"], ["list", "--json"], *([*verb.split(), "--help"] for verb in VERBS)]:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            status = main(words)
        except SystemExit as end:
            status = end.code
    if status and any(f"{name} is not installed" in said.getvalue() for name in ("numpy", "rich", "torch")):
        continue
    shown += 1
    if status:
        problems.append(f"{' '.join(words)}: exit status {status}: {said.getvalue()[-200:]}")

print(f"{files} files compiled, {len(names)} names of the standard library, {shown} command lines")
print("\\n".join(problems), end="\\n" if problems else "")
int(bool(problems))
"""


def main() -> int:
    """Run the check in each version asked for; return 1 if one of them finds a problem."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "versions", nargs="*", metavar="VERSION", help=f"of {', '.join(PYODIDE)}; all if none"
    )
    versions = parser.parse_args().versions or list(PYODIDE)
    if unknown := [version for version in versions if version not in PYODIDE]:
        parser.error(f"unknown version {unknown[0]}; known: {', '.join(PYODIDE)}")
    folders = json.dumps({"/checkout": str(HERE), "/yaml/yaml": str(Path(yaml.__file__).parent)})
    failed = False
    for version in versions:
        place = HERE / "build" / "pythons" / version
        place.mkdir(parents=True, exist_ok=True)
        (place / "run.mjs").write_text(IN_NODE)
        install = ["npm", "install", "--silent", "--prefix", str(place), f"pyodide@{PYODIDE[version]}"]
        # The oldest one does not say that it needs these two.
        subprocess.run([*install, "ws", "node-fetch@2"], check=True, stdout=subprocess.DEVNULL)
        done = subprocess.run(["node", "run.mjs", folders, IN_PYTHON], cwd=place)
        failed |= done.returncode != 0
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
