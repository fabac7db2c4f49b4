"""The pages of the register: what a gate has found, and what models there are."""

from collections.abc import Mapping, Sequence
from typing import Any

from medgan.reporting.template import render


def gate_page(result: Mapping[str, Any]) -> str:
    """The page of a gate: each limit with the version and the champion beside it.

    Args:
        result: the content of gate.json.
    """
    return render("gate.html.j2", **result)


def models_page(models: Sequence[Mapping[str, Any]]) -> str:
    """The page of the register: versions with aliases and figures, and the promotions.

    Args:
        models: as `medgan models --json` prints them.
    """
    return render("models.html.j2", models=models)
