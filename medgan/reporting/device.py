"""The page of the check of a machine: what a step takes of each task and size."""

from collections.abc import Mapping
from typing import Any

from medgan.reporting.plot import Plot, curve
from medgan.reporting.template import render


def device_page(found: Mapping[str, Any]) -> str:
    """The page.

    Args:
        found: the content of device.json.
    """
    training, course = found["training"], None
    if training and len(training.get("kernel_distance", [])) > 1:
        course = _course(training)
    return render("device.html.j2", found=found, course=course)


def _course(training: Mapping[str, Any]) -> Plot:
    volumes, values = zip(*training["kernel_distance"], strict=True)
    return curve("kernel distance", volumes, values, "volumes seen")
