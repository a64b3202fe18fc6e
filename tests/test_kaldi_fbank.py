"""The Kaldi filterbank against stored references and against kaldi-native-fbank itself."""

from __future__ import annotations

import pytest
import torch

from hear_audiomamba.config import KaldiFbankConfig
from hear_audiomamba.errors import InputError
from hear_audiomamba.frontends.kaldi import FRAMES_PER_BLOCK, KaldiFbank

from .golden import assert_golden, load_golden

CASES = ["noise", "sine_dc", "impulse", "quiet", "clipped", "len401", "silence"]


@pytest.fixture(scope="module")
def fbank() -> KaldiFbank:
    return KaldiFbank(KaldiFbankConfig())


@pytest.mark.parametrize("case", CASES)
def test_log_mel_agree_with_the_reference(fbank, case):
    tensors, meta = load_golden("frontends")
    assert_golden(fbank.log_mel(tensors[f"{case}/wave"][None])[0], tensors, meta, f"{case}/kaldi_fbank")


def test_window_and_filters_agree_with_the_reference(fbank):
    tensors, meta = load_golden("frontends")
    assert_golden(fbank.window, tensors, meta, "kaldi/window")
    assert_golden(fbank.mel_banks[:-1].T, tensors, meta, "kaldi/mel_banks")
    assert fbank.mel_banks[-1].abs().max() == 0, "Kaldi gives the Nyquist bin no weight"


@pytest.mark.parametrize("length", ["full", "short"])
def test_normalised_features_agree_with_ssamba(fbank, length):
    tensors, meta = load_golden("ssamba_tiny_io")
    expected = tensors[f"fbank_{length}"]
    features = fbank(tensors[f"wave_{length}"])
    padding = expected.shape[1] - features.shape[1]
    assert padding == 2
    padded = torch.nn.functional.pad(features, (0, 0, 0, padding), value=fbank.pad_value)
    assert_golden(padded, tensors, meta, f"fbank_{length}")


@pytest.mark.parametrize("window", ["hanning", "povey"])
@pytest.mark.parametrize("n_mels", [23, 80, 100])  # Kaldi refuses 128 at 16 kHz: its lowest filters are empty
def test_agrees_with_kaldi_native_fbank(window, n_mels):
    knf = pytest.importorskip("kaldi_native_fbank")
    audio = torch.randn(1, 16_123, generator=torch.Generator().manual_seed(3)).mul(0.1)
    audio -= audio.mean()
    options = knf.FbankOptions()
    options.frame_opts.dither = 0
    options.frame_opts.snip_edges = True
    options.frame_opts.window_type = window
    options.mel_opts.num_bins = n_mels
    options.mel_opts.low_freq, options.mel_opts.high_freq = 20, 8000
    oracle = knf.OnlineFbank(options)
    oracle.accept_waveform(16000, audio[0].tolist())
    oracle.input_finished()
    frames = [torch.from_numpy(oracle.get_frame(i).copy()) for i in range(oracle.num_frames_ready)]
    ours = KaldiFbank(KaldiFbankConfig(window=window, n_mels=n_mels)).log_mel(audio)[0]
    torch.testing.assert_close(ours, torch.stack(frames), rtol=1e-4, atol=1e-3)


def test_frames_are_counted_as_kaldi_counts_them(fbank):
    for n_samples, n_frames in [(400, 1), (559, 1), (560, 2), (32_000, 198), (160_000, 998)]:
        assert fbank.n_frames(n_samples) == n_frames
        assert fbank(torch.zeros(1, n_samples)).shape == (1, n_frames, 128)


@pytest.mark.parametrize("n_samples", [1, 2, 159, 399])
def test_clips_shorter_than_a_frame_are_extended_with_silence(fbank, n_samples):
    audio = torch.randn(2, n_samples, generator=torch.Generator().manual_seed(0))
    features = fbank(audio)
    assert features.shape == (2, fbank.n_frames(n_samples), 128) == (2, 1, 128)
    assert torch.isfinite(features).all()
    centred = audio - audio.mean(dim=1, keepdim=True)
    extended = torch.nn.functional.pad(centred, (0, 400 - n_samples))
    shifted = extended - extended.mean(dim=1, keepdim=True)
    torch.testing.assert_close(features, fbank(shifted), rtol=0, atol=2e-3)


def test_a_clip_does_not_depend_on_its_batch_mates(fbank):
    audio = torch.rand(7, 8000, generator=torch.Generator().manual_seed(1)) - 0.5
    audio[3] = 0
    together = fbank(audio)
    alone = torch.cat([fbank(clip[None]) for clip in audio])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


def test_long_clips_are_computed_in_blocks_with_the_same_result(fbank):
    n_frames = FRAMES_PER_BLOCK + 3
    audio = torch.rand(1, 400 + 160 * (n_frames - 1), generator=torch.Generator().manual_seed(2)) - 0.5
    audio -= audio.mean()
    whole = fbank.log_mel(audio)
    assert whole.shape[1] == n_frames
    tail = audio[:, 160 * (FRAMES_PER_BLOCK - 2) :]
    torch.testing.assert_close(whole[:, -5:], fbank.log_mel(tail), rtol=0, atol=1e-2)


def test_padding_value_is_the_normalised_zero(fbank):
    assert fbank.pad_value == pytest.approx(0.4670, abs=1e-4)


def test_a_constant_offset_changes_nothing(fbank):
    audio = torch.rand(1, 4000, generator=torch.Generator().manual_seed(4)) - 0.5
    torch.testing.assert_close(fbank(audio), fbank(audio + 0.25), rtol=0, atol=1e-3)


@pytest.mark.parametrize("shape", [(100,), (1, 2, 100), (2, 0)])
def test_wrong_shapes_are_named(fbank, shape):
    with pytest.raises(InputError, match="n_sounds, n_samples"):
        fbank(torch.zeros(shape))
