"""The data set of the demo: procedural heads, healthy or with a planted lesion."""

import csv
from pathlib import Path

import numpy as np
from scipy.ndimage import distance_transform_edt

from medgan.core.errors import DataError
from medgan.core.volume import Volume
from medgan.data.phantoms.heads import sample_head
from medgan.data.phantoms.rendering import coordinates, render

LABELS: dict[int, str] = {1: "ventricles", 2: "grey matter", 3: "white matter"}
RADII = (18.0, 26.0)
"""Of a lesion in mm: as a large tumour or an old infarct; three to five voxels of the demo."""
CONTRASTS = (0.6, 0.9)
"""How much brighter or darker it is, as a share of the contrast of white matter to fluid."""
_COLUMNS = "case,subject,image,label,lesion_mask,age,sex,diagnosis".split(",")


def plant_lesion(
    image: np.ndarray, label: np.ndarray, spacing: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A scan with one soft-edged bright or dark blob in its grey and white matter.

    Args:
        image: shape (X, Y, Z), from `render`.
        label: shape (X, Y, Z), from `render`.
        spacing: voxel size in mm.
        rng: of position, radius (of `RADII`), outline and contrast.

    Returns:
        The changed scan, float32, and the mask of the lesion, uint8.

    Raises:
        DataError: E_LABEL where there is no grey or white matter.
    """
    brain = label >= 2
    if not brain.any():
        raise DataError("E_LABEL", "phantom", "no grey or white matter", "render a head first")
    radius = rng.uniform(*RADII)
    depth = np.asarray(distance_transform_edt(brain, sampling=spacing))
    deep = np.argwhere(depth >= min(0.5 * radius, float(depth.max())))
    centre = deep[rng.integers(len(deep))]
    offset = (np.indices(label.shape).reshape(3, -1).T - centre) * spacing
    far = np.linalg.norm(offset, axis=1)
    waves = rng.normal(0, 1.8, (3, 8))
    ripple = np.cos(offset / np.maximum(far, spacing)[:, None] @ waves + rng.uniform(0, 6.3, 8))
    inside = radius * (1 + 0.25 * ripple.sum(1) / 2) - far
    soft = np.where(brain, np.clip(inside / 4 + 0.5, 0, 1).reshape(label.shape), 0)
    soft[tuple(centre)] = 1
    dark = np.percentile(image[label > 0], 2)
    contrast = np.median(image[label == label.max()]) - dark
    strength = rng.choice([-1, 1]) * rng.uniform(*CONTRASTS) * contrast
    planted = np.maximum(image + strength * soft, 0).astype(np.float32)
    return planted, (soft >= 0.5).astype(np.uint8)


def make_data_set(
    folder: Path,
    healthy: int,
    lesioned: int,
    shape: tuple[int, int, int],
    spacing: float,
    seed: int,
) -> Path:
    """Writes scans, label maps, lesion masks and `scans.csv`.

    A subject depends on the seed and its number only.

    Args:
        folder: receives `images`, `labels`, `lesions` and the table, with paths relative to it.
        healthy: subjects without lesion, the first ones.
        lesioned: subjects with one planted lesion.
        shape: voxels along R, A, S.
        spacing: voxel size in mm.
        seed: same seed, same files.

    Returns:
        Path of `scans.csv`.
    """
    for name in ("images", "labels", "lesions"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = [coordinates(n, spacing)[0] for n in shape]
    rows = []
    for number in range(healthy + lesioned):
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(number,)))
        age, sex = rng.uniform(20, 85), rng.choice(["F", "M"])
        image, label = render(sample_head(rng, age), shape, spacing, rng)
        case = f"phantom-{number + 1:03d}"
        paths = {"image": f"images/{case}.nii.gz", "label": f"labels/{case}.nii.gz"}
        if number >= healthy:
            image, mask = plant_lesion(image, label, spacing, rng)
            paths["lesion_mask"] = f"lesions/{case}.nii.gz"
            Volume(mask, affine).save(folder / paths["lesion_mask"])
        Volume(image.round().astype(np.int16), affine).save(folder / paths["image"])
        Volume(label, affine).save(folder / paths["label"])
        diagnosis = "lesion" if number >= healthy else "healthy"
        about = {"case": case, "subject": case, "age": f"{age:.1f}", "sex": sex}
        rows.append({**about, **paths, "diagnosis": diagnosis})
    table = folder / "scans.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, _COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return table
