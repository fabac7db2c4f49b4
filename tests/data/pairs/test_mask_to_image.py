import numpy as np
import pytest

from medgan.core.config import Preprocessing
from medgan.core.conversion import Conversion
from medgan.core.errors import ConfigError
from medgan.data.pairs import pairing_of
from medgan.data.pairs.mask_to_image import MaskToImage

GRID = Preprocessing(spacing=(2, 2, 2), shape=(16, 16, 16), labels=(1, 2), patches=True)
CONVERSION = Conversion("mask_to_image", ("image",), ("image",), True)


def scan():
    rng = np.random.default_rng(0)
    label = np.zeros((16, 16, 16), np.int32)
    label[4:12, 4:12, 4:12] = 1
    label[8:12, 4:12, 4:12] = 2
    return rng.uniform(-1, 1, (1, 16, 16, 16)).astype(np.float32), label


def pairing() -> MaskToImage:
    found = pairing_of(GRID, CONVERSION)
    assert isinstance(found, MaskToImage)
    return found


def flags(pair):
    """Whether the label map is given, and whether the blurred scan is."""
    return tuple(float(flag.ravel()[0]) for flag in pair.source[-2:])


def test_a_source_holds_the_label_map_the_blurred_scan_or_both_and_says_which():
    (volume, label), made = scan(), pairing()
    pairs = [made(volume, label, np.random.default_rng(seed)) for seed in range(40)]
    assert {flags(pair) for pair in pairs} == {(1.0, -1.0), (-1.0, 1.0), (1.0, 1.0)}
    for pair in pairs:
        assert pair.source.shape == (made.source_channels, 16, 16, 16)
        assert np.array_equal(pair.target, volume)
        labels, image = pair.source[:-3], pair.source[-3]
        assert (labels == -1).all() == (flags(pair)[0] == -1)
        assert (image == -1).all() == (flags(pair)[1] == -1)
        assert np.abs(image).max() <= 1


def test_a_scan_without_a_label_map_is_made_of_its_blurred_self():
    volume, _ = scan()
    assert {
        flags(pairing()(volume, None, np.random.default_rng(seed))) for seed in range(9)
    } == {(-1.0, 1.0)}  # fmt: skip


def test_a_rough_outline_is_softer_and_keeps_its_volume():
    _, label = scan()
    exact, rough = (pairing().outline(label, sigma) for sigma in (0.0, 1.5))
    gradient = [np.abs(np.diff(one, axis=1)).max() for one in (exact, rough)]
    assert gradient[1] < 0.5 * gradient[0]
    assert np.allclose((exact + 1).sum(axis=(1, 2, 3)), (rough + 1).sum(axis=(1, 2, 3)), rtol=0.02)


def test_scans_without_labels_cannot_be_learned_from():
    bare = GRID.model_copy(update={"labels": ()})
    with pytest.raises(ConfigError, match="E_LABEL"):
        pairing_of(bare, CONVERSION)
