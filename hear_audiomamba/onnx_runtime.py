"""Embeddings and classes from an exported model, without PyTorch: needs numpy, soundfile, soxr and onnxruntime.

    from hear_audiomamba.onnx_runtime import OnnxEmbedder

    model = OnnxEmbedder("model.onnx")
    scenes, times = model.embed_file("recording.wav")
    print(model.tag_file("recording.wav"))

The file is what `hear-audiomamba export MODEL --format onnx` wrote: of a classifier, or with `--classes`, if it is to
tell classes.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .classify.events import EventSettings, spans_of
from .classify.predict import Detection, detections_in
from .config import check_whole
from .errors import CheckpointError, ConfigError, InputError, UntrainedWeightsWarning, one_line, require
from .io.audio import load_audio

METADATA_KEY = "hear_audiomamba"
BATCH = 16


class Scores(NamedTuple):
    """The probabilities of a recording's classes over time.

    Attributes:
        starts, ends: `(n,)` seconds, increasing, the stretch that each row stands for.
        probabilities: `(n, C)` float32.
    """

    starts: NDArray[np.float64]
    ends: NDArray[np.float64]
    probabilities: NDArray[np.float32]


class OnnxEmbedder:
    """An exported model behind the functions that `load_model`'s models have.

    Args:
        path: the `.onnx` file.
        threads: of the computation; by default all cores.

    Attributes:
        path: the file.
        sample_rate: of the audio, Hz.
        n_samples: length of a clip, in samples.
        scene_embedding_size: K.
        classes: C names; none where the file gives embeddings only.
        about: everything the file says about itself.

    Raises:
        MissingPackageError: onnxruntime is not installed.
        CheckpointError: the file is missing, or no model that this package exported.

    Warns:
        UntrainedWeightsWarning: the exported model had random weights.
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
        if values.get("weights", "") is None:
            warnings.warn(
                f"{path}: the exported model had no trained weights; its embeddings and classes mean nothing",
                UntrainedWeightsWarning,
                stacklevel=2,
            )
        self.path = Path(path)
        self.about: dict[str, Any] = values
        self.sample_rate: int = values["sample_rate"]
        self.n_samples: int = values["n_samples"]
        self.scene_embedding_size: int = values["embedding_size"]
        self.classes: tuple[str, ...] = tuple(values.get("classes", ()))

    def scene(self, clips: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Return one embedding for each clip.

        Args:
            clips: `(n_sounds, n_samples)` in [-1, 1] at `sample_rate`; just that many samples.

        Returns:
            `(n_sounds, scene_embedding_size)` float32.

        Raises:
            InputError: another shape, or values that are not finite.
        """
        return self._run(clips, "scene")

    def timestamps(self, clips: NDArray[np.floating[Any]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return embeddings at regular times.

        Args:
            clips: `(n_sounds, n_samples)` in [-1, 1] at `sample_rate`; just that many samples.

        Returns:
            Embeddings `(n_sounds, n, scene_embedding_size)` float32, and times `(n_sounds, n)` in milliseconds.

        Raises:
            InputError: another shape, or values that are not finite.
        """
        embeddings = self._run(clips, "embeddings")
        times = np.asarray(self.about["timestamps_ms"], np.float32)
        return embeddings, np.tile(times, (len(embeddings), 1))

    def probabilities(self, clips: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Return the probability of each class.

        Args:
            clips: `(n_sounds, n_samples)` in [-1, 1] at `sample_rate`; just that many samples.

        Returns:
            `(n_sounds, C)` float32; of a classifier of events in time `(n_sounds, n, C)`, at the times of
            `timestamps`.

        Raises:
            ConfigError: the file gives embeddings only.
            InputError: another shape, or values that are not finite.
        """
        if not self.classes:
            raise self._no_classes()
        return self._run(clips, "probabilities")

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
        starts, scenes, _ = self._of_file(file, self.scene)
        return scenes, starts

    def tag_file(self, file: str | os.PathLike[str] | BinaryIO, top: int = 5) -> list[tuple[str, float]]:
        """Return the classes that are most probably heard anywhere in a recording, as `hear-audiomamba tag` does.

        Args:
            file: as in `embed_file`, and it is cut in the same way.
            top: how many.

        Returns:
            Names and probabilities, the highest one of all stretches, best first.

        Raises:
            ConfigError: the file gives embeddings only.
            InputError: `top` is no whole number of at least 1.
            AudioReadError: the file cannot be decoded.
        """
        top = check_whole(top, "top")
        best = self.score_file(file).probabilities.max(axis=0)
        order = np.argsort(-best, kind="stable")[:top]
        return [(self.classes[i], float(best[i])) for i in order]

    def predict_file(self, file: str | os.PathLike[str]) -> list[Detection]:
        """Return what a classifier finds in a recording and when, as `hear-audiomamba predict` does.

        Thresholds, smoothing and least lengths are those of the classifier. A piece at the end of a recording that is
        shorter than a clip is judged together with what is before it.

        Args:
            file: path of an audio file of any rate and number of channels.

        Returns:
            Detections (path, start, end, label, score) in the order of time.

        Raises:
            ConfigError: the exported model is not a classifier that `fit` or `finetune` wrote.
            AudioReadError: the file cannot be decoded.
        """
        if "thresholds" not in self.about:
            raise ConfigError(
                f"{self.path}: has no thresholds; export a classifier that `fit` or `finetune` wrote"
            )
        starts, ends, probabilities = self.score_file(file)
        return detections_in(
            os.fspath(file), starts, ends, probabilities, kind=self.about["kind"], classes=self.classes,
            thresholds=np.asarray(self.about["thresholds"], np.float32),
            settings=EventSettings.from_dict(self.about["events"]),
        )  # fmt: skip

    def score_file(self, file: str | os.PathLike[str] | BinaryIO) -> Scores:
        """Return the probabilities of all classes in each stretch of a recording.

        Args:
            file: as in `embed_file`, and it is cut in the same way. The last row stands for what is new in it.

        Raises:
            ConfigError: the file gives embeddings only.
            AudioReadError: the file cannot be decoded.
        """
        starts, found, seconds = self._of_file(file, self.probabilities)
        length = self.n_samples / self.sample_rate
        if found.ndim == 2:
            fresh = np.append(starts[:1], starts[:-1] + length)
            return Scores(fresh, np.minimum(starts + length, seconds), found)
        in_clip = np.asarray(self.about["timestamps_ms"]) / 1000
        times = starts[:, None] + in_clip
        new = times < seconds
        new[-1] &= in_clip >= (starts[-2] + length - starts[-1] if len(starts) > 1 else 0)
        return Scores(*spans_of(times[new], seconds), found[new])

    def _no_classes(self) -> ConfigError:
        way = "export a classifier that `fit` or `finetune` wrote"
        if self.about.get("tagging_head", False):
            way = "export it again with --classes"
        return ConfigError(f"{self.path}: gives the embeddings of {self.about['variant']} only; {way}")

    def _of_file(
        self,
        file: str | os.PathLike[str] | BinaryIO,
        function: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    ) -> tuple[NDArray[np.float64], NDArray[np.float32], float]:
        """Return where the stretches of a recording start, what a function says of each, and how long it is."""
        samples = np.asarray(load_audio(file, self.sample_rate), np.float32)
        seconds = len(samples) / self.sample_rate
        size = self.n_samples
        if len(samples) < size:
            samples = np.pad(samples, (0, size - len(samples)))
        starts = np.append(np.arange(0, len(samples) - size, size), len(samples) - size)
        batches = np.split(starts, range(BATCH, len(starts), BATCH))
        found = [function(np.stack([samples[s : s + size] for s in batch])) for batch in batches]
        return starts / self.sample_rate, np.concatenate(found), seconds

    def _run(self, clips: NDArray[np.floating[Any]], output: str) -> NDArray[np.float32]:
        clips = np.asarray(clips, np.float32)
        if clips.ndim != 2 or clips.shape[1] != self.n_samples or not len(clips):
            raise InputError(
                f"clips: shape {clips.shape}, expected (n_sounds, {self.n_samples}): "
                f"{self.n_samples / self.sample_rate:g} s at {self.sample_rate} Hz"
            )
        if not np.isfinite(clips).all():
            raise InputError("clips: hold NaN or infinite samples")
        results: list[NDArray[np.float32]] = self._session.run([output], {"clips": clips})
        return results[0]
