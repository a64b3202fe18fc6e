"""Weights by name: bundled, from the hub, from the web, by hand; checked each time, trusted at first use."""

from __future__ import annotations

import errno
import json
import pickle
import socket
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from hear_audiomamba import list_models, load_model
from hear_audiomamba.errors import CheckpointError, FirstUseWarning
from hear_audiomamba.io import download
from hear_audiomamba.io.files import sha256_of
from hear_audiomamba.models import hub, known, manifest
from hear_audiomamba.models.bundled import bundled_path
from hear_audiomamba.models.known import known_weights, lock_file
from hear_audiomamba.models.registry import find_variant
from hear_audiomamba.models.weights import save_weights

from ..web import Site, serving

VARIANT = "ssam_tiny_200_16x4"
COMMIT = "a" * 40


@pytest.fixture(autouse=True)
def no_use_of_the_users_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HEAR_AUDIOMAMBA_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A weights file of a two-block SSAM."""
    config = find_variant(VARIANT).config
    config = config.replace(encoder=config.encoder.replace(depth=2))
    state = load_model(variant="ssam_tiny", depth=2, device="cpu").encoder.state_dict()
    return save_weights(tmp_path_factory.mktemp("weights") / "tiny.safetensors", state, config)


@pytest.fixture
def listed(tmp_path, monkeypatch, file):
    """Return a function that makes the manifest hold one entry, tagged "test"."""
    folder = tmp_path / "bundled"
    folder.mkdir()
    (folder / file.name).write_bytes(file.read_bytes())
    monkeypatch.setattr(manifest, "bundled_path", lambda name: folder)
    monkeypatch.setattr(known, "bundled_path", lambda name: folder)

    def write(**entry):
        content = {"defaults": {}, "weights": {f"{VARIANT}.test": {"sha256": None, **entry}}}
        (folder / "manifest.json").write_text(json.dumps(content))
        manifest.manifest.cache_clear()
        return folder / file.name

    yield write
    manifest.manifest.cache_clear()


@pytest.fixture
def web(monkeypatch, file):
    for name in download.OFFLINE_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    site = Site({"/weights.safetensors": file.read_bytes()})
    with serving(site):
        yield site


@pytest.fixture
def cached(tmp_path, monkeypatch, file):
    """Lay a file into the hub library's cache, offline; return a function that replaces its content."""
    snapshot = tmp_path / "hub" / "models--someone--ssam" / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (snapshot / "x.safetensors").write_bytes(file.read_bytes())
    refs = snapshot.parents[1] / "refs"
    refs.mkdir()
    (refs / "main").write_text(COMMIT)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return (snapshot / "x.safetensors").write_bytes


def get():
    # The listed file has two blocks; asking for its variant by name would check sizes, so go by the file.
    return known_weights(VARIANT, "test")


def test_bundled_weights_are_checked(listed, file):
    path = listed(file=file.name, sha256=sha256_of(file))
    assert load_model(get(), device="cpu").encoder.depth == 2
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"SHA-256 .* differs from .*the manifest"):
        load_model(variant="ssam_tiny.test")


def test_unknown_tag(listed, file):
    listed(file=file.name, sha256=sha256_of(file))
    with pytest.raises(CheckpointError, match="known: test"):
        load_model(variant="ssam_tiny.as2m")


def test_from_the_web_trusted_at_first_use(listed, web, file, tmp_path):
    listed(url=f"{web.address}/weights.safetensors")
    with pytest.warns(FirstUseWarning, match="is now on record"):
        path = get()
    record = json.loads(lock_file().read_text())[f"{VARIANT}.test"]
    assert record["sha256"] == sha256_of(file) and record["bytes"] == file.stat().st_size
    assert get() == path and len(web.asked) == 1  # neither a warning nor a request
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(CheckpointError, match="that of its first use"):
        get()


def test_what_is_not_a_checkpoint_is_never_trusted(listed, web, tmp_path):
    class Payload:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    web.files["/evil.pth"] = pickle.dumps({"model": Payload()}, protocol=2)
    listed(url=f"{web.address}/evil.pth")
    with pytest.raises(CheckpointError, match="cannot be read safely"):
        get()
    assert not lock_file().exists() and not (tmp_path / "ran").exists()


def test_a_pinned_hash_is_checked_on_arrival(listed, web):
    listed(url=f"{web.address}/weights.safetensors", sha256="0" * 64)
    with pytest.raises(CheckpointError, match="SHA-256 is"):
        get()
    assert not (known.cache_folder() / "weights" / f"{VARIANT}.test.safetensors").exists()


def test_broken_transfers_are_picked_up(listed, web, file, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    web.cut_after = [1000, 2000]
    listed(url=f"{web.address}/weights.safetensors", sha256=sha256_of(file))
    assert get().read_bytes() == file.read_bytes()


def test_each_way_it_fails_has_its_line(listed, web, monkeypatch):
    listed(url=f"{web.address}/gone.safetensors")
    with pytest.raises(CheckpointError, match="404"):
        get()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(CheckpointError, match="network is switched off"):
        get()
    listed(by_hand="its authors share it at https://example.org")
    with pytest.raises(
        CheckpointError, match=r"https://example.org; then pass the file's path to load_model"
    ):
        get()


def test_the_size_on_record_is_checked(listed, web, file):
    listed(url=f"{web.address}/weights.safetensors", bytes=file.stat().st_size + 1)
    with pytest.raises(CheckpointError, match=r"bytes arrived, \d+ were expected|connection ended"):
        get()


def test_a_file_that_needs_a_login(listed, web):
    listed(url=f"{web.address}/weights.safetensors")
    for code in (401, 403):
        web.errors = [code]
        with pytest.raises(CheckpointError, match=f"the server answers {code}"):
            get()


def test_processes_that_start_together_download_once(listed, web):
    listed(url=f"{web.address}/weights.safetensors")
    web.pause = 0.2
    with ThreadPoolExecutor(4) as pool, warnings.catch_warnings():
        warnings.simplefilter("ignore", FirstUseWarning)
        assert len(set(pool.map(lambda _: get(), range(4)))) == 1
    assert len(web.asked) == 1


def test_a_cache_that_cannot_be_written(listed, web, cached, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HEAR_AUDIOMAMBA_CACHE", str(tmp_path / "file"))
    listed(url=f"{web.address}/weights.safetensors")
    with pytest.raises(CheckpointError, match="set HEAR_AUDIOMAMBA_CACHE to a folder that can be written"):
        get()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    listed(hub={"repo": "someone/ssam", "file": "x.safetensors", "revision": None})
    with pytest.raises(CheckpointError, match="its hash cannot be recorded: .*set HEAR_AUDIOMAMBA_CACHE"):
        get()


def test_a_full_disk(listed, web, monkeypatch):
    listed(url=f"{web.address}/weights.safetensors")

    def no_space(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(download, "_transfer", no_space)
    with pytest.raises(CheckpointError, match="No space left on device"):
        get()


def test_through_a_proxy(listed, web, file, monkeypatch):
    web.files["http://weights.example/x.safetensors"] = file.read_bytes()
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", web.address)
    monkeypatch.setattr("urllib.request._opener", None)  # remembers the proxies of its first use
    listed(url="http://weights.example/x.safetensors", sha256=sha256_of(file))
    assert get().read_bytes() == file.read_bytes()


def test_hub_through_the_local_cache(listed, cached, file):
    """The real huggingface-hub, offline, on a cache laid out as it lays it out."""
    listed(hub={"repo": "someone/ssam", "file": "x.safetensors", "revision": None})
    with pytest.warns(FirstUseWarning):
        assert load_model(get(), device="cpu").encoder.depth == 2
    assert json.loads(lock_file().read_text())[f"{VARIANT}.test"]["revision"] == COMMIT
    assert load_model(f"someone/ssam@{COMMIT}:x.safetensors", device="cpu").encoder.depth == 2
    cached(file.read_bytes()[:-1] + b"!")
    with pytest.raises(CheckpointError, match="that of its first use"):
        get()


def test_hub_errors_say_why(cached, monkeypatch):
    with pytest.raises(
        CheckpointError, match="nobody/nothing: cannot get 'model.safetensors': .*HF_HUB_OFFLINE"
    ):
        load_model("nobody/nothing")
    for name in download.OFFLINE_VARIABLES:
        monkeypatch.delenv(name, raising=False)

    def no_such_host(*args, **kwargs):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(hub.socket, "getaddrinfo", no_such_host)
    monkeypatch.setattr(hub.urllib.request, "getproxies", dict)
    with pytest.raises(CheckpointError, match="the hub cannot be reached from this machine"):
        load_model("nobody/nothing")
    assert hub.hub_file("someone/ssam", "x.safetensors").is_file()  # what is cached needs no network


@pytest.mark.parametrize("name", list_models("ssamba_*.[0-9]*", pretrained=True))
def test_the_authors_ssamba_is_asked_for_at_the_hub(name):
    with pytest.raises(CheckpointError, match="attentionisallyouneed369/ssamba: .*not in the local cache"):
        load_model(variant=name)


def test_the_real_manifest_is_sound():
    listing = manifest.manifest()
    folder = bundled_path("weights")
    for name, entry in listing["weights"].items():
        assert (
            find_variant(name.partition(".")[0]) and entry["licence"] and entry["source"] and entry["recipe"]
        )
        places = [key for key in ("file", "hub", "url", "by_hand") if entry.get(key)]
        assert len(places) == 1, name
        if entry.get("file"):
            path = folder / entry["file"]
            assert path.stat().st_size == entry["bytes"] < 20e6
            assert sha256_of(path) == entry["sha256"]
            assert path.with_suffix(".md").is_file(), f"{name} has no card"
    bundled = {entry.get("file") for entry in listing["weights"].values()} - {None}
    assert {path.name for path in folder.glob("*.safetensors")} == bundled
    assert sum(path.stat().st_size for path in folder.glob("*.safetensors")) < 60e6
    for variant, tag in listing["defaults"].items():
        assert f"{variant}.{tag}" in listing["weights"]


def test_names():
    assert list_models("ssam_*") == [f"ssam_{size}_200_16x4" for size in ("tiny", "small", "base")]
    names = list_models(pretrained=True)
    assert set(names) == set(manifest.manifest()["weights"])
    assert list_models("ssamba_base.*", pretrained=True) == [f"ssamba_base.{n}" for n in (250, 300, 400)]


def test_a_pytorch_file_from_the_web(listed, web, tmp_path, file):
    state = load_model(file, device="cpu").encoder.state_dict()
    torch.save({"model": state}, tmp_path / "authors.pth")
    web.files["/authors.pth"] = (tmp_path / "authors.pth").read_bytes()
    listed(url=f"{web.address}/authors.pth")
    with pytest.warns(FirstUseWarning):
        assert load_model(get(), device="cpu").config.family == "ssam"
