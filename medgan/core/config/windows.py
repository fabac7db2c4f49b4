"""CT windows by name or by their ends in HU."""

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, PlainSerializer

from medgan.core.config.fields import rising

WINDOWS = {
    "brain": (0.0, 80.0),
    "lung": (-1350.0, 150.0),
    "soft tissue": (-160.0, 240.0),
    "bone": (-500.0, 1300.0),
}
"""HU that are shown from black to white, as radiologists set them (level and width 40 and 80,
-600 and 1500, 40 and 400, 400 and 1800)."""


def _named_windows(value: object) -> object:
    """One window or several, each by its name or its two ends, as a tuple of windows."""
    if isinstance(value, str) or _is_pair(value):
        value = (value,)
    if not isinstance(value, list | tuple):
        return value
    return tuple(_named_window(window) if isinstance(window, str) else window for window in value)


def _is_pair(value: object) -> bool:
    return isinstance(value, list | tuple) and any(isinstance(end, int | float) for end in value)


def _named_window(name: str) -> tuple[float, float]:
    name = name.strip().lower().replace("_", " ")
    if name not in WINDOWS:
        raise ValueError(f"no window of this name; use {', '.join(WINDOWS)} or [low, high] in HU")
    return WINDOWS[name]


def _without_gaps(windows: tuple[tuple[float, float], ...]) -> tuple[tuple[float, float], ...]:
    """Different windows that touch or overlap, or an error that says what none of them shows."""
    if not windows:
        raise ValueError("no window; name one or more")
    if len(set(windows)) < len(windows):
        raise ValueError("names a window twice")
    reached = min(low for low, _ in windows)
    for low, high in sorted(rising(window) for window in windows):
        if low > reached:
            raise ValueError(f"shows nothing from {reached:g} to {low:g} HU; let windows touch")
        reached = max(reached, high)
    return windows


def _as_written(windows: tuple[tuple[float, float], ...]) -> object:
    """One window as its two ends: models and trainings hold it so."""
    return windows[0] if len(windows) == 1 else windows


Windows = Annotated[
    tuple[tuple[float, float], ...],
    BeforeValidator(_named_windows),
    AfterValidator(_without_gaps),
    PlainSerializer(_as_written),
]
