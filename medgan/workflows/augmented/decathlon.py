"""The augmented data set as one Decathlon folder for MONAI, nnU-Net and medgan."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medgan.core.config import Preprocessing
from medgan.core.files import write_atomic
from medgan.data.manifest import Case
from medgan.data.reading import read_case
from medgan.workflows.augmented.real import clear_copies, save_image, save_label
from medgan.workflows.synthetic_scan import MARK

log = logging.getLogger(__name__)
FILE_ENDING = ".nii.gz"
FOLDS = 5
LISTS = {
    "train": "training", "validation": "validation", "calibration": "validation", "test": "test"
}  # fmt: skip
"""What the splits are called in `dataset.json`."""
Entry = dict[str, Any]


def paths_of(name: str, test: bool = False) -> tuple[str, str]:
    """Relative paths of image and label of a scan, with the suffix that nnU-Net expects."""
    part = "Ts" if test else "Tr"
    return f"images{part}/{name}_0000{FILE_ENDING}", f"labels{part}/{name}{FILE_ENDING}"


def write_decathlon(
    folder: Path,
    real: Sequence[Case],
    synthetic: Sequence[Case],
    preprocessing: Preprocessing,
    copy: bool,
    licence: str,
    mark: str = MARK,
) -> list[Case]:
    """Writes `dataset.json`, `splits_final.json` and what of the real scans must be written.

    Args:
        folder: of the data set, which holds the synthetic scans already.
        real: cases of all splits.
        synthetic: cases, in `folder`.
        preprocessing: of the model.
        copy: whether to copy the real scans into the folder, or to name them where they lie.
        licence: of the real scans.
        mark: what the synthetic scans are.

    Returns:
        All cases with the files that the data set names.
    """
    placed = [_placed(case, folder, copy) for case in real] + list(synthetic)
    clear_copies(folder, "*sT[rs]/c-*.nii.gz", placed)
    synthetic_names = {case.case for case in synthetic}
    lists: dict[str, list[Entry]] = {name: [] for name in (*LISTS.values(), "unlabelled")}
    for case in placed:
        name = LISTS[case.split]
        unlabelled = preprocessing.labels and case.label is None and name != "test"
        entry = _entry(case, folder, case.case in synthetic_names)
        lists["unlabelled" if unlabelled else name].append(entry)
    channel = "CT" if preprocessing.holds_ct else "MRI"
    dataset: dict[str, Any] = {
        "name": "Real and synthetic scans",
        "description": f"Scans named synthetic-... are {mark}; see provenance.json",
        "licence": licence,
        "tensorImageSize": "3D",
        "modality": {"0": channel},
        "numTest": len(lists["test"]),
        **{name: entries for name, entries in lists.items() if entries or name != "unlabelled"},
    }
    used = [c for c in placed if c.label is not None and c.split != "test"]
    values = sorted({value for case in used for value in case.labels} | {*preprocessing.labels})
    folds = None
    if preprocessing.labels and _suits_nnunet(values, preprocessing.labels):
        dataset |= {
            "channel_names": {"0": channel},
            "labels": {"background": 0, **{f"label {value}": value for value in values}},
            "file_ending": FILE_ENDING,
            "numTraining": len(used),
            "dataset": {
                case.case: {"images": [entry["image"]], "label": entry["label"]}
                for case in used
                for entry in [_entry(case, folder, False)]
            },
        }
        folds = make_folds(
            [case for case in used if case.case not in synthetic_names], sorted(synthetic_names)
        )
    else:
        dataset["numTraining"] = len(lists["training"])
        dataset["labels"] = {str(v): f"label {v}" if v else "background" for v in (0, *values)}
        if not values:
            del dataset["labels"]
    if folds:
        write_atomic(folder / "splits_final.json", json.dumps(folds, indent=1))
    else:
        (folder / "splits_final.json").unlink(missing_ok=True)
    write_atomic(folder / "dataset.json", json.dumps(dataset, indent=1), private=True)
    return placed


def make_folds(real: Sequence[Case], synthetic: Sequence[str]) -> list[dict[str, list[str]]]:
    """Folds for nnU-Net, validated on real scans only.

    Validation and calibration scans, which the generator has not learned from, are the one fold
    there is. Where there are none, training scans are validated in five folds by subject; as the
    generator has seen them all, its synthetic scans may flatter these folds. Without real scans
    there is none.

    Args:
        real: labelled training, validation and calibration cases.
        synthetic: names, which only train.
    """
    held_out = [case.case for case in real if case.split in ("validation", "calibration")]
    train = [case for case in real if case.split == "train"]
    if not real:
        return []
    if held_out:
        return [{"train": [*(case.case for case in train), *synthetic], "val": held_out}]
    log.warning("nnU-Net will validate on scans the generator has seen: there are no others")
    subjects = sorted({case.subject for case in train})
    groups = [set(group) for group in np.array_split(subjects, min(FOLDS, len(subjects)))]
    return [
        {
            "train": [*(c.case for c in train if c.subject not in group), *synthetic],
            "val": [c.case for c in train if c.subject in group],
        }
        for group in groups
    ]


def _suits_nnunet(values: Sequence[int], learned: Sequence[int]) -> bool:
    foreign = sorted(set(values) - set(learned))
    if foreign:
        log.warning("real label maps hold %s, which the model never learned: synthetic ones lack "
                    "them, and would teach that they are background", foreign)  # fmt: skip
    if list(values) == list(range(1, len(values) + 1)):
        return True
    log.warning("label values are %s: nnU-Net wants 1, 2, 3, ..., so dataset.json is for MONAI "
                "alone", list(values))  # fmt: skip
    return False


def _placed(case: Case, folder: Path, copy: bool) -> Case:
    """A real case with its files in the data set."""
    image, label = (folder / path for path in paths_of(case.case, case.split == "test"))
    if copy:
        case = save_image(case, image)
    # nnU-Net copies label maps to names that end as file_ending says.
    if case.label and (
        copy or not case.label.lower().endswith(FILE_ENDING) or not _usable_label(case)
    ):
        case = save_label(case, label)
    return case


def _usable_label(case: Case) -> bool:
    """Whether the label map suits nnU-Net: the geometry of its image, values without rounding."""
    scan = read_case(case)
    assert scan.label is not None
    rounded = any(note.code == "W_LABEL_VALUE" for note in scan.label.notes)
    return not rounded and np.allclose(scan.volumes[0].affine, scan.label.volume.affine)


def _entry(case: Case, folder: Path, synthetic: bool) -> Entry:
    root = folder.resolve()

    def shown(path: str) -> str:
        inside = Path(path).is_relative_to(root)
        return f"./{Path(path).relative_to(root)}" if inside else path

    label = {} if case.label is None else {"label": shown(case.label)}
    return {
        "image": shown(case.image), **label, "case": case.case, "subject": case.subject,
        "synthetic": synthetic,
    }  # fmt: skip
