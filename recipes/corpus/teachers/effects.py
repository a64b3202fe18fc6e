"""aiSFX: a network trained on professional libraries of sound effects, here in PyTorch with its own weights."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hear_audiomamba.errors import BackendError
from hear_audiomamba.frontends.logmel import mel_filterbank

from ..synth.sound import SAMPLE_RATE
from .base import Teacher, needed, package_folder, stored_layers

RATE, N_FFT, HOP, N_MELS = 44100, 2048, 1024, 96
BLOCK_FRAMES, BLOCK_HOP = 100, 50
# The largest value of the training spectrograms; the network was trained on values between 0 and 1.
LARGEST = 9.457798957824707
NORM_EPS = 1e-5
WIDTHS = (64, 128, 256, 512)


class EffectsTeacher(Teacher):
    """The mean over blocks of 2.3 s of the network's 512 features.

    Source: Ma & Lerch, "Representation Learning for the Automatic Indexing of Sound Effects Libraries", ISMIR
        2022: four blocks of two 3 × 3 convolutions, the mean over frequency, the maximum over time; the
        spectrogram as in the package's own librosa version.

    Deviates: the convolutions run in bfloat16 where the processor has it.
    """

    name = "effects"
    licence = "CC-BY-4.0"
    source = "PyPI aisfx 0.1.2, aisfx/models/checkpoint.pth"
    network = True
    dim = WIDTHS[-1]

    def __init__(self, corpus: Path) -> None:
        super().__init__(corpus)
        self.soxr = needed("soxr", "soxr")
        layers = stored_layers("effects") or _read_layers()
        self.layers = [
            (weight.bfloat16().contiguous(memory_format=torch.channels_last), bias.bfloat16())
            for weight, bias in layers
        ]
        self.window = torch.hann_window(N_FFT)
        self.mel = mel_filterbank(N_FFT // 2 + 1, 0.0, RATE / 2, N_MELS, RATE, "htk", "none")
        self.mel /= self.mel.sum(dim=0, keepdim=True)

    def embed(self, clips: Sequence[np.ndarray], paths: Sequence[str]) -> np.ndarray:
        blocks = [self._blocks(clip) for clip in clips]
        counts = [len(part) for part in blocks]
        with torch.inference_mode():
            features = self._features(torch.cat(blocks))
        return torch.stack([part.mean(0) for part in features.split(counts)]).cpu().numpy()

    def to(self, device: str) -> None:
        """Move the network to a device."""
        self.layers = [(weight.to(device), bias.to(device)) for weight, bias in self.layers]

    def _blocks(self, samples: np.ndarray) -> Tensor:
        """Return a clip's spectrogram `(n, 100, 96)` in blocks that overlap by half, at least one."""
        peak = float(np.abs(samples).max(initial=0.0))
        audio = torch.from_numpy(self.soxr.resample(samples / (peak or 1.0), SAMPLE_RATE, RATE)).float()
        spectrum = torch.stft(
            F.pad(audio, (N_FFT // 2, N_FFT // 2)), N_FFT, HOP, window=self.window, center=False,
            return_complex=True,
        )  # fmt: skip
        power = torch.view_as_real(spectrum).square().sum(-1)
        values = torch.log10(power.T @ self.mel * 1e4 + 1) / LARGEST
        count = max(1, (len(values) - BLOCK_FRAMES) // BLOCK_HOP + 1)
        missing = BLOCK_FRAMES + BLOCK_HOP * (count - 1) - len(values)
        return F.pad(values, (0, 0, 0, max(0, missing))).unfold(0, BLOCK_FRAMES, BLOCK_HOP).transpose(1, 2)

    def _features(self, blocks: Tensor) -> Tensor:
        maps = (
            blocks[:, None]
            .to(self.layers[0][0].device)
            .bfloat16()
            .contiguous(memory_format=torch.channels_last)
        )
        for index, (weight, bias) in enumerate(self.layers):
            maps = F.relu(F.conv2d(maps, weight, bias, padding=1))
            if index % 2 and index < len(self.layers) - 1:
                maps = F.max_pool2d(maps, 2)
        return maps.float().mean(dim=3).amax(dim=2)


def _read_layers() -> list[tuple[Tensor, Tensor]]:
    """Return each convolution's weight and bias with the norm behind it folded in, out of the wheel.

    Raises:
        BackendError: the wheel is not installed, or the file cannot be read.
    """
    path = package_folder("aisfx") / "models/checkpoint.pth"
    # Beside the tensors the file holds the numbers of classes as NumPy scalars, and nothing else is let in.
    scalars = [(np.float64(0).__reduce__()[0], "numpy.core.multiarray.scalar"), np.dtype]
    scalars += [type(np.dtype(kind)) for kind in ("int64", "float64")]
    try:
        with torch.serialization.safe_globals(scalars):
            state, _ = torch.load(path, map_location="cpu", weights_only=True)
        blocks = [f"embedding_net.conv_block{number}" for number in range(1, len(WIDTHS) + 1)]
        return [_folded(state, block, layer) for block in blocks for layer in (1, 2)]
    except (OSError, KeyError, ValueError, RuntimeError, pickle.UnpicklingError) as error:
        raise BackendError(f"the weights of aiSFX cannot be read from {path}: {error}") from None


def _folded(state: dict[str, Tensor], block: str, layer: int) -> tuple[Tensor, Tensor]:
    """Return one convolution's weight and bias with the norm behind it folded in."""
    weight, norm = state[f"{block}.conv{layer}.weight"], f"{block}.bn{layer}"
    scale = state[f"{norm}.weight"] / (state[f"{norm}.running_var"] + NORM_EPS).sqrt()
    bias = state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * scale
    return weight * scale[:, None, None, None], bias
