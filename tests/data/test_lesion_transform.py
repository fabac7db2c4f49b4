"""The MONAI transform, as MONAI and nnU-Net call it."""

import numpy as np
import pytest
import torch
from monai.data.meta_tensor import MetaTensor
from monai.transforms.compose import Compose

from medgan.data.lesion_drawing import LesionDrawing
from medgan.data.lesion_transform import RandLesiond
from tests.data.test_lesion_drawing import bank
from tests.data.test_shapes import ball, brain

VOLUME = brain() * 100 + 100
DRAWING = LesionDrawing((ball(5),))


def item(kind=torch.as_tensor):
    labels = np.zeros(VOLUME.shape, np.uint8)
    labels[:3] = 2
    return {"image": kind(VOLUME[None].copy()), "label": kind(labels[None])}


def lesion(**settings):
    return RandLesiond(
        "image", "label", DRAWING, **{"prob": 1.0, "spacing": (2.0,) * 3, **settings}
    )


@pytest.mark.parametrize("kind", [torch.as_tensor, np.asarray, MetaTensor])
def test_a_lesion_is_in_the_image_and_in_the_label_map(kind):
    before = item(kind)
    after = lesion(value=1).set_random_state(0)(before)
    assert type(after["image"]) is type(before["image"])
    assert after["image"].dtype == before["image"].dtype
    assert after["label"].dtype == before["label"].dtype
    image, label = np.asarray(after["image"]), np.asarray(after["label"])
    changed = image[0] != VOLUME
    assert 50 < (label == 1).sum() < 5000
    assert changed[label[0] == 1].mean() > 0.9
    assert (label[0, :3] == 2).all()
    assert np.array_equal(np.asarray(before["image"])[0], VOLUME)


def test_prob_is_the_share_of_scans_that_get_one_and_the_seed_decides():
    some = lesion(prob=0.5).set_random_state(1)
    drawn = [bool((np.asarray(some(item())["label"]) == 1).any()) for _ in range(12)]
    assert 2 < sum(drawn) < 10
    again = lesion(prob=0.5).set_random_state(1)
    assert drawn == [bool((np.asarray(again(item())["label"]) == 1).any()) for _ in range(12)]
    chains = [Compose([lesion()]).set_random_state(seed) for seed in (3, 3, 4)]
    one, two, other = (chain(item())["image"] for chain in chains)
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_the_spacing_of_a_meta_tensor_decides_the_size():
    noise = np.random.default_rng(0).standard_normal((1, 40, 40, 40)).astype(np.float32)
    volume = torch.from_numpy(100 + 10 * noise)
    sizes = []
    for mm in (2.0, 4.0):
        image = MetaTensor(volume.clone(), affine=torch.diag(torch.tensor([mm, mm, mm, 1.0])))
        drawing = LesionDrawing(bank=bank(0.0, True), place="random")
        made = RandLesiond("image", "label", drawing, prob=1.0).set_random_state(0)
        sizes.append(float((np.asarray(made({"image": image})["label"]) == 1).sum()))
    assert sizes[1] < sizes[0] / 5


def test_all_channels_get_the_lesion_in_the_same_place():
    two = np.concatenate([VOLUME[None], 50 + VOLUME[None] / 2])
    after = lesion().set_random_state(0)({"image": two.copy()})
    changed = after["image"] != two
    mask = after["label"][0] == 1
    assert changed[0][mask].mean() > 0.9
    assert changed[1][mask].mean() > 0.9


def test_where_no_lesion_fits_the_scan_stays():
    air = {"image": torch.zeros(1, 20, 20, 20), "label": torch.zeros(1, 20, 20, 20)}
    after = lesion().set_random_state(0)(air)
    assert torch.equal(after["image"], air["image"])
    assert not after["label"].any()
