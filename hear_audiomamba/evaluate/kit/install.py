"""Make, or bring up to date, a virtual environment with HEAR's own tools and this package.

python hear_audiomamba/evaluate/kit/install.py .venv-heareval

This file needs nothing but Python, so that it runs before anything is installed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
PACKAGE = HERE.parents[1]
STAMP = ".heareval-installed"
TORCH = "torch==2.13.0"
# The predictions runner reads back checkpoints with classes in them, which it has just written itself; torch reads
# such files only when it is told to. A line of a .pth file that begins with `import` runs at each start of Python.
SETTINGS = 'import os; os.environ.setdefault("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")\n'
SETTINGS_FILE = "heareval_settings.pth"


def install_kit(folder: Path, say: Callable[[str], None] = lambda line: None) -> Path:
    """Make the environment unless it is there and complete.

    Args:
        folder: of the environment.
        say: called with a line on each step.

    Returns:
        Its Python interpreter.

    Raises:
        subprocess.CalledProcessError: pip could not install something; its own message is on standard error.
        OSError: the folder cannot be written.
    """
    folder = folder.absolute()
    stamp, wanted = folder / STAMP, _fingerprint()
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted and python.exists():
        say(f"{folder} is up to date")
        os.utime(stamp)
        return python
    if not python.exists():
        say(f"making {folder}")
        venv.EnvBuilder(with_pip=True, symlinks=os.name != "nt").create(folder)

    # Byte-compiling 1.5 GB of packages takes longer than everything else; Python does it on first import.
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-compile"]
    if subprocess.run([python, "-c", "import torch"], stderr=subprocess.DEVNULL, check=False).returncode:
        say(f"installing {TORCH}")
        subprocess.run([*pip, TORCH], check=True)
    say("installing what HEAR's tools need")
    subprocess.run([*pip, "-r", HERE / "requirements.txt"], check=True)
    say("installing HEAR's tools")
    alone = ["--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, *alone, "--ignore-requires-python", "-r", HERE / "tools.txt"], check=True)
    packages = Path(_output(python, "import sysconfig; print(sysconfig.get_paths()['purelib'])"))
    if (PACKAGE.parent / "setup.py").is_file():
        subprocess.run([*pip, *alone, "--editable", PACKAGE.parent], check=True)
    else:
        _copy_package(packages)
    write_settings(packages)
    _supply_tensorflow(python, packages)
    stamp.write_text(wanted, encoding="utf-8")
    return python


def write_settings(packages: Path) -> None:
    """Let every Python of an environment set what the predictions runner needs, unless the user has set it."""
    (packages / SETTINGS_FILE).write_text(SETTINGS, encoding="utf-8")


def _fingerprint() -> str:
    digest = hashlib.sha256()
    for path in [*sorted(HERE.glob("*.txt")), *sorted(HERE.glob("*.py")), PACKAGE / "__init__.py"]:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _output(python: Path, code: str) -> str:
    return subprocess.run(
        [python, "-c", code], check=True, capture_output=True, encoding="utf-8", errors="replace"
    ).stdout.strip()


def _copy_package(packages: Path) -> None:
    """Put the installed package, which came without its sources' checkout, into the environment."""
    target = packages / PACKAGE.name
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(PACKAGE, target, ignore=shutil.ignore_patterns("__pycache__"))


def _supply_tensorflow(python: Path, packages: Path) -> None:
    """Both tools import TensorFlow only to ask whether a model is a tf.Module: a stand-in answers where there is none.

    One of an earlier run is brought up to date; a real TensorFlow stays as it is.
    """
    found = _output(
        python, "import importlib.util as u; s = u.find_spec('tensorflow'); print(s.origin if s else '')"
    )
    if found in ("", str(packages / "tensorflow.py")):
        shutil.copyfile(HERE / "tensorflow_standin.py", packages / "tensorflow.py")


def _write_line(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    where = Path(sys.argv[1] if len(sys.argv) > 1 else ".venv-heareval")
    install_kit(where, say=_write_line)
    sys.stdout.write(f"HEAR's tools are installed in {where}\n")
