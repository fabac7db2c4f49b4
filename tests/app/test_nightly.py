import csv
import errno
import gzip
import json
import random
import shutil
import subprocess
import time
from typing import NamedTuple

import numpy as np
import pytest

from medgan.app.pipeline import Again, run_pipeline
from medgan.core import files
from medgan.core.errors import DataError, EnvironmentFailure, Exit, MedganError
from medgan.core.files import locked
from medgan.core.volume import Volume, save_frames
from medgan.data import content
from medgan.data.pseudonyms import Pseudonyms
from medgan.reporting.site import write_report
from medgan.workflows import nightly
from tests.kit.command_line import MEDGAN
from tests.kit.dicom import make_series, save
from tests.kit.models import save_calibrated
from tests.kit.volumes import AFFINE, ball

SHARED = ("maps", "recons", "regions", "records", "report/scans")
"""Folders in which nothing changes that is there."""


class Site(NamedTuple):
    """A workstation: models, an inbox and the folder of the scores."""

    models: object
    inbox: object
    out: object

    def put(self, name, seed):
        """A scan in the inbox."""
        path = self.inbox / name
        Volume(ball(np.random.default_rng(seed)).astype(np.float32), AFFINE).save(path)
        return path

    def night(self, *settings, model="first", pages=0):
        """What a run says, and its status."""
        done = run_pipeline(
            "nightly",
            [f"data.source={self.inbox}", f"out={self.out}", f"model_uri={self.models / model}",
             "nightly.settle_seconds=0", f"report.scans={pages}", *settings],
            again=Again() if pages else None,  # as medgan run does
        )  # fmt: skip
        return done.results["nightly"].values | {"status": done.exit_status}

    def rows(self):
        with (self.out / "scores.csv").open(newline="") as file:
            return list(csv.DictReader(file))

    def contents(self):
        """All that has to stay as it is."""
        found = [p for name in SHARED for p in (self.out / name).rglob("*") if p.is_file()]
        return {path: path.read_bytes() for path in found if path.name != "closed"}

    def page(self):
        return (self.out / "report" / "index.html").read_text()


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("first", "second")):
        save_calibrated(folder / name, seed=seed)
    return folder


@pytest.fixture
def site(models, tmp_path):
    (tmp_path / "inbox").mkdir()
    return Site(models, tmp_path / "inbox", tmp_path / "out")


def test_a_night_adds_what_is_new_and_leaves_the_rest_byte_for_byte(site):
    first = site.put("one.nii.gz", 1)
    site.put("two.nii.gz", 2)
    assert site.night(pages=5)["scored"] == 2
    before, table = site.contents(), (site.out / "scores.csv").read_text()
    regions = (site.out / "regions.csv").read_text()

    site.put("three.nii.gz", 3)
    shutil.copy(first, site.inbox / "again.nii.gz")
    (site.inbox / "unpacked.nii").write_bytes(gzip.decompress(first.read_bytes()))
    first.unlink()
    done = site.night(model="second", pages=5)
    assert (done["scored"], done["cohort"], done["copies"]) == (1, 3, 1)  # one is known by digest
    after = site.contents()
    assert before.items() <= after.items()
    assert len(after) > len(before)
    assert (site.out / "scores.csv").read_text().startswith(table)
    assert (site.out / "regions.csv").read_text().startswith(regions)
    rows = site.rows()
    assert len({row["case"] for row in rows}) == 3
    assert [row["batch"] for row in rows] == ["1", "1", "2"]
    assert len({row["model_sha256"] for row in rows}) == 2
    assert all(row["scored"] for row in rows)
    assert float(rows[2]["q_value"]) == float(rows[2]["p_value"])  # alone in its batch
    page = site.page()
    assert page.count('<section class="group">') == page.count("<h2>Scored by ") == 2
    assert page.index(rows[2]["model"]) < page.index(f"Scored by {rows[0]['model']}")
    assert "not comparable with those of another" in page

    times = {path: path.stat().st_mtime_ns for path in site.out.rglob("*.*s*") if path.is_file()}
    quiet = ("scores.csv", "scores.json", "index.html", "inbox.json")
    assert site.night(model="second", pages=5)["scored"] == 0
    for path, written in times.items():
        assert path.name not in quiet or path.stat().st_mtime_ns == written
    assert "one.nii.gz" in (site.out / "private_key.csv").read_text()  # though it is gone
    for public in ("scores.csv", "scores.json", "regions.csv", "refused.csv"):
        assert str(site.inbox) not in (site.out / public).read_text()
    assert (site.out / "inbox.json").stat().st_mode & 0o077 == 0
    assert write_report(site.out, 5).read_text() == page
    assert site.contents() == after


def test_a_half_copied_file_waits_and_is_told_once_where_it_stays_so(site, caplog):
    whole = site.put("slow.nii.gz", 1)
    content = whole.read_bytes()
    waits = site.night("nightly.settle_seconds=3600")
    assert (waits["scored"], waits["waiting"], waits["status"]) == (0, 1, Exit.DONE)
    assert "waits for the next run: it was written to less than 3600 s ago" in caplog.text
    assert "slow.nii.gz" in (site.out / "private_key.csv").read_text()

    whole.write_bytes(content[: len(content) // 2])
    waits = site.night()
    assert (waits["waiting"], waits["refused"], waits["status"]) == (1, 0, Exit.DONE)
    assert "E_TRUNCATED: the file ends early" in caplog.text
    refused = site.night()
    assert (refused["waiting"], refused["refused"], refused["status"]) == (0, 1, Exit.REFUSED)
    caplog.clear()
    quiet = site.night()
    assert (quiet["waiting"], quiet["refused"], quiet["status"]) == (0, 0, Exit.DONE)
    assert "E_TRUNCATED" not in caplog.text
    assert "E_TRUNCATED" in site.page()

    whole.write_bytes(content)
    assert site.night()["scored"] == 1
    assert "E_TRUNCATED" not in site.page()
    assert "E_TRUNCATED" not in (site.out / "refused.csv").read_text()


def test_a_file_that_is_written_to_while_it_is_read_waits(site, monkeypatch):
    path = site.put("one.nii.gz", 1)
    inside = content.content_of

    def written_meanwhile(scan):
        path.write_bytes(path.read_bytes() + b"\0")
        return inside(scan)

    monkeypatch.setattr(content, "content_of", written_meanwhile)
    done = site.night()
    assert (done["scored"], done["waiting"]) == (0, 1)
    monkeypatch.setattr(content, "content_of", inside)
    assert site.night()["scored"] == 1


def test_a_refused_scan_is_told_once_and_tried_when_it_has_changed(site):
    site.put("good.nii.gz", 1)
    flat = site.inbox / "flat.nii.gz"
    Volume(np.ones((16, 16, 16), np.float32), AFFINE).save(flat)
    done = site.night()
    assert (done["scored"], done["refused"], done["status"]) == (1, 1, Exit.REFUSED)
    assert "E_CONSTANT" in site.page()
    done = site.night()
    assert (done["refused"], done["status"]) == (0, Exit.DONE)
    assert "E_CONSTANT" in (site.out / "refused.csv").read_text()
    site.put("flat.nii.gz", 2)
    assert site.night()["scored"] == 1
    assert "E_CONSTANT" not in site.page()


def test_another_scan_under_the_name_of_a_scored_one_has_a_row_of_its_own(site):
    (site.inbox / "patient").mkdir()
    site.put("patient/t1.nii.gz", 1)
    site.night()
    site.put("patient/t1.nii.gz", 2)
    (site.inbox / "other").mkdir()
    site.put("other/t1.nii.gz", 3)  # makes the plain name ambiguous: pseudonyms must not change
    before = site.contents()
    assert site.night()["scored"] == 2
    assert before.items() <= site.contents().items()
    first, *others = site.rows()
    assert len({row["case"] for row in site.rows()}) == 3
    assert not any(row["replaces"] for row in others)
    assert sum(row["subject"] == first["subject"] for row in site.rows()) == 2


def test_a_scan_with_a_mended_header_counts_once(site):
    path = site.put("one.nii.gz", 1)
    site.night()
    scan = Volume.load(path)
    affine = np.array(scan.affine)
    affine[0] = -affine[0]  # left is right
    Volume(scan.data, affine).save(site.inbox / "mended.nii.gz")
    assert site.night()["scored"] == 1
    old, new = site.rows()
    assert (old["replaces"], new["replaces"]) == ("", old["case"])
    page = site.page()
    assert "Scored again" in page
    assert "0 of 1 scans flagged" in page or "1 of 1 scans flagged" in page


def test_a_run_that_is_stopped_leaves_whole_scans_and_the_next_one_finishes(site, monkeypatch):
    for number in range(3):
        site.put(f"{number}.nii.gz", number)
    inside, done = nightly.score_case, []

    def stops(*arguments):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(inside(*arguments))
        return done[-1]

    monkeypatch.setattr(nightly, "score_case", stops)
    with pytest.raises(KeyboardInterrupt):
        site.night()
    before = site.contents()
    monkeypatch.setattr(nightly, "score_case", inside)
    monkeypatch.setattr(nightly, "write_tables", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        site.night()
    monkeypatch.undo()
    site.put("later.nii.gz", 9)
    assert site.night()["scored"] == 1
    assert before.items() <= site.contents().items()
    assert [row["batch"] for row in site.rows()] == ["1", "1", "1", "2"]
    assert not any((site.out / "records" / "tries").iterdir())


@pytest.mark.fault(29)
def test_a_full_disk_loses_nothing(site, monkeypatch):
    for number in range(2):
        site.put(f"{number}.nii.gz", number)
    inside, left = files._write_temporary, [9]

    def fills(*arguments):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        inside(*arguments)

    monkeypatch.setattr(files, "_write_temporary", fills)
    with pytest.raises(EnvironmentFailure, match="E_DISK"):
        site.night()
    monkeypatch.setattr(files, "_write_temporary", inside)
    assert site.night()["cohort"] == 2
    assert len(site.rows()) == len({row["case"] for row in site.rows()}) == 2


def test_a_scan_that_ended_runs_comes_last_and_is_refused_in_the_end(site):
    site.put("bad.nii.gz", 0)
    site.put("good.nii.gz", 1)
    site.night("nightly.settle_seconds=3600")
    assert not json.loads((site.out / "inbox.json").read_text())["seen"]
    names = {name: Pseudonyms.of_site().case(name) for name in ("bad", "good")}
    files.write_atomic(site.out / "records" / "tries" / names["bad"], "4")
    site.night()
    assert [row["case"] for row in site.rows()] == [names["good"], names["bad"]]  # two batches
    site.put("worse.nii.gz", 2)
    worse = Pseudonyms.of_site().case("worse")
    files.write_atomic(site.out / "records" / "tries" / worse, "5")
    assert site.night()["status"] == Exit.REFUSED
    assert f"{worse},E_CRASH,ended the run 5 times" in (site.out / "refused.csv").read_text()


def test_a_run_beside_another_ends_and_does_nothing(site):
    site.put("one.nii.gz", 1)
    with locked(site.out), pytest.raises(EnvironmentFailure, match="E_BUSY"):
        site.night()
    assert {path.name for path in site.out.iterdir()} <= {".lock"}
    assert site.night()["scored"] == 1


def test_what_is_no_inbox_is_refused_and_an_empty_one_is_not(site):
    done = site.night()
    assert (done["inbox"], done["scored"], done["status"]) == (0, 0, Exit.DONE)
    with pytest.raises(DataError, match=r"E_NO_SCANS data\.source: does"):
        site._replace(inbox=site.inbox / "not mounted").night()
    with pytest.raises(MedganError, match="E_OUT -o: lies in the inbox"):
        site._replace(out=site.inbox / "scores").night()
    (site.out / "inbox.json").write_text("{")
    with pytest.raises(DataError, match=r"E_INBOX inbox.json: cannot be read"):
        site.night()
    (site.out / "inbox.json").unlink()
    site.put("one.nii.gz", 1)
    site.night()
    (site.out / "inbox.json").unlink()
    assert site.night()["scored"] == 0
    (record,) = (site.out / "records").glob("c-*.json")
    record.write_text("{")
    with pytest.raises(DataError, match="E_RECORD c-"):
        site.night()


def test_series_of_dicom_are_scored_once_and_again_with_more_slices(site):
    slices = make_series("MR", seed=1, slices=12)
    save(slices[:8], site.inbox / "a")
    save(make_series("MR", seed=2, slices=12), site.inbox / "b")
    assert site.night("nightly.settle_seconds=3600")["waiting"] == 2
    assert site.night()["scored"] == 2
    assert not (site.out / "dicom").exists()
    save(slices, site.inbox / "a")
    save(slices, site.inbox / "copy")
    before = site.contents()
    assert site.night()["scored"] == 1
    assert before.items() <= site.contents().items()
    first = {row["case"] for row in site.rows()[:2]}
    assert site.rows()[2]["replaces"] in first
    assert site.night()["scored"] == 0


def test_phases_of_a_sequence_are_scored_once(site):
    frames = [Volume(ball(np.random.default_rng(n)).astype(np.float32), AFFINE) for n in range(2)]
    save_frames(frames, site.inbox / "beat.nii.gz", step=0.2)
    assert site.night()["scored"] == 2
    assert not (site.out / "phases").exists()
    done = site.night()
    assert (done["scored"], done["refused"], done["copies"]) == (0, 0, 0)


def start(site):
    """A run in a process of its own."""
    command = [
        *MEDGAN, "run", "nightly", "--model", site.models / "first", "--data", site.inbox,
        "-o", site.out, "--set", "nightly.settle_seconds=0",
    ]  # fmt: skip
    return subprocess.Popen([*map(str, command)], stderr=subprocess.PIPE, text=True)


@pytest.mark.fault(40)
@pytest.mark.slow
def test_two_runs_at_once_that_are_killed_at_random_score_each_scan_once(site):
    draw = random.Random(7)
    killed = refused = 0
    for number in range(8):
        for seed in range(3):
            site.put(f"{number}-{seed}.nii.gz", 10 * number + seed)
        before = site.contents() if number else {}
        runs = [start(site), start(site)]
        until = time.monotonic() + 120
        while time.monotonic() < until and all(run.poll() is None for run in runs):
            if len(set(site.contents()) - set(before)) >= draw.randrange(1, 12):
                break
            time.sleep(0.02)
        time.sleep(draw.uniform(0, 0.3))
        for run in runs:
            killed += run.poll() is None
            run.kill()
        refused += sum("E_BUSY" in run.communicate()[1] for run in runs)
        finished = {path.stem for path in before if path.parent.name == "records"}
        for path, kept in before.items():
            name = path.name.partition(".")[0]
            assert name not in finished or path.read_bytes() == kept
    assert killed >= 8
    assert refused >= 1
    runs = [start(site), start(site)]
    statuses = sorted(run.wait(timeout=240) for run in runs)
    for run in runs:
        run.communicate()
    assert statuses in ([0, 0], [0, 4])

    rows = {row["case"]: row for row in site.rows()}
    assert len(site.rows()) == len(rows) == 24
    assert len(list((site.out / "maps").iterdir())) == 24
    again = site._replace(out=site.out.with_name("undisturbed"))
    again.night(pages=100)
    for row in again.rows():
        assert all(row[name] == rows[row["case"]][name] for name in ("score", "p_value", "parts"))
    for folder in ("maps", "recons", "regions"):
        for path in (again.out / folder).iterdir():
            assert path.read_bytes() == (site.out / folder / path.name).read_bytes()
    assert len(list((site.out / "report" / "scans").iterdir())) == 24
