"""Log-mel features agree with torchaudio's to its own rounding."""

from __future__ import annotations

import pytest
import torch

from hear_audiomamba.config import LogMelConfig
from hear_audiomamba.frontends.logmel import LogMel
from tests.golden import assert_golden, load_golden


@pytest.fixture(scope="module")
def log_mel():
    return LogMel(LogMelConfig())


def _clips():
    tensors, _ = load_golden("frontends")
    return [key.partition("/")[0] for key in tensors if key.endswith("/wave")]


def test_window_and_filterbank(log_mel):
    tensors, meta = load_golden("frontends")
    assert_golden(log_mel.window, tensors, meta, "ssam/window")
    assert_golden(log_mel.filterbank, tensors, meta, "ssam/fb")


def test_reference_clips(log_mel):
    tensors, meta = load_golden("frontends")
    clips = [clip for clip in _clips() if f"{clip}/ssam_logmel" in tensors]
    assert len(clips) >= 6
    for clip in clips:
        wave = tensors[f"{clip}/wave"][None]
        assert_golden(log_mel.log_mel(wave).mT, tensors, meta, f"{clip}/ssam_log_power_mel")
        assert_golden(log_mel(wave)[:, None], tensors, meta, f"{clip}/ssam_logmel")


def test_torchaudio_as_a_second_opinion(log_mel, noise):
    torchaudio = pytest.importorskip("torchaudio", exc_type=(ImportError, OSError))
    reference = torchaudio.transforms.MelSpectrogram(16000, 400, hop_length=160, f_min=50, n_mels=80)
    audio = noise(2, 16000)
    expected = (reference(audio) + torch.finfo(torch.float32).eps).log().mT
    torch.testing.assert_close(log_mel.log_mel(audio), expected, rtol=0, atol=5e-4)


@pytest.mark.parametrize("samples", [1, 2, 159, 160, 200, 201, 399, 401])
def test_short_clips(log_mel, samples, noise):
    spectrogram = log_mel(noise(2, samples))
    assert spectrogram.shape == (2, 1 + samples // 160, 80)
    assert torch.isfinite(spectrogram).all()


def test_slaney_scale_is_linear_below_and_logarithmic_above_1_khz():
    from hear_audiomamba.frontends.logmel import _slaney_hz, _slaney_mel

    hz = torch.tensor([0.0, 500.0, 1000.0, 6400.0], dtype=torch.float64)
    torch.testing.assert_close(_slaney_mel(hz), torch.tensor([0.0, 7.5, 15.0, 42.0], dtype=torch.float64))
    torch.testing.assert_close(_slaney_hz(_slaney_mel(hz)), hz)


@pytest.mark.parametrize("level", [0.0, 0.001, 0.1, 0.5, -1.0])
@pytest.mark.parametrize("fourier", ["fft", "products"])
def test_a_constant_signal_is_silence_and_the_quietest_sound_is_not(level, fourier, noise):
    frontend = LogMel(LogMelConfig())
    frontend.fourier = fourier
    assert torch.equal(frontend(torch.full((1, 32_000), level)), torch.zeros(1, 201, 80))
    # The last bit of 16, and noise at -120 dB of full scale.
    for quiet in (torch.sign(noise(1, 32_000)) / 32_768, 4e-6 * noise(1, 32_000)):
        assert frontend(quiet).std() == pytest.approx(1.0, abs=1e-3)


def test_mixed_precision_of_the_caller_does_not_reach_the_features():
    frontend, audio = LogMel(LogMelConfig()), torch.rand(1, 16000) - 0.5
    with torch.autocast("cpu", torch.bfloat16):
        found = frontend(audio)
    assert torch.equal(found, frontend(audio))
