"""Settings as text: YAML and JSON files, and `KEY=VALUE` on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import ConfigError, one_line


def load_config(path: str | Path) -> dict[str, Any]:
    """Read a YAML or JSON file with one mapping.

    Raises:
        ConfigError: the file cannot be read or parsed, or is not a mapping.
    """
    from .yaml_text import parse_yaml

    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
        is_json = path.suffix.lower() == ".json"
        values = json.loads(text, object_pairs_hook=_without_twins) if is_json else parse_yaml(text)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"cannot read {path}: it is no UTF-8 text; save it as UTF-8") from None
    except RecursionError:
        raise ConfigError(f"{path} cannot be parsed: its parts are nested too deeply") from None
    except ValueError as error:
        raise ConfigError(f"{path} cannot be parsed: {one_line(error)}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected a mapping at the top, got {type(values).__name__}")
    return values


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"key {max(names, key=names.count)!r} is there twice")
    return found


def parse_setting(text: str) -> tuple[str, Any]:
    """Return key and value of a setting on the command line, `KEY=VALUE`; the value is YAML.

    Raises:
        ConfigError: it has another form.
    """
    from .yaml_text import parse_yaml

    key, equals, value = text.partition("=")
    if not key or not equals:
        raise ConfigError(f"{text!r}: expected KEY=VALUE, for instance depth=2")
    try:
        return key, parse_yaml(value)
    except (ValueError, RecursionError):
        raise ConfigError(f"{text!r}: the value is not YAML") from None
