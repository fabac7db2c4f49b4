"""What a step of a pipeline hands back."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class StepResult:
    """What a step has done.

    Attributes:
        values: for --json.
        lines: to print at the end.
        page: to open in a browser.
        commands: to try next.
        passed: False where a gate or an audit was not passed.
    """

    values: dict[str, Any] = field(default_factory=dict)
    lines: tuple[str, ...] = ()
    page: Path | None = None
    commands: tuple[str, ...] = ()
    passed: bool = True

    def as_json(self) -> dict[str, Any]:
        """The values, with the page."""
        return self.values | ({"page": str(self.page)} if self.page else {})


def written(step: str, path: Path) -> tuple[str, ...]:
    """The line that says where a step has left its files."""
    return (f"{step:9} {path}",)
