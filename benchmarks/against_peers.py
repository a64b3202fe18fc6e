"""Seconds of audio embedded a second of one core: our bundled models, SSAST, and what users would take instead.

    PYTHONPATH=benchmarks python benchmarks/against_peers.py [--json results.json] [--peers yamnet speech speaker]

Sides: the three bundled models, SSAST-tiny with fused attention and random weights, and YAMNet, Google's speech
embedding and Resemblyzer by the packages that recipes/weights/setup.sh installs. Each embeds one clip of 10 s, eight
such clips, and a folder of files at 44.1 kHz: ours with the engine of `hear-audiomamba embed`, the peers file by file,
since they have none. All sides take turns on one thread, by processor time, that of decoding processes included.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import torch
from extract import cpu_seconds
from peers import load_model as load_peer
from timing import spread, take_turns, write
from torch import Tensor

from hear_audiomamba import load_model
from hear_audiomamba.archive.options import EmbedOptions
from hear_audiomamba.archive.read import read_all_scenes
from hear_audiomamba.archive.run import embed_sources
from hear_audiomamba.archive.sources import find_sources
from hear_audiomamba.io.audio import load_audio
from hear_audiomamba.io.process import keep_freed_memory

OURS = {"SSAM-tiny (default)": "ssam_tiny", "SSAMBA-tiny": "ssamba_tiny", "hiermamba_nano": "hiermamba_nano"}
TRANSFORMER = "SSAST-tiny"
RATE, SECONDS, SEVERAL, FILES = 16000, 10, 8, 40
Embed = Callable[[Tensor], Tensor]
EmbedFiles = Callable[[list[Path], Path], np.ndarray]


def our_side(variant: str) -> tuple[Embed, EmbedFiles]:
    """Return how one of our models embeds clips, and files."""
    model = load_model(variant=variant, device="cpu")

    def files(paths: list[Path], out: Path) -> np.ndarray:
        shutil.rmtree(out, ignore_errors=True)
        embed_sources(find_sources([paths[0].parent]), model, out, EmbedOptions(format="npy"))
        return read_all_scenes(out).embeddings

    return model.scene, files


def peer_side(name: str) -> tuple[Embed, EmbedFiles]:
    """Return how a peer embeds clips, and files one by one."""
    model = load_peer(peer=name)

    def files(paths: list[Path], out: Path) -> np.ndarray:
        clips = [torch.from_numpy(load_audio(path, RATE))[None] for path in paths]
        return np.concatenate([model.encoder(clip).numpy() for clip in clips])

    return model.encoder, files


def write_files(folder: Path) -> list[Path]:
    """Write files of 10 s, two channels of noise that comes and goes."""
    random = np.random.default_rng(0)
    paths = [folder / f"{index:03d}.wav" for index in range(FILES)]
    for path in paths:
        level = np.repeat(random.uniform(0.01, 0.2, SECONDS), 44100)[:, None]
        soundfile.write(path, random.standard_normal((SECONDS * 44100, 2)) * level, 44100)
    return paths


def check(name: str, embed: Embed, files: EmbedFiles, paths: list[Path], out: Path) -> None:
    """Assert that a side gives the same embeddings in each of the three ways."""
    clips = torch.stack([torch.from_numpy(load_audio(path, RATE)) for path in paths[:SEVERAL]])
    alone = torch.cat([embed(clip[None]) for clip in clips])
    for way, found in (
        ("several clips", embed(clips)),
        ("files", torch.from_numpy(files(paths, out)[:SEVERAL])),
    ):
        gap = ((found - alone).norm() / alone.norm()).item()
        assert gap < 1e-3, f"{name}: {way} and clips alone differ by {gap:.1e}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json")
    parser.add_argument("--peers", nargs="*", default=["yamnet", "speech", "speaker"])
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    keep_freed_memory()
    sides = {name: our_side(variant) for name, variant in OURS.items()}
    sides |= {TRANSFORMER: our_side("ssast_tiny")}
    sides |= {name: peer_side(name) for name in args.peers}
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        (Path(folder) / "files").mkdir()
        paths, out = write_files(Path(folder) / "files"), Path(folder) / "out"
        for name, side in sides.items():
            check(name, *side, paths, out)
        clips = torch.randn(SEVERAL, SECONDS * RATE) * 0.1
        ways = {
            "one clip": (1, {n: lambda e=e: e(clips[:1]) for n, (e, _) in sides.items()}),
            "eight clips": (SEVERAL, {n: lambda e=e: e(clips) for n, (e, _) in sides.items()}),
            "files": (FILES, {n: lambda f=f: f(paths, out) for n, (_, f) in sides.items()}),
        }
        rows: dict[str, dict[str, dict[str, float]]] = {name: {} for name in sides}
        for way, (count, functions) in ways.items():
            for name, times in take_turns(functions, args.rounds, clock=cpu_seconds).items():
                rates = [count * SECONDS / seconds for seconds in times]
                found = {"median": statistics.median(rates), "min": min(rates), "max": max(rates)}
                rows[name][way] = found | {"pairs": len(rates)}
    for name, found in rows.items():
        print(f"{name:20}", *(f"{way} {spread(rate, 0)}" for way, rate in found.items()), sep="  ")
    write(args.json, {"seconds": SECONDS, "files": FILES, "rows": rows})


if __name__ == "__main__":
    main()
