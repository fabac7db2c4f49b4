"""Checks of types and shapes while tests run, at the price of what they check.

jaxtyping's import hook puts `jaxtyped` around every function. It remembers the sizes of named axes
during each call, which costs 60 microseconds, whether or not the function names an axis. One that
names none is given to the checker of types itself: the same check, for 1 microsecond.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any, ForwardRef, get_args

import jaxtyping

_with_sizes = jaxtyping.jaxtyped


def names_axes(annotation: Any) -> bool:
    """Whether an annotation holds a shape, or is text, which may hold one."""
    if isinstance(annotation, str | ForwardRef):
        return True
    if inspect.isclass(annotation) and issubclass(annotation, jaxtyping.AbstractArray):
        return True
    parts = annotation if isinstance(annotation, list) else get_args(annotation)
    return any(names_axes(part) for part in parts)


def checked(thing: Any = None, *, typechecker: Callable[[Any], Any]) -> Any:
    """Stands for `jaxtyping.jaxtyped`, which the import hook calls by this name."""
    if thing is None:
        return functools.partial(checked, typechecker=typechecker)
    if inspect.isfunction(thing) and not any(map(names_axes, thing.__annotations__.values())):
        return typechecker(thing)
    return _with_sizes(thing, typechecker=typechecker)


def install() -> None:
    """Before the first import of medgan."""
    jaxtyping.jaxtyped = checked
