"""The bundled weights on one GPU machine without network, in a call of 25 minutes or several of fewer.

    python -m recipes.weights.gpu_train pack CORPUS PACK        here: recordings as Opus, teachers' weights; 60 MB
    python -m recipes.weights.gpu_train train PACK OUT          there: sounds, teachers on the GPU, all trainings
    python -m recipes.weights.gpu_train train PACK OUT --toy    the same way on a CPU in a few minutes

`train` goes on where an earlier call stopped, when OUT is what that call left.
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from hear_audiomamba.io.files import replacing, sha256_of
from recipes.corpus import build_corpus, targets
from recipes.corpus.crops import Crop, choose_crops, read_crop
from recipes.corpus.decode import decode
from recipes.corpus.manifest import Clip, read_table, write_table
from recipes.corpus.recipe import CorpusRecipe, load_recipe
from recipes.corpus.synth.sound import SAMPLE_RATE
from recipes.corpus.teachers import Teacher, make_teacher
from recipes.corpus.teachers.base import STORED, store_layers
from recipes.corpus.teachers.effects import EffectsTeacher
from recipes.corpus.teachers.yamnet import YAMNetTeacher

HERE = Path(__file__).resolve().parent
RECIPE = HERE / "open-corpus.yaml"
TEACHERS = ("own", "yamnet", "yamnet_tags", "effects", "spectrum", "contour")
# Of the time for training, what each configuration gets.
RUNS = {"ssam_tiny_200_16x4": 0.4, "hiermamba_nano": 0.3, "ssamba_tiny": 0.3}
ALONE = ("tones", "textures", "notes", "chords", "drums", "phrases", "variants")
BATCH = 64
_asked: list[Teacher] = []


def main() -> None:
    """Pack, or train from what was packed."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    packing = verbs.add_parser("pack", help="put recordings and teachers into one small folder")
    packing.add_argument("corpus", type=Path, help="a corpus folder that `recipes.corpus build` made")
    packing.add_argument("pack", type=Path, help="the folder to carry")
    packing.add_argument("--megabytes", type=float, default=60.0, help="most it may hold [%(default)s]")
    training = verbs.add_parser("train", help="train from a packed folder")
    training.add_argument("pack", type=Path)
    training.add_argument("out", type=Path, help="corpus, targets and runs, OUT/VARIANT/model.safetensors")
    training.add_argument("--minutes", type=float, default=25.0, help="for everything [%(default)s]")
    training.add_argument("--crops", type=int, default=60000, help="that the teachers hear [%(default)s]")
    training.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="cores to use [all]")
    training.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    training.add_argument("--toy", action="store_true", help="few sounds, three steps a run: a rehearsal")
    args = parser.parse_args()
    if args.verb == "pack":
        pack(args.corpus, args.pack, args.megabytes)
    else:
        train(args)


def pack(corpus: Path, out: Path, megabytes: float) -> None:
    """Write the recordings of a corpus as Opus, effects first and in random order, and the teachers' weights.

    Args:
        corpus: the corpus folder; its synthesis and variants are left out, since they are made again there.
        out: the folder to carry: `audio/`, `manifest.csv`, `teachers/`.
        megabytes: most of all files together, 10^6 bytes.
    """
    import soundfile

    yamnet, effects = YAMNetTeacher(corpus), EffectsTeacher(corpus)
    (out / "teachers").mkdir(parents=True, exist_ok=True)
    store_layers(out / "teachers/yamnet.safetensors", [*yamnet.layers, yamnet.head])
    store_layers(out / "teachers/effects.safetensors", effects.layers)
    left = megabytes * 1e6 - sum(path.stat().st_size for path in (out / "teachers").iterdir())
    clips = [clip for clip in read_table(corpus / "manifest.csv", Clip) if clip.kind != "synth"]
    order = np.random.default_rng(0).permutation(len(clips))
    taken = []
    for index in sorted(order, key=lambda i: clips[i].kind != "effect"):
        clip = clips[index]
        target = (out / clip.path).with_suffix(".opus")
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as partial:
            samples = decode(corpus / clip.path, SAMPLE_RATE)
            soundfile.write(
                partial, samples, SAMPLE_RATE, format="OGG", subtype="OPUS", compression_level=0.9
            )
        left -= target.stat().st_size + 400  # and its line in the manifest
        if left < 0:
            target.unlink()
            break
        name = target.relative_to(out).as_posix()
        taken.append(dataclasses.replace(clip, path=name, sha256=sha256_of(target)))
    write_table(out / "manifest.csv", Clip, taken)
    hours = sum(clip.seconds for clip in taken) / 3600
    print(f"{out}: {len(taken)} of {len(clips)} recordings, {hours:.2f} h, and two teachers")


def train(args: argparse.Namespace) -> None:
    """Make the sounds, ask the teachers and train every model, within the time given."""
    begin = time.monotonic()
    os.environ[STORED] = str((args.pack / "teachers").resolve())
    corpus, heard = args.out / "corpus", args.out / "targets"
    _corpus(args.pack, corpus, args.toy)
    _say(begin, "sounds are there")
    _ask(corpus, heard, 200 if args.toy else args.crops, args.processes, args.device)
    _say(begin, "teachers have answered")
    known = [name for name in (*TEACHERS, *_labels()) if has_training_rows(heard, name, corpus)]
    left = max(30.0, args.minutes * 60 - (time.monotonic() - begin))
    for name, share in RUNS.items():
        _run(name, corpus, heard, known, args, left * share)
        _say(begin, f"{name}: {args.out / name / 'model.safetensors'}")


def _corpus(packed: Path, corpus: Path, toy: bool) -> None:
    """Put the packed recordings and what can be synthesised here into a corpus folder."""
    shutil.copytree(packed / "audio", corpus / "audio", dirs_exist_ok=True)
    books = corpus / ".sources"
    books.mkdir(parents=True, exist_ok=True)
    recipe = load_recipe(RECIPE)
    whole = CorpusRecipe.from_dict(recipe.to_dict())
    programs = {"notes", "chords", "drums", "phrases"} if shutil.which("fluidsynth") is None else set()
    engines = set(ALONE) - programs
    synthesis = tuple(
        source.replace(count=min(source.count, 40) if toy else source.count)
        for source in whole.synthesis
        if source.engine in engines
    )
    clips = read_table(packed / "manifest.csv", Clip)
    for source in sorted({clip.source for clip in clips}):
        _book(books, source, [clip for clip in clips if clip.source == source])
    names = {clip.source for clip in clips}
    packages = tuple(source for source in whole.packages if source.name in names)
    build_corpus(whole.replace(packages=packages, synthesis=synthesis), corpus)


def _book(books: Path, source: str, clips: Sequence[Clip]) -> None:
    """Enter recordings as those of a finished source, so that the builder does not fetch it."""
    from recipes.corpus.manifest import Label, SourceReport

    hours = sum(clip.seconds for clip in clips) / 3600
    write_table(books / f"{source}.clips.csv", Clip, clips)
    write_table(books / f"{source}.labels.csv", Label, [])
    report = SourceReport(source, "ok", len(clips), hours)
    write_table(books / f"{source}.report.csv", SourceReport, [report])


def _ask(corpus: Path, out: Path, count: int, processes: int, device: str) -> None:
    """Ask the teachers in as many processes as there are cores, each with its own networks on the device."""
    wanted = [name for name in TEACHERS if not (out / f"{name}.npy").is_file()]
    crops = choose_crops(corpus, count)
    out.mkdir(parents=True, exist_ok=True)
    crops = targets.keep_crops(out / "crops.parquet", crops)
    if wanted:
        parts = [crops[first : first + BATCH] for first in range(0, len(crops), BATCH)]
        context = multiprocessing.get_context("spawn")
        with context.Pool(processes, _begin, (corpus, wanted, device)) as pool:
            rows = pool.starmap(_listen, [(corpus, part) for part in parts])
        for index, name in enumerate(wanted):
            with replacing(out / f"{name}.npy") as partial, partial.open("wb") as file:
                np.save(file, np.concatenate([row[index] for row in rows]))
            targets.describe(make_teacher(name, corpus), out)
    targets.write_targets(corpus, out, crops, _labels())


def _begin(corpus: Path, names: Sequence[str], device: str) -> None:
    torch.set_num_threads(1)
    for name in names:
        _asked.append(make_teacher(name, corpus))
        _asked[-1].to(device)


def _listen(corpus: Path, crops: Sequence[Crop]) -> list[np.ndarray]:
    clips = [read_crop(corpus, crop) for crop in crops]
    paths = [crop[0] for crop in crops]
    return [teacher.embed(clips, paths).clip(-6e4, 6e4).astype(np.float16) for teacher in _asked]


def _labels() -> list[str]:
    from recipes.corpus.teachers import TEACHERS as ALL

    return [name for name in ALL if name.startswith("labels_")]


def has_training_rows(heard: Path, name: str, corpus: Path) -> bool:
    """Tell whether a teacher has a row for a crop of the training split."""
    if not (heard / f"{name}.npy").is_file():
        return False
    training = {clip.path for clip in read_table(corpus / "manifest.csv", Clip) if clip.split == "train"}
    rows = np.load(heard / f"{name}.npy", mmap_mode="r")[:, 0]
    crops = targets.read_crops(heard / "crops.parquet")
    return any(crop[0] in training and not np.isnan(row) for crop, row in zip(crops, rows, strict=True))


def _run(
    name: str, corpus: Path, heard: Path, known: list[str], args: argparse.Namespace, seconds: float
) -> None:
    """Train one model for some seconds, or go on with it; checkpoints come every few minutes."""
    import yaml

    asked = yaml.safe_load((HERE / f"{name}.yaml").read_text(encoding="utf-8"))
    teachers = {key: weight for key, weight in asked["distill"]["teachers"].items() if key in known}
    settings = [
        f"data.path={corpus}", f"distill.targets={heard}", f"run.out={args.out / name}", f"device={args.device}",
        f"distill.teachers={yaml.safe_dump(teachers, default_flow_style=True, width=10**6).strip()}",
        f"run.max_seconds={seconds}", "run.tensorboard=false",
    ]  # fmt: skip
    if args.toy:
        settings += ["optim.steps=3", "optim.batch=8", "optim.micro_batch=8"]
    else:
        settings += ["optim.batch=256", "optim.micro_batch=256", f"data.workers={args.processes - 1}"]
    command = [
        sys.executable,
        "-m",
        "hear_audiomamba",
        "pretrain",
        str(HERE / f"{name}.yaml"),
    ]
    done = subprocess.run([*command, "--resume", *settings], check=False)
    if done.returncode not in (0, 3):
        raise SystemExit(f"{name}: the training ended with status {done.returncode}")


def _say(begin: float, text: str) -> None:
    print(f"{time.monotonic() - begin:7.0f} s  {text}", flush=True)


if __name__ == "__main__":
    main()
