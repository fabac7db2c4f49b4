"""The gate on head phantoms: the three that it refuses, and the two that it lets through.

pytest -m slow tests/app/test_gate_on_phantoms.py
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medgan.model.model import Model
from medgan.tracking.client import sqlite_uri
from medgan.tracking.versions import version_behind
from tests.kit.command_line import inside

pytestmark = pytest.mark.slow
WITHOUT_AUDIT = ("gate.audit=false", "gate.limits.kernel_distance={most: 5, worse_by: 1}")
"""Phantoms are so alike that the audit is inconclusive; after 200 volumes they are not sharp."""


class Site:
    """Trainings on phantoms, and a register of them."""

    def __init__(self, folder: Path, database: Path) -> None:
        self.folder, self.uri = folder, sqlite_uri(database)
        self.store = ("--set", f"tracking.uri={self.uri}", "--set", "tracking.name=head")

    def verb(self, *arguments, status=0):
        done = inside(*arguments, "--json")
        assert done.returncode == status, done.stderr
        return json.loads(done.stdout)

    def train(self, name: str, *settings: str) -> Path:
        more = [part for text in settings for part in ("--set", text)]
        self.verb("train", "phantoms", "-o", self.folder / name, *self.store, *more)
        return self.folder / name / "model"

    def promote(self, model: Path, status: int, manifest: Path, *settings: str):
        self.verb("register", model, *self.store, "-o", self.folder / "register", "--name", "head")
        more = [part for text in settings for part in ("--set", text)]
        return self.verb(
            "promote", "head", "--data", manifest, "-o", self.folder / f"gate-{model.parent.name}",
            *self.store[:2], *more, status=status,
        )["gate"]  # fmt: skip

    @property
    def champion(self) -> str:
        return version_behind("models:/head@champion", self.uri).rpartition("/")[2]


def failing(result) -> set[str]:
    return {line.partition(":")[0] for line in result["failed"]}


def test_three_are_refused_for_their_own_reasons_and_two_promoted(
    tmp_path, database, record_property
):
    site = Site(tmp_path, database)
    good = site.train("good")
    manifest = tmp_path / "good" / "manifest.json"
    first = site.promote(good, 0, manifest, *WITHOUT_AUDIT)
    record_property("good", first["figures"])

    worse = site.train("worse", "train.start_from=''", "train.volumes=400", "localiser.volumes=200")
    refused = site.promote(worse, 6, manifest, *WITHOUT_AUDIT)
    record_property("worse", refused["failed"])
    assert {"kernel distance", "AUROC"} & failing(refused)

    alarming = Model.load(good)
    low = np.asarray(alarming.needed_calibration.scores) - 100
    alarming.calibration = replace(alarming.needed_calibration, scores=tuple(map(float, low)))
    alarming.save(tmp_path / "alarming" / "model")
    refused = site.promote(tmp_path / "alarming" / "model", 6, manifest, *WITHOUT_AUDIT)
    record_property("alarming", refused["failed"])
    assert failing(refused) == {"false alarms"}

    copying = site.train(
        "copying", "phantoms.subjects=[60,4]", "data.fractions=[0.14,0.04,0.41,0.41]",
        "train.volumes=5000", "train.learning_rate=2.0e-4", "train.gamma=10",
        "train.augment=0", "localiser.volumes=200",
    )  # fmt: skip
    refused = site.promote(copying, 6, tmp_path / "copying" / "manifest.json",
                           "gate.limits.kernel_distance={most: 1000}")  # fmt: skip
    record_property("copying", refused["failed"])
    assert "privacy audit" in failing(refused)
    assert "leak" in " ".join(refused["failed"]) or "copies" in " ".join(refused["failed"])
    assert site.champion == first["version"]

    as_good = site.train("as_good", "train.volumes=600", "train.seed=0")
    passed = site.promote(as_good, 0, manifest, *WITHOUT_AUDIT)
    record_property("as good", [passed["figures"], passed["champion"]])
    assert site.champion == passed["version"] != first["version"]
    site.verb("promote", "head", "--rollback", "--set", f"tracking.uri={site.uri}")
    assert site.champion == first["version"]
