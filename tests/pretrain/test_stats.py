"""Corpus statistics are exact: as from all files' features in one array."""

import numpy as np
import pytest
import torch

from hear_audiomamba.config import KaldiFbankConfig, LogMelConfig
from hear_audiomamba.errors import DataError
from hear_audiomamba.frontends.kaldi import KaldiFbank
from hear_audiomamba.frontends.logmel import LogMel
from hear_audiomamba.pretrain.config import DataConfig
from hear_audiomamba.pretrain.data.stats import corpus_statistics, feature_blocks

from .conftest import write_wav


@pytest.mark.parametrize("frontend", [LogMel(LogMelConfig()), KaldiFbank(KaldiFbankConfig())])
def test_statistics_are_those_of_all_features_at_once(tmp_path, frontend):
    log_mel = frontend.log_mel
    clips = [write_wav(tmp_path / f"{i}.wav", s, seed=i)[:, 0] for i, s in enumerate((0.3, 1.0, 62.5))]
    (tmp_path / "broken.flac").write_bytes(b"fLaC nonsense")
    found = corpus_statistics(DataConfig(path=str(tmp_path)), frontend, workers=2)
    rows = np.concatenate([log_mel(torch.from_numpy(c)[None])[0].double().numpy() for c in clips])
    samples = np.concatenate(clips).astype(np.float64)
    assert found.clips == 3 and found.frames == len(rows)
    assert [path for path, _ in found.skipped] == ["broken.flac"]
    assert found.seconds == pytest.approx(sum(len(c) for c in clips) / 16000)
    assert found.peak == np.abs(samples).max() and found.rms == pytest.approx(np.sqrt(np.mean(samples**2)))
    # Kaldi's front end subtracts the mean of what it is given, here of a block: a rounding away.
    assert found.mean == pytest.approx(rows.mean(), abs=1e-6)
    assert found.std == pytest.approx(rows.std(), abs=1e-6)
    np.testing.assert_allclose(found.mean_per_bin, rows.mean(axis=0), atol=2e-6)
    np.testing.assert_allclose(found.std_per_bin, rows.std(axis=0), atol=2e-6)


def test_blocks_give_the_rows_of_the_whole_file():
    frontend = LogMel(LogMelConfig())
    samples = np.random.default_rng(0).uniform(-1, 1, 50001).astype(np.float32)
    blocks = iter(np.split(samples, [1, 900, 20000, 20100, 44000]))
    rows = np.concatenate(list(feature_blocks(blocks, frontend)))
    np.testing.assert_allclose(rows, frontend.log_mel(torch.from_numpy(samples)[None])[0], atol=1e-5)


def test_a_corpus_without_a_readable_file_is_an_error(tmp_path):
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    with pytest.raises(DataError, match="none of the 1 files"):
        corpus_statistics(DataConfig(path=str(tmp_path)), LogMel(LogMelConfig()))
