"""YAML as settings are written in it. PyYAML is imported with this file, so this file only where YAML is used."""

from __future__ import annotations

import re
from typing import Any

import yaml

_INT, _FLOAT = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"
# Of YAML 1.1, beside its numbers: dates, and "=" as a value of its own.
_NOT_TAKEN = {_INT, _FLOAT, "tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:value"}
_NUMBERS = {
    _INT: r"[-+]?([0-9][0-9_]*|0o[0-7]+|0x[0-9a-fA-F]+|0b[01]+)$",
    _FLOAT: r"[-+]?(\.[0-9][0-9_]*|[0-9][0-9_]*\.[0-9_]*)([eE][-+]?[0-9]+)?$"
    r"|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+$|[-+]?\.(inf|Inf|INF)$|\.(nan|NaN|NAN)$",
}


def _resolvers() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    """Return what a plain word may mean, by its first character."""
    kept = {
        first: [(tag, words) for tag, words in meanings if tag not in _NOT_TAKEN]
        for first, meanings in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    for first in "-+.0123456789":
        kept[first] = [(tag, re.compile(words)) for tag, words in _NUMBERS.items()]
    return kept


class _Loader(yaml.SafeLoader):
    """YAML 1.2's numbers and its rule that keys differ; "yes" and "on" stay truth values.

    PyYAML follows YAML 1.1, where 017 is 15, 1:30 is 90, and a number with an exponent needs a point and a sign,
    1.0e-4. Of a key that is given twice it takes the last value.
    """

    yaml_implicit_resolvers = _resolvers()

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

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        text = str(self.construct_scalar(node)).replace("_", "")
        return int(text, 0 if text.lstrip("-+")[1:2].isalpha() else 10)


_Loader.add_constructor(_INT, _Loader.construct_yaml_int)


class _Dumper(yaml.SafeDumper):
    """Puts in quotes what `_Loader` would take for something else."""

    yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers


def parse_yaml(text: str) -> Any:
    """Return what a YAML text says.

    Raises:
        ValueError: it cannot be parsed.
    """
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None


def yaml_text(value: Any) -> str:
    """Return plain values as YAML; `parse_yaml` gives them back."""
    return str(yaml.dump(value, Dumper=_Dumper, sort_keys=False))
