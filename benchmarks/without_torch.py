"""An environment without PyTorch that embeds audio: its size on disk, and what starting it takes.

    python benchmarks/without_torch.py MODEL.onnx [--json results.json] [--keep FOLDER]

Makes a fresh virtual environment with numpy, soundfile, soxr, onnxruntime and this checkout (needs an index of
packages, such as PyPI), and embeds the recordings in `examples/audio` in it. MODEL.onnx is what
`hear-audiomamba export` wrote. The checkout is installed without bundled weights, and pip compiles nothing. Sizes are
those of site-packages without pip. Import time is processor time, the median of five starts.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from timing import write

ROOT = Path(__file__).resolve().parents[1]
NEEDS = ("numpy", "soundfile", "soxr", "onnxruntime")
IMPORT = (
    "import time; begin = time.process_time()\n"
    "from hear_audiomamba.onnx_runtime import OnnxEmbedder\n"
    "import onnxruntime\n"
    "print(time.process_time() - begin)\n"
)
EMBED = (
    "import json, sys\n"
    "from pathlib import Path\n"
    "from hear_audiomamba.onnx_runtime import OnnxEmbedder\n"
    "model = OnnxEmbedder(sys.argv[1], threads=1)\n"
    "files = [p for p in sorted(Path(sys.argv[2]).iterdir()) if p.suffix != '.md']\n"
    "shapes = {p.name: model.embed_file(p)[0].shape for p in files}\n"
    "assert 'torch' not in sys.modules\n"
    "print(json.dumps(shapes))\n"
)


def sizes(site: Path) -> dict[str, float]:
    """Return MB by top-level package of an environment, without pip and setuptools."""
    found: dict[str, float] = {}
    for path in site.rglob("*"):
        if path.is_file():
            name = path.relative_to(site).parts[0].partition("-")[0].partition(".")[0]
            found[name] = found.get(name, 0.0) + path.stat().st_size / 1e6
    own = {name: size for name, size in found.items() if name not in ("pip", "setuptools", "pkg_resources")}
    return {name: round(size, 1) for name, size in sorted(own.items(), key=lambda item: -item[1])}


def measure(model: Path, folder: Path) -> dict[str, object]:
    """Make the environment in a folder, and measure it."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    subprocess.run([*install, *NEEDS], check=True)
    without = {**os.environ, "AUDIOMAMBA_WITHOUT_WEIGHTS": "1"}
    subprocess.run([*install, "--no-deps", ROOT], check=True, env=without)

    bare = {"PYTHONDONTWRITEBYTECODE": "1"}

    def run(*arguments: object) -> str:
        command = [python, "-c", *map(str, arguments)]
        return subprocess.run(
            command, cwd=folder, check=True, capture_output=True, text=True, env=bare
        ).stdout

    site = Path(run("import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    shapes = json.loads(run(EMBED, model.resolve(), ROOT / "examples" / "audio"))
    by_package = sizes(site)
    return {
        "megabytes": round(sum(by_package.values()), 1),
        "by_package": by_package,
        "import_seconds": statistics.median(float(run(IMPORT)) for _ in range(5)),
        "embedded": shapes,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("--json")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="make the environment here, and leave it")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(args.model, args.keep or Path(folder))
    print(f"{found['megabytes']} MB, import {found['import_seconds']:.2f} s")
    print("\n".join(f"{size:8.1f} MB  {name}" for name, size in found["by_package"].items() if size >= 0.5))
    print("\n".join(f"{name}: {shape}" for name, shape in found["embedded"].items()))
    write(args.json, found)


if __name__ == "__main__":
    main()
