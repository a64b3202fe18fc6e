"""Corpus statistics are exact: as from all files' features in one array."""

import json

import numpy as np
import pytest
import torch

from hear_audiomamba.cli import main
from hear_audiomamba.config import KaldiFbankConfig, LogMelConfig
from hear_audiomamba.errors import DataError
from hear_audiomamba.frontends.kaldi import KaldiFbank
from hear_audiomamba.frontends.logmel import LogMel
from hear_audiomamba.frontends.stream import SpectrogramStream
from hear_audiomamba.pretrain.config import DataConfig
from hear_audiomamba.pretrain.data.stats import corpus_statistics

from .conftest import write_wav


def stream_rows(frontend, samples, block=30 * 16000):
    stream = SpectrogramStream(frontend, raw=True)
    pieces = [stream.push(torch.from_numpy(samples[i : i + block])) for i in range(0, len(samples), block)]
    return torch.cat([*pieces, stream.finish()]).numpy()


@pytest.mark.parametrize("frontend", [LogMel(LogMelConfig()), KaldiFbank(KaldiFbankConfig())])
def test_statistics_are_those_of_all_features_at_once(tmp_path, frontend):
    clips = [write_wav(tmp_path / f"{i}.wav", s, seed=i)[:, 0] for i, s in enumerate((0.3, 1.0, 62.5))]
    (tmp_path / "broken.flac").write_bytes(b"fLaC nonsense")
    found = corpus_statistics(DataConfig(path=str(tmp_path)), frontend, workers=2)
    # The rows as they come of blocks of 30 s. Those of whole files differ by rounding: of the energies, since
    # in a silent bin the energy itself is the rounding of the loudest, and its logarithm could be anything.
    rows = np.concatenate([stream_rows(frontend, clip) for clip in clips]).astype(np.float64)
    whole = np.concatenate([frontend.log_mel(torch.from_numpy(c)[None])[0].numpy() for c in clips])
    rounding = float(np.finfo(np.float32).eps * np.exp(whole.max()))
    np.testing.assert_allclose(np.exp(rows), np.exp(whole), rtol=5e-4, atol=rounding)
    samples = np.concatenate(clips).astype(np.float64)
    assert found.clips == 3 and found.frames == len(rows)
    assert [path for path, _ in found.skipped] == ["broken.flac"]
    assert found.seconds == pytest.approx(sum(len(c) for c in clips) / 16000)
    assert found.peak == np.abs(samples).max() and found.rms == pytest.approx(np.sqrt(np.mean(samples**2)))
    # Sums of some 6,000 float64 values about 10.
    assert found.mean == pytest.approx(rows.mean(), abs=1e-9)
    assert found.std == pytest.approx(rows.std(), abs=1e-9)
    np.testing.assert_allclose(found.mean_per_bin, rows.mean(axis=0), rtol=0, atol=1e-9)
    np.testing.assert_allclose(found.std_per_bin, rows.std(axis=0), rtol=0, atol=1e-9)


def test_a_corpus_without_a_readable_file_is_an_error(tmp_path):
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    with pytest.raises(DataError, match="of 1 file in .* none can be read"):
        corpus_statistics(DataConfig(path=str(tmp_path)), LogMel(LogMelConfig()))


def test_the_verb_measures_and_names_what_it_skipped(tmp_path, capsys):
    write_wav(tmp_path / "corpus" / "a.wav", 1.5)
    (tmp_path / "corpus" / "broken.flac").write_bytes(b"fLaC nonsense")
    words = ["pretrain", "stats", str(tmp_path / "corpus"), "--json", str(tmp_path / "stats.json")]
    assert main(words) == 1
    captured = capsys.readouterr()
    assert "files      1, 0.00 h, 1.50 to 1.50 s" in captured.out and "skipped broken.flac" in captured.err
    found = json.loads((tmp_path / "stats.json").read_text())
    assert found["clips"] == 1 and len(found["mean_per_bin"]) == 80
    (tmp_path / "corpus" / "manifest.csv").write_text("path,seconds,kind\na.wav,1.5,noise\n")
    assert main([*words[:3], "--no-features"]) == 0
    assert "noise" in capsys.readouterr().out
