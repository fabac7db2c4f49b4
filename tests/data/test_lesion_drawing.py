import numpy as np
import pytest
import torch

from medgan.core.errors import DataError
from medgan.core.intensity import IntensityScale
from medgan.data.lesion_bank import LabelledScan, LesionBank
from medgan.data.lesion_drawing import LesionDrawing
from medgan.data.lesions import FAMILIES
from medgan.data.shape_library import LesionShape
from medgan.data.tissue import tissue_of
from tests.data.test_shapes import ball, brain

SPACING = (2.0, 2.0, 2.0)
SCALE = IntensityScale((20.0, 220.0))


def ball_at(centre, radius, shape=(80, 96, 80)):
    steps = np.indices(shape) - np.array(centre)[:, None, None, None]
    return np.linalg.norm(steps, axis=0) <= radius


def bank(level: float, relative: bool) -> LesionBank:
    """One lesion, 0.6 above even tissue."""
    mask = ball_at((20, 20, 20), 5, (40, 40, 40))
    volume = np.where(mask, level + 0.6, level).astype(np.float32)
    return LesionBank.learn([LabelledScan(volume, mask, SPACING, "c-7")], relative, margin=6.0)


VOLUME = brain()
MASK = ball_at((40, 72, 40), 6)


@pytest.mark.parametrize("family", [*FAMILIES, "dark shape", "bright shape"])
def test_beyond_the_margin_nothing_changes_in_any_family(family):
    volume = VOLUME
    native = SCALE.back(volume) + np.float32(0.1) * volume  # not what the scale gives back
    drawing = LesionDrawing(families=(family,), margin=5.0)
    lesion = drawing(volume, SPACING, np.random.default_rng(0), MASK)
    drawn = lesion.onto(volume, native, SCALE)
    far = ~ball_at((40, 72, 40), 6 + 2.5)
    assert np.array_equal(drawn[far], native[far])
    assert (lesion.mask == MASK).all()
    assert np.abs(drawn - native)[MASK].mean() > 1


def test_the_library_draws_where_its_shapes_lie_and_masks_are_in_tissue():
    volume = VOLUME
    drawing = LesionDrawing((ball(5),))
    lesion = drawing(volume, SPACING, np.random.default_rng(3))
    assert tissue_of(volume).share[lesion.mask].min() > 0.4
    drawn = lesion.onto(volume, volume)
    assert (drawn != volume)[lesion.mask].mean() > 0.95


def test_an_example_is_pasted_relative_to_its_surround():
    volume = np.full((40, 40, 40), -0.4, np.float32)
    drawing = LesionDrawing(bank=bank(0.1, relative=True), strength=(1.0, 1.0), margin=4.0)
    lesion = drawing(volume, SPACING, np.random.default_rng(0))
    drawn = lesion.onto(volume, volume)
    assert np.median(drawn[lesion.mask]) == pytest.approx(0.2, abs=0.01)
    assert lesion.kind == "example of c-7"


def test_an_example_in_hu_is_pasted_as_it_is_and_strength_moves_it_from_its_surround():
    volume = np.full((40, 40, 40), -0.4, np.float32)
    for strength, level in ((1.0, 0.7), (0.5, 0.4)):
        drawing = LesionDrawing(bank=bank(0.1, False), strength=(strength, strength), margin=4.0)
        lesion = drawing(volume, SPACING, np.random.default_rng(0))
        drawn = lesion.onto(volume, volume)
        assert np.median(drawn[lesion.mask]) == pytest.approx(level, abs=0.01)


def test_an_example_anywhere_goes_to_a_surround_like_its_own():
    volume = np.full((64, 40, 40), -0.6, np.float32)
    volume[40:] = 0.1
    drawing = LesionDrawing(bank=bank(0.1, relative=True), place="random", margin=4.0)
    centres = [
        np.argwhere(drawing(volume, SPACING, np.random.default_rng(seed)).mask)[:, 0].mean()
        for seed in range(8)
    ]
    assert np.mean(np.array(centres) > 40) > 0.8


def test_lesions_do_not_overlap_what_is_taken():
    volume = np.full((40, 40, 40), -0.4, np.float32)
    taken = np.zeros(volume.shape, bool)
    taken[:24] = True
    drawing = LesionDrawing(bank=bank(-0.4, True), place="random")
    for seed in range(5):
        lesion = drawing(volume, SPACING, np.random.default_rng(seed), taken=taken)
        assert not (lesion.mask & taken).any()


def test_the_bank_fills_a_mask_that_is_given():
    volume = VOLUME
    drawing = LesionDrawing(bank=bank(0.0, relative=True), strength=(1.0, 1.0))
    lesion = drawing(volume, SPACING, np.random.default_rng(0), MASK)
    drawn = lesion.onto(volume, volume)
    assert (lesion.mask == MASK).all()
    assert drawn[MASK].mean() > volume[MASK].mean() + 0.3


def test_the_same_seed_draws_the_same():
    volume, drawing = VOLUME, LesionDrawing((ball(5), ball(3)))
    one, two, other = (
        drawing(volume, SPACING, np.random.default_rng(seed)).onto(volume, volume)
        for seed in (1, 1, 2)
    )
    assert np.array_equal(one, two)
    assert not np.array_equal(one, other)


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(DataError, match="E_LESION families purple"):
        LesionDrawing(families=("purple",))
    with pytest.raises(DataError, match="E_LESION families none"):
        LesionDrawing(families=())
    empty = np.zeros(MASK.shape, bool)
    with pytest.raises(DataError, match="empty"):
        LesionDrawing()(VOLUME, SPACING, np.random.default_rng(0), empty)
    air = np.full((20, 20, 20), -1, np.float32)
    with pytest.raises(DataError, match="E_LESION the scan: no lesion of the examples fits"):
        LesionDrawing(bank=bank(0, True))(air, SPACING, np.random.default_rng(0))
    huge = LesionShape(np.ones((70, 70, 70), bool), (5.0, 5.0, 5.0))
    with pytest.raises(DataError, match="E_LESION the scan: no mask of the library fits"):
        LesionDrawing((huge,))(VOLUME, SPACING, np.random.default_rng(0))


def test_values_beyond_the_scale_stay_where_nothing_changes_them():
    volume = VOLUME
    native = SCALE.back(volume)
    native[MASK & (np.indices(MASK.shape)[0] < 40)] = 900.0  # metal, say
    shown = SCALE(torch.from_numpy(native)).numpy()
    drawing = LesionDrawing(families=("bright shape",))
    drawn = drawing(shown, SPACING, np.random.default_rng(0), MASK).onto(shown, native, SCALE)
    assert (drawn[native == 900.0] == 900.0).all()
