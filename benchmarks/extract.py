"""Hours of audio embedded in an hour: the engine against a plain loop over files, in one run.

Both sides read the same files from disk with the same model and threads, turn by turn. Each is checked to
give the same embeddings. The encoder-only rate is the model on windows that are ready in memory. Files have
to be decoded and turned into spectrograms too; "reading" is the rate of one thread that does only that. The
bound is what an engine reaches that keeps all threads busy with nothing but these two.

    python benchmarks/extract.py [--variant NAME] [--threads N] [--clock wall|cpu] [--out FILE.json]

On a machine that other work shares, `--clock cpu --threads 1` counts the processor seconds of both sides,
those of the decoding process included: what the engine gains by using several cores is then left out.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import soundfile
import torch

from hear_audiomamba import load_model
from hear_audiomamba.archive.decode import DecodeSettings, decode_source
from hear_audiomamba.archive.options import EmbedOptions
from hear_audiomamba.archive.read import read_all_scenes
from hear_audiomamba.archive.run import embed_sources
from hear_audiomamba.archive.sources import Source, find_sources
from hear_audiomamba.embedding.windows import WindowCutter
from hear_audiomamba.io.audio import load_audio
from hear_audiomamba.io.process import keep_freed_memory


def cpu_seconds() -> float:
    """Return the processor time of this process and of its children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


CLOCKS = {"wall": time.perf_counter, "cpu": cpu_seconds}
clock = time.perf_counter


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variant", default="ssam_tiny")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=sorted(CLOCKS), default="wall")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clips", type=int, default=1000, help="short clips, 0.5 to 3 s")
    parser.add_argument("--minutes", type=float, default=30.0, help="length of the long file")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    global clock
    clock = CLOCKS[args.clock]
    torch.set_num_threads(args.threads)
    keep_freed_memory()  # for all sides alike, as the command line does
    model = load_model(variant=args.variant, device="cpu")
    result = {"machine": machine(args.threads), "model": model.config.variant}
    result |= {"clock": args.clock, "rounds": args.rounds}
    with tempfile.TemporaryDirectory() as folder:
        short, long = (
            write_clips(Path(folder) / "short", args.clips),
            write_long(Path(folder) / "long", args.minutes),
        )
        for name, archive in (("short clips", short), ("long file", long)):
            result[name] = compare(model, archive, Path(folder) / "out", args.rounds, args.threads)
    result["peak_memory_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    text = json.dumps(result, indent=1)
    if args.out:
        args.out.write_text(text + "\n")
    print(text)


def compare(model, archive: Path, out: Path, rounds: int, threads: int) -> dict[str, object]:
    """Time plain loop, engine and encoder alone on an archive, in turn; return rates and ratios."""
    files = sorted(archive.rglob("*.wav"))
    seconds = sum(soundfile.info(file).duration for file in files)
    sources = find_sources([archive])
    times: dict[str, list[float]] = {"loop": [], "engine": [], "encoder": [], "reading": [], "bound": []}
    for sound in files[:1]:  # warm up
        model.scene(torch.from_numpy(load_audio(sound, model.sample_rate, duration=30.0))[None])
    for _ in range(rounds):
        shutil.rmtree(out, ignore_errors=True)
        begun = clock()
        plain = [
            model.scene(torch.from_numpy(load_audio(file, model.sample_rate))[None])[0] for file in files
        ]
        np.save(archive / "plain.npy", torch.stack(plain).numpy())
        looped = clock()
        embed_sources(sources, model, out, EmbedOptions(format="npy"))
        done = clock()
        encoder, reading = encoder_seconds(model, files), reading_seconds(model, sources)
        # By processor time nothing is divided; on the wall clock threads share the reading as well.
        bound = encoder + reading / (threads if clock is CLOCKS["wall"] else 1)
        for name, value in zip(times, (looped - begun, done - looped, encoder, reading, bound), strict=True):
            times[name].append(value)
    difference = float(np.abs(read_all_scenes(out).embeddings - torch.stack(plain).numpy()).max())
    assert difference < 1e-4, f"engine and loop differ by {difference}"
    ratios = [a / b for a, b in zip(times["loop"], times["engine"])]
    shares = [a / b for a, b in zip(times["encoder"], times["engine"])]
    bounds = [a / b for a, b in zip(times["bound"], times["engine"])]
    return {
        "files": len(files),
        "audio_seconds": round(seconds, 1),
        "hours_an_hour": {
            name: round(seconds / statistics.median(values), 1) for name, values in times.items()
        },
        "engine_over_loop": spread(ratios),
        "engine_share_of_encoder_rate": spread(shares),
        "engine_share_of_bound": spread(bounds),
        "largest_difference": difference,
    }


def encoder_seconds(model, files: list[Path]) -> float:
    """Return the time for all windows of the files in full batches, features and files not counted."""
    windows = []
    for file in files:
        audio = torch.from_numpy(load_audio(file, model.sample_rate))[None]
        cutter = WindowCutter(model.plan)
        cut = [*cutter.push(model.features(audio)[0], 0), *cutter.finish(audio.shape[1])]
        windows += [window.frames for window in cut]
    windows.sort(key=len)
    elapsed = 0.0
    with torch.inference_mode():
        for at in range(0, len(windows), 16):
            batch = windows[at : at + 16]
            size = len(batch[-1])
            batch = torch.stack([torch.nn.functional.pad(w, (0, 0, 0, size - len(w))) for w in batch])
            begun = clock()
            model.encode_windows(batch)
            elapsed += clock() - begun
    return elapsed


def reading_seconds(model, sources: list[Source]) -> float:
    """Return the time in which one thread decodes the files and makes their spectrograms."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    settings = DecodeSettings(model.sample_rate)
    begun = clock()
    for source in sources:
        for block in decode_source(source, settings):
            model.features(torch.from_numpy(block.samples)[None])
    done = clock()
    torch.set_num_threads(threads)
    return done - begun


def spread(values: list[float]) -> dict[str, float]:
    """Return median, least and most."""
    return {
        "median": round(statistics.median(values), 3),
        "min": round(min(values), 3),
        "max": round(max(values), 3),
    }


def write_clips(folder: Path, count: int) -> Path:
    """Write clips of 0.5 to 3 s at 44.1 kHz, two channels: what a folder of effects looks like."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for index in range(count):
        noise = random.standard_normal((int(44100 * random.uniform(0.5, 3.0)), 2)) * 0.1
        soundfile.write(folder / f"{index:04d}.wav", noise, 44100)
    return folder


def write_long(folder: Path, minutes: float) -> Path:
    """Write one recording at 48 kHz."""
    folder.mkdir()
    random = np.random.default_rng(1)
    with soundfile.SoundFile(folder / "long.wav", "w", 48000, 1) as file:
        for _ in range(round(minutes * 6)):
            file.write(random.standard_normal(480_000) * 0.1)
    return folder


def machine(threads: int) -> dict[str, object]:
    """Say what this ran on."""
    return {
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": threads,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


if __name__ == "__main__":
    main()
