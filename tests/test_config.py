"""Configurations survive a round trip and are strict about keys and types."""

from __future__ import annotations

import codecs
import json
import math

import pytest

from hear_audiomamba import list_models, load_model, model_info
from hear_audiomamba.config import LogMelConfig, SSAMConfig, load_config, parse_setting
from hear_audiomamba.config.yaml_text import parse_yaml, yaml_text
from hear_audiomamba.errors import (
    ConfigError,
    MissingPackageError,
    VariantError,
    counted,
    did_you_mean,
    require,
)
from hear_audiomamba.models.families import config_from_dict, with_options
from hear_audiomamba.models.registry import VARIANTS, find_variant


@pytest.mark.parametrize("name", VARIANTS)
def test_round_trip_through_json(name):
    config = VARIANTS[name].config
    assert config_from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"embed_dims": 3}, "unknown key 'embed_dims'; did you mean 'embed_dim'"),
        ({"embed_dim": "x"}, "embed_dim: expected int, got 'x'"),
        ({"embed_dim": 1.5}, "expected int, got 1.5"),
        ({"depth": True}, "expected int, got True"),
        ({"patch_size": 4}, "expected a list"),
        ({"patch_size": [4]}, "expected 2 values"),
        ({"norm": "batch"}, "'batch' is not allowed; use one of 'layer', 'rms'"),
        ([1], "expected a mapping"),
    ],
)
def test_bad_values(values, message):
    with pytest.raises(ConfigError, match=message):
        SSAMConfig.from_dict(values)


def test_numbers_and_lists_of_files_fit():
    assert SSAMConfig.from_dict({"patch_size": [8, 16], "depth": 3.0}).patch_size == (8, 16)
    assert LogMelConfig.from_dict({"f_min": 20}).f_min == 20.0


def test_missing_and_unknown_family():
    with pytest.raises(ConfigError, match="missing family"):
        config_from_dict({"variant": "x", "features": {}, "encoder": {}})
    with pytest.raises(ConfigError, match="did you mean 'ssam'"):
        config_from_dict({"family": "ssm", "variant": "x", "features": {}, "encoder": {}})


def test_files(tmp_path):
    (tmp_path / "a.yaml").write_text("x: [1, 2]\n")
    (tmp_path / "a.json").write_text('{"x": [1, 2]}')
    assert load_config(tmp_path / "a.yaml") == load_config(tmp_path / "a.json") == {"x": [1, 2]}
    (tmp_path / "bad.yaml").write_text("x: [1, 2\n")
    (tmp_path / "list.yaml").write_text("- 1\n")
    for name in ("bad.yaml", "list.yaml", "none.yaml"):
        with pytest.raises(ConfigError, match=name) as caught:
            load_config(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_options_reach_encoder_and_features():
    config = with_options(find_variant("ssam_tiny").config, {"depth": 3, "f_max": 7600})
    assert config.encoder.depth == 3 and config.features.f_max == 7600.0


def test_counts_have_the_noun_that_fits():
    assert [counted(n, "clip") for n in (0, 1, 2)] == ["0 clips", "1 clip", "2 clips"]
    assert [counted(n, "class", "classes") for n in (1, 3)] == ["1 class", "3 classes"]


def test_did_you_mean_falls_back_to_the_list():
    assert did_you_mean("zzz", ["b", "a"]) == "known: a, b"
    with pytest.raises(VariantError, match="did you mean 'ssam_base'"):
        model_info("ssam_bas")


def test_a_missing_package_is_said_with_what_to_install():
    require("json", "reading", "json")
    with pytest.raises(MissingPackageError, match=r"a map needs no_such_package: pip install 'x\[y\]'"):
        require("no_such_package", "a map", "x[y]")
    assert issubclass(MissingPackageError, ImportError)


def test_every_variant_is_described():
    for name in list_models():
        info = model_info(name)
        assert info["encoder_parameters"] <= info["parameters"] and info["source"]


@pytest.mark.parametrize("suffix", (".yaml", ".json"))
def test_a_file_nested_without_end_is_one_line(tmp_path, suffix):
    (tmp_path / f"deep{suffix}").write_text("[" * 50_000)
    with pytest.raises(ConfigError, match="cannot be parsed"):
        load_config(tmp_path / f"deep{suffix}")


@pytest.mark.parametrize(
    ("options", "said"),
    [({"depth": 10**9}, "depth: 1000000000 is more than 1024"),
     ({"embed_dim": 10**9}, "embed_dim: 1000000000 is more")],
)  # fmt: skip
def test_sizes_that_no_machine_can_build_are_refused_at_once(options, said):
    with pytest.raises(ConfigError, match=said):
        load_model(variant="ssam_tiny_200_16x4", **options)


def test_a_key_that_is_given_twice_is_refused(tmp_path):
    (tmp_path / "a.yaml").write_text("x: {y: 1}\nseed: 1\nseed: 2\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="key 'seed' is there twice.*line 3"):
        load_config(tmp_path / "a.yaml")
    (tmp_path / "b.yaml").write_text("a: &a {y: 1, z: 2}\nb: {<<: *a, y: 3}\nc: *a\n", encoding="utf-8")
    assert load_config(tmp_path / "b.yaml")["b"] == {"y": 3, "z": 2}
    (tmp_path / "c.json").write_text('{"x": {"y": 1, "y": 2}}', encoding="utf-8")
    with pytest.raises(ConfigError, match="key 'y' is there twice"):
        load_config(tmp_path / "c.json")


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("017", 17), ("08", 8), ("-0x1F", -31), ("0o17", 15), ("1_000", 1000), ("+5", 5),
        ("1e-3", 1e-3), ("1.5E+3", 1500.0), (".5", 0.5), ("09.5", 9.5), ("-.inf", -math.inf),
        ("1:30", "1:30"), ("2026-01-01", "2026-01-01"), ("=", "="), ("1,5", "1,5"), ("12e", "12e"),
        ("yes", True), ("off", False), ("~", None), ("'017'", "017"),
    ],
)  # fmt: skip
def test_words_of_yaml_mean_what_they_look_like(written, value):
    """Not YAML 1.1's octal 017, its 1:30 in seconds, and its dates."""
    found = parse_setting(f"x={written}")[1]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    "text", ["017", "08", "0o17", "1e-3", "1:30", "1_0", "yes", "~", "", "=", "2026-01-01", "é: #"]
)
def test_texts_stay_texts_when_settings_are_written(text):
    assert parse_yaml(yaml_text({"x": text, "y": [text]})) == {"x": text, "y": [text]}


def test_files_as_editors_save_them(tmp_path):
    for name, data in (
        ("bom.yaml", codecs.BOM_UTF8 + b"x: 1\r\ny: 2\r\n"), ("bom.JSON", codecs.BOM_UTF8 + b'{"x": 1, "y": 2}')
    ):  # fmt: skip
        (tmp_path / name).write_bytes(data)
        assert load_config(tmp_path / name) == {"x": 1, "y": 2}
    (tmp_path / "wide.yaml").write_bytes("x: 1\n".encode("utf-16"))
    with pytest.raises(ConfigError, match="wide.yaml: it is no UTF-8 text; save it as UTF-8"):
        load_config(tmp_path / "wide.yaml")
