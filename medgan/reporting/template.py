"""Pages from Jinja templates in this folder: all text is escaped, nothing is loaded."""

import base64
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


def render(template: str, **values: Any) -> str:  # noqa: ANN401 - values of a template
    """A page as text.

    Args:
        template: name of a file in this folder.
        values: of its variables; text in them is escaped.
    """
    return _pages().get_template(template).render(values)


def data_uri(png: bytes) -> str:
    """A PNG as the source of an image inside the page."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


@cache
def _pages() -> Environment:
    loader = PackageLoader("medgan.reporting", ".")
    pages = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    pages.filters["digits"] = _digits
    pages.filters["percent"] = _percent
    pages.globals["file"] = lambda name: Markup(  # nosec B704 # files of this package
        loader.get_source(pages, name)[0]
    )
    return pages


def _digits(value: float) -> str:
    """Three significant digits."""
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def _percent(share: float) -> str:
    """Such as 35%; never 100% or 0% of what is not all or none."""
    if 0 < share < 0.01 or 0.99 < share < 1:
        return "under 1%" if share < 0.5 else "over 99%"
    return f"{share:.0%}"
