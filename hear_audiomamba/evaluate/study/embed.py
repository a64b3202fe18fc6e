"""Embed one HEAR task with a HEAR module, without HEAR's own tools; the files are those of its embeddings runner.

python -m hear_audiomamba.evaluate.study.embed hear_audiomamba tasks/esc50-v2.0.0-full --out embeddings/esc50
"""

from __future__ import annotations

import argparse
import importlib
import json
import pickle
import random
import shutil
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...errors import AudioMambaError, DataError, UntrainedWeightsWarning, counted
from ...io.audio import open_audio
from ...io.files import read_json, write_text
from ..child import exit_with_parent, tell_progress
from ..kit_files import DONE_EMBEDDINGS

_CLIP_SECONDS_AT_ONCE = 0.7 * 120 * 16000
_AFTER_THE_END_MS = 0.0001


def embed_task(module_name: str, weights: str, options: Mapping[str, Any], task: Path, out: Path) -> None:
    """Write the embeddings of all splits of a task.

    Args:
        module_name: HEAR module.
        weights: path given to its `load_model`, empty for none.
        options: keywords given to `load_model`.
        task: folder of the task.
        out: new folder for the embeddings.

    Raises:
        DataError: a clip cannot be read or has another sample rate, or the module returns the wrong number of rows.

    Source: batches, order of rows and files are those of `heareval.embeddings.runner`, so that either predictions
        engine reads them.
    """
    module = importlib.import_module(module_name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UntrainedWeightsWarning)
        model = module.load_model(*([weights] if weights else []), **options)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device)
    metadata = read_json(task / "task_metadata.json")
    out.mkdir(parents=True)
    for name in ("task_metadata.json", "labelvocabulary.csv", *(f"{s}.json" for s in metadata["splits"])):
        shutil.copyfile(task / name, out / name)
    labels = {split: read_json(task / f"{split}.json") for split in metadata["splits"]}
    total, done = sum(map(len, labels.values())), 0
    order = random.Random(0)
    for split, of_clip in labels.items():
        folder = task / str(model.sample_rate) / split
        with (out / "rows.tmp").open("wb") as rows:
            made = _Rows(rows)
            for names, audio in _batches(
                folder, list(of_clip), model.sample_rate, metadata["sample_duration"]
            ):
                sound = torch.from_numpy(audio).to(device)
                with torch.no_grad():
                    if metadata["embedding_type"] == "scene":
                        scenes = module.get_scene_embeddings(sound, model).float().cpu().numpy()
                        made.add(names, scenes[:, None], None)
                    else:
                        frames, times = module.get_timestamp_embeddings(sound, model)
                        made.add(names, frames.float().cpu().numpy(), times.float().cpu().numpy())
                done += len(names)
                tell_progress(done, total, "clips")
        shuffled = list(of_clip)
        order.shuffle(shuffled)
        made.write(out, split, shuffled, of_clip)
    (out / "rows.tmp").unlink()
    (out / DONE_EMBEDDINGS).touch()


class _Rows:
    """The rows of a split on disk, in the order of its clips, and where each clip's are."""

    def __init__(self, file: Any) -> None:
        self.file = file
        self.first: dict[str, int] = {}
        self.times: dict[str, NDArray[np.float32] | None] = {}
        self.count: dict[str, int] = {}
        self.size = 0

    def add(self, names: Sequence[str], rows: NDArray[np.float32], times: NDArray[np.float32] | None) -> None:
        """Append the rows (clips, n, K) of some clips, and their times (clips, n) in ms for events."""
        if len(rows) != len(names) or rows.ndim != 3:
            raise DataError(f"{counted(len(names), 'clip')} gave embeddings of shape {tuple(rows.shape)}")
        self.size = rows.shape[2]
        for i, name in enumerate(names):
            self.first[name] = self.file.tell() // 4
            self.count[name] = len(rows[i])
            self.times[name] = None if times is None else times[i]
            self.file.write(np.ascontiguousarray(rows[i], dtype=np.float32).tobytes())

    def write(self, out: Path, split: str, names: Sequence[str], labels: Mapping[str, Any]) -> None:
        """Write a split's files with the clips in the order of `names`."""
        rows = np.memmap(self.file.name, dtype=np.float32, mode="r")
        with (out / f"{split}.embeddings.npy").open("wb") as file:
            for name in names:
                start = self.first[name]
                file.write(rows[start : start + self.count[name] * self.size].tobytes())
        write_text(
            out / f"{split}.embedding-dimensions.json", json.dumps([sum(self.count.values()), self.size])
        )
        targets: list[Any] = []
        places: list[tuple[str, float]] = []
        for name in names:
            times = self.times[name]
            if times is None:
                targets.append(labels[name])
            else:
                targets.extend(labels_at(labels[name], times))
                places.extend((f"{split}/{name}", float(t)) for t in times)
        with (out / f"{split}.target-labels.pkl").open("wb") as file:
            pickle.dump(targets, file)
        if places:
            write_text(out / f"{split}.filename-timestamps.json", json.dumps(places))


def labels_at(events: Sequence[Mapping[str, Any]], times: NDArray[np.float32]) -> list[list[str]]:
    """Return the labels of the events that are active at each time.

    Args:
        events: with `label`, `start` and `end` in ms; the end belongs to the event.
        times: (n,) in ms.
    """
    at = times.astype(np.float64)
    active = [(at >= e["start"]) & (at < e["end"] + _AFTER_THE_END_MS) for e in events]
    return [[str(e["label"]) for e, on in zip(events, active, strict=True) if on[i]] for i in range(len(at))]


def _batches(
    folder: Path, names: Sequence[str], sample_rate: int, seconds: float | None
) -> Iterator[tuple[Sequence[str], NDArray[np.float32]]]:
    """Yield clips in order; several at once only where the task gives all clips one length."""
    at_once = max(1, int(_CLIP_SECONDS_AT_ONCE / seconds / sample_rate)) if seconds else 1
    for start in range(0, len(names), at_once):
        group = names[start : start + at_once]
        clips = [_read(folder / name, sample_rate) for name in group]
        if len({len(clip) for clip in clips}) > 1:
            # Metadata promises one length; a task that breaks it is still embedded, clip by clip.
            for name, clip in zip(group, clips, strict=True):
                yield [name], clip[None]
        else:
            yield group, np.stack(clips)


def _read(path: Path, sample_rate: int) -> NDArray[np.float32]:
    with open_audio(path) as clip:
        if clip.sample_rate != sample_rate:
            raise DataError(f"{path}: {clip.sample_rate} Hz; expected {sample_rate} Hz")
        return np.asarray(clip.read(0, clip.n_frames), dtype=np.float32)


def main() -> int:
    """Read the arguments, embed the task, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("module", help="HEAR module")
    parser.add_argument("task", type=Path, help="folder of a HEAR task")
    parser.add_argument("--out", type=Path, required=True, help="new folder for the embeddings")
    parser.add_argument("--model", default="", help="weights file")
    parser.add_argument("--options", default="{}", help="keywords of load_model as JSON")
    args = parser.parse_args()
    exit_with_parent()
    try:
        embed_task(args.module, args.model, json.loads(args.options), args.task, args.out)
    except AudioMambaError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
