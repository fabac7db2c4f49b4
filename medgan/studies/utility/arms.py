"""The arms that a utility study compares."""

from collections.abc import Mapping
from dataclasses import replace

from medgan.core.config import UtilityConfig
from medgan.studies.utility.task import Arm

_LESIONS = {"paste": "paste", "refined": "refined", "filtered": "filtered", "first": "refined"}
"""How lesions like the real ones are drawn in each arm that draws them."""


def arms_of(settings: UtilityConfig) -> list[Arm]:
    """The arms that are compared, in the order of `utility.arms`."""
    of = {
        "segmentation": _of_generator, "classification": _of_groups, "lesions": _of_lesions,
        "contrast": _of_contrast,
    }[settings.task](settings)  # fmt: skip
    return [arm for name in settings.arms for arm in of.get(name, ())]


def _of_generator(settings: UtilityConfig) -> dict[str, list[Arm]]:
    ratios = settings.ratios
    arms = {
        "real": [Arm("real")],
        "synthetic": [Arm("synthetic", real=False, ratio=max(ratios))],
        "mixed": [Arm(f"mixed {ratio:g}", ratio=ratio) for ratio in ratios],
    }
    if settings.command:  # augments as it likes
        return arms
    return arms | {
        "classical": [Arm("classical", classical=True)],
        "strong": [Arm("strong", classical=True, strong=True)],
        "all": [Arm(f"all {ratio:g}", ratio=ratio, classical=True) for ratio in ratios],
        "first": [
            Arm(f"first {ratio:g}", ratio=ratio, classical=True, first=True) for ratio in ratios
        ],
    }


def _of_groups(settings: UtilityConfig) -> dict[str, list[Arm]]:
    strong = Arm("strong", classical=True, strong=True, balanced=True)
    return {
        "real": [Arm("real")],
        "classical": [Arm("classical", classical=True)],
        "oversampling": [Arm("oversampling", classical=True, balanced=True)],
        "mixed": [Arm("mixed 1", ratio=1.0, balanced=True)],
        "all": [Arm("all 1", ratio=1.0, classical=True, balanced=True)],
        "strong": [strong],
        **_drawn(strong, settings, _LESIONS),
    }


def _of_lesions(settings: UtilityConfig) -> dict[str, list[Arm]]:
    classical = Arm("classical", classical=True)
    strong = replace(classical, name="strong", strong=True)
    usual = strong if "strong" in settings.arms else classical
    return {
        "classical": [classical],
        "strong": [strong],
        "healthy": [replace(usual, name="healthy", healthy=True)],
        **_drawn(usual, settings, _LESIONS | {"library": "library"}),
    }


def _drawn(usual: Arm, settings: UtilityConfig, ways: Mapping[str, str]) -> dict[str, list[Arm]]:
    """The usual augmentation, of scans with drawn lesions, too."""
    return {
        name: [
            replace(usual, name=f"{name} {ratio:g}", ratio=ratio, drawn=how, first=name == "first")
            for ratio in settings.ratios
        ]
        for name, how in ways.items()
    }


def _of_contrast(settings: UtilityConfig) -> dict[str, list[Arm]]:
    ratios = settings.ratios
    return {
        "classical": [Arm("classical", classical=True)],
        "inversion": [Arm("inversion", strong=True, curves=False)],
        "strong": [Arm("strong", strong=True)],
        "appearance": [Arm("appearance", appearance=True)],
        "generated": [
            Arm(f"generated {ratio:g}", real=False, ratio=ratio, appearance=True)
            for ratio in ratios
        ],
        "mixed": [Arm("mixed", strong=True, appearance=True)],
        "all": [
            Arm(f"all {ratio:g}", ratio=ratio, strong=True, appearance=True) for ratio in ratios
        ],
    }
