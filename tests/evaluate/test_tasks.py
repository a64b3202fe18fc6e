"""HEAR tasks from an imitation of Zenodo: got, resumed, checked, unpacked safely, resampled as ffmpeg does."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import random
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hear_audiomamba.cli import main
from hear_audiomamba.errors import DataError
from hear_audiomamba.evaluate.study.suite import load_suite
from hear_audiomamba.evaluate.tasks import archives, get
from hear_audiomamba.evaluate.tasks.archives import Source, archive_name
from hear_audiomamba.evaluate.tasks.catalogue import choose_tasks, hear_task_list, hear_tasks
from hear_audiomamba.evaluate.tasks.check import check_task
from hear_audiomamba.evaluate.tasks.get import Fetcher
from hear_audiomamba.evaluate.tasks.resample import resample_clip, resample_task
from hear_audiomamba.evaluate.tasks.unpack import unpack
from hear_audiomamba.io import download as downloads

from ..web import Site, serving
from .tiny_task import write_event_task, write_scene_task

RECORD = "/api/records/5887964"
SCENE, EVENT = "beijing_opera-v1.0-hear2021-full", "dcase2016_task2-hear2021-full"
ROOT = Path(__file__).resolve().parents[2]


def at_48000(task: Path) -> None:
    """Give a tiny task its clips at 48 kHz only, as the record has them."""
    for clip in (task / "16000").rglob("*.wav"):
        target = task / "48000" / clip.relative_to(task / "16000")
        target.parent.mkdir(parents=True, exist_ok=True)
        samples, _ = soundfile.read(clip)
        soundfile.write(target, np.repeat(samples, 3) * 0.5, 48000, subtype="PCM_16")
    shutil.rmtree(task / "16000")


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Archives of two tiny tasks, by name."""
    folder = tmp_path_factory.mktemp("packed")
    write_scene_task(folder / "tasks" / SCENE, clips=3)
    write_event_task(folder / "tasks" / EVENT, clips=1)
    made = {}
    for task in (SCENE, EVENT):
        at_48000(folder / "tasks" / task)
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w:gz") as tar:
            tar.add(folder / "tasks" / task, f"tasks/{task}")
        made[archive_name(task)] = content.getvalue()
    return made


@pytest.fixture
def zenodo(packed: dict[str, bytes], monkeypatch: pytest.MonkeyPatch):
    """The record's API and files on the loopback interface."""
    for name in downloads.OFFLINE_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(downloads, "BLOCK", 5000)
    site = Site({f"/files/{name}/content": content for name, content in packed.items()})
    site.files["/files/LICENSE.txt/content"] = b"CC BY 4.0 and others\n"
    with serving(site) as address:
        site.files[RECORD] = json.dumps(
            {
                "files": [
                    {
                        "key": name.split("/")[2],
                        "size": len(content),
                        "checksum": f"md5:{hashlib.md5(content).hexdigest()}",
                        "links": {"self": address + name},
                    }
                    for name, content in site.files.items()
                ]
            }
        ).encode()
        yield site


def content_of(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name != ".lock"
    }


def test_the_catalogue_agrees_with_the_suites_and_the_facts() -> None:
    known = hear_task_list()
    assert len(known) == 20 and list(known) == sorted(known)
    assert set(load_suite("hear19").tasks) == set(known) >= set(hear_tasks())
    with Path(__file__).with_name("hear_tasks.csv").open(encoding="utf-8", newline="") as file:
        facts = {row["task_id"]: row for row in csv.DictReader(file)}
    assert tuple(facts) == hear_tasks()
    for task, row in facts.items():
        assert (known[task].clips, known[task].metric) == (int(row["clips"]), row["metric"])
        assert known[task].prediction == row["prediction"] and known[task].embedding == row["embedding"]
    # 31 GB each when unpacked, as those who unpacked it report.
    assert known["beehive_states_fold0-v2-full"].audio_bytes(48000) / 2**30 == pytest.approx(31, abs=0.5)
    assert tuple(choose_tasks([])) == hear_tasks() and choose_tasks(["hear19"]) == list(known)
    assert choose_tasks(["esc50", "crema_d"]) == ["esc50-v2.0.0-full", "tfds_crema_d-1.0.0-full"]
    assert len(choose_tasks(["nsynth_pitch"])) == 2
    with pytest.raises(DataError, match="did you mean 'esc50"):
        choose_tasks(["ecs50"])


def test_tasks_are_got_from_the_record(
    zenodo: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["tasks", "get", "beijing_opera", "dcase2016_task2", "--tasks-dir", str(tmp_path / "t")]
    words += ["--from", zenodo.address + RECORD, "--rates", "16000", "22050"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "2 tasks:" in said and "free in" in said
    assert (tmp_path / "t" / "LICENSE.txt").read_text().startswith("CC BY")
    for task in (SCENE, EVENT):
        folder = tmp_path / "t" / task
        assert check_task(folder, 16000).problems == check_task(folder, 22050).problems == []
        assert {p.name for p in folder.iterdir() if p.is_dir()} == {"16000", "22050"}
    assert {p.name for p in (tmp_path / "t").iterdir()} == {SCENE, EVENT, "LICENSE.txt", ".lock"}
    assert main(["tasks", "check", "--tasks-dir", str(tmp_path / "t"), "--rates", "16000", "22050"]) == 0
    # What is there is not got again.
    asked = len(zenodo.asked)
    assert main(words) == 0 and len(zenodo.asked) == asked
    assert main(["tasks", "check", "--tasks-dir", str(tmp_path / "t"), "--rates", "44100"]) == 1


def test_a_wrong_checksum_a_cut_connection_and_a_missing_file(
    zenodo: Site, packed: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["tasks", "get", SCENE, EVENT, "--tasks-dir", str(tmp_path), "--from", zenodo.address + RECORD]
    name = f"/files/{archive_name(SCENE)}/content"
    zenodo.files[name] = packed[archive_name(SCENE)][:-1] + b"?"
    zenodo.cut_after = [10**9, 3000, 2000]  # the list, then the second archive in three pieces
    assert main(words) == 1
    told = capsys.readouterr()
    assert "MD5" in told.err and SCENE in told.err
    assert not (tmp_path / SCENE).exists() and check_task(tmp_path / EVENT, 16000).problems == []
    zenodo.files[name] = packed[archive_name(SCENE)]
    assert main(words) == 0 and check_task(tmp_path / SCENE, 16000).problems == []
    assert (
        main(["tasks", "get", "esc50", "--tasks-dir", str(tmp_path), "--from", zenodo.address + RECORD]) == 1
    )
    assert "has no file hear2021-esc50-v2.0.0-full-48000.tar.gz" in capsys.readouterr().err


def test_a_folder_that_is_no_whole_task_is_left_alone_and_named(zenodo: Site, tmp_path: Path) -> None:
    (tmp_path / SCENE / "16000").mkdir(parents=True)
    failed = Fetcher(tmp_path, source=Source(zenodo.address + RECORD)).get([SCENE, EVENT])
    assert list(failed) == [SCENE] and "delete or rename it" in failed[SCENE]
    assert [p.name for p in (tmp_path / SCENE).iterdir()] == ["16000"]
    assert check_task(tmp_path / EVENT, 16000).problems == []


def test_a_folder_and_a_plain_web_address_are_sources_too(
    zenodo: Site, packed: dict[str, bytes], tmp_path: Path
) -> None:
    (tmp_path / "mirror").mkdir()
    for name, content in packed.items():
        (tmp_path / "mirror" / name).write_bytes(content)
        zenodo.files[f"/mirror/{name}"] = content
    for i, place in enumerate((str(tmp_path / "mirror"), f"{zenodo.address}/mirror")):
        assert Fetcher(tmp_path / str(i), source=Source(place)).get([SCENE, EVENT]) == {}
    assert content_of(tmp_path / "0") == content_of(tmp_path / "1")
    assert Source("https://zenodo.org/records/5887964").where == archives.RECORD


def test_too_little_room_is_said_before_anything_is_downloaded(
    zenodo: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(get.shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(DataError, match=r"GB are needed, 0.0 MB are free"):
        Fetcher(tmp_path / "t", source=Source(zenodo.address + RECORD)).get([SCENE])
    assert [path for path, _ in zenodo.asked] == [RECORD]


def test_a_disk_that_fills_up_leaves_nothing_half_done(
    zenodo: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetcher = Fetcher(tmp_path, source=Source(zenodo.address + RECORD))
    real, left = soundfile.write, [4]

    def full(*arguments: object, **more: object) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        real(*arguments, **more)

    monkeypatch.setattr(soundfile, "write", full)
    assert "No space left" in fetcher.get([SCENE])[SCENE]
    assert not (tmp_path / SCENE).exists()
    monkeypatch.setattr(soundfile, "write", real)
    assert fetcher.get([SCENE]) == {} and check_task(tmp_path / SCENE, 16000).problems == []


class _Stopped(BaseException):
    pass


def test_stopped_at_any_step_it_ends_with_the_same_files(zenodo: Site, tmp_path: Path) -> None:
    source = zenodo.address + RECORD
    steps = []

    def count(*_: object) -> None:
        steps.append(1)

    assert Fetcher(tmp_path / "whole", source=Source(source), say=count, progress=count).get([SCENE]) == {}
    expected = content_of(tmp_path / "whole")
    for stop in range(0, len(steps), max(1, len(steps) // 12)):
        folder, left = tmp_path / f"stopped-{stop}", [stop]

        def halt(*_: object, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise _Stopped

        with pytest.raises(_Stopped):
            Fetcher(folder, source=Source(source), say=halt, progress=halt).get([SCENE])
        assert not (folder / SCENE).exists()
        assert Fetcher(folder, source=Source(source)).get([SCENE]) == {}
        assert content_of(folder) == expected, stop


@pytest.mark.slow
def test_killed_at_ten_random_points_it_ends_with_the_same_files(zenodo: Site, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "hear_audiomamba", "tasks", "get", SCENE, EVENT, "--jobs", "2"]
    words += ["--from", zenodo.address + RECORD, "--rates", "16000", "44100", "--tasks-dir"]
    began = time.monotonic()
    subprocess.run([*words, tmp_path / "whole"], cwd=ROOT, check=True)
    seconds = time.monotonic() - began
    draw = random.Random(1)
    for i in range(10):
        process = subprocess.Popen([*words, tmp_path / f"{i}"], cwd=ROOT)
        time.sleep(draw.uniform(0.3, 0.95) * seconds)
        process.send_signal(signal.SIGKILL)
        process.wait()
        subprocess.run([*words, tmp_path / f"{i}"], cwd=ROOT, check=True)
        assert content_of(tmp_path / f"{i}") == content_of(tmp_path / "whole")


def hostile(kind: str) -> bytes:
    """An archive that wants more than to be a task."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        member = tarfile.TarInfo(f"tasks/{SCENE}/task_metadata.json")
        if kind == "up":
            member.name = f"tasks/{SCENE}/../../../evil.txt"
        elif kind == "absolute":
            member.name = "/tmp/hear_audiomamba_evil.txt"
        elif kind == "other":
            member.name = "tasks/another-v1/task_metadata.json"
        elif kind in ("link", "hard"):
            member.type = tarfile.SYMTYPE if kind == "link" else tarfile.LNKTYPE
            member.linkname = "/etc/passwd"
        elif kind == "device":
            member.type = tarfile.CHRTYPE
        elif kind == "bomb":
            member.size = 10**7
        tar.addfile(member, io.BytesIO(bytes(member.size)) if member.size else None)
    return content.getvalue()


@pytest.mark.parametrize(
    "kind", ["up", "absolute", "other", "link", "hard", "device", "bomb", "cut", "noise"]
)
def test_hostile_archives_are_refused_and_write_nothing_outside(kind: str, tmp_path: Path) -> None:
    archive = tmp_path / "in" / "a.tar.gz"
    archive.parent.mkdir()
    content = {"cut": hostile("")[:60], "noise": b"no tar at all" * 50}.get(kind) or hostile(kind)
    archive.write_bytes(content)
    with pytest.raises(DataError, match=r"refused|is no part of|damaged"):
        unpack(archive, SCENE, tmp_path / "out" / "task", 10**6)
    outside = [p for p in tmp_path.rglob("*") if p.is_file() and "task" not in p.parts and p != archive]
    assert outside == [] and not Path("/tmp/hear_audiomamba_evil.txt").exists()


@pytest.mark.parametrize("rate", [16000, 22050, 32000, 44100])
def test_resampled_clips_agree_with_ffmpegs_soxr(rate: int, tmp_path: Path) -> None:
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        pytest.skip("ffmpeg is not installed")
    rng = np.random.default_rng(rate)
    t = np.arange(48000) / 48000
    sound = 0.3 * np.sin(2 * np.pi * (200 + 3000 * t) * t) + 0.05 * rng.standard_normal(len(t))
    soundfile.write(tmp_path / "in.wav", sound, 48000, subtype="PCM_16")
    resample_clip(tmp_path / "in.wav", tmp_path / "ours.wav", rate)
    command = [ffmpeg, "-v", "error", "-i", tmp_path / "in.wav", "-af", "aresample=resampler=soxr"]
    subprocess.run([*command, "-ar", str(rate), tmp_path / "theirs.wav"], check=True)
    ours, theirs = (soundfile.read(tmp_path / name)[0] for name in ("ours.wav", "theirs.wav"))
    assert len(ours) == round(len(sound) * rate / 48000) and abs(len(ours) - len(theirs)) <= 1
    n = min(len(ours), len(theirs))
    # The last millisecond depends on how either pads the end of the clip.
    difference = (ours[:n] - theirs[:n])[: n - rate // 1000]
    assert np.sqrt(np.mean(difference**2)) < 10 ** (-80 / 20)


def test_tasks_are_resampled_in_place_and_once(tmp_path: Path) -> None:
    task = write_scene_task(tmp_path / "tones-v1", clips=2)
    at_48000(task)
    assert (
        main(["tasks", "resample", "--tasks-dir", str(tmp_path), "--rates", "16000", "32000", "--jobs", "2"])
        == 0
    )
    assert check_task(task, 16000).problems == check_task(task, 32000).problems == []
    assert not resample_task(task, 16000)
    shutil.rmtree(task / "48000")
    with pytest.raises(DataError, match="no clips at a higher rate than 44100 Hz"):
        resample_task(task, 44100)
    with pytest.raises(DataError, match="HEAR's rates"):
        resample_task(task, 8000)


def test_the_list_and_the_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tasks", "list"]) == 0
    said = capsys.readouterr().out
    assert all(task in said for task in hear_task_list()) and "demo_notes-v1.0" in said
    assert main(["tasks", "get", "demo", "--tasks-dir", str(tmp_path)]) == 0
    assert main(["tasks", "check", "--tasks-dir", str(tmp_path)]) == 0


@pytest.mark.skipif(sys.platform == "win32", reason="limits on the size of files are POSIX")
def test_a_disk_too_full_for_the_demo_is_one_line_and_the_command_goes_on(tmp_path: Path) -> None:
    limited = (
        "import resource, signal, sys; from hear_audiomamba.cli import main; signal.signal(signal.SIGXFSZ, "
        "signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY)); "
        "sys.exit(main(sys.argv[1:]))"
    )
    words = ["tasks", "get", "demo", "--tasks-dir", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-c", limited, *words], capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1, done.stderr
    assert re.search(r"error: .*\.\w+: cannot be written: File too large", done.stderr)
    assert main(words) == 0 and main(["tasks", "check", "--tasks-dir", str(tmp_path)]) == 0
