"""Well-formed files of every kind that is read, small: what the fuzzer damages."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import torch
from safetensors.torch import save

from hear_audiomamba import load_model
from hear_audiomamba.models.weights import METADATA_KEY

TINY = {"variant": "ssam_tiny", "embed_dim": 16, "depth": 1, "d_state": 2, "expand": 1, "device": "cpu"}
ROWS = [
    {"path": "a.wav", "start": 0.0, "duration": 1.5, "label": "bird;rain", "split": "train"},
    {"path": "sub/b.wav", "start": 2.0, "duration": 0.5, "label": "wind", "split": "valid"},
]


def audio(ending: str) -> bytes:
    """A third of a second of noise."""
    held = io.BytesIO()
    noise = np.random.default_rng(0).standard_normal(5000) * 0.1
    soundfile.write(held, noise.astype(np.float32), 16000, format=ending)
    return held.getvalue()


def table(ending: str) -> bytes:
    """A manifest."""
    if ending == "jsonl":
        return "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    if ending == "json":
        return json.dumps({"data": ROWS}).encode()
    if ending == "parquet":
        import pandas

        held = io.BytesIO()
        pandas.DataFrame(ROWS).to_parquet(held)
        return held.getvalue()
    text = io.StringIO()
    writer = csv.DictWriter(text, ROWS[0], delimiter="\t" if ending == "tsv" else ",")
    writer.writeheader()
    writer.writerows(ROWS)
    return text.getvalue().encode()


def raven() -> bytes:
    """A Raven selection table."""
    columns = ["Selection", "View", "Channel", "Begin Time (s)", "End Time (s)", "Low Freq (Hz)",
               "High Freq (Hz)", "Begin File", "Species"]  # fmt: skip
    row = ["1", "Spectrogram 1", "1", "0.5", "1.25", "0", "8000", "a.wav", "bird"]
    return ("\t".join(columns) + "\n" + "\t".join(row) + "\n").encode()


def tar(kind: int = tarfile.PAX_FORMAT) -> bytes:
    """A webdataset shard."""
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w", format=kind) as archive:
        long = "é" * (40 if kind == tarfile.USTAR_FORMAT else 80) + ".flac"
        members = {"0001.wav": audio("wav"), "0001.json": b'{"labels": "bird"}', long: audio("flac")}
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return held.getvalue()


def state() -> tuple[dict[str, torch.Tensor], str]:
    """The tensors of a very small model, and the description that stands in its file."""
    model = load_model(**TINY)
    description = json.dumps({"config": model.config.to_dict(), "notes": {}})
    return {key: value.contiguous() for key, value in model.encoder.state_dict().items()}, description


def safetensors() -> bytes:
    """A weights file of ours."""
    tensors, description = state()
    return save(tensors, {METADATA_KEY: description})


def pytorch() -> bytes:
    """A checkpoint as authors release them."""
    held = io.BytesIO()
    torch.save({"model": state()[0], "epoch": 3}, held)
    return held.getvalue()


def archive(format: str, folder: Path) -> dict[str, bytes]:
    """All files of an output folder of `embed`, by their names in it."""
    from hear_audiomamba.archive.options import EmbedOptions
    from hear_audiomamba.archive.run import Resources, embed_sources
    from hear_audiomamba.archive.sources import find_sources

    folder.mkdir(parents=True, exist_ok=True)
    for name in ("a.wav", "b.wav"):
        (folder / name).write_bytes(audio("wav"))
    options = EmbedOptions(timestamps=True, format=format)
    out = folder / f"out-{format}"
    embed_sources(find_sources([folder / "a.wav", folder / "b.wav"]), load_model(**TINY), out, options,
                  Resources(workers=0))  # fmt: skip
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file()
    }


RESULTS = {
    "schema": "hear_audiomamba.results/1", "model": "m", "module": "hear_audiomamba", "code": "1", "weights": "none",
    "trained": True, "options": {}, "parameters": 1, "sample_rate": 16000, "embedding_size": 8, "suite": "s",
    "protocol": {"engine": "fast", "grid": "default", "grid_points": 8, "grid_seed": 0, "seeds": [42]},
    "versions": {},
    "tasks": {"t": {"score": "accuracy", "state": "done", "failures": {},
                    "runs": [{"seed": 42, "value": 0.5, "scores": {"accuracy": 0.5}, "ended_by_nan": 0}]}},
}  # fmt: skip
LOG = b'{"event": "train", "step": 1, "loss": 2.5}\n{"event": "valid", "step": 2, "loss": 2.25}\n'
SUITE = b"name: mine\ntasks: [a, b]\nseeds: 3\nengine: fast\n"
CONFIG = b"base: ssam_tiny\ndata: {path: audio}\noptim: {lr: 1.0e-4, batch: 4}\n"

Seed = Callable[[], bytes]
