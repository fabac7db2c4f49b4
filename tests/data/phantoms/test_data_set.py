import csv
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import binary_dilation

from medgan.core.errors import DataError
from medgan.core.volume import Volume
from medgan.data.phantoms.data_set import CONTRASTS, RADII, make_data_set, plant_lesion
from medgan.data.phantoms.heads import sample_head
from medgan.data.phantoms.rendering import render

SHAPE = (32, 36, 32)
SPACING = 6.0


def phantom(seed: int, age: float = 50.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return render(sample_head(rng, age), SHAPE, SPACING, rng)


def cohort(folder: Path, healthy: int, lesioned: int, seed: int = 3) -> list[dict[str, str]]:
    table = make_data_set(folder, healthy, lesioned, SHAPE, SPACING, seed)
    with table.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_same_seed_writes_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        cohort(tmp_path / name, 1, 1)
    files = [p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file()]
    assert len(files) == 6
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_another_seed_draws_another_head(tmp_path: Path) -> None:
    image = "images/phantom-001.nii.gz"
    for seed in (3, 4):
        cohort(tmp_path / str(seed), 1, 0, seed)
    one, other = (Volume.load(tmp_path / str(seed) / image).data for seed in (3, 4))
    assert np.abs(one - other).max() > 10


def test_a_subject_does_not_depend_on_the_size_of_the_cohort(tmp_path: Path) -> None:
    small, large = cohort(tmp_path / "small", 2, 0), cohort(tmp_path / "large", 3, 1)
    assert small == large[:2]
    for row in small:
        for key in ("image", "label"):
            one, other = (Volume.load(tmp_path / n / row[key]) for n in ("small", "large"))
            np.testing.assert_array_equal(one.data, other.data)


def test_the_table_names_files_that_exist_and_masks_of_lesions_only(tmp_path: Path) -> None:
    rows = cohort(tmp_path, 2, 1)
    assert [row["case"] for row in rows] == ["phantom-001", "phantom-002", "phantom-003"]
    assert [row["diagnosis"] for row in rows] == ["healthy", "healthy", "lesion"]
    assert [bool(row["lesion_mask"]) for row in rows] == [False, False, True]
    named = {row[key] for row in rows for key in ("image", "label", "lesion_mask")} - {""}
    assert named == {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.nii.gz")}
    assert all(20 <= float(row["age"]) <= 85 and row["sex"] in "FM" for row in rows)


def test_stored_scans_are_centred_in_the_world(tmp_path: Path) -> None:
    row = cohort(tmp_path, 1, 0)[0]
    scan = Volume.load(tmp_path / row["image"])
    assert scan.data.shape == SHAPE
    np.testing.assert_allclose(np.diag(scan.affine), [SPACING, SPACING, SPACING, 1])
    middle = scan.affine @ [*(np.array(SHAPE) - 1) / 2, 1]
    np.testing.assert_allclose(middle[:3], 0, atol=1e-5)


@pytest.mark.parametrize("seed", range(6))
def test_a_lesion_changes_the_scan_in_and_around_its_mask_inside_the_brain(seed: int) -> None:
    image, label = phantom(seed)
    planted, mask = plant_lesion(image, label, SPACING, np.random.default_rng(seed))
    assert mask.any()
    assert (label[mask > 0] >= 2).all()
    assert (planted == image)[~binary_dilation(mask, iterations=2)].all()
    change = (planted - image)[mask > 0]
    assert (change > 0).all() or (change < 0).all()
    contrast = np.median(image[label == 3]) - np.median(image[label == 1])
    least, most = CONTRASTS
    assert 0.8 * least < np.abs(change).max() / contrast < 1.2 * most


def test_lesions_are_bright_or_dark_and_of_the_size_of_a_blob() -> None:
    image, label = phantom(0)
    volumes, signs = [], set()
    for seed in range(20):
        planted, mask = plant_lesion(image, label, SPACING, np.random.default_rng(seed))
        volumes.append(mask.sum() * SPACING**3)
        signs.add(np.sign((planted - image).sum()))
    assert signs == {-1, 1}
    smallest, largest = (4 / 3 * np.pi * radius**3 for radius in RADII)
    assert smallest < np.mean(volumes) < largest


def test_a_lesion_needs_a_brain() -> None:
    empty = np.zeros(SHAPE)
    with pytest.raises(DataError, match="E_LABEL"):
        plant_lesion(empty, empty.astype(np.uint8), SPACING, np.random.default_rng(0))
