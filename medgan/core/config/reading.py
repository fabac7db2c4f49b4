"""Settings from YAML and `section.key=value`, with errors that name what was meant."""

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from medgan.core.config.settings import Config
from medgan.core.errors import ConfigError


def build(values: Mapping[str, Any], overrides: Sequence[str] = ()) -> Config:
    """Validated configuration from nested values and `section.key=value` overrides.

    Args:
        values: nested dictionary, as read from YAML.
        overrides: settings that win over `values`; the right side is YAML.

    Raises:
        ConfigError: E_KEY for an unknown key, E_VALUE for a value out of range, E_SET and
            E_YAML for an override that cannot be read.

    Example:
        >>> build({"train": {"batch": 4}}, ["train.gamma=20"]).train.gamma
        20.0
    """
    merged = merge({}, values)
    for override in overrides:
        path, separator, text = override.partition("=")
        if not separator:
            raise ConfigError("E_SET", override, "no value", "write section.key=value")
        value: Any = _yaml(text, override)
        for key in reversed(path.strip().split(".")):
            value = {key: value}
        merged = merge(merged, value)
    try:
        return Config.model_validate(merged)
    except ValidationError as error:
        raise _explain(error) from None


NAMES = {
    "data": ("source", "splits", "subjects", "session"),
    "train": ("start_from",),
    "compare": ("models",),
    "utility": ("command",),
    "audit": ("train", "holdout"),
    "evaluate": ("fake", "weights"),
    "detection": ("shapes",),
    "draw": ("examples", "masks"),
    "lesions": ("healthy",),
    "latent": ("ends",),
    "translate": ("target_data",),
    "tracking": ("uri",),
}
"""Settings that hold paths, and so perhaps names of patients."""


def without_names(config: Config) -> dict[str, Any]:
    """All settings that may be read by others: those that hold paths are left out."""
    settings = config.model_dump(mode="json", exclude={"out", "model_uri"})
    for section, names in NAMES.items():
        for name in names:
            del settings[section][name]
    return settings


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the values of `over` laid over it, dictionaries key by key.

    An empty dictionary empties what it is laid over: `data.conditions={}` drops a preset's.
    """
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        both = isinstance(old, dict) and isinstance(value, dict) and value
        merged[key] = merge(old, value) if both else value  # pyright: ignore[reportArgumentType]
    return merged


def read_yaml(path: Path) -> dict[str, Any]:
    """The dictionary in a YAML file.

    Raises:
        ConfigError: E_MISSING, E_YAML.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError:
        raise ConfigError("E_MISSING", str(path), "cannot be read", "check the path") from None
    except UnicodeDecodeError:
        raise ConfigError("E_YAML", path.name, "not UTF-8 text", "save it as UTF-8") from None
    values = _yaml(text, path.name)
    if not isinstance(values, dict):
        raise ConfigError("E_YAML", path.name, "not a mapping", "write `key: value` lines")
    _refuse_keys(values, path.name)
    return values


def _refuse_keys(values: dict[Any, Any], where: str) -> None:
    """Refuses keys that YAML does not read as text.

    Raises:
        ConfigError: E_YAML.
    """
    for key, value in values.items():
        if not isinstance(key, str):
            raise ConfigError("E_YAML", where, f"the key {key} is not text", "put it in quotes")
        if isinstance(value, dict):
            _refuse_keys(value, where)


class _Loader(yaml.SafeLoader):
    """Refuses what YAML would silently overwrite: a key that is there twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The dictionary of a node.

        Raises:
            yaml.YAMLError: a key is there twice.
        """
        keys = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        for key, times in keys.items():
            if times > 1 and key != "<<":
                raise yaml.constructor.ConstructorError(problem=f"the key {key} is there twice")
        return super().construct_mapping(node, deep)


def _yaml(text: str, where: str) -> Any:  # noqa: ANN401 - YAML holds anything
    try:
        return yaml.load(text, _Loader)  # nosec B506 # a SafeLoader
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # such as a date that is none
        what = " ".join(str(error).split())
        raise ConfigError("E_YAML", where, what, "correct the YAML") from None


def _explain(error: ValidationError) -> ConfigError:
    errors = [(_location(e["loc"]), e) for e in error.errors()]
    location, first = errors[0]
    where = ".".join(location) or "the settings together"
    if first["type"] != "extra_forbidden":
        messages = [e["msg"] for place, e in errors if place == location]
        what = " or ".join(message.removeprefix("Value error, ") for message in messages)
        return ConfigError("E_VALUE", where, what, "see docs/reference/configuration.md")
    section: Any = Config
    for part in location[:-1]:
        section = section.model_fields[part].annotation
    near = difflib.get_close_matches(location[-1], section.model_fields, n=1, cutoff=0.0)
    prefix = ".".join([*location[:-1], ""])
    return ConfigError("E_KEY", where, "no such setting", f"did you mean {prefix}{near[0]}?")


def _location(loc: tuple[int | str, ...]) -> list[str]:
    """The path of a setting, without pydantic's names for the branches of a union."""
    return [str(part) for part in loc if not str(part).startswith(("tuple[", "literal["))]
