"""Utility under another contrast: test scans of changed contrast, and what networks learn from."""

import numpy as np
import pytest
import torch

from medgan.core.config import Preprocessing, build
from medgan.studies.utility import contrast as contrast_module
from medgan.studies.utility.arms import arms_of
from medgan.studies.utility.contrast import CHANGES, Contrast, changed
from medgan.studies.utility.study import TASKS
from medgan.studies.utility.task import Arm, Examples

GRID = Preprocessing(spacing=(1, 1, 1), shape=(16, 16, 16), labels=(1, 2))


def scans(count=3, seed=0):
    """Tissue with a ball of two labels in each scan."""
    random = torch.Generator().manual_seed(seed)
    x, y, z = torch.meshgrid(*(torch.arange(16.0),) * 3, indexing="ij")
    ball = (x - 8) ** 2 + (y - 8) ** 2 + (z - 8) ** 2 < 25
    classes = ball * torch.where(y < 8, 1, 2)
    image = torch.where(ball, 0.2, torch.where(x < 8, 0.7, -0.7))
    noise = 0.05 * torch.randn(count, 1, 16, 16, 16, generator=random)
    return Examples((image + noise).clamp(-1, 1), classes.repeat(count, 1, 1, 1))


class Labelled:
    """A case with a label map."""

    label = "label.nii.gz"


def task(**settings):
    config = build({"utility": {"task": "contrast", **settings}})
    return Contrast([Labelled()], GRID, config.utility)


@pytest.fixture
def learned(monkeypatch):
    """What trainings are given, without any training."""
    given = []

    def record(images, classes, labels, steps, seed, **options):
        given.append((images, classes, options["augment"]))
        return torch.nn.Identity()

    monkeypatch.setattr(contrast_module, "train_segmenter", record)
    return given


def test_test_scans_are_changed_alike_for_every_network_and_stay_within_the_range():
    images = scans().images
    for number, (name, change) in enumerate(CHANGES.items()):
        seen = changed(images, change, number)
        assert torch.equal(seen, changed(images, change, number))
        assert seen.abs().max() <= 1
        assert torch.equal(seen, images) == (name == "unchanged")
    assert torch.equal(changed(images, CHANGES["inverted"], 0), -images)


def test_the_headline_is_the_mean_of_the_dice_under_all_changes():
    test = scans()

    class Brighter(torch.nn.Module):
        def forward(self, x):
            return torch.cat([torch.zeros_like(x), x, torch.full_like(x, -9)], dim=1)

    one = task()
    rows = one.measure(Brighter(), test)
    assert rows.shape == (3, len(CHANGES))
    values = {name: metric.of(rows) for name, metric in one.metrics.items()}
    assert values.pop("Dice") == pytest.approx(np.mean(list(values.values())))
    assert values["inverted"] != values["unchanged"]


def test_arms_use_scans_as_they_are_or_maps_to_draw_from_equally_often(learned):
    real, made = scans(2), scans(6, seed=1)
    arms = {arm.name: arm for arm in arms_of(build({"utility": {
        "task": "contrast", "ratios": [3],
        "arms": ["classical", "strong", "appearance", "generated", "mixed", "all"],
    }}).utility)}  # fmt: skip
    shares = {}
    for name, arm in arms.items():
        parts = [*([real] if arm.real else []), *([made] if arm.ratio else [])]
        task().train(parts, arm, seed=0)
        images, maps, _ = learned[-1]
        draws = maps.flatten(1).amax(dim=1) > 2
        own = torch.tensor([any(torch.equal(i, r) for r in real.images) for i in images])
        shares[name] = tuple(
            round(float(part.float().mean()), 2)
            for part in (own & ~draws, own & draws, ~own & draws)
        )
    assert shares == {
        "classical": (1, 0, 0), "strong": (1, 0, 0), "appearance": (0, 1, 0),
        "generated 3": (0, 0, 1), "mixed": (0.5, 0.5, 0), "all 3": (0.33, 0.33, 0.33),
    }  # fmt: skip


def test_images_are_drawn_anew_in_each_batch_and_classes_stay_where_they_are(learned, monkeypatch):
    monkeypatch.setattr(contrast_module, "moved", lambda images, maps, random: (images, maps))
    real = scans()
    task().train([real], Arm("mixed", strong=True, appearance=True), seed=0)
    images, maps, augment = learned[0]
    seen, classes = augment(images, maps, torch.Generator().manual_seed(0))
    assert torch.equal(classes, real.targets.repeat(2, 1, 1, 1))
    other, again = augment(images, maps, torch.Generator().manual_seed(1))
    assert torch.equal(classes, again)
    assert not any(torch.equal(a, b) for a, b in zip(seen, other, strict=True))


def test_the_study_knows_the_task():
    assert TASKS["contrast"] is Contrast
