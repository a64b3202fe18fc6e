"""The GPU report: each step of `gpu_steps` once, kept when done, and all of it as JSON and as Markdown."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import InputError
from ..io.files import read_json, sha256_of, write_json, write_text

TITLES = {
    "kernel-tests": "Kernel tests on the device",
    "values": "Embeddings of every family against the CPU in float32",
    "operators": "Scan and convolution, a layer",
    "embedding": "Embedding clips of 2 s",
    "pretraining": "A pretraining step",
    "predictions": "The predictions engine",
    "processes": "Training over several processes",
    "long-sequences": "Long sequences: Mamba and attention",
    "out-of-memory": "A batch that does not fit",
}


def write_report(folder: Path, rehearsal: bool, task: Path | None, steps: Sequence[str] = ()) -> int:
    """Run the steps that are not done yet, and write `report.json` and `report.md`.

    A step that is done stays done for the same device, torch and package; a step that failed runs again.

    Args:
        folder: where the report and its steps go.
        rehearsal: walk through the steps on the CPU at toy size.
        task: embeddings of one task, for the predictions engine; None leaves that step out.
        steps: names of `TITLES`; all by default.

    Returns:
        0 when no step failed, else 1.

    Raises:
        InputError: there is no GPU, or a step is not known.
    """
    import torch

    unknown = [step for step in steps if step not in TITLES]
    if unknown:
        raise InputError(f"unknown step {unknown[0]!r}; there is {', '.join(TITLES)}")
    if not rehearsal and not torch.cuda.is_available():
        raise InputError("there is no GPU here; --cpu-rehearsal runs the steps on the CPU")
    machine = {
        "device": platform.machine() + " (rehearsal)" if rehearsal else torch.cuda.get_device_name(),
        "devices": 0 if rehearsal else torch.cuda.device_count(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "hear_audiomamba": __version__,
        "code": _code_of_steps(),
        "rehearsal": rehearsal,
    }
    found: dict[str, Any] = {}
    for name in steps or TITLES:
        file = folder / "steps" / f"{name}.json"
        done = read_json(file) if file.is_file() else {}
        if done.get("machine") != machine or "error" in done:
            done = {"machine": machine, **_run(name, file, rehearsal, task)}
            write_json(file, done)
        found[name] = {key: value for key, value in done.items() if key != "machine"}
    report = {"machine": machine, "steps": found}
    write_json(folder / "report.json", report)
    write_text(folder / "report.md", markdown(report))
    return 1 if any("error" in step for step in found.values()) else 0


def markdown(report: dict[str, Any]) -> str:
    """Return a report as Markdown: a heading and a table for each step."""
    machine = report["machine"]
    lines = [f"# GPU report: {machine['device']}", ""]
    lines.append(f"{machine['devices']} devices, torch {machine['torch']}, CUDA {machine['cuda']}.")
    if machine["rehearsal"]:
        lines += ["", "**A rehearsal on the CPU at small sizes: its numbers say nothing about speed.**"]
    for name, step in report["steps"].items():
        lines += ["", f"## {TITLES[name]}", ""]
        if "error" in step:
            lines.append(f"Failed: {step['error']}")
            continue
        columns = list(dict.fromkeys(key for row in step["rows"] for key in row))
        lines.append(f"| {' | '.join(columns)} |")
        lines.append("|" + "---|" * len(columns))
        lines += [f"| {' | '.join(_cell(row.get(column)) for column in columns)} |" for row in step["rows"]]
    return "\n".join(lines) + "\n"


def _run(name: str, file: Path, rehearsal: bool, task: Path | None) -> dict[str, Any]:
    result = file.with_suffix(".rows.json")
    result.parent.mkdir(parents=True, exist_ok=True)
    result.unlink(missing_ok=True)
    command = [sys.executable, "-m", "hear_audiomamba.cli.gpu_steps", name, str(result)]
    command += ["--device", "cpu", "--toy"] if rehearsal else ["--device", "cuda"]
    env = os.environ | ({"AUDIOMAMBA_REPORT_TASK": str(task)} if task else {})
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", env=env)
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]}
    rows = read_json(result)
    result.unlink()
    return rows


def _code_of_steps() -> list[str]:
    return [sha256_of(Path(__file__).with_name(name)) for name in ("gpu_steps.py", "gpu_measure.py")]


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "\\|")
