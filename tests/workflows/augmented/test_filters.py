"""Planted bad candidates among real ones: what filters must drop and what they must keep."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from medgan.core.config import ModelConfig, Preprocessing, build
from medgan.core.volume import Volume
from medgan.data.index import index
from medgan.data.prepared import RealScans, read_scans
from medgan.data.pseudonyms import Pseudonyms
from medgan.model.fresh_networks import synthesis_networks
from medgan.model.model import Model
from medgan.model.outputs import Synthetic
from medgan.workflows.augmented.filter_limits import calibrate_filters
from tests.kit.data_sets import TINY, write_folder

pytestmark = pytest.mark.long

GRID = Preprocessing(spacing=(2, 2, 2), shape=(16, 16, 16), labels=(1,))
NAMES = build({}).augment.filters


def some(scans, numbers):
    return RealScans(
        scans.images[numbers], scans.labelled[numbers], scans.label_maps[numbers]
    )  # fmt: skip


@pytest.fixture(scope="module")
def model():
    sizes = ModelConfig.model_validate(TINY["model"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        networks = synthesis_networks(GRID, sizes, 1, 0)
    return Model(networks, GRID, sizes)


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    folder: Path = tmp_path_factory.mktemp("balls")
    manifest, _ = index(write_folder(folder / "scans", 60), Pseudonyms(b"salt"))
    return read_scans(manifest.cases, GRID, folder)


def synthetic(image, label=None):
    units = np.round((image.numpy().reshape(16, 16, 16) + 1) / 2 * 1000).astype(np.int16)
    label = None if label is None else Volume(label.numpy().astype(np.uint16), np.eye(4))
    return Synthetic(Volume(units, np.eye(4)), label, 0, 0)


@pytest.fixture(scope="module")
def filters(model, scans):
    train, held_out = some(scans, slice(0, 30)), some(scans, slice(30, 45))
    first = [synthetic(image) for image in scans.images[:40]]
    subjects = [f"s-{n}" for n in range(30)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("medgan.workflows.augmented.filter_limits.SEGMENTER_STEPS", 50)
        return calibrate_filters(model, train, held_out, subjects, NAMES, lambda: first, 0)


def failed(filters, image, label):
    return filters.check(synthetic(image, label)).failed


@pytest.mark.slow
def test_most_real_scans_that_nobody_has_seen_pass(filters, scans):
    found = [failed(filters, scans.images[n], scans.label_maps[n]) for n in range(45, 60)]
    assert found.count("") >= 12, found


@pytest.mark.slow
def test_noise_does_not_look_like_a_scan(filters, scans, generator):
    noise = torch.rand(1, 16, 16, 16, generator=generator) * 2 - 1
    alone = filters.check_volume(noise[None], None)
    assert alone.failed in ("volumes", "appearance")
    assert filters._appearance(noise[None], None)["appearance"] > filters.limits["appearance"].high


def test_a_label_that_is_elsewhere_is_inconsistent(filters, scans):
    for number in range(45, 50):
        label = scans.label_maps[number].roll((5, 0, 0), (0, 1, 2))
        assert failed(filters, scans.images[number], label) == "consistency"


def test_a_label_that_is_missing_or_far_too_large_is_implausible(filters, scans):
    image, label = scans.images[50], scans.label_maps[50]
    assert failed(filters, image, torch.zeros_like(label)) == "volumes"
    assert failed(filters, image, torch.ones_like(label)) == "volumes"


def test_a_training_scan_is_too_alike_to_a_training_scan_even_shifted(filters, scans):
    copies = [*range(10)]
    for shift in ((0, 0, 0), (1, 0, 0)):
        found = [
            filters._nearest(scans.images[n].roll(shift, (1, 2, 3))[None], None)["similarity"]
            for n in copies
        ]
        assert min(found) > filters.limits["similarity"].high
    passed = [failed(filters, scans.images[n], scans.label_maps[n]) for n in copies]
    assert set(passed) <= {"privacy", "consistency", "appearance"}
    assert "privacy" in passed


def test_a_logit_far_from_those_of_the_first_candidates_is_an_outlier(model, scans):
    first = [synthetic(image) for image in scans.images[:40]]
    names = ["s"] * 60
    filters = calibrate_filters(model, scans, None, names, ["realism"], lambda: first, 0)
    assert list(filters.limits) == ["realism"]
    low, _ = filters.limits["realism"]
    with torch.inference_mode():
        logits = [float(model.networks.discriminator(i[None])) for i in scans.images[:40]]
    assert sum(v < low for v in logits) <= 4
    bias, far = model.networks.discriminator.logit.bias, 2 * (max(logits) - low)
    try:
        bias.data -= far
        assert filters.check(first[0]).failed == "realism"
        bias.data += 2 * far
        assert filters.check(first[0]).failed == ""  # more real than candidates are is no fault
    finally:
        bias.data -= far


def test_without_a_discriminator_candidates_are_not_judged_by_it(model, scans, caplog):
    without = replace(model, networks=model.networks.without_discriminator())
    first = [synthetic(image) for image in scans.images[:4]]
    filters = calibrate_filters(without, scans, None, ["s"] * 60, ["realism"], lambda: first, 0)
    assert filters.limits == {}
    assert "no discriminator" in caplog.text


def test_candidates_that_are_all_too_strange_are_a_warning_and_only_outliers_are_dropped(
    model, scans, generator, caplog
):
    blurred = torch.nn.functional.avg_pool3d(scans.images[:40], 7, 1, 3)
    first = [synthetic(image) for image in blurred]
    names = ["s"] * 60
    with caplog.at_level(logging.WARNING):
        filters = calibrate_filters(model, scans, None, names, ["appearance"], lambda: first, 0)
    assert "the textures of most candidates" in caplog.text
    assert sum(filters.check(scan).failed == "" for scan in first) >= 36
    noise = torch.rand(1, 1, 16, 16, 16, generator=generator) * 2 - 1
    assert filters.check_volume(noise, None).failed == "appearance"


def test_filters_that_are_off_measure_and_drop_nothing(model, scans, generator):
    filters = calibrate_filters(model, scans, None, ["s"] * 60, [], list, 0)
    noise = torch.rand(1, 16, 16, 16, generator=generator) * 2 - 1
    assert filters.check_volume(noise[None], None).failed == ""
    assert filters.limits == {}


def test_without_held_out_scans_training_scans_are_compared_but_nobody_with_themselves(
    model, scans
):
    train = some(scans, slice(0, 20))
    doubled = RealScans(train.images.repeat(2, 1, 1, 1, 1), train.labelled, train.label_maps)
    names = [f"s-{n}" for n in range(20)]
    alone = calibrate_filters(model, train, None, names, ["privacy"], list, 0)
    twice = calibrate_filters(model, doubled, None, names * 2, ["privacy"], list, 0)
    other = calibrate_filters(model, doubled, None, list(map(str, range(40))), ["privacy"], list, 0)
    assert alone.limits["similarity"].high < 0.999
    assert twice.limits["similarity"].high == pytest.approx(
        alone.limits["similarity"].high, abs=0.02
    )
    assert other.limits["similarity"].high == pytest.approx(1, abs=1e-4)
