"""Embeddings from an exported model, without PyTorch: needs numpy, soundfile, soxr and onnxruntime.

    from hear_audiomamba.onnx_runtime import OnnxEmbedder

    model = OnnxEmbedder("model.onnx")
    scenes, times = model.embed_file("recording.wav")

The file is what `hear-audiomamba export MODEL --format onnx` wrote.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from .errors import CheckpointError, ConfigError, InputError, one_line, require
from .io.audio import load_audio

METADATA_KEY = "hear_audiomamba"
BATCH = 16


class OnnxEmbedder:
    """An exported model behind the functions that `load_model`'s models have.

    Args:
        path: the `.onnx` file.
        threads: of the computation; by default all cores.

    Attributes:
        sample_rate: of the audio, Hz.
        n_samples: length of a clip, in samples.
        scene_embedding_size: K.
        about: everything the file says about itself.

    Raises:
        MissingPackageError: onnxruntime is not installed.
        CheckpointError: the file is missing, or no model that this package exported.
    """

    def __init__(self, path: str | os.PathLike[str], *, threads: int | None = None) -> None:
        require("onnxruntime", "OnnxEmbedder", "hear_audiomamba[onnx]")
        import onnxruntime

        if not Path(path).is_file():
            raise CheckpointError(f"{path}: no such file")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        try:
            self._session = onnxruntime.InferenceSession(os.fspath(path), options)
            values = json.loads(self._session.get_modelmeta().custom_metadata_map[METADATA_KEY])
        except KeyError:
            raise CheckpointError(f"{path}: is not a model that hear-audiomamba exported") from None
        except Exception as error:  # onnxruntime's errors have no common base
            raise CheckpointError(f"{path}: cannot be read: {one_line(error)}") from None
        if values["source"] != "waveform":
            raise ConfigError(f"{path}: takes spectrograms; export it from the waveform to embed audio")
        self.about: dict[str, Any] = values
        self.sample_rate: int = values["sample_rate"]
        self.n_samples: int = values["n_samples"]
        self.scene_embedding_size: int = values["embedding_size"]

    def scene(self, clips: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Return one embedding for each clip.

        Args:
            clips: `(n_sounds, n_samples)` in [-1, 1] at `sample_rate`; just that many samples.

        Returns:
            `(n_sounds, scene_embedding_size)` float32.

        Raises:
            InputError: another shape, or values that are not finite.
        """
        return self._run(clips)[0]

    def timestamps(self, clips: NDArray[np.floating[Any]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return embeddings at regular times.

        Args:
            clips: `(n_sounds, n_samples)` in [-1, 1] at `sample_rate`; just that many samples.

        Returns:
            Embeddings `(n_sounds, n, scene_embedding_size)` float32, and times `(n_sounds, n)` in milliseconds.

        Raises:
            InputError: another shape, or values that are not finite.
        """
        embeddings = self._run(clips)[1]
        times = np.asarray(self.about["timestamps_ms"], np.float32)
        return embeddings, np.tile(times, (len(embeddings), 1))

    def embed_file(
        self, file: str | os.PathLike[str] | BinaryIO
    ) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Return one embedding for each stretch of a recording of the length of a clip.

        The last stretch ends with the recording, so it may overlap the one before it. A recording shorter than
        a clip is followed by silence.

        Args:
            file: an audio file of any rate and number of channels, or its path.

        Returns:
            Scene embeddings `(n, scene_embedding_size)` float32, and where each stretch starts `(n,)`, in seconds.

        Raises:
            AudioReadError: the file cannot be decoded.
        """
        samples = load_audio(file, self.sample_rate)
        size = self.n_samples
        if len(samples) < size:
            samples = np.pad(samples, (0, size - len(samples)))
        starts = np.append(np.arange(0, len(samples) - size, size), len(samples) - size)
        batches = np.split(starts, range(BATCH, len(starts), BATCH))
        scenes = [self.scene(np.stack([samples[s : s + size] for s in batch])) for batch in batches]
        return np.concatenate(scenes), starts / self.sample_rate

    def _run(self, clips: NDArray[np.floating[Any]]) -> list[NDArray[np.float32]]:
        clips = np.asarray(clips, np.float32)
        if clips.ndim != 2 or clips.shape[1] != self.n_samples or not len(clips):
            raise InputError(
                f"clips: shape {clips.shape}, expected (n_sounds, {self.n_samples}): "
                f"{self.n_samples / self.sample_rate:g} s at {self.sample_rate} Hz"
            )
        if not np.isfinite(clips).all():
            raise InputError("clips: hold NaN or infinite samples")
        results: list[NDArray[np.float32]] = self._session.run(["scene", "embeddings"], {"clips": clips})
        return results
