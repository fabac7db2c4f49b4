"""The augmented data set as raw BIDS, with label maps as derivatives."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from medgan.core.config import Condition, Preprocessing
from medgan.core.files import write_atomic
from medgan.core.table_files import table_text
from medgan.core.version import __version__
from medgan.data.conditions import covariates_of
from medgan.data.manifest import Case
from medgan.workflows.augmented.real import clear_copies, save_image, save_label
from medgan.workflows.bids import BIDS_VERSION, DERIVATIVES
from medgan.workflows.synthetic_scan import MARK

NOT_BIDS = (
    *("work", "shards", "config.yaml", "manifest.json", "mixed_manifest.json", "private_key.csv"),
    *("provenance.json", "refused.csv", "splits.json", ".lock", "mlflow.db"),
)


def subject_of(name: str) -> str:
    """`sub-` and letters and digits alone, as BIDS wants it.

    Example:
        >>> subject_of("synthetic-s0-00012"), subject_of("s-ea63ae0ac3")
        ('sub-synthetic0x00012', 'sub-ea63ae0ac3')
    """
    found = re.fullmatch(r"synthetic-s(\d+)-(\d+)", name)
    return f"sub-synthetic{found[1]}x{found[2]}" if found else f"sub-{name.removeprefix('s-')}"


def paths_of(subject: str, suffix: str, run: str = "") -> tuple[str, str]:
    """Relative paths of image and label of a subject."""
    folder, name = f"{subject}/anat", f"{subject}{run}"
    return (
        f"{folder}/{name}_{suffix}.nii.gz",
        f"{DERIVATIVES}/{folder}/{name}_dseg.nii.gz",
    )


def write_bids(
    folder: Path,
    real: Sequence[Case],
    synthetic: Sequence[Case],
    preprocessing: Preprocessing,
    copy: bool,
    licence: str,
    suffix: str,
) -> list[Case]:
    """Writes the tables and descriptions, and the real scans where they are to be copied.

    BIDS has no way to name files elsewhere: without copies the data set is synthetic alone.

    Args:
        folder: of the data set, which holds the synthetic scans already.
        real: cases of all splits.
        synthetic: cases, in `folder`.
        preprocessing: of the model.
        copy: whether to copy the real scans into the folder.
        licence: of the real scans.
        suffix: of images, such as T1w.

    Returns:
        All cases with their files.
    """
    scans = Counter(case.subject for case in real)
    seen: Counter[str] = Counter()
    placed: list[Case] = []
    for case in real:
        if copy:
            seen[case.subject] += 1
            run = f"_run-{seen[case.subject]}" if scans[case.subject] > 1 else ""
            image, label = paths_of(subject_of(case.subject), suffix, run)
            case = save_image(case, folder / image)
            case = save_label(case, folder / label) if case.label else case
        placed.append(case)
    for pattern in ("sub-*/anat/*.nii.gz", f"{DERIVATIVES}/sub-*/anat/*.nii.gz"):
        clear_copies(folder, pattern, [*placed, *synthetic])
    listed = [*(placed if copy else ()), *synthetic]
    _write_participants(folder, listed, {case.case for case in synthetic}, preprocessing.conditions)
    description = {
        "Name": "Real and synthetic scans" if copy else "Synthetic scans",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "raw",
        "License": licence or "as the training scans of the model",
        "GeneratedBy": [{"Name": "medgan", "Version": __version__, "Description": MARK}],
    }
    derived = {**description, "Name": "Label maps", "DatasetType": "derivative"}
    write_atomic(folder / "dataset_description.json", json.dumps(description, indent=1))
    write_atomic(
        folder / "README",
        f"Subjects named sub-synthetic... are {MARK}. See provenance.json.\n",
    )
    write_atomic(folder / ".bidsignore", "".join(f"{name}\n" for name in NOT_BIDS))
    if preprocessing.labels:
        write_atomic(
            folder / DERIVATIVES / "README", f"Label maps; those of sub-synthetic... are {MARK}.\n"
        )
        sidecar = {"Description": "label map", "SpatialReference": "orig"}
        write_atomic(folder / DERIVATIVES / "dseg.json", json.dumps(sidecar, indent=1))
        write_atomic(
            folder / DERIVATIVES / "dataset_description.json", json.dumps(derived, indent=1)
        )
        values = sorted({*preprocessing.labels, *(v for case in listed for v in case.labels)})
        rows = [f"{value}\tlabel {value}\n" for value in values]
        write_atomic(folder / DERIVATIVES / "dseg.tsv", "index\tname\n" + "".join(rows))
    return [*placed, *(replace(case, subject=subject_of(case.subject)) for case in synthetic)]


def _write_participants(
    folder: Path, cases: Sequence[Case], synthetic_names: set[str], conditions: Sequence[Condition]
) -> None:
    """One row a subject: of covariates, those that the model is conditioned on and no others."""
    own = ("participant_id", "synthetic", "split")
    columns = [condition.name for condition in conditions]
    rows: dict[str, dict[str, str]] = {}
    for case in cases:
        subject = subject_of(case.subject)
        values = covariates_of(case, conditions)
        known = {k: "n/a" if v in (None, "") else str(v) for k, v in values.items()}
        mark = "yes" if case.case in synthetic_names else "no"
        rows.setdefault(
            subject, {"participant_id": subject, "synthetic": mark, "split": case.split, **known}
        )
    table = table_text(rows.values(), (*own, *columns), "\t")
    write_atomic(folder / "participants.tsv", table)
    descriptions = {
        "synthetic": {"Description": "yes: generated by medgan, not a patient"},
        "split": {"Description": "train, validation, calibration or test"},
        **{c.name: {"Description": f"{c.kind}, as the model learned it"} for c in conditions},
    }
    write_atomic(folder / "participants.json", json.dumps(descriptions, indent=1))
