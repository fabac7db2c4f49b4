"""The page of medgan beside other programs."""

from collections.abc import Mapping
from typing import Any

from medgan.reporting.template import render


def others_page(found: Mapping[str, Any], plot: str) -> str:
    """The page.

    Args:
        found: the content of others.json.
        plot: name of the picture beside it.
    """
    return render("others.html.j2", found=found, plot=plot)
