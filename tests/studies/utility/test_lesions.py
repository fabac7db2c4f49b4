"""Utility of lesions that are drawn into other scans."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from medgan.app.pipeline import run_pipeline
from medgan.core.config import Preprocessing, build
from medgan.core.errors import DataError
from medgan.core.volume import Volume
from medgan.data.lesion_drawing import LesionDrawing
from medgan.data.manifest import Case, Manifest
from medgan.evaluation.probes import segmentation as probe
from medgan.evaluation.probes.augmentation import unchanged
from medgan.studies.utility import segmentation as segmentation_module
from medgan.studies.utility.arms import arms_of
from medgan.studies.utility.classification import Classification
from medgan.studies.utility.lesion_segmentation import LesionSegmentation
from medgan.studies.utility.lesions import DrawnLesions, best
from medgan.studies.utility.segmentation import Segmentation
from medgan.studies.utility.subset import Subset
from medgan.studies.utility.task import Examples
from tests.kit.volumes import layered_brain
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


def scan(number, labels):
    """A training case; `labels` are the values of its label map."""
    name = f"{number:02d}"
    return Case(
        name, name, {}, "label.nii.gz", {"image": name}, None, (16,) * 3, (2.0,) * 3, labels, {},
        split="train",
    )  # fmt: skip


def subset_of(monkeypatch, lesioned, healthy, **settings):
    """Five of the lesioned scans; a scan is as large as its number says."""
    cases = [scan(n, (1,) if n < lesioned else ()) for n in range(lesioned + healthy)]
    utility = {"task": "lesions", "steps": 2, "arms": ["strong", "healthy", "library"], **settings}
    config = build({"utility": utility})

    def real(task, chosen, out):
        numbers = torch.tensor([int(case.subject) for case in chosen])
        return Examples(numbers[:, None, None, None, None].float(), numbers[:, None, None, None])

    monkeypatch.setattr(Segmentation, "real", real)
    task = LesionSegmentation(cases, GRID, config.utility)
    return Subset(5, 0, task, Manifest(tuple(cases)), GRID, Path(), config, {})


def test_healthy_scans_are_never_among_the_labelled_ones_and_lesions_go_into_all_of_them(
    monkeypatch,
):
    subset = subset_of(monkeypatch, lesioned=7, healthy=20)
    assert all(case.labels for case in subset.cases)
    numbers = set(range(7, 27))
    assert set(subset._receiving.targets.flatten().tolist()) == numbers
    without = subset_of(monkeypatch, lesioned=7, healthy=0)
    assert len(without._receiving.targets) == 5  # the labelled ones, as before
    with pytest.raises(DataError, match="E_LABEL"):
        _ = without._healthy


def test_half_of_every_batch_is_healthy(monkeypatch):
    subset = subset_of(monkeypatch, lesioned=5, healthy=40)
    seen = {}

    def train(images, classes, *args, among, **kwargs):
        seen["numbers"] = classes[among].flatten()
        return torch.nn.Identity()

    monkeypatch.setattr(segmentation_module, "train_segmenter", train)
    arms = {arm.name: arm for arm in arms_of(subset.config.utility)}
    subset.train(arms["healthy"])
    assert (seen["numbers"] < 5).float().mean() == 0.5
    assert len(set(seen["numbers"].tolist())) == 45


def test_batches_are_drawn_from_the_numbers_that_are_given(monkeypatch):
    seen = []

    def fit(build, draw, *args, **kwargs):
        seen.extend(draw()[1][:, 0, 0, 0, 0].tolist())
        return torch.nn.Identity()

    monkeypatch.setattr(probe, "fit", fit)
    classes = torch.arange(3)[:, None, None, None].expand(3, 16, 16, 16)
    among, images = torch.tensor([0, 2, 2, 2]), torch.zeros(3, 1, 16, 16, 16)
    probe.train_segmenter(images, classes, 2, 1, 0, 64, augment=unchanged, among=among)
    assert seen.count(1) == 0
    assert seen.count(2) > 2 * seen.count(0) > 0


def test_a_healthy_scan_counts_for_false_positives_alone():
    task = LesionSegmentation([scan(0, (1,))], GRID, build({}).utility)
    truth, found = torch.zeros(2, 3, 16, 16, 16, dtype=torch.long)
    truth[:2, 4:8, 4:8, 4:8] = 1
    found[:, 4:8, 4:8, 4:10] = 1
    found[1] = 0
    values = task._values(found, Examples(torch.zeros(3, 1, 16, 16, 16), truth))
    metrics = {name: metric.of(values) for name, metric in task.metrics.items()}
    assert metrics["Dice"] == pytest.approx((0.8 + 0) / 2)
    assert metrics["false positives (ml)"] == pytest.approx((32 + 0 + 96) * 6e-3 / 3)
    assert np.isnan(values[2, :2]).all()


def test_lesions_of_the_library_are_drawn_into_a_healthy_brain_that_stays_as_it_is():
    brain = layered_brain(np.random.default_rng(0))[None, None]
    healthy = torch.from_numpy(brain).float()
    grid = GRID.model_copy(update={"spacing": (3.0,) * 3, "intensity": "mri"})
    real = Examples(healthy, torch.zeros_like(healthy[0]).long())  # nothing to learn from
    drawing = LesionDrawing.shipped()
    made = DrawnLesions(real, healthy, real.targets, grid, None, other=drawing).draw(4, seed=0)
    assert all(3 <= mask.sum() < mask.numel() / 4 for mask in made.targets)
    change = (made.images - healthy.half().float())[:, 0].abs()
    assert (change[made.targets > 0] > 0.02).float().mean() > 0.5
    assert (change == 0).float().mean() > 0.5


@pytest.mark.parametrize(
    ("task", "names"),
    [
        ("segmentation", ["classical", "strong", "all 2"]),
        ("lesions", ["classical", "strong", "paste 2", "healthy", "library 2"]),
        (
            "classification",
            ["classical", "oversampling", "strong", "paste 2", "all 1"],
        ),
    ],
)
def test_a_task_has_the_arms_that_fit_it(task, names):
    arms = ["classical", "oversampling", "strong", "paste", "healthy", "library", "all"]
    settings = build({"utility": {"task": task, "arms": arms, "ratios": [2]}}).utility
    assert [arm.name for arm in arms_of(settings)] == names
    balanced = {arm.name for arm in arms_of(settings) if arm.balanced}
    rare = {"oversampling", "strong", "paste 2", "all 1"}
    assert balanced == (rare if task == "classification" else set())


@pytest.mark.parametrize("control", ["classical", "strong"])
def test_arms_with_lesions_are_augmented_as_their_control(control):
    arms = [control, "healthy", "library", "paste"]
    settings = build({"utility": {"task": "lesions", "arms": arms}}).utility
    assert [arm.strong for arm in arms_of(settings)] == [control == "strong"] * 4


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
