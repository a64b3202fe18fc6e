"""YAML as settings are written in it. PyYAML is imported with this file, so this file only where YAML is read."""

from __future__ import annotations

import re
from typing import Any

import yaml


class _Yaml(yaml.SafeLoader):
    """YAML 1.2's numbers: PyYAML follows YAML 1.1, where one with an exponent needs a point and a sign, 1.0e-4."""


_Yaml.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)


def parse_yaml(text: str) -> Any:
    """Return what a YAML text says.

    Raises:
        ValueError: it cannot be parsed.
    """
    try:
        return yaml.load(text, _Yaml)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None
