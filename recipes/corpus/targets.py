"""Write what the teachers say of a corpus: the folder the distillation objective reads."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from hear_audiomamba.errors import AudioMambaError, DataError
from hear_audiomamba.io.files import replacing, write_text

from .crops import Crop, read_crop
from .manifest import Clip, read_table
from .teachers import Teacher, make_teacher

log = logging.getLogger(__name__)

BATCH = 64


def write_targets(
    corpus: str | Path,
    out: str | Path,
    crops: Sequence[Crop],
    teachers: Sequence[str],
    unheard: Sequence[str] = (),
    earlier: Sequence[str | Path] = (),
    on_progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, str]:
    """Write or continue a targets folder.

    `crops.parquet` lists the crops, `<teacher>.npy` holds a float16 row for each, and `targets.json`
    each teacher's name, dim, licence, source, mean and std.

    Args:
        corpus: the corpus folder.
        out: the targets folder; where it lists crops already, these are kept.
        crops: what the teachers listen to.
        teachers: names out of `teachers.TEACHERS`.
        unheard: starts of the names of sources that no network is asked about: of their crops only the labels
            and the teachers of signal processing know something, which takes next to no time.
        earlier: targets folders of the same corpus whose crops come first, with what the teachers who listened
            said of them; a network that a folder never asked knows nothing of its crops. Labels are read anew.
        on_progress: called with (teacher, crops done, crops in all).

    Returns:
        Teacher → why it was skipped, for those that could not be built.

    Raises:
        DataError: an earlier folder is none, or of another corpus; the crops that `out` lists do not begin with
            those of the earlier folders; or a crop cannot be read.
    """
    corpus, out = Path(corpus), Path(out)
    folders = [Path(folder) for folder in earlier]
    before = _earlier_crops(corpus, folders)
    out.mkdir(parents=True, exist_ok=True)
    crops = keep_crops(out / "crops.parquet", [*before, *sorted(set(crops) - set(before))])
    if crops[: len(before)] != before:
        raise DataError(
            f"{out}: lists crops already, and they do not begin with those of the earlier folders"
        )
    heard = _heard(corpus, crops, tuple(unheard))
    skipped: dict[str, str] = {}
    for name in teachers:
        if (out / f"{name}.npy").is_file():
            continue
        try:
            teacher = make_teacher(name, corpus)
        except AudioMambaError as error:
            log.warning("teacher %s skipped: %s", name, error)
            skipped[name] = str(error)
            continue
        known = heard if teacher.network else np.ones(len(crops), bool)
        _listen(teacher, corpus, out, crops, known, _earlier_rows(teacher, folders), on_progress)
        describe(teacher, out)
    return skipped


def _heard(corpus: Path, crops: Sequence[Crop], unheard: tuple[str, ...]) -> np.ndarray:
    """Return which crops the networks are asked about, (n,).

    Raises:
        DataError: a start fits no source of the corpus.
    """
    if not unheard:
        return np.ones(len(crops), bool)
    sources = {clip.path: clip.source for clip in read_table(corpus / "manifest.csv", Clip)}
    for start in unheard:
        if not any(source.startswith(start) for source in sources.values()):
            raise DataError(f"unheard: no source of {corpus} begins with {start!r}")
    return np.array([not sources.get(path, "").startswith(unheard) for path, _, _ in crops])


def _earlier_crops(corpus: Path, folders: Sequence[Path]) -> list[Crop]:
    """Return the crops of earlier targets folders, one folder after the other.

    Raises:
        DataError: a folder lists no crops, or crops of a file that the corpus does not have.
    """
    if not folders:
        return []
    known = {clip.path for clip in read_table(corpus / "manifest.csv", Clip)}
    crops: list[Crop] = []
    for folder in folders:
        path = folder / "crops.parquet"
        if not path.is_file():
            raise DataError(f"{folder}: not a targets folder (no crops.parquet)")
        crops += read_crops(path)
    unknown = next((path for path, _, _ in crops if path not in known), None)
    if unknown:
        raise DataError(f"{corpus}: has no file {unknown}, of which the earlier targets have a crop")
    return crops


def _earlier_rows(teacher: Teacher, folders: Sequence[Path]) -> np.ndarray | None:
    """Return what a teacher said of the earlier folders' crops, (crops, dim), or None where all must be asked."""
    if not folders or not teacher.listens:
        return None
    paths = [folder / f"{teacher.name}.npy" for folder in folders]
    if not (teacher.network or all(path.is_file() for path in paths)):
        return None
    return np.concatenate(
        [
            np.load(path)
            if path.is_file()
            else np.full((len(read_crops(path.with_name("crops.parquet"))), teacher.dim), np.nan, np.float16)
            for path in paths
        ]
    )


def _listen(
    teacher: Teacher,
    corpus: Path,
    out: Path,
    crops: Sequence[Crop],
    known: np.ndarray,
    before: np.ndarray | None,
    on_progress,
) -> None:
    """Fill `<teacher>.npy` batch by batch, NaN where `known` is false; what is done outlasts an interrupt.

    `before` has the rows of the first crops where they are known.
    """
    partial, mark = out / f".{teacher.name}.npy", out / f".{teacher.name}.done"
    done = int(mark.read_text()) if mark.is_file() and partial.is_file() else 0
    if done:
        values = np.load(partial, mmap_mode="r+")
    else:
        values = np.lib.format.open_memmap(partial, "w+", np.float16, (len(crops), teacher.dim))
        if before is not None:
            values[: len(before)] = before
            done = len(before)
    for first in range(done, len(crops), BATCH):
        some = crops[first : first + BATCH]
        asked = np.flatnonzero(known[first : first + BATCH])
        rows = np.full((len(some), teacher.dim), np.nan, np.float32)
        if len(asked):
            clips = [read_crop(corpus, some[i]) for i in asked] if teacher.listens else []
            rows[asked] = teacher.embed(clips, [some[i][0] for i in asked])
        values[first : first + len(some)] = np.clip(rows, -6e4, 6e4)
        if (first // BATCH) % 16 == 0:
            values.flush()
            mark.write_text(str(first + len(some)))
        if on_progress:
            on_progress(teacher.name, first + len(some), len(crops))
    values.flush()
    del values
    partial.replace(out / f"{teacher.name}.npy")
    mark.unlink(missing_ok=True)


def describe(teacher: Teacher, out: Path) -> None:
    path = out / "targets.json"
    known = json.loads(path.read_text(encoding="utf-8"))["teachers"] if path.is_file() else {}
    values = np.load(out / f"{teacher.name}.npy").astype(np.float32)
    values = values[~np.isnan(values).all(axis=1)]
    if not len(values):
        values = np.zeros((1, teacher.dim), np.float32)
    known[teacher.name] = {
        "dim": teacher.dim,
        "licence": teacher.licence,
        "source": teacher.source,
        "loss": teacher.loss,
        **({"classes": teacher.classes} if teacher.loss == "cross_entropy" else {}),
        **({"labels": list(teacher.labels)} if teacher.labels else {}),
        "mean": [round(float(x), 6) for x in np.nanmean(values, axis=0)],
        "std": [round(float(x), 6) for x in np.nanstd(values, axis=0)],
    }
    write_text(path, json.dumps({"teachers": known}))


def keep_crops(path: Path, crops: Sequence[Crop]) -> list[Crop]:
    import pyarrow
    from pyarrow import parquet

    if path.is_file():
        return read_crops(path)
    if not crops:
        raise DataError(f"{path}: no crops were chosen")
    paths, starts, seconds = zip(*crops)
    table = pyarrow.table({"path": paths, "start_seconds": starts, "seconds": seconds})
    with replacing(path) as partial:
        parquet.write_table(table, partial)
    return list(crops)


def read_crops(path: Path) -> list[Crop]:
    """Read the crops of a targets folder: path, start and length in seconds."""
    from pyarrow import parquet

    table = parquet.read_table(path)
    return list(zip(*(table.column(name).to_pylist() for name in ("path", "start_seconds", "seconds"))))
