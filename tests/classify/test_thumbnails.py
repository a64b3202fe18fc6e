"""Small spectrograms: the right stretch of the right file, and packed without losing what is to be seen."""

from __future__ import annotations

import numpy as np
import pytest

from hear_audiomamba.classify.explore import thumbnails
from hear_audiomamba.classify.explore.thumbnails import BANDS, COLUMNS, draw_all, pack, unpack

NAN = float("nan")


def loudest_band(picture: np.ndarray) -> int:
    return int(picture.reshape(BANDS, COLUMNS).mean(axis=1).argmax())


def test_each_sound_shows_its_own_stretch(recording, tmp_path):
    night = str(recording("night.wav", ("low", 2.0), ("high", 2.0), ("low", 2.0), seed=1))
    short = str(recording("short.wav", ("high", 0.05), seed=2))
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    broken = str(tmp_path / "broken.wav")
    paths = [night, night, short, broken, night, night, night]
    # Not in order, overlapping, and one beyond the end of its file.
    starts, ends = [2.2, 0.1, NAN, 0.0, 4.1, 1.5, 8.0], [3.8, 1.9, NAN, 1.0, 6.0, 2.5, 9.0]
    told = []
    drawn, known = draw_all(paths, starts, ends, lambda done, count: told.append((done, count)))
    assert known.tolist() == [True, True, True, False, True, True, False] and told[-1] == (7, 7)
    low, high = loudest_band(drawn[1]), loudest_band(drawn[0])
    assert low < BANDS / 2 < high + 4 and high > low + 5
    assert abs(loudest_band(drawn[4]) - low) <= 2 and abs(loudest_band(drawn[2]) - high) <= 2
    both = drawn[5].reshape(BANDS, COLUMNS)
    assert abs(int(both[:, : COLUMNS // 3].mean(axis=1).argmax()) - low) <= 2
    assert abs(int(both[:, -COLUMNS // 3 :].mean(axis=1).argmax()) - high) <= 2


@pytest.mark.parametrize("start", [0.0, 0.4])
def test_a_file_is_decoded_in_blocks_and_once(recording, monkeypatch, start):
    night = str(recording("night.wav", *[("low", 1.0), ("high", 1.0)] * 4))
    times = start + 0.5 * np.arange(14)
    opened, original = [], thumbnails.iter_audio

    def small_blocks(path, rate, **stretch):
        opened.append(path)
        return original(path, rate, block_seconds=0.3, **stretch)

    whole, _ = draw_all([night] * 14, times.tolist(), (times + 0.5).tolist())
    monkeypatch.setattr(thumbnails, "iter_audio", small_blocks)
    drawn, known = draw_all([night] * 14, times.tolist(), (times + 0.5).tolist())
    assert known.all() and opened == [night]
    assert np.abs(drawn.astype(int) - whole).max() <= 1


def test_few_pictures_are_kept_as_they_are_and_many_fit_into_their_bytes(monkeypatch):
    random = np.random.default_rng(0)
    rows = np.kron(random.integers(0, 256, (60, BANDS // 8, COLUMNS // 8)), np.ones((8, 8))).reshape(60, -1)
    known = np.ones(60, bool)
    known[7] = False
    packed = pack(rows.astype(np.uint8), known)
    errors = [np.abs(unpack(packed, i).astype(float) - rows[i]).mean() for i in range(60) if known[i]]
    assert np.mean(errors) < 6  # of 255, for pictures that have nothing in common
    assert (unpack(packed, 7) == packed.mean).all()
    monkeypatch.setattr(thumbnails, "MOST_BYTES", 20_000)
    small = pack(rows.astype(np.uint8), known)
    assert small.patterns.nbytes + small.weights.nbytes <= 20_000 and len(small.scales) >= 10
    nothing = pack(np.zeros((3, thumbnails.PIXELS), np.uint8), np.zeros(3, bool))
    assert (unpack(nothing, 0) == 0).all()
