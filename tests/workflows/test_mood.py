import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
from sklearn.metrics import average_precision_score

import medgan
from medgan.core.errors import ConfigError
from medgan.core.volume import Volume
from medgan.workflows.mood import healthy_share, score_mood, squashed
from tests.kit.models import make_model
from tests.kit.volumes import AFFINE, ball, scans

ROOT = Path(medgan.__file__).parents[1]
TURNED = np.array([[0, -2.0, 0, 9], [0, 0, 2.0, -4], [2.0, 0, 0, 1], [0, 0, 0, 1]])


def evaluate(task: str, predictions: Path, truths: dict[str, np.ndarray]) -> float:
    """The challenge's metric: average precision over all voxels, or scans, of all cases.

    Numbers are clipped to [0, 1]; a map of another shape, or none at all, counts as zeros.
    """
    found, true = [], []
    for name, truth in truths.items():
        if task == "sample":
            found.append(np.clip(float((predictions / f"{name}.txt").read_text()), 0, 1))
            true.append(truth.any())
        else:
            score_map = np.asarray(nibabel.load(predictions / name).dataobj)
            fits = score_map.shape == truth.shape
            score_map = score_map if fits else np.zeros(truth.shape)
            found.extend(np.clip(score_map, 0, 1).astype(np.float16).ravel())
            true.extend(truth.ravel() > 0)
    return float(average_precision_score(true, found))


@pytest.fixture(scope="module")
def model():
    made = make_model()
    made.calibrate(scans(12))
    return made


@pytest.fixture
def toy(tmp_path):
    """Four scans in the challenge's manner, two with a lesion, and where these are."""
    rng, truths = np.random.default_rng(3), {}
    (tmp_path / "in").mkdir()
    for number in range(4):
        data, truth = ball(rng).astype(np.float32), np.zeros((16, 16, 16), np.uint8)
        if number % 2:
            truth[6:10, 6:10, 6:10] = 1
            data[truth > 0] = rng.normal(100, 60, int(truth.sum()))
        name = f"toy_{number}.nii.gz"
        Volume(data, TURNED if number > 1 else AFFINE).save(tmp_path / "in" / name)
        truths[name] = truth
    return tmp_path / "in", truths


def test_a_map_has_name_shape_affine_and_type_and_lies_in_0_to_1(model, toy, tmp_path):
    source, truths = toy
    assert score_mood(model, source, tmp_path / "out", "pixel") == []
    assert {p.name for p in (tmp_path / "out").iterdir()} == set(truths)
    for name in truths:
        scan, score_map = (nibabel.load(f / name) for f in (source, tmp_path / "out"))
        assert score_map.shape == scan.shape
        assert np.array_equal(score_map.affine, scan.affine)
        assert score_map.get_data_dtype() == np.float32
        values = np.asarray(score_map.dataobj)
        assert values.min() >= 0
        assert 0 < values.max() < 1
    assert 0 < evaluate("pixel", tmp_path / "out", truths) <= 1


def test_a_sample_is_one_number_beside_the_name_of_its_scan(model, toy, tmp_path):
    source, truths = toy
    assert score_mood(model, source, tmp_path / "out", "sample") == []
    assert {p.name for p in (tmp_path / "out").iterdir()} == {f"{name}.txt" for name in truths}
    for name in truths:
        share = float((tmp_path / "out" / f"{name}.txt").read_text())
        result = model.score(source / name)
        expected = healthy_share(result.score, model.calibration.scores)
        assert share == pytest.approx(1.0 if result.reasons else expected, abs=1e-6)
    assert 0 < evaluate("sample", tmp_path / "out", truths) <= 1


def test_what_is_right_evaluates_to_1_in_float16_too(toy, tmp_path):
    source, truths = toy
    for name, truth in truths.items():
        affine = nibabel.load(source / name).affine
        Volume(squashed(6.0 * truth - 1, 3.0), affine).save(tmp_path / "out" / name)
        share = healthy_share(9.0 * truth.any(), [0.0, 1.0, 2.0])
        (tmp_path / "out" / f"{name}.txt").write_text(str(share))
    assert evaluate("pixel", tmp_path / "out", truths) == 1
    assert evaluate("sample", tmp_path / "out", truths) == 1


def test_what_cannot_be_read_is_refused_and_the_rest_scored(model, toy, tmp_path):
    source, truths = toy
    (source / "broken.nii.gz").write_bytes(b"not a scan")
    (refusal,) = score_mood(model, source, tmp_path / "out", "sample")
    assert refusal.case == "broken.nii.gz"
    assert len(list((tmp_path / "out").iterdir())) == len(truths)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="E_MISSING"):
        score_mood(model, tmp_path / "empty", tmp_path / "out", "sample")


def test_shares_rise_with_the_score_and_never_leave_0_to_1():
    healthy = [0.3, -1.0, 2.0, 0.5]
    shares = [healthy_share(s, healthy) for s in np.linspace(-9, 9, 200)]
    assert (np.diff(shares) > 0).all()
    assert min(shares) > 0
    assert max(shares) < 1
    assert healthy_share(0.5, healthy) == pytest.approx(0.6)


@pytest.mark.slow
def test_the_two_shell_entry_points_write_what_the_challenge_reads(model, toy, tmp_path):
    source, truths = toy
    model.save(tmp_path / "model")
    for task, ending in (("sample", ".txt"), ("pixel", "")):
        script = ROOT / "pipelines" / "mood" / f"run_{task}.sh"
        environment = {
            "MEDGAN_MODEL": str(tmp_path / "model"),
            "PATH": f"{Path(sys.prefix) / 'bin'}:/usr/bin:/bin",
        }
        done = subprocess.run(
            ["sh", script, source, tmp_path / task], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        written = {p.name for p in (tmp_path / task).iterdir() if p.name[0] != "."}
        assert written == {f"{name}{ending}" for name in truths}
