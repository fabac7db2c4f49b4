"""A model whose scans are aligned to a template, from a folder of heads to scores."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

import medgan
from medgan.anomaly.calibration import ScoringConfig
from medgan.core.config import DataConfig, Preprocessing
from medgan.core.errors import DataError, ModelError
from medgan.core.volume import Volume
from medgan.data.batches import PreparedVolumes
from medgan.data.index import index
from medgan.data.manifest import Case
from medgan.data.phantoms.heads import sample_head
from medgan.data.phantoms.rendering import render
from medgan.data.prepare import Preparation, PreparedScan
from medgan.data.pseudonyms import Pseudonyms
from medgan.data.template import aligned_plan
from medgan.model.fresh_networks import fresh_localiser
from medgan.model.model import Model
from tests.kit.models import make_model

pytestmark = pytest.mark.long

SHAPE = (32, 48, 32)


def head(number: int, turn: float = 0.0) -> Volume:
    """A phantom of 6 mm that lies turned in the scanner."""
    rng = np.random.default_rng([7, number])
    image, _ = render(sample_head(rng, 40.0), SHAPE, 6.0, rng)
    affine = np.diag([6.0, 6.0, 6.0, 1.0])
    affine[:3, :3] = Rotation.from_rotvec([0, 0, np.radians(turn)]).as_matrix() * 6.0
    affine[:3, 3] = rng.normal(0, 30, 3)
    return Volume(image.astype(np.float32) * rng.uniform(0.5, 20), affine)


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> list[Case]:
    folder = tmp_path_factory.mktemp("heads")
    for number in range(5):
        head(number, turn=6.0 * (number - 2)).save(folder / f"head{number}.nii.gz")
    return list(index(folder, Pseudonyms(b"secret"))[0].cases)


CONFIG = DataConfig.model_validate(
    {"spacing": (6, 6, 6), "shape": SHAPE, "align": "rigid", "labels": ()}
)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that keeps the template."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def grid(cases: list[Case], kept: Path) -> Preprocessing:
    return aligned_plan(CONFIG, cases, kept)


@pytest.fixture(scope="module")
def healthy(grid: Preprocessing) -> list[PreparedScan]:
    """Scans to calibrate on."""
    prepare = Preparation(grid)
    return [prepare(head(number)) for number in range(20, 25)]


@pytest.fixture(scope="module")
def model(
    cases: list[Case],
    grid: Preprocessing,
    healthy: list[PreparedScan],
    tmp_path_factory: pytest.TempPathFactory,
) -> Model:
    made = make_model(grid, noise=0)
    prepared = PreparedVolumes(cases, grid, tmp_path_factory.mktemp("cache"))
    made.learn_densities(prepared.batches)
    made.calibrate(healthy, ScoringConfig(("density",)))
    return made


@pytest.mark.slow
def test_scans_are_more_alike_once_aligned(
    cases: list[Case], grid: Preprocessing, tmp_path: Path
) -> None:
    centred = grid.model_copy(update={"align": "none", "template": None})

    def spread(preprocessing: Preprocessing) -> float:
        batches = PreparedVolumes(cases, preprocessing, tmp_path).batches(len(cases))
        return float(next(iter(batches)).std(dim=0).mean())

    assert spread(grid) < 0.8 * spread(centred)


def test_a_template_is_learned_once(cases: list[Case], grid: Preprocessing, kept: Path) -> None:
    def read(case: Case, labels: bool) -> None:
        raise AssertionError("scans are read again")

    (template,) = kept.glob("template-*")
    written = template.stat().st_mtime_ns
    assert aligned_plan(CONFIG, cases, kept, read) == grid  # pyright: ignore[reportArgumentType]
    assert template.stat().st_mtime_ns == written


def test_the_template_travels_with_the_model(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path)
    again = medgan.load(tmp_path)
    assert again.preprocessing == model.preprocessing
    scan = head(31, 25.0)
    assert again.score(scan).score == pytest.approx(model.score(scan).score, abs=1e-5)


def test_the_localiser_of_anatomy_with_two_like_sides_is_mirrored_and_stays_so(
    grid: Preprocessing, tmp_path: Path
) -> None:
    made = make_model(grid, noise=0)
    made.networks.localiser = fresh_localiser(grid, made.sizes, ("density",))
    assert made.networks.localiser.mirrored  # heads
    made.save(tmp_path)
    kept = medgan.load(tmp_path).networks.localiser
    assert kept is not None
    assert kept.mirrored
    unaligned = grid.model_copy(update={"align": "none", "template": None})
    assert not fresh_localiser(unaligned, made.sizes, ("density",)).mirrored


def test_a_model_folder_with_another_template_is_refused(
    model: Model, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    model.save(tmp_path)
    damage(tmp_path / "template.safetensors")
    with pytest.raises(ModelError, match="E_MODEL"):
        medgan.load(tmp_path)


@pytest.fixture
def damage() -> Callable[[Path], None]:
    return lambda path: path.write_bytes(path.read_bytes()[:-4] + b"0000")


def test_a_head_that_lies_otherwise_is_comparable_and_its_map_lies_on_it(model: Model) -> None:
    scan = head(32, turn=100.0)
    result = model.score(scan)
    assert not result.reasons
    assert result.p_value is not None
    tissue = ndimage.binary_dilation(scan.data > 0.1 * scan.data.max(), iterations=2)
    hot = result.score_map.data > 3
    assert hot.any()
    assert hot[tissue].sum() > 0.8 * hot.sum()


def test_what_a_calibration_scan_does_not_show_counts_as_the_mean_of_the_others(
    model: Model, healthy: list[PreparedScan]
) -> None:
    cut = model.prepare(Volume(head(25).data[:, :, :20], head(25).affine))
    hidden = cut.unseen
    assert hidden is not None
    assert hidden.sum() > 100
    more = replace(model, calibration=None)
    more.calibrate([*healthy, cut], ScoringConfig(("density",)))
    calibrations = [one.needed_calibration for one in (model, more)]
    means = [one.statistics["density"].mean[0].numpy() for one in calibrations]
    np.testing.assert_allclose(means[1][hidden], means[0][hidden], rtol=1e-4)
    assert not np.allclose(means[1][~hidden], means[0][~hidden], rtol=1e-2)


@pytest.mark.fault("alignment")
def test_what_cannot_be_aligned_is_not_comparable_and_says_so(model: Model) -> None:
    noise = np.random.default_rng(0).uniform(0, 1000, SHAPE).astype(np.float32)
    result = model.score(Volume(noise, head(33).affine))
    assert result.p_value is None
    assert any("aligned" in reason for reason in result.reasons)


@pytest.mark.fault("alignment")
def test_a_scan_to_learn_from_that_cannot_be_aligned_is_left_out(
    cases: list[Case], grid: Preprocessing, tmp_path: Path, measured
) -> None:
    noise = np.random.default_rng(0).uniform(0, 1000, SHAPE).astype(np.float32)
    Volume(noise, head(0).affine).save(tmp_path / "noise.nii.gz")
    (other,) = index(tmp_path, Pseudonyms(b"secret"))[0].cases
    prepared = PreparedVolumes([*cases[:2], other], grid, tmp_path / "cache")
    (refused,) = prepared.warm()
    assert (refused.case, refused.code) == (other.case, "E_ALIGN")
    assert len(prepared) == 2
    measured(f"noise to learn from: {refused.code}")


def test_no_scan_that_can_be_read_is_no_template(cases: list[Case], tmp_path: Path) -> None:
    def unreadable(case: Case, labels: bool) -> None:
        raise DataError("E_READ", case.case, "is gone", "look for it")

    config = DataConfig.model_validate({"spacing": (6, 6, 6), "shape": SHAPE, "align": "rigid"})
    with pytest.raises(DataError, match="E_SPLIT"):
        aligned_plan(config, cases, tmp_path, unreadable)  # pyright: ignore[reportArgumentType]
