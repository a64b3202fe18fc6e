"""What every configuration is: a frozen dataclass, strict about names and types, that plain values make."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from ..errors import ConfigError, counted, did_you_mean, shown
from .numbers import plain_number

C = TypeVar("C", bound="Config")


@dataclasses.dataclass(frozen=True)
class Config:
    """Base of the configuration dataclasses: to and from plain dictionaries, strict about keys and types."""

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as a dictionary of plain values, fit for JSON."""
        return {field.name: _plain(getattr(self, field.name)) for field in dataclasses.fields(self)}

    @classmethod
    def from_dict(cls: type[C], values: Mapping[str, Any]) -> C:
        """Build the configuration from a mapping.

        Args:
            values: field names and values; nested configurations as mappings.

        Returns:
            The configuration; fields left out keep their defaults.

        Raises:
            ConfigError: a key is unknown, a needed one is missing, or a value has the wrong type.
        """
        if not isinstance(values, Mapping):
            raise ConfigError(f"{cls.__name__}: expected a mapping, got {type(values).__name__}")
        hints, fields = typing.get_type_hints(cls), {field.name: field for field in dataclasses.fields(cls)}
        for key in values:
            if key not in fields:
                raise ConfigError(f"{cls.__name__}: unknown key {key!r}; {did_you_mean(key, fields)}")
        given = {
            key: check_value(hints[key], value, f"{cls.__name__}.{key}") for key, value in values.items()
        }
        no_default = [
            name for name, f in fields.items() if f.default is f.default_factory is dataclasses.MISSING
        ]
        if missing := [name for name in no_default if name not in given]:
            raise ConfigError(f"{cls.__name__}: missing {', '.join(missing)}")
        return cls(**given)

    def check_types(self) -> None:
        """Hold the fields to their types, and bring numbers of other libraries to Python's.

        Raises:
            ConfigError: a value has the wrong type.
        """
        for name, hint in typing.get_type_hints(type(self)).items():
            object.__setattr__(
                self, name, check_value(hint, getattr(self, name), f"{type(self).__name__}.{name}")
            )

    def replace(self: C, **changes: Any) -> C:
        """Return a copy with some fields changed; an unknown name or wrong type is a ConfigError."""
        kept = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return type(self).from_dict({**kept, **changes})


def check_value(hint: Any, value: Any, name: str) -> Any:
    """Return a setting's value as the type that `hint` asks for.

    Lists become tuples, whole floats become ints, ints become floats, mappings become configurations, and
    numbers of other libraries Python's.

    Args:
        hint: a class, `Literal`, `tuple`, `dict`, or one of these or None.
        value: what was given.
        name: of the setting, for the error.

    Raises:
        ConfigError: the value has another type, or is none of the allowed ones.
    """
    kind, parts = typing.get_origin(hint), typing.get_args(hint)
    if kind in (typing.Union, types.UnionType):
        (inner,) = set(parts) - {type(None)}
        return None if value is None else check_value(inner, value, name)
    if kind is typing.Literal:
        if not isinstance(value, (str, int, type(None))) or value not in parts:
            allowed = ", ".join(map(repr, parts))
            raise ConfigError(f"{name}: {shown(value)} is not allowed; use one of {allowed}")
        return value
    if kind is tuple:
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{name}: expected a list, got {shown(value)}")
        inners = parts[:1] * len(value) if parts[-1] is Ellipsis else parts
        if len(inners) != len(value):
            raise ConfigError(f"{name}: expected {counted(len(inners), 'value')}, got {shown(value)}")
        return tuple(check_value(inner, item, name) for inner, item in zip(inners, value))
    if kind is dict:
        if not isinstance(value, Mapping):
            raise ConfigError(f"{name}: expected a mapping, got {shown(value)}")
        return {str(key): check_value(parts[1], item, f"{name}.{key}") for key, item in value.items()}
    if hint is Any:
        return value
    if issubclass(hint, Config):
        return value if isinstance(value, hint) else hint.from_dict(value)
    if hint in (int, float):
        number = plain_number(value)
        whole = isinstance(number, int) or (
            number is not None and number.is_integer() and abs(number) < 2**63
        )
        if number is not None and (hint is float or whole):
            return hint(number)
    elif isinstance(value, hint):
        return value
    raise ConfigError(f"{name}: expected {hint.__name__}, got {shown(value)}")


def _plain(value: Any) -> Any:
    if isinstance(value, Config):
        return value.to_dict()
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
