"""What medgan has made is not learned from, unless that is asked for."""

import numpy as np
import pytest

from medgan.app.run import Run
from medgan.app.steps.scans import index_step
from medgan.core.volume import SYNTHETIC, Volume
from tests.kit.data_sets import tiny_config, write_folder
from tests.kit.volumes import AFFINE, ball


@pytest.fixture
def scans(tmp_path):
    folder = write_folder(tmp_path / "scans", 12)
    made = Volume(ball(np.random.default_rng(7)).astype(np.float32), AFFINE)
    made.save(folder / "made.nii.gz", f"{SYNTHETIC} ct of T1w")
    return folder


def indexed(out, scans, steps, *more):
    run = Run(tiny_config(out, f"data.source={scans}", "data.splits=train", *more), steps=steps)
    index_step(run)
    return run


def test_synthetic_scans_are_refused_where_they_would_be_learned_from(tmp_path, scans):
    run = indexed(tmp_path / "out", scans, ("index", "train"))
    (refusal,) = run.refusals
    assert refusal.code == "E_SYNTHETIC"
    assert "data.synthetic=true" in refusal.remedy
    assert len(run.manifest().cases) == 12


def test_they_are_learned_from_on_request_and_used_where_nothing_is_learned(tmp_path, scans):
    asked = indexed(tmp_path / "asked", scans, ("index", "train"), "data.synthetic=true")
    used = indexed(tmp_path / "used", scans, ("index", "score"))
    for run in (asked, used):
        assert not run.refusals
        assert [case.synthetic for case in run.manifest().cases].count(True) == 1
