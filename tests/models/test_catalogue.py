"""The table that `list` and `info` read says what the models are, and reading it loads no torch."""

from __future__ import annotations

import json
import struct
import subprocess
import sys

import pytest

from hear_audiomamba.cli.program import main
from hear_audiomamba.errors import CheckpointError
from hear_audiomamba.models.bundled import bundled_path
from hear_audiomamba.models.catalogue import catalogue, find_entry, read_header, weights_of
from hear_audiomamba.models.families import config_from_dict
from hear_audiomamba.models.flops import count_flops
from hear_audiomamba.models.manifest import manifest
from hear_audiomamba.models.registry import ALIASES, VARIANTS, model_info
from hear_audiomamba.models.weights import own_metadata, read_safetensors


@pytest.mark.parametrize("name", VARIANTS)
def test_the_table_is_up_to_date(name):
    """If this fails: python tools/catalogue.py"""
    entry = catalogue()["variants"][name]
    info = json.loads(json.dumps(model_info(name)))
    assert {key: entry[key] for key in info} == info
    assert (
        ALIASES.get(entry["short_name"], entry["short_name"])
        == name
        == find_entry(entry["short_name"])["name"]
    )


@pytest.mark.parametrize("name", ["ssam_tiny_200_16x4", "ssamba_tiny", "hiermamba_nano"])
def test_operations_are_those_counted(name):
    counted = count_flops(VARIANTS[name].config, 10.0)
    stored = catalogue()["variants"][name]["gflops_of_10_s"]
    assert stored == {"products": round(counted.products / 1e9, 2), "scans": round(counted.scans / 1e9, 2)}


def test_headers_say_what_the_whole_file_says():
    bundled = [entry for entry in manifest()["weights"].values() if entry.get("file")]
    assert bundled
    for entry in bundled:
        path = bundled_path("weights") / entry["file"]
        state, metadata = read_safetensors(path)
        header = read_header(path)
        assert header.n_tensors == len(state)
        assert config_from_dict(header.settings["config"]) == own_metadata(metadata)[0]


@pytest.mark.parametrize(
    "content",
    [b"", b"RIFF", struct.pack("<Q", 2**60), struct.pack("<Q", 4) + b"null", struct.pack("<Q", 40) + b"{",
     struct.pack("<Q", 33) + b'{"__metadata__":{"hear_audiomam":1', struct.pack("<Q", 8) + b'{"a":[]}'],
)  # fmt: skip
def test_damaged_headers_are_refused(content, tmp_path):
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match="not a readable safetensors file"):
        read_header(tmp_path / "x.safetensors")


def test_list_and_info_load_neither_torch_nor_numpy():
    program = (
        "import sys\nfrom hear_audiomamba.cli.program import main\n"
        "assert main(['list']) == main(['info', 'ssam_tiny']) == main(['list', '--json']) == 0\n"
        "assert not {'torch', 'numpy', 'yaml', 'safetensors'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


def test_info_tells_the_settings_of_the_weights(capsys, tmp_path):
    assert main(["info", "ssam_tiny", "--json"]) == 0
    info = json.loads(capsys.readouterr().out)
    assert info["loads"] == "open-distilled" and info["scene_pooling"] == "mean_plus_max"
    assert info["timestamp_smoothing_ms"] == 240 and info["window_seconds"] == 2
    assert info["config"]["encoder"]["trained_depth"] == 6
    assert info["gflops_of_10_s"]["scans"] < find_entry("ssam_tiny")["gflops_of_10_s"]["scans"]
    file = bundled_path("weights") / weights_of("ssam_tiny_200_16x4")["open-distilled"]["file"]
    assert main(["info", str(file), "--json"]) == 0
    of_file = json.loads(capsys.readouterr().out)
    assert of_file["config"] == info["config"] and of_file["gflops_of_10_s"] == info["gflops_of_10_s"]
    assert of_file["file"]["dtypes"] == ["F16"]
    assert main(["info", "aum_tiny"]) == 0 and "nothing: the weights are random" in capsys.readouterr().out
    for wrong in ("ssam_tiny.nothing", "sam_tiny", "examples/audio/speech_english.wav"):
        assert main(["info", wrong]) == 1
        assert len(capsys.readouterr().err.splitlines()) == 1
