"""Whole commands: a mixed training set as MONAI, nnU-Net, BIDS readers and medgan see it."""

import csv
import json
import logging
import re
import stat
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner

import medgan
from medgan.app.cli import app
from medgan.app.pipeline import run_pipeline
from medgan.core.config import build
from medgan.core.errors import ConfigError, DataError
from medgan.core.volume import Volume
from medgan.data.index import index
from medgan.data.manifest import SPLITS, Manifest
from medgan.data.pseudonyms import Pseudonyms
from medgan.workflows.augmented import data_set, generation
from medgan.workflows.augmented.cases import SUBSTITUTE, CaseFolder
from medgan.workflows.augmented.decathlon import LISTS, write_decathlon
from medgan.workflows.augmented.filters import CandidateCheck, Filters
from tests.kit.data_sets import TINY, write_folder
from tests.kit.models import GRID

OFF = ["augment.filters=[]"]
PRIVATE = {"dataset.json", "manifest.json", "mixed_manifest.json", "private_key.csv"}


def table(folder, labels=True):
    sexes = "FMMMF" * 4
    rows = [
        f"person-{n:02d}.nii.gz,{f'person-{n:02d}_label.nii.gz' if labels else ''},{s}"
        for n, s in enumerate(sexes)
    ]
    (folder / "t.csv").write_text("\n".join(["image,label,sex", *rows]))
    return folder / "t.csv"


def train(folder, source, conditions):
    data = {**TINY["data"], "fractions": [0.5, 0.1, 0.3, 0.1], "conditions": conditions}
    config = {**TINY, "data": data}
    (folder / "p.yaml").write_text(yaml.safe_dump({"steps": ["index", "train"], "config": config}))
    run_pipeline(str(folder / "p.yaml"), [f"out={folder / 'run'}", f"data.source={source}"])
    return folder / "run"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A training on labels and sex: 10 to train, 2 to validate, 6 to calibrate, 2 to test."""
    folder = tmp_path_factory.mktemp("mixing")
    home = pytest.MonkeyPatch()
    home.setenv("XDG_CONFIG_HOME", str(folder / "home"))
    source = table(write_folder(folder / "scans of Jane Doe", 20))
    yield train(folder, source, {"sex": "categorical"})
    home.undo()


@pytest.fixture(autouse=True)
def one_home(request, monkeypatch):
    """Pseudonyms stay those of the training."""
    if "trained" in request.fixturenames:
        trained = request.getfixturevalue("trained")
        monkeypatch.setenv("XDG_CONFIG_HOME", str(trained.parent / "home"))


def augment(trained, out, *settings):
    source = f"data.source={trained / 'manifest.json'}"
    first = [f"out={out}", f"model_uri={trained / 'model'}", source, "tracking.uri=none", *OFF]
    return run_pipeline("augment", [*first, *settings])


def read(path):
    return json.loads(path.read_text())


def files(folder):
    """Bytes of all that does not name the folder itself."""
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and not {"work", "shards"} & {*p.relative_to(folder).parts}
        and p.name not in ("config.yaml", ".lock", "mixed_manifest.json", "private_key.csv")
    }  # fmt: skip


@pytest.fixture(scope="module")
def mixed(trained, tmp_path_factory):
    out = tmp_path_factory.mktemp("mixed") / "set"
    return augment(trained, out), out


def test_splits_of_a_manifest_stay_and_only_the_training_split_is_augmented(trained, mixed):
    done, out = mixed
    dataset = read(out / "dataset.json")
    real = Manifest.load(trained / "manifest.json")
    assert [len(dataset[k]) for k in ("training", "validation", "test")] == [20, 8, 2]
    assert sum(entry["synthetic"] for entry in dataset["training"]) == 10
    for key, splits in (
        ("training", ["train"]), ("validation", ["validation", "calibration"]), ("test", ["test"])
    ):  # fmt: skip
        cases = {entry["case"] for entry in dataset[key] if not entry["synthetic"]}
        assert cases == {case.case for split in splits for case in real.split(split)}
    assert not any(entry["synthetic"] for k in ("validation", "test") for entry in dataset[k])
    assert done.results["augment"].values["kept"] == 10


def test_scans_that_cannot_be_prepared_are_left_out_of_the_set(trained, tmp_path):
    manifest = Manifest.load(trained / "manifest.json")
    gone = {manifest.split(split)[0].case for split in ("train", "validation")}
    absent = {"images": {"image": str(tmp_path / "absent.nii.gz")}, "hashes": {"image": "0" * 64}}
    cases = tuple(replace(c, **absent) if c.case in gone else c for c in manifest.cases)
    refused, config = [], build(TINY, OFF)
    out, manifest = tmp_path / "out", replace(manifest, cases=cases)
    values = data_set.augment(
        medgan.load(trained / "model"), manifest, out, config, {}, refused.extend
    )
    assert {refusal.case for refusal in refused} == gone
    assert values["real"] == {"train": 9, "validation": 1, "calibration": 6, "test": 2}
    real = {case.case for case in Manifest.load(out / "mixed_manifest.json").cases}
    assert not gone & real
    assert read(out / "provenance.json")["data_digest"] == manifest.digest


def test_synthetic_scans_are_marked_in_name_header_and_provenance(mixed):
    _, out = mixed
    images = sorted((out / "imagesTr").iterdir())
    assert [p.name for p in images[:1]] == ["synthetic-s0-00000_0000.nii.gz"]
    for path in (*images, *(out / "labelsTr").iterdir()):
        text = nibabel.load(path).header["descrip"].item()
        assert text.startswith(b"SYNTHETIC")
    provenance = read(out / "provenance.json")
    assert len(provenance["model_sha256"]) == 64
    assert {"medgan", "git_revision"} <= provenance["generated_with"].keys()
    assert provenance["real"] == {"train": 10, "validation": 2, "calibration": 6, "test": 2}
    numbers = [case["number"] for case in provenance["cases"]]
    assert numbers == list(range(10))
    assert {case["covariates"]["sex"] for case in provenance["cases"]} <= {"F", "M"}


@pytest.mark.parametrize("real", ["reference", "copy"])
@pytest.mark.parametrize("layout", ["decathlon", "bids"])
def test_only_private_files_name_paths(trained, tmp_path, real, layout):
    augment(trained, tmp_path / "o", f"augment.real={real}", f"augment.layout={layout}")
    for path in (tmp_path / "o").rglob("*"):
        secret = path.is_file() and b"Jane Doe" in path.read_bytes()
        if secret and path.name != "config.yaml":  # what the user has typed
            assert path.name in PRIVATE
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (tmp_path / "o" / "mixed_manifest.json").is_file()


@pytest.mark.filterwarnings("ignore:NvImgCodecPydicomReader")  # of MONAI, with pydicom alone
def test_an_unmodified_monai_script_trains_on_it(mixed):
    from monai.data.dataloader import DataLoader
    from monai.data.dataset import Dataset
    from monai.data.decathlon_datalist import load_decathlon_datalist
    from monai.losses.dice import DiceCELoss
    from monai.networks.nets.unet import UNet
    from monai.transforms.compose import Compose
    from monai.transforms.intensity.dictionary import ScaleIntensityd
    from monai.transforms.io.dictionary import LoadImaged
    from monai.transforms.spatial.dictionary import Orientationd

    path = mixed[1] / "dataset.json"
    keys = ["image", "label"]
    chain = Compose(
        [
            LoadImaged(keys, ensure_channel_first=True),
            Orientationd(keys, axcodes="RAS", labels=None),
            ScaleIntensityd("image"),
        ]
    )
    loaders = {
        name: DataLoader(Dataset(load_decathlon_datalist(path, True, name), chain), batch_size=2)
        for name in ("training", "validation", "test")
    }
    torch.manual_seed(0)
    network = UNet(3, 1, 2, (8, 16), (2,))
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    loss_of = DiceCELoss(softmax=True, to_onehot_y=True)
    losses = []
    for _ in range(2):
        for batch in loaders["training"]:
            loss = loss_of(network(batch["image"]), batch["label"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
    assert len(losses) == 20
    assert np.mean(losses[-10:]) < np.mean(losses[:10])
    assert sum(len(b["image"]) for n in ("validation", "test") for b in loaders[n]) == 10


@pytest.mark.parametrize("real", ["reference", "copy"])
def test_nnunet_finds_what_its_integrity_check_demands(trained, tmp_path, real):
    """The rules of nnunetv2 2.8.1, verify_dataset_integrity and do_split."""
    out = tmp_path / "o"
    augment(trained, out, f"augment.real={real}")
    dataset = read(out / "dataset.json")
    assert {"labels", "channel_names", "numTraining", "file_ending"} <= dataset.keys()
    assert dataset["numTraining"] == len(dataset["dataset"]) == 28
    assert dataset["labels"]["background"] == 0
    values = sorted(dataset["labels"].values())
    assert values == list(range(len(values)))
    for name, case in dataset["dataset"].items():
        # As nnU-Net does: relative to the folder unless absolute.
        (image,), label = [out / p for p in case["images"]], out / case["label"]
        assert label.name.endswith(dataset["file_ending"])
        a, b = nibabel.load(image), nibabel.load(label)
        assert a.shape == b.shape
        assert np.allclose(a.affine, b.affine)
        assert np.isfinite(a.get_fdata()).all()
        assert set(np.unique(b.get_fdata())) <= set(values)
        if real == "copy":
            assert image.name == f"{name}_0000.nii.gz"
            assert image.resolve().is_relative_to(out.resolve())
    for fold in read(out / "splits_final.json"):
        assert {*fold["train"], *fold["val"]} <= dataset["dataset"].keys()
        assert not {*fold["train"]} & {*fold["val"]}
        assert not any(name.startswith("synthetic") for name in fold["val"])
        assert sum(name.startswith("synthetic") for name in fold["train"]) == 10
        manifest = Manifest.load(trained / "manifest.json")
        held_out = [*manifest.split("validation"), *manifest.split("calibration")]
        assert {*fold["val"]} == {case.case for case in held_out}


def test_copies_keep_voxels_and_geometry_but_no_text(trained, tmp_path):
    augment(trained, tmp_path / "o", "augment.real=copy")
    for case in Manifest.load(trained / "manifest.json").cases:
        part = "Ts" if case.split == "test" else "Tr"
        path = tmp_path / "o" / f"images{part}" / f"{case.case}_0000.nii.gz"
        one, other = Volume.load(case.image), Volume.load(path)
        assert np.array_equal(one.data, other.data)
        assert np.array_equal(one.affine, other.affine)
        label = Volume.load(tmp_path / "o" / f"labels{part}" / f"{case.case}.nii.gz")
        assert np.array_equal(label.data, Volume.load(case.label).data)
    augment(trained, tmp_path / "o")
    assert not list((tmp_path / "o").glob("*/c-*"))  # no copies where references are wanted


def test_without_calibration_scans_folds_are_by_subject_and_still_real(trained, tmp_path, caplog):
    settings = ["data.splits=train", "augment.ratio=0.2"]
    with caplog.at_level(logging.WARNING):
        augment(trained, tmp_path / "o", *settings)
    folds = read(tmp_path / "o" / "splits_final.json")
    assert len(folds) == 5
    assert sorted(n for fold in folds for n in fold["val"]) == sorted(
        case.case for case in Manifest.load(trained / "manifest.json").cases
    )
    assert "nnU-Net will validate on scans the generator has seen" in caplog.text
    assert "the model was trained on other scans or splits" in caplog.text


def test_the_same_command_writes_the_same_bytes(trained, mixed, tmp_path):
    augment(trained, tmp_path / "again")
    assert files(tmp_path / "again") == files(mixed[1])


def test_shards_together_are_the_run_without_shards(trained, mixed, tmp_path):
    out = tmp_path / "o"
    for n in (2, 1):
        augment(trained, out, f"executor.shard={n}/2")
        made = list((out / "shards" / f"{n}-of-2" / "imagesTr").iterdir())
        assert len(made) == 5
        assert not (out / "shards" / f"{n}-of-2" / "dataset.json").exists()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CaseFolder, "generate", None)  # nothing is left to make
        patch.setattr(generation, "calibrate_filters", None)
        augment(trained, out)
    assert files(out) == files(mixed[1])


def test_a_killed_run_goes_on_where_it_was(trained, mixed, tmp_path, monkeypatch):
    made = []
    whole = CaseFolder.generate

    def dying(self, request, *rest):
        if len(made) == 4:
            raise KeyboardInterrupt
        made.append(request.number)
        return whole(self, request, *rest)

    monkeypatch.setattr(CaseFolder, "generate", dying)
    with pytest.raises(KeyboardInterrupt):
        augment(trained, tmp_path / "o")
    broken = tmp_path / "o" / "imagesTr" / "synthetic-s0-00001_0000.nii.gz"
    broken.write_bytes(broken.read_bytes()[:100])

    def going_on(self, request, *rest):
        made.append(request.number)
        return whole(self, request, *rest)

    monkeypatch.setattr(CaseFolder, "generate", going_on)
    augment(trained, tmp_path / "o")
    assert made == [0, 1, 2, 3, 1, 4, 5, 6, 7, 8, 9]
    assert files(tmp_path / "o") == files(mixed[1])


def test_fewer_scans_than_before_leave_none_of_the_earlier_ones(trained, mixed, tmp_path):
    augment(trained, tmp_path / "o", "augment.ratio=1.5")
    augment(trained, tmp_path / "o")
    assert files(tmp_path / "o") == files(mixed[1])
    augment(trained, tmp_path / "o", "augment.ratio=0")
    assert read(tmp_path / "o" / "provenance.json")["wanted"] == 0
    assert len(read(tmp_path / "o" / "dataset.json")["training"]) == 10


def test_a_dropped_scan_is_replaced_by_the_next_number_and_counted(
    trained, mixed, tmp_path, monkeypatch
):
    def judge(self, scan):
        bad = {3: "privacy", 3 + SUBSTITUTE: "volumes"}
        return CandidateCheck({}, bad.get(scan.number, ""))

    monkeypatch.setattr(Filters, "check", judge)
    done = augment(trained, tmp_path / "o")
    found = done.results["augment"].values
    assert (found["wanted"], found["kept"], found["candidates"]) == (10, 10, 12)
    assert found["dropped"] == {"privacy": 1, "volumes": 1}
    case = read(tmp_path / "o" / "provenance.json")["cases"][3]
    assert case["dropped"] == [[3, "privacy"], [3 + SUBSTITUTE, "volumes"]]
    assert case["number"] == 3 + 2 * SUBSTITUTE
    assert "2 of 12 candidates: privacy 1, volumes 1" in "\n".join(done.closing_lines())
    mine, theirs = files(tmp_path / "o"), files(mixed[1])
    others = [name for name in theirs if re.search(r"0000[0-24-9](_0000)?\.nii", name)]
    assert len(others) == 18
    assert all(mine[name] == theirs[name] for name in others)


def test_some_missing_scans_are_a_warning_and_nearly_all_an_error(
    trained, tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(
        Filters, "check", lambda self, s: CandidateCheck({}, "" if s.number % 5 == 0 else "realism")
    )
    for module in ("cases", "data_set"):
        monkeypatch.setattr(f"medgan.workflows.augmented.{module}.TRIES", 3)
    with caplog.at_level(logging.WARNING):
        done = augment(trained, tmp_path / "o")
    assert done.results["augment"].values["kept"] == 2
    assert done.results["augment"].values["candidates"] == 2 + 8 * 3
    assert "8 of 10 synthetic scans are missing" in caplog.text
    assert read(tmp_path / "o" / "dataset.json")["numTraining"] == 20
    monkeypatch.setattr(Filters, "check", lambda self, s: CandidateCheck({}, "realism"))
    with pytest.raises(DataError, match=r"E_FILTERED .*only 0 passed \(realism 30\)"):
        augment(trained, tmp_path / "p")
    assert not (tmp_path / "p" / "dataset.json").exists()


def test_balance_fills_up_the_rarer_category_of_the_training_scans(trained, tmp_path):
    augment(trained, tmp_path / "o", "generate.balance=sex", "augment.ratio=0")
    real = Manifest.load(trained / "manifest.json").split("train")
    sexes = [case.covariates["sex"] for case in real]
    cases = Manifest.load(tmp_path / "o" / "mixed_manifest.json").split("train")
    found = [case.covariates["sex"] for case in cases]
    assert sexes.count("F") != sexes.count("M")
    assert found.count("F") == found.count("M") == max(sexes.count("F"), sexes.count("M"))
    with pytest.raises(ConfigError, match="E_CONDITION age"):
        augment(trained, tmp_path / "p", "generate.balance=age")


@pytest.mark.slow
def test_medgan_trains_on_the_mixed_manifest_with_its_splits(trained, mixed, tmp_path):
    source = f"data.source={mixed[1] / 'mixed_manifest.json'}"
    health = 'data.healthy={"synthetic": ["yes", "no"]}'
    run_pipeline(str(trained.parent / "p.yaml"), [f"out={tmp_path / 'r'}", source])
    manifest = Manifest.load(tmp_path / "r" / "manifest.json")
    names = [case.case.startswith("synthetic") for case in manifest.split("train")]
    assert (names.count(True), names.count(False)) == (10, 10)
    assert [len(manifest.split(s)) for s in SPLITS[1:]] == [2, 6, 2]
    done = run_pipeline("check", [f"out={tmp_path / 'c'}", source, health])
    assert done.results["index"].values["train"] == 10  # real ones do not say that they are healthy


def test_synthetic_scans_of_a_healthy_model_count_as_healthy(trained, tmp_path):
    healthy = "data.healthy={sex: [M, F], site: [here]}"
    source = table(trained.parent / "scans of Jane Doe")
    text = source.read_text().splitlines()
    source = source.with_name("healthy.csv")
    source.write_text("\n".join([f"{text[0]},site", *(f"{line},here" for line in text[1:])]))
    out = tmp_path / "o"
    augment(trained, out, f"data.source={source}", healthy)
    again = [f"out={tmp_path / 'c'}", f"data.source={out / 'mixed_manifest.json'}", healthy]
    real = len(Manifest.load(out / "manifest.json").split("train"))
    assert run_pipeline("check", again).results["index"].values["train"] == 2 * real


@pytest.mark.parametrize("real", ["reference", "copy"])
def test_the_folder_is_a_data_set_that_medgan_reads_with_its_own_splits(trained, tmp_path, real):
    out = tmp_path / "o"
    augment(trained, out, f"augment.real={real}")
    done = run_pipeline(
        "check", [f"out={tmp_path / 'c'}", f"data.source={out}", f"data.splits={out}/splits.json"]
    )
    found = done.results["index"].values
    assert [found[name] for name in (*SPLITS, "refused")] == [20, 2, 6, 2, 0]


@pytest.mark.parametrize("real", ["reference", "copy"])
def test_a_bids_tree_holds_subjects_labels_and_a_table(trained, tmp_path, real):
    out = tmp_path / "o"
    augment(trained, out, "augment.layout=bids", f"augment.real={real}")
    with (out / "participants.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    drawn = [row for row in rows if row["synthetic"] == "yes"]
    assert len(drawn) == 10
    assert len(rows) == (30 if real == "copy" else 10)
    assert {row["sex"] for row in rows} <= {"F", "M"}
    description = read(out / "dataset_description.json")
    assert {"Name", "BIDSVersion"} <= description.keys()
    assert description["DatasetType"] == "raw"
    derived = read(out / "derivatives" / "medgan" / "dataset_description.json")
    assert derived["DatasetType"] == "derivative"
    assert derived["GeneratedBy"][0]["Name"] == "medgan"
    name = r"sub-([a-z0-9]+)"
    for path in out.glob("sub-*/**/*.nii.gz"):
        place = str(path.relative_to(out))
        assert re.fullmatch(rf"{name}/anat/sub-\1_T1w\.nii\.gz", place), place
    subjects = {path.name for path in out.glob("sub-*")}
    assert subjects == {row["participant_id"] for row in rows}
    manifest, _ = index(out, Pseudonyms(b"s"))
    assert len(manifest.cases) == len(rows)
    assert all(case.label for case in manifest.cases)
    augment(trained, out, "augment.layout=bids", f"augment.real={real}", "augment.ratio=0.5")
    assert len(list(out.glob("sub-synthetic*"))) == 5
    assert len(list(out.glob("derivatives/medgan/sub-synthetic*"))) == 5


def test_a_model_without_labels_makes_a_set_of_images_alone(tmp_path, monkeypatch):
    from monai.data.decathlon_datalist import load_decathlon_datalist

    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    folder = write_folder(tmp_path / "scans", 20, labels=False)
    run = train(tmp_path, table(folder, labels=False), {})
    out = tmp_path / "o"
    augment(run, out)
    dataset = read(out / "dataset.json")
    assert not {"labels", "dataset", "channel_names"} & dataset.keys()
    assert not (out / "splits_final.json").exists()
    assert not (out / "labelsTr").exists()
    found = load_decathlon_datalist(out / "dataset.json", False, "training")
    assert len(found) == 20
    assert all(Path(entry["image"]).is_file() and "label" not in entry for entry in found)


def test_the_page_says_which_list_holds_each_split():
    page = (Path(__file__).parents[3] / "docs/how-to/augment.md").read_text()
    table = page.split("| split of medgan | list in `dataset.json` |\n|---|---|\n")[1].split(
        "\n\n"
    )[0]
    rows = (row.strip("| ").split(" | ") for row in table.splitlines())
    assert {split.split(",")[0]: name.strip("`") for split, name in rows} == LISTS


def test_unlabelled_real_scans_are_listed_apart(tmp_path):
    folder = write_folder(tmp_path / "scans", 6)
    (folder / "person-02_label.nii.gz").unlink()
    manifest, _ = index(folder, Pseudonyms(b"s"))
    manifest = manifest.with_all_in("train")
    write_decathlon(tmp_path / "o", manifest.cases, [], GRID, False, "")
    dataset = read(tmp_path / "o" / "dataset.json")
    assert len(dataset["training"]) == dataset["numTraining"] == 5
    assert len(dataset["unlabelled"]) == 1
    assert len(index(tmp_path / "o" / "dataset.json", Pseudonyms(b"s"))[0].cases) == 6


def test_label_values_that_nnunet_refuses_leave_a_set_for_monai_and_say_so(tmp_path, caplog):
    folder = write_folder(tmp_path / "scans", 4)
    for path in folder.glob("*_label.nii.gz"):
        label = Volume.load(path)
        Volume((label.data * 17).astype(np.uint8), label.affine).save(path)
    manifest, _ = index(folder, Pseudonyms(b"s"))
    grid = GRID.model_copy(update={"labels": (17,)})
    with caplog.at_level(logging.WARNING):
        write_decathlon(tmp_path / "o", manifest.with_all_in("train").cases, [], grid, False, "")
    dataset = read(tmp_path / "o" / "dataset.json")
    assert "dataset" not in dataset
    assert dataset["labels"] == {"0": "background", "17": "label 17"}
    assert "nnU-Net wants 1, 2, 3" in caplog.text


def test_label_maps_that_are_not_gzipped_are_written_as_nnunet_will_name_them(tmp_path):
    folder = write_folder(tmp_path / "scans", 4)
    for path in folder.glob("*_label.nii.gz"):
        Volume.load(path).save(folder / path.name.removesuffix(".gz"))
        path.unlink()
    manifest, _ = index(folder, Pseudonyms(b"s"))
    manifest = manifest.with_all_in("train")
    write_decathlon(tmp_path / "o", manifest.cases, [], GRID, False, "")
    for case in read(tmp_path / "o" / "dataset.json")["dataset"].values():
        assert case["images"][0].startswith("/")
        assert case["label"].startswith("./labelsTr/c-")
        assert (tmp_path / "o" / case["label"]).is_file()


@pytest.mark.parametrize("copy", [False, True])
def test_label_maps_get_the_geometry_of_their_image_where_it_differs_by_rounding(tmp_path, copy):
    folder = write_folder(tmp_path / "scans", 4)
    path = folder / "person-00_label.nii.gz"
    label = Volume.load(path)
    moved = label.affine.copy()
    moved[0, 3] += 1e-3
    Volume(label.data.astype(np.uint8), moved).save(path)
    manifest, _ = index(folder, Pseudonyms(b"s"))
    cases = manifest.with_all_in("train").cases
    placed = write_decathlon(tmp_path / "o", cases, [], GRID, copy, "")
    assert sum(case.label.startswith(str(tmp_path / "o")) for case in placed) == (4 if copy else 1)
    for case in placed:
        assert np.array_equal(nibabel.load(case.image).affine, nibabel.load(case.label).affine)
    one = next(c for c, old in zip(placed, cases, strict=True) if old.label == str(path))
    assert np.array_equal(Volume.load(one.label).data, label.data)


def test_the_verb_says_what_it_made_and_filters_on_its_own(trained, tmp_path, monkeypatch):
    source, out = trained / "manifest.json", tmp_path / "o"
    limits = {"CONSISTENCY_PERCENTILE": 0.0, "VOLUME_MARGIN": 1e3, "PRIVACY_PERCENTILE": 100.0}
    for name, value in {**limits, "SEGMENTER_STEPS": 2}.items():
        monkeypatch.setattr(f"medgan.workflows.augmented.filter_limits.{name}", value)
    verb = ["augment", str(trained / "model"), str(source), "--ratio", "0.5", "--seed", "3"]
    done = CliRunner().invoke(app, [*verb, "-o", str(out), "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)["augment"]
    assert found["wanted"] == 5
    assert found["kept"] >= 1
    assert [p.name for p in (out / "imagesTr").glob("synthetic-s3-*")]
    limits = read(out / "provenance.json")["filters"]["limits"]
    assert {"appearance", "realism", "consistency", "similarity", "label_1_mm3"} <= limits.keys()
    assert not (out / "work" / "cache").exists()


def test_segmenters_of_an_interrupted_run_are_not_trained_again(trained, tmp_path, monkeypatch):
    for name, value in {"CONSISTENCY_PERCENTILE": 0.0, "SEGMENTER_STEPS": 2}.items():
        monkeypatch.setattr(f"medgan.workflows.augmented.filter_limits.{name}", value)
    settings = ["augment.filters=[consistency]"]
    augment(trained, tmp_path / "o", *settings)
    stored = (tmp_path / "o" / "work" / "segmenters.safetensors").read_bytes()
    first = files(tmp_path / "o")
    for path in (tmp_path / "o" / "work" / "cases").iterdir():
        path.unlink()
    monkeypatch.setattr("medgan.workflows.augmented.filter_limits.train_segmenter", None)
    augment(trained, tmp_path / "o", *settings)
    assert (tmp_path / "o" / "work" / "segmenters.safetensors").read_bytes() == stored
    assert files(tmp_path / "o") == first


def test_a_folder_never_holds_both_layouts(trained, tmp_path):
    little = "augment.ratio=0.1"
    augment(trained, tmp_path / "o", little)
    with pytest.raises(ConfigError, match=r"augment\.layout: .*other layout \(dataset\.json"):
        augment(trained, tmp_path / "o", little, "augment.layout=bids")
    assert not (tmp_path / "o" / "participants.tsv").exists()
    augment(trained, tmp_path / "p", little, "augment.layout=bids")
    with pytest.raises(ConfigError, match=r"other layout \(dataset_description\.json"):
        augment(trained, tmp_path / "p", little)


@pytest.mark.parametrize("name", ["mixed_manifest.json", "dataset.json"])
def test_synthetic_scans_are_never_taken_for_real_ones(trained, mixed, tmp_path, name):
    with pytest.raises(ConfigError, match=r"E_USAGE data\.source: 10 of the scans are synthetic"):
        augment(trained, tmp_path / "o", f"data.source={mixed[1] / name}")


def test_too_few_training_scans_are_refused(trained, tmp_path):
    with pytest.raises(DataError, match="E_SPLIT"):
        augment(trained, tmp_path, "data.splits=test")
