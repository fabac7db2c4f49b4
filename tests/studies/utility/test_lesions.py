"""Utility of lesions that are drawn into other scans."""

import json

import numpy as np
import pytest
import torch
import yaml

from medgan.app.pipeline import run_pipeline
from medgan.core.config import Preprocessing, build
from medgan.core.volume import Volume
from medgan.studies.utility.arms import arms_of
from medgan.studies.utility.classification import Classification
from medgan.studies.utility.lesions import DrawnLesions, best
from medgan.studies.utility.subset import Subset
from medgan.studies.utility.task import Examples
from tests.training.test_lesions import AFFINE, SETTINGS, lung

GRID = Preprocessing(
    spacing=(2, 2, 1.5), shape=(16, 16, 16), intensity="ct", window=((-1000.0, 200.0),), labels=(1,)
)


def crops(count, seed=0):
    """Lung of 16 voxels a side with a nodule about the middle, in [-1, 1], and the masks."""
    rng = np.random.default_rng(seed)
    made = [lung(rng, nodule=True) for _ in range(count)]
    images = np.stack([data[4:20, 2:18, 5:21] for data, _ in made]) / 600 + 2 / 3
    masks = np.stack([mask[4:20, 2:18, 5:21] for _, mask in made])
    return torch.from_numpy(images[:, None]).float().clamp(-1, 1), torch.from_numpy(masks).long()


def test_lesions_are_drawn_into_other_scans_whose_own_are_taken_out():
    real, (others, found) = Examples(*crops(5)), crops(8, seed=1)
    made = DrawnLesions(real, others, found, GRID, None).draw(12, seed=0)
    assert made.images.shape == (12, 1, 16, 16, 16)
    for image, mask in zip(made.images[:, 0], made.targets, strict=True):
        assert 20 < mask.sum() < 1000
        assert image[mask > 0].mean() > -0.2 > image[mask == 0].mean()
        ends = torch.stack([(image - other).abs().eq(0).sum() for other in others[:, 0].half()])
        assert ends.max() > 500  # beyond the margins it is one of the others
    again = DrawnLesions(real, others, found, GRID, None).draw(12, seed=0)
    assert torch.equal(made.images, again.images)


def test_a_classification_gets_as_many_lesions_of_both_groups_each_of_its_own_size(monkeypatch):
    images, masks = crops(6)
    masks[4:] = 0
    masks[4:, 6:10, 6:10, 6:10] = 1  # those of the rare group are small, and darker than lung
    images[4:][masks[4:, None] == 1] = -1
    groups = torch.tensor([0] * 4 + [1] * 2)
    monkeypatch.setattr(Classification, "groups", lambda task, cases: groups)
    task = Classification.__new__(Classification)
    subset = Subset.__new__(Subset)
    parts = {"_masked": Examples(images, masks), "_receiving": Examples(*crops(5, seed=1))}
    values = {"task": task, "cases": [], "_lesions": {}, "seed": 0, "preprocessing": GRID}
    vars(subset).update(parts | values, device=torch.device("cpu"))
    made = subset._drawn("paste", 12)
    assert made.targets.tolist() == [0] * 6 + [1] * 6
    dark = (made.images < -0.93).sum(dim=(1, 2, 3, 4))
    assert dark[:6].max() < 8
    assert (dark[6:] - 64).abs().max() < 8


@pytest.mark.parametrize(
    ("task", "names"),
    [
        ("segmentation", ["classical", "strong", "all 2"]),
        ("lesions", ["classical", "strong", "paste 2"]),
        ("classification", ["classical", "oversampling", "strong", "paste 2", "all 1"]),
    ],
)
def test_a_task_has_the_arms_that_fit_it(task, names):
    arms = ["classical", "oversampling", "strong", "paste", "all"]
    settings = build({"utility": {"task": task, "arms": arms, "ratios": [2]}}).utility
    assert [arm.name for arm in arms_of(settings)] == names
    balanced = {arm.name for arm in arms_of(settings) if arm.balanced}
    rare = {"oversampling", "strong", "paste 2", "all 1"}
    assert balanced == (rare if task == "classification" else set())


def test_the_best_candidates_agree_with_the_segmenter_and_look_real():
    images, masks = crops(16)
    wrong = masks.roll(6, dims=1)
    noisy = (images + 0.5 * torch.randn(images.shape)).clamp(-1, 1)
    drawn = Examples(torch.cat([images, noisy]), torch.cat([masks, wrong]))

    class Threshold(torch.nn.Module):
        def forward(self, x):
            return torch.cat([-(x + 0.3), x + 0.3], dim=1)

    real, _ = crops(16, seed=1)
    kept = best(drawn, real, Threshold(), 0.5, seed=0)
    assert len(kept.images) == 16
    good = sum(any(torch.equal(one, other) for other in images) for one in kept.images)
    assert good >= 12  # of 16; chance is 8


@pytest.mark.slow
def test_a_study_has_every_arm_and_is_compared_with_strong_augmentation(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(24):
        data, mask = lung(rng, nodule=True)
        Volume(data, AFFINE).save(tmp_path / f"scans/p{number:02d}.nii.gz")
        Volume(mask, AFFINE).save(tmp_path / f"scans/p{number:02d}_label.nii.gz")
    train = SETTINGS["train"] | {"volumes": 16, "sample_every": 8}
    data = SETTINGS["data"] | {"fractions": [0.6, 0.1, 0.1, 0.2]}
    config = SETTINGS | {"data": data, "train": train, "utility": {
        "task": "lesions", "unlabelled": True, "sizes": [5], "seeds": 1, "steps": 4,
        "arms": ["strong", "paste", "refined", "filtered", "first"], "ratios": [2],
    }}  # fmt: skip
    pipeline = tmp_path / "tiny.yaml"
    pipeline.write_text(yaml.safe_dump({"steps": ["index", "utility"], "config": config}))
    run_pipeline(str(pipeline), [f"out={tmp_path / 'out'}", f"data.source={tmp_path / 'scans'}"])
    report = json.loads((tmp_path / "out" / "utility.json").read_text())
    names = [row["arm"] for row in report["rows"]]
    assert names == ["strong", "paste 2", "refined 2", "filtered 2", "first 2"]
    assert report["protocol"]["compared_with"] == "strong"
    assert all("difference" in row["metrics"]["Dice"] for row in report["rows"][1:])
    model = json.loads((tmp_path / "out/refiners/005-0/model/config.json").read_text())
    assert model["translator"]["task"] == "lesions"
    assert model["preprocessing"]["patches"] is True


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_strong_augmentation_mirrors_image_and_mask_together(axis):
    from medgan.evaluation.probes.augmentation import strong

    mask = torch.zeros(1, 16, 16, 16, dtype=torch.long)
    mask[:, 4:12, 4:12, 4:12] = 1
    image = mask[:, None].float() * 1.4 - 0.7
    sides = set()
    for seed in range(12):
        image_out, mask_out = strong(image, mask, torch.Generator().manual_seed(seed))
        inside = image_out[0, 0][mask_out[0] == 1].mean()
        assert inside > image_out[0, 0][mask_out[0] == 0].mean() + 0.3
        marked = torch.zeros_like(mask)
        marked[(slice(None), *[slice(None)] * axis, slice(0, 8))] = 1
        _, out = strong(image, marked, torch.Generator().manual_seed(seed))
        low, high = out[0].transpose(0, axis).chunk(2)
        sides.add(bool(low.sum() > high.sum()))
    assert sides == {True, False}
