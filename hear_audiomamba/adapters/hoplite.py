"""Models and archives for perch-hoplite, a vector database with search and agile modelling for bioacoustics.

    from perch_hoplite.agile.embed import EmbedWorker
    from hear_audiomamba.adapters.hoplite import AudioMambaModel

    EmbedWorker(sources, config, db, embedding_model=AudioMambaModel.of("ssam_tiny", window_size_s=5.0))

Embeddings are scaled to length one: hoplite compares them by inner products, and stores them as float16.
"""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ml_collections import config_dict
from numpy.typing import NDArray
from perch_hoplite.agile import embed, source_info
from perch_hoplite.db import sqlite_usearch_impl as hoplite_db
from perch_hoplite.zoo import zoo_interface

from ..archive.read import SceneTable, read_scenes
from ..embedding.embedder import AudioEmbedder
from ..errors import ConfigError
from ..hear import load_model
from ..io.files import make_folder

BATCH = 16
MODEL_KEY = "hear_audiomamba"
DATABASE_FILES = (hoplite_db.HOPLITE_FILENAME, hoplite_db.UINDEX_FILENAME)


@dataclasses.dataclass
class AudioMambaModel(zoo_interface.EmbeddingModel):  # type: ignore[misc]  # the library has no types here
    """A model in hoplite's form: each window of a recording gets one scene embedding, of length one.

    Attributes:
        model: what `load_model` returned.
        window_size_s: length of a window, seconds.
        hop_size_s: from one window to the next, seconds.
    """

    model: AudioEmbedder
    window_size_s: float = 5.0
    hop_size_s: float = 5.0

    @classmethod
    def of(
        cls, name: str = "", *, window_size_s: float = 5.0, hop_size_s: float | None = None, **options: Any
    ) -> AudioMambaModel:
        """Return a model by name.

        Args:
            name: what `load_model` takes.
            window_size_s: length of a window, seconds.
            hop_size_s: from one window to the next, seconds; by default the window's length.
            options: keywords for `load_model`.
        """
        hop = window_size_s if hop_size_s is None else hop_size_s
        if not (window_size_s > 0 and hop > 0):
            raise ConfigError(f"window_size_s {window_size_s} and hop_size_s {hop}: expected more than 0")
        model = load_model(name, **options)
        return cls(model.sample_rate, model, window_size_s, hop)

    @classmethod
    def from_config(cls, model_config: config_dict.ConfigDict) -> AudioMambaModel:
        """Return the model of a configuration with the keywords of `of`."""
        return cls.of(**dict(model_config))

    def embed(self, audio_array: NDArray[np.floating]) -> zoo_interface.InferenceOutputs:
        """Return the embeddings `(frames, 1, K)` of a recording `(samples,)`."""
        return zoo_interface.embed_from_batch_embed_fn(self.batch_embed, audio_array)

    def batch_embed(self, audio_batch: NDArray[np.floating]) -> zoo_interface.InferenceOutputs:
        """Return the embeddings `(B, frames, 1, K)` of recordings of one length `(B, samples)`."""
        framed = self.frame_audio(audio_batch, self.window_size_s, self.hop_size_s)
        # A copy of its own: windows are views of the recording, which may be read-only.
        windows = torch.from_numpy(np.array(framed, np.float32)).flatten(0, -2)
        scenes = torch.cat([self.model.scene(batch) for batch in windows.split(BATCH)]).cpu().numpy()
        return zoo_interface.InferenceOutputs(
            embeddings=_of_length_one(scenes).reshape(*framed.shape[:-1], 1, -1), batched=True
        )


def write_database(archive: str | Path, out: str | Path | None = None, *, name: str = "") -> Path:
    """Write the scene embeddings of an archive as a hoplite database: `hoplite.sqlite` and `usearch.index`.

    A recording's deployment is the first folder of its path below the folder that all recordings share, as
    hoplite's own `EmbedWorker` has it. A database that is there already is replaced.

    Args:
        archive: an output folder of `embed`, of any format but npz, which does not keep the recordings' paths.
        out: folder for the database; by default the archive's.
        name: what `load_model` took for it; hoplite's metadata keeps it. By default the variant.

    Returns:
        The folder; `SQLiteUSearchDB.create(db_path=str(folder))` opens it.

    Raises:
        DataError: there are no scene embeddings, or a file is damaged.
    """
    out = Path(archive if out is None else out)
    make_folder(out)
    paths, provenance, width = _recordings(Path(archive))
    base = Path(os.path.commonpath([Path(path).absolute().parent for path in paths]))
    project = base.name or MODEL_KEY
    with tempfile.TemporaryDirectory(dir=out, prefix=".hoplite-") as made:
        db = hoplite_db.SQLiteUSearchDB.create(made, hoplite_db.get_default_usearch_config(width))
        try:
            _describe(db, base, project, provenance, width, name)
            known: dict[str, int] = {}
            for table in read_scenes(archive):
                _insert(db, table, base, project, known)
            db.commit()
        finally:
            db.db.close()
        for file in DATABASE_FILES:
            os.replace(Path(made) / file, out / file)
    return out


def _recordings(archive: Path) -> tuple[list[str], dict[str, Any], int]:
    """Return the paths of an archive's recordings, its settings, and K."""
    paths: dict[str, None] = {}
    for table in read_scenes(archive):
        paths |= dict.fromkeys(table.paths)
    return list(paths), table.provenance, table.embeddings.shape[1]


def _describe(db: Any, base: Path, project: str, provenance: dict[str, Any], width: int, name: str) -> None:
    """Store what hoplite's tools look up: where the audio is, and which model embeds it."""
    seconds = provenance["options"].get("segment_seconds") or provenance["config"]["window_seconds"]
    settings = config_dict.create(name=name or provenance["model"], window_size_s=seconds)
    sources = source_info.AudioSourceConfig(project, str(base), "**/*", min_audio_len_s=0.0)
    db.insert_metadata("model_config", embed.ModelConfig(MODEL_KEY, width, settings).to_config_dict())
    db.insert_metadata("audio_sources", source_info.AudioSources((sources,)).to_config_dict())
    db.insert_metadata(MODEL_KEY, config_dict.create(provenance=json.dumps(provenance)))


def _insert(db: Any, table: SceneTable, base: Path, project: str, known: dict[str, int]) -> None:
    """Add the clips of a table, with their recordings and deployments; `known` has the numbers of those there."""

    def recording(path: str) -> int:
        if path not in known:
            file = os.path.relpath(path, base).replace(os.sep, "/")
            folder = file.split("/")[0] if "/" in file else project
            # A name with a slash behind it is a folder's; a path never ends so.
            if f"{folder}/" not in known:
                known[f"{folder}/"] = db.insert_deployment(name=folder, project=project)
            known[path] = db.insert_recording(filename=file, deployment_id=known[f"{folder}/"])
        return known[path]

    windows = [
        {"recording_id": recording(path), "offsets": [float(start), float(start + duration)]}
        for path, start, duration in zip(table.paths, table.start, table.duration, strict=True)
    ]
    db.insert_windows_batch(windows, _of_length_one(table.embeddings), handle_duplicates="allow")


def _of_length_one(embeddings: NDArray[np.floating]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(embeddings, axis=-1, keepdims=True)
    scaled: NDArray[np.float32] = (embeddings / np.maximum(lengths, 1e-12)).astype(np.float32)
    return scaled
