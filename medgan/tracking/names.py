"""Names of experiments, models and aliases, checked before anything is written."""

import re

from medgan.core.errors import ConfigError

_LONGEST = {"experiment": 500, "name": 250, "alias": 250}


def check_names(experiment: str = "medgan", name: str = "medgan", alias: str = "best") -> None:
    """Whether MLflow accepts the names, and a URI such as `models:/name@alias` can hold them.

    Raises:
        ConfigError: E_VALUE, about `tracking.experiment`, `tracking.name` or `tracking.alias`.
    """
    for key, value in (("experiment", experiment), ("name", name), ("alias", alias)):
        if not value.strip():
            raise _refused(key, "is empty", "give a name")
        if len(value) > _LONGEST[key]:
            raise _refused(key, f"has {len(value)} characters", f"use at most {_LONGEST[key]}")
        if not value.isprintable():
            raise _refused(key, "holds a control character", "use printable characters")
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise _refused("name", f"{name!r} is no model name", "use letters, digits, _, - and .")
    if not re.fullmatch(r"[\w-]+", alias):
        raise _refused("alias", f"{alias!r} is no alias", "use letters, digits, _ and -")
    if re.fullmatch(r"[vV]\d+|latest", alias, re.IGNORECASE):
        raise _refused(
            "alias", f"MLflow reserves {alias!r}", "use another word, such as challenger"
        )


def _refused(key: str, what: str, remedy: str) -> ConfigError:
    return ConfigError("E_VALUE", f"tracking.{key}", what, remedy)
