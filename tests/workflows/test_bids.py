import csv
import json
import re
from dataclasses import replace

import nibabel
import numpy as np
import pytest
from bids_validator import BIDSValidator

from medgan.core.config import ScoreConfig
from medgan.core.errors import DataError
from medgan.core.volume import Volume
from medgan.data.index import index
from medgan.data.pseudonyms import Pseudonyms
from medgan.model.model import Model
from medgan.workflows.bids import bids_prefixes, subject_of
from medgan.workflows.score import score_cases
from tests.kit.command_line import inside
from tests.kit.models import CONFIG, GRID, fresh_state
from tests.kit.volumes import ball


@pytest.fixture(scope="module")
def model():
    state = fresh_state()
    rng = np.random.default_rng(1)
    healthy = [Volume(ball(rng).astype(np.float32), np.diag([2.0, 2, 2, 1])) for _ in range(6)]
    model = Model(state.average, GRID, CONFIG.model)
    model.calibrate(healthy)
    return model


@pytest.fixture
def tree(tmp_path):
    """A BIDS tree: a subject with two sessions, and one with none."""
    rng = np.random.default_rng(0)
    tree = tmp_path / "tree"
    for name in ("01_ses-a", "01_ses-b", "02"):
        folder = "/".join(f"sub-{name}".split("_"))
        data = ball(rng).astype(np.float32)
        data[2:5, 2:5, 2:5] += 200  # strange enough for a region
        path = tree / folder / "anat" / f"sub-{name}_T1w.nii.gz"
        Volume(data, np.diag([2.0, 2, 2, 1])).save(path)
    description = {"Name": "x", "BIDSVersion": "1.9.0"}
    (tree / "dataset_description.json").write_text(json.dumps(description))
    return tree


def scored(model, tree, out, **settings):
    manifest, _ = index(tree, Pseudonyms(b"salt"))
    config = ScoreConfig(**{"layout": "bids", **settings})
    rows, _ = score_cases(model, manifest.cases, out, config)
    return manifest.cases, rows, out / "derivatives" / "medgan"


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_a_derivative_is_described_and_every_file_of_it_has_a_name_of_bids(model, tree, tmp_path):
    cases, rows, root = scored(model, tree, tmp_path / "out")
    description = json.loads((root / "dataset_description.json").read_text())
    assert description["DatasetType"] == "derivative"
    assert description["GeneratedBy"][0]["Name"] == "medgan"
    assert set(description["SourceDatasets"][0]) == {"Version"}
    assert str(tmp_path) not in json.dumps(description)
    ignored = (root / ".bidsignore").read_text().split()
    check = BIDSValidator()
    for path in root.rglob("*"):
        if not path.is_file() or any(path.match(pattern) for pattern in ignored):
            continue
        name = f"/{path.relative_to(root)}"
        # the validator knows the names of raw data, where a desc- is not allowed yet
        assert path.name == ".bidsignore" or check.is_bids(raw_name(name)), name
    assert {path.name for path in root.iterdir()} == {
        "dataset_description.json", "README", ".bidsignore", "scans.json",
        *(subject_of(case.subject) for case in cases),
    }  # fmt: skip
    assert len(rows) == 3


def raw_name(name):
    """The name that a file of a derivative would have among raw data."""
    name = re.sub(r"_desc-[a-zA-Z]+_dseg\.tsv$", "_T1w.json", name)
    return re.sub(r"_desc-[a-zA-Z]+_dseg\.", "_T1w.", name)


def test_each_image_has_a_sidecar_and_lies_in_the_grid_of_its_scan(model, tree, tmp_path):
    cases, rows, root = scored(model, tree, tmp_path / "out")
    image_of = {case.case: case.image for case in cases}
    images = sorted(root.rglob("*.nii.gz"))
    assert len(images) == 6
    for row in rows:
        scan = nibabel.load(image_of[row["case"]])
        for kind in ("map", "regions"):
            image = tmp_path / "out" / row[kind]
            assert image in images
            assert np.array_equal(nibabel.load(image).affine, scan.affine)
            sidecar = json.loads(
                image.with_name(image.name.replace(".nii.gz", ".json")).read_text()
            )
            assert sidecar["Description"]
    assert all((tmp_path / "out" / row["recon"]).is_file() for row in rows)


def test_the_tables_hold_scores_and_regions_and_say_what_their_columns_are(model, tree, tmp_path):
    _, rows, root = scored(model, tree, tmp_path / "out")
    told = json.loads((root / "scans.json").read_text())
    found = {}
    for path in root.rglob("*_scans.tsv"):
        for line in read(path):
            assert set(line) - {"filename"} == set(told) - {"Description"}
            assert (path.parent / line["filename"]).is_file()
            found[str((path.parent / line["filename"]).relative_to(tmp_path / "out"))] = line
    assert {file: float(line["score"]) for file, line in found.items()} == {
        row["regions"]: row["score"] for row in rows
    }
    assert {line["alarm"] for line in found.values()} == {"n/a"}
    lookups = [path for path in root.rglob("*_dseg.tsv") if read(path)]
    assert lookups
    for path in lookups:
        image = nibabel.load(path.with_suffix("").with_suffix(".nii.gz"))
        values = {int(v) for v in np.unique(image.get_fdata())} - {0}
        assert {int(line["index"]) for line in read(path)} == values
        sidecar = json.loads(path.with_suffix(".json").read_text())
        assert set(read(path)[0]) - {"index", "name"} <= set(sidecar)


def test_labels_are_pseudonyms_unless_told_and_scans_of_one_person_are_runs(model, tree, tmp_path):
    cases, _, root = scored(model, tree, tmp_path / "out")
    names = "\n".join(str(path.relative_to(root)) for path in root.rglob("*"))
    assert not re.search(r"sub-0[12]|ses-", names)
    first = subject_of(Pseudonyms(b"salt").subject("sub-01"))
    assert f"{first}/anat/{first}_run-2_desc-anomaly_statmap.nii.gz" in names
    _, rows, kept = scored(model, tree, tmp_path / "kept", layout="bids-named")
    assert (kept / "sub-01/ses-b/anat/sub-01_ses-b_desc-anomaly_dseg.nii.gz").is_file()
    assert (kept / "sub-01/ses-b/sub-01_ses-b_scans.tsv").is_file()
    assert (kept / "sub-02/anat/sub-02_desc-anomaly_dseg.json").is_file()
    assert len(rows) == 3
    plain = replace(cases[0], images={"image": str(tmp_path / "Jane.nii.gz")})
    with pytest.raises(DataError, match="E_BIDS") as caught:
        bids_prefixes([plain], "keep")
    assert "Jane" not in str(caught.value)


@pytest.mark.parametrize(
    ("names", "kept"),
    [
        (("sub-01_run-1_T1w", "sub-01_run-02_T1w"), ("sub-01_run-1", "sub-01_run-02")),
        (("sub-01_acq-a_run-1_T1w", "sub-01_acq-b_T1w"), ("sub-01_acq-a_run-1", "sub-01_acq-b")),
        (("sub-01_echo-1_MEGRE", "sub-01_echo-2_MEGRE"), ("sub-01_echo-1", "sub-01_echo-2")),
        (("sub-01_ce-GD_desc-preproc_T1w",), ("sub-01_ce-GD",)),
        (("sub-01_T1w", "sub-01_T2w"), ()),
        (("sub-01_desc-a_T1w", "sub-01_desc-b_T1w"), ()),
    ],
)
def test_runs_acquisitions_and_echoes_keep_names_of_their_own(names, kept, tree):
    cases = [
        replace(
            index(tree, Pseudonyms(b"salt"))[0].cases[0],
            case=name,
            images={"image": f"/in/{name}.nii.gz"},
        )
        for name in names
    ]
    if not kept:
        with pytest.raises(DataError, match="E_BIDS"):
            bids_prefixes(cases, "keep")
        return
    found = [place.rpartition("/")[2] for place in bids_prefixes(cases, "keep").values()]
    assert tuple(found) == kept
    suffix = names[0].rpartition("_")[2]
    assert all(BIDSValidator().is_bids(f"/sub-01/anat/{n}_{suffix}.nii.gz") for n in found)


def test_the_verb_writes_it_with_format_bids(model, tree, tmp_path):
    model.save(tmp_path / "model")
    only = ["--set", "data.subjects=['02']", "--set", "data.suffix=T1w", "--json"]
    score = ["score", tmp_path / "model", tree, "-o", tmp_path / "out", "--format", "bids"]
    done = inside(*score, *only)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["score"]["scans"] == 1
    assert len(list((tmp_path / "out" / "derivatives" / "medgan").rglob("*_statmap.nii.gz"))) == 1
    assert (tmp_path / "out" / "scores.csv").is_file()
    done = inside(*score, "--set", "data.subjects=[02]")
    assert done.returncode == 2
    assert "quotes" in done.stderr
