"""The run: from a list of sources to embeddings on disk."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from ..audio import load_audio
from ..embedder import AudioEmbedder
from ..errors import AudioReadError
from .sources import Source


def embed_sources(sources: Sequence[Source], model: AudioEmbedder, out: Path, *, scene: bool, timestamps: bool,
                  progress=None) -> list[tuple[Source, str]]:
    failed = []
    for source in sources:
        try:
            audio = torch.from_numpy(load_audio(source.path, model.sample_rate))[None]
        except AudioReadError as error:
            failed.append((source, str(error)))
            if progress is not None:
                progress(source, str(error))
            continue
        arrays = {}
        if scene:
            arrays["scene"] = model.scene(audio)[0].cpu().numpy()
        if timestamps:
            rows, times = model.timestamps(audio)
            arrays["embeddings"], arrays["timestamps"] = rows[0].cpu().numpy(), times[0].cpu().numpy()
        arrays["config"] = np.array(json.dumps(model.config.to_dict(), sort_keys=True))
        path = out / f"{source.name}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}.npz")
        try:
            np.savez(partial, **arrays)
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
        if progress is not None:
            progress(source, None)
    return failed
