"""Writes docs/reference/configuration.md from the fields of medgan/core/config.py."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from medgan.core.config import Config
from medgan.core.tables import markdown_table

PAGE = Path(__file__).parent / "reference" / "configuration.md"
HEAD = """# Settings

Written by `make docs` from `medgan/core/config.py`. Set them in a YAML file under `config:` or with
`--set section.key=value`; unknown keys are refused with the nearest known one. The resolved
settings, without those that hold paths, are saved as `config.yaml` in every run's folder.
"""


def render() -> str:
    """The page as Markdown."""
    lines = [HEAD]
    plain = {k: f for k, f in Config.model_fields.items() if not _is_section(f.annotation)}
    lines += ["## Top level", "", *_table("", plain)]
    for name, field in Config.model_fields.items():
        if _is_section(field.annotation):
            section: Any = field.annotation
            lines += [
                "",
                f"## {name}",
                "",
                section.__doc__,
                "",
                *_table(name, section.model_fields),
            ]
    return "\n".join(lines) + "\n"


def _is_section(kind: Any) -> bool:  # noqa: ANN401 - annotations are of any type
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _table(section: str, fields: dict[str, Any]) -> list[str]:
    rows = []
    for name, field in fields.items():
        path = f"{section}.{name}" if section else name
        default = field.get_default(call_default_factory=True)
        shown = "" if default is PydanticUndefined else f"`{_yaml(default)}`"
        rows.append((f"`{path}`", shown, field.description))
    return markdown_table(("setting", "default", "meaning"), rows).splitlines()


def _yaml(value: Any) -> str:  # noqa: ANN401 - any default
    if value is None:
        return "null"
    if isinstance(value, tuple):
        return f"[{', '.join(_yaml(v) for v in value)}]"
    return '""' if value == "" else str(value).lower() if isinstance(value, bool) else str(value)


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
