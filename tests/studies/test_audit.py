import json
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from safetensors.torch import save
from typer.testing import CliRunner

from medgan.app.cli import app
from medgan.app.pipeline import run_pipeline
from medgan.core.config import Preprocessing, build
from medgan.data.index import index
from medgan.data.prepared import read_scans
from medgan.data.pseudonyms import Pseudonyms
from medgan.data.splits import in_both
from medgan.evaluation.interval import Interval
from medgan.evaluation.privacy.distortions import distort
from medgan.evaluation.privacy.membership import Attack
from medgan.model.fresh_networks import fresh_restorer
from medgan.model.model import Model
from medgan.networks.gan import Networks
from medgan.studies.verdicts import Check, attack_check, unless_they_differ, verdict
from tests.kit.command_line import inside
from tests.kit.data_sets import remove_contrast
from tests.kit.models import SIZES
from tests.kit.volumes import subjects

pytestmark = pytest.mark.long

GRID = Preprocessing(spacing=(2, 2, 2), shape=(16, 16, 16))
ZOO = Path(__file__).parents[2] / "zoo"
QUICK = ("--set", "audit.count=40")


@pytest.fixture(autouse=True, scope="module")
def quick():
    """Fewer planted copies and permutations."""
    patch = pytest.MonkeyPatch()
    for module in ("audit", "nearest_neighbours"):
        patch.setattr(f"medgan.studies.{module}.PLANTED", 6)
    for module in ("attacks", "audit", "nearest_neighbours"):
        patch.setattr(f"medgan.studies.{module}.PERMUTATIONS", 100)
    yield
    patch.undo()


def write_subjects(folder, count, seed):
    folder.mkdir()
    for number, volume in enumerate(subjects(count, seed, (16, 16, 16))):
        image = nibabel.Nifti1Image(500 + 400 * volume[0].numpy(), np.diag([2, 2, 2, 1.0]))
        nibabel.save(image, folder / f"doe-jane-{seed}-{number:02d}.nii.gz")
    return folder


def prepared(folder, tmp):
    manifest, _ = index(folder, Pseudonyms(b"salt"))
    return read_scans(manifest.cases, GRID, tmp).images


def write_samples(folder, images, **more):
    """What a baseline leaves: the only generator whose samples a test can choose."""
    folder.mkdir()
    record = {
        "name": "chosen", "volumes_seen": 1, "seconds": 1.0, "parameters": 1, "batch": 1,
        "data_digest": "none", "preprocessing": GRID.model_dump(mode="json"),
        **more,
    }  # fmt: skip
    (folder / "baseline.json").write_text(json.dumps(record))
    (folder / "samples.safetensors").write_bytes(save({"images": images.half()}))
    return folder


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Members, others, and samples of three generators: a copier, a disguiser, an honest one."""
    folder = tmp_path_factory.mktemp("audit")
    members = write_subjects(folder / "members", 24, 1)
    write_subjects(folder / "others", 24, 2)
    fresh = write_subjects(folder / "fresh", 40, 3)
    images = prepared(members, folder / "cache")
    write_samples(folder / "copier", images)
    write_samples(folder / "disguiser", distort(images, 5))
    write_samples(folder / "honest", prepared(fresh, folder / "cache"))
    return folder


def audit(cohort, generator, out, *more):
    sets = ("--train", cohort / "members", "--holdout", cohort / "others")
    return inside("audit", cohort / generator, *sets, "-o", out, *QUICK, *more)


@pytest.fixture(scope="module")
def honest(cohort, tmp_path_factory):
    """The audit of a generator of new subjects: its folder and how it ended."""
    out = tmp_path_factory.mktemp("honest")
    return out, audit(cohort, "honest", out, "--json")


@pytest.mark.slow
def test_scans_that_cannot_be_prepared_are_left_out_of_an_audit(cohort, tmp_path, caplog):
    for name, seed in (("members", 1), ("others", 2)):
        shutil.copytree(cohort / name, tmp_path / name)
        remove_contrast(tmp_path / name / f"doe-jane-{seed}-07.nii.gz")
    fresh = prepared(cohort / "fresh", tmp_path)
    write_samples(tmp_path / "honest", fresh, training_scans=23)
    done = audit(tmp_path, "honest", tmp_path / "out")
    protocol = json.loads((tmp_path / "out" / "audit.json").read_text())["protocol"]
    assert (protocol["training_scans"], protocol["held_out_scans"]) == (23, 23)
    assert (tmp_path / "out" / "refused.csv").read_text().count("E_CONTRAST") == 2
    assert caplog.text.count("refused E_CONTRAST c-") == 2
    assert done.returncode == 3


@pytest.mark.parametrize("generator", ["disguiser", pytest.param("copier", marks=pytest.mark.slow)])
def test_a_generator_that_returns_training_scans_fails_even_in_disguise(
    generator, cohort, tmp_path
):
    done = audit(cohort, generator, tmp_path)
    result = json.loads((tmp_path / "audit.json").read_text())
    assert done.returncode == 6
    assert result["verdict"] == "failed"
    assert result["metrics"]["near_copies"]["low"] > 0.5
    assert result["attacks"]["black_box"]["nearest"]["auroc"] > 0.95
    assert "Training scans leak into" in done.stdout


def test_a_generator_without_copies_passes_and_is_not_called_anonymous(honest):
    _, done = honest
    result = json.loads(done.stdout)["audit"]
    assert done.returncode == 0, done.stdout
    assert result["verdict"] == "passed"
    planted = result["metrics"]["planted"]
    assert planted["found"] == planted["traced_to_their_original"] == planted["copies"] == 6
    assert "no proof of anonymity" in result["verdicts"]["scans"]["words"]


@pytest.mark.slow
def test_metrics_are_a_function_of_the_seed_and_samples_alone_do_not_pass_for_a_model(
    cohort, honest, tmp_path
):
    first = json.loads((honest[0] / "audit.json").read_text())
    again = audit(cohort, "honest", tmp_path, "--set", "audit.scope=model")
    second = json.loads((tmp_path / "audit.json").read_text())
    assert second["verdicts"] == first["verdicts"]
    assert second["metrics"] == first["metrics"]
    assert second["verdicts"]["model"]["status"] == second["verdict"] == "inconclusive"
    assert again.returncode == 6


def test_page_picture_and_record_are_there_and_name_nobody(cohort, honest):
    folder, _ = honest
    page = (folder / "audit.html").read_text()
    assert page.count("data:image/png;base64,") == 2
    assert "http:" not in page
    assert "https:" not in page
    assert (folder / "pairs.png").read_bytes().startswith(b"\x89PNG")
    for name in ("audit.html", "pairs.png"):
        assert (folder / name).stat().st_mode & 0o077 == 0
    for name in ("audit.html", "audit.json", "pairs.png"):
        text = (folder / name).read_bytes()
        assert b"doe-jane" not in text.lower()
        assert str(cohort).encode() not in text


def test_a_subject_or_scan_on_both_sides_is_refused(cohort, tmp_path):
    same = inside(
        "audit", cohort / "honest", "--train", cohort / "members", "--holdout", cohort / "members",
        "-o", tmp_path / "1",
    )  # fmt: skip
    assert same.returncode == 2
    assert "E_LEAK" in same.stderr
    # The same voxels under another name, in a file of other bytes.
    folder = tmp_path / "others"
    folder.mkdir()
    for file in (cohort / "others").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    scan = nibabel.load(cohort / "members" / "doe-jane-1-00.nii.gz")
    nibabel.save(nibabel.Nifti1Image(scan.get_fdata(), scan.affine), folder / "renamed.nii.gz")
    renamed = inside(
        "audit", cohort / "honest", "--train", cohort / "members", "--holdout", folder,
        "-o", tmp_path / "2",
    )  # fmt: skip
    assert renamed.returncode == 2
    assert "E_LEAK" in renamed.stderr


def test_too_few_subjects_or_no_sets_are_refused(cohort, tmp_path):
    few = write_subjects(tmp_path / "few", 5, 9)
    done = inside(
        "audit", cohort / "honest", "--train", cohort / "members", "--holdout", few,
        "-o", tmp_path / "1",
    )  # fmt: skip
    assert "E_SPLIT" in done.stderr
    assert "E_USAGE" in inside("audit", cohort / "honest", "-o", tmp_path / "2").stderr


def in_process(verb, *arguments):
    done = CliRunner().invoke(app, [verb, *map(str, arguments)])
    return done.exit_code, done.output


def test_more_members_than_training_scans_are_refused(cohort, tmp_path):
    drawn = write_samples(tmp_path / "of 12", torch.zeros(40, 1, 16, 16, 16), training_scans=12)
    sets = ("--train", cohort / "members", "--holdout", cohort / "others")
    status, told = in_process("audit", drawn, *sets, "-o", tmp_path / "o")
    assert status == 2
    assert "E_SPLITS the two sets: 24 scans are given as training scans" in told
    assert "the model has 12" in told


def test_a_model_that_draws_nothing_is_judged_by_its_folder_alone(cohort, tmp_path):
    torch.manual_seed(0)
    networks = Networks(restorer=fresh_restorer(GRID, SIZES, ("density",)))
    model = Model(networks, GRID, SIZES, {"training_scans": 24})
    members = prepared(cohort / "members", tmp_path)
    model.learn_densities(lambda: members.split(8))
    model.save(tmp_path / "m")
    sets = ("--train", cohort / "members", "--holdout", cohort / "others")
    done = inside("audit", tmp_path / "m", *sets, "-o", tmp_path / "out", "--json")
    result = json.loads(done.stdout)["audit"]
    folder = result["verdicts"]["model"]
    assert result["verdicts"]["scans"] == {
        "status": "none", "words": "The model draws no scans, so there was nothing to test.",
        "checks": [],
    }  # fmt: skip
    assert (result["scope"], result["verdict"]) == ("model", folder["status"])
    attacks = ["white-box, density", "white-box, restoration"]
    assert [check["name"] for check in folder["checks"]] == attacks
    assert set(result["attacks"]["controls"]) == {"features", "neighbours"}
    assert done.returncode == (0 if result["verdict"] == "passed" else 6)
    page = (tmp_path / "out" / "audit.html").read_text()
    assert "<img" not in page
    assert "not part of this verdict" not in page
    assert not (tmp_path / "out" / "pairs.png").exists()


@pytest.mark.parametrize("name", ["sts-mr2ct", "lidc-nodule"])
def test_a_model_that_makes_one_image_of_another_is_refused_before_scans_are_read(name, tmp_path):
    sets = ("--train", tmp_path / "none", "--holdout", tmp_path / "nowhere")
    status, told = in_process("audit", ZOO / name, *sets, "-o", tmp_path / "out")
    assert status == 4
    assert "E_GENERATOR the model: makes one image of another: there is no audit" in told


def test_an_error_names_the_set_it_is_about(cohort, tmp_path):
    for side, other in (("train", "holdout"), ("holdout", "train")):
        sets = (f"--{side}", tmp_path / "none", f"--{other}", cohort / "others")
        status, told = in_process("audit", cohort / "honest", *sets, "-o", tmp_path / "o")
        assert status == 3
        assert f"E_NO_SCANS audit.{side}: does not exist" in told


def test_too_few_subjects_are_refused_before_anything_is_generated(cohort, tmp_path, monkeypatch):
    monkeypatch.setattr("medgan.studies.generated_sets.read_generated_set", None)
    few = write_subjects(tmp_path / "few", 5, 9)
    sets = ("--train", cohort / "members", "--holdout", few)
    status, told = in_process("audit", cohort / "honest", *sets, "-o", tmp_path / "o")
    assert status == 3
    assert "E_SPLIT 5 subjects held out: 20 healthy ones are needed" in told


def test_a_leak_is_counted_by_scans_whatever_is_the_same(cohort):
    cases = index(cohort / "members", Pseudonyms(b"salt"))[0].cases
    renamed = [replace(case, subject=f"s-{n}") for n, case in enumerate(cases)]
    assert len(in_both(cases, cases)) == len(in_both(cases, renamed)) == 24


@pytest.mark.slow
def test_a_model_is_looked_into_as_well(cohort, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    splits = {
        "train": [f"doe-jane-1-{n:02d}" for n in range(24)],
        "validation": ["doe-jane-2-00", "doe-jane-2-01"],
        "calibration": [f"doe-jane-2-{n:02d}" for n in range(2, 10)],
        "test": [f"doe-jane-2-{n:02d}" for n in range(10, 24)],
    }
    scans = tmp_path / "scans"
    scans.mkdir()
    for side in ("members", "others"):
        for file in (cohort / side).iterdir():
            (scans / file.name).write_bytes(file.read_bytes())
    (tmp_path / "splits.json").write_text(json.dumps(splits))
    data = [f"data.source={scans}", f"data.splits={tmp_path / 'splits.json'}",
            "data.spacing=[2,2,2]", "data.shape=[16,16,16]"]  # fmt: skip
    run_pipeline(
        "train",
        [
            *data, f"out={tmp_path / 'run'}", "tracking.uri=none", "model.latent=8",
            "model.widths=[8,8]", "model.stem_channels=8", "train.volumes=16", "train.batch=2",
            "train.warmup=4", "localiser.volumes=8",
        ],
    )  # fmt: skip
    sets = [part for setting in data[1:] for part in ("--set", setting)]
    done = inside("audit", tmp_path / "run" / "model", "--data", scans, "-o", tmp_path / "out",
                  *QUICK, *sets, "--json")  # fmt: skip
    result = json.loads(done.stdout)["audit"]
    scorers = {"residual", "density", "latent", "localiser"}
    theirs = {"logit", "flatness", "discriminator", "hull"}
    assert set(result["attacks"]["white_box"]) == scorers | theirs
    assert result["protocol"]["members_are_its_training_scans"]
    assert result["protocol"]["held_out_subjects"] == 22
    assert result["protocol"]["synthetic_scans"] == 40
    shared = tmp_path / "shared"
    assert inside("share", tmp_path / "run" / "model", "-o", shared).returncode == 0
    done = inside("audit", shared / "model", "--data", scans, "-o", tmp_path / "again",
                  *QUICK, *sets, "--json")  # fmt: skip
    result = json.loads(done.stdout)["audit"]
    assert set(result["attacks"]["white_box"]) == scorers
    apart = ["--train", cohort / "members", "--holdout", cohort / "others"]
    for folders, known in ((apart, True), (["--train", apart[3], "--holdout", apart[1]], False)):
        done = inside("audit", shared / "model", *folders, "-o", tmp_path / f"apart-{known}",
                      *QUICK, "--json")  # fmt: skip
        result = json.loads(done.stdout)["audit"]
        assert result["protocol"]["members_are_its_training_scans"] == known


def test_an_attack_counts_only_where_it_does_better_than_can_be_done_without_the_model():
    strong, chance = Attack(Interval(0.8, 0.7, 0.9), 0.5), Attack(Interval(0.5, 0.4, 0.6), 0.1)
    assert attack_check("a", chance, {"control": strong}).status == "passed"
    assert attack_check("a", strong, {"control": chance}).status == "failed"
    assert attack_check("a", strong, {"control": strong}).status == "inconclusive"
    perfect = Attack(Interval(1.0, 0.95, 1.0), 1.0)
    assert attack_check("a", perfect, {"control": strong}).status == "failed"


def test_held_out_scans_of_another_kind_are_no_floor():
    near = Check("near copies", "failed", "20 of 20 are closer")
    quiet, loud = Attack(Interval(0.5, 0.4, 0.6), 0.1), Attack(Interval(1.0, 0.7, 1.0), 1.0)
    assert unless_they_differ(near, {"features": quiet}) == near
    told = unless_they_differ(near, {"features": quiet, "neighbours": loud})
    assert told.status == "inconclusive"
    assert told.finding.startswith(
        "20 of 20 are closer, but controls without the model (neighbours)"
    )
    passed = Check("near copies", "passed", "0 of 20 are closer")
    assert unless_they_differ(passed, {"features": loud}) == passed


def test_a_verdict_is_as_bad_as_its_worst_check():
    checks = {s: Check(s, s, "found") for s in ("passed", "failed", "inconclusive")}

    def of(*names):
        return verdict("the scans", [checks[n] for n in names], "n = 9", "9%")

    assert of("passed").status == "passed"
    assert "n = 9" in of("passed").words
    assert "above 9%" in of("passed").words
    assert of("passed", "inconclusive").status == "inconclusive"
    assert of("passed", "inconclusive", "failed").status == "failed"


def test_fewer_than_a_twentieth_cannot_be_flagged_among_twenty():
    from medgan.core.errors import ConfigError

    with pytest.raises(ConfigError, match=r"audit\.rate"):
        build({"audit": {"rate": 0.01}})


def test_subjects_with_several_scans_count_once():
    from medgan.studies.cohort_split import CohortSplit

    person = torch.tensor([0, 0, 1, 2, 3, 2, 3])
    split = CohortSplit(torch.zeros(7, 1, 1, 1, 1), person < 2, person, (), (1.0, 1.0, 1.0))
    assert split.count == (2, 2)
    assert split.one_per_subject().tolist() == [3, 4]
