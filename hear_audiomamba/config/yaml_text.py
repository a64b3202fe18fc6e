"""YAML as settings are written in it. PyYAML is imported with this file, so this file only where YAML is read."""

from __future__ import annotations

import re
from typing import Any

import yaml


class _Yaml(yaml.SafeLoader):
    """YAML 1.2's numbers and its rule that keys differ.

    PyYAML follows YAML 1.1, where a number with an exponent needs a point and a sign, 1.0e-4. Of a key that is
    given twice it takes the last value.
    """

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        names = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                if key.value in names:
                    raise yaml.MarkedYAMLError(
                        problem=f"key {key.value!r} is there twice", problem_mark=key.start_mark
                    )
                names.add(key.value)
        return node


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
