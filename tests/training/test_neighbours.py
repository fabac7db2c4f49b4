"""Sequences: neighbours in time, and one training, series and film of them."""

from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

from medgan.core.config import Condition, Preprocessing, build
from medgan.core.errors import ConfigError
from medgan.core.volume import Volume, save_frames
from medgan.data.batches import PreparedVolumes
from medgan.data.conditions import draw, encode, learn
from medgan.data.index import index
from medgan.data.manifest import Case
from medgan.data.pseudonyms import Pseudonyms
from medgan.training.fit import train_model
from medgan.training.loop import step
from medgan.training.neighbours import REACH, Neighbours
from medgan.training.tasks import chosen_task
from tests.kit.command_line import inside
from tests.kit.data_sets import TINY, tiny_config
from tests.kit.volumes import AFFINE, SIZE, ball

LEVELS = tuple(np.linspace(0, 1, 21))
PHASE = Condition(name="phase", kind="periodic", quantiles=LEVELS, cycle=0.8)
AGE = Condition(name="age", kind="continuous", mean=50, spread=20, quantiles=LEVELS)
GRID = Preprocessing(spacing=(2, 2, 2), shape=SIZE, conditions=(AGE, PHASE))
SETTINGS = (
    "train.task=sequence", "data.labels=[]", "data.conditions={phase: periodic}",
    "data.fractions=[0.5, 0.3, 0.1, 0.1]",
)  # fmt: skip


def case(subject: str, sequence: str = "", **covariates: str) -> Case:
    return Case(
        case="c", subject=subject, images={"image": "i"}, label=None, hashes={"image": ""},
        label_sha256=None, shape=(1, 1, 1), spacing=(1.0, 1.0, 1.0), labels=(),
        covariates=covariates, sequence=sequence,
    )  # fmt: skip


def write_beats(folder: Path, subjects: int, phases: int = 4) -> Path:
    """A 4D file for each subject, whose ball is brighter at some phases."""
    for number in range(subjects):
        rng = np.random.default_rng(number)
        still = ball(rng)
        frames = [
            Volume((still * (1 + phase / 8) + rng.normal(0, 1, SIZE)).astype(np.float32), AFFINE)
            for phase in range(phases)
        ]
        save_frames(frames, folder / f"{number}.nii.gz", step=0.2)
    return folder


def test_the_end_of_a_cycle_is_its_beginning_and_no_phase_is_unknown():
    codes = [encode((PHASE,), {"phase": p}) for p in (0, 1, 0.25, 0.999, None)]
    assert codes[0] == pytest.approx(codes[1], abs=1e-6)
    assert np.linalg.norm(codes[0] - codes[3]) < 0.01
    assert np.linalg.norm(codes[0] - codes[2]) == pytest.approx(2**0.5)
    assert not codes[4].any()
    drawn = [draw((PHASE,), {}, np.random.default_rng(n))["phase"] for n in range(50)]
    assert all(0 <= float(phase) <= 1 for phase in drawn)
    assert draw((PHASE,), {"phase": "0.3"}, np.random.default_rng(0)) == {"phase": 0.3}


def test_the_length_of_a_cycle_is_learned_where_headers_say_it():
    timed = [case("a", phase=f"{n / 4}", time=f"{0.2 * n}") for n in range(4)]
    (learned,) = learn({"phase": "periodic"}, timed)
    assert learned.cycle == pytest.approx(0.8)
    assert learned.quantiles[-1] == 0.75
    untimed = [replace(one, covariates={"phase": one.covariates["phase"]}) for one in timed]
    assert learn({"phase": "periodic"}, untimed)[0].cycle == 0
    assert "cycle" not in AGE.model_dump()


def test_neighbours_are_those_that_follow_in_the_same_sequence():
    phases = [case("a", "s1", phase=f"{p}") for p in (0.75, 0, 0.25, 0.5)]
    others = [case("a", "s2", phase="0.1"), case("b", phase="n/a")]
    found = Neighbours.of(GRID, "phase").among([*phases, *others])
    assert found.following == ((1, 2, 3), (2, 3, 0), (3, 0, 1), (0, 1, 2), (), ())
    ages = [case("a", age="70"), case("a", age="40"), case("b", age="50"), case("a", age="41")]
    found = Neighbours.of(GRID, "age").among(ages)
    assert found.following == ((), (3, 0), (), (0,))
    many = Neighbours.of(GRID, "phase").among([case("a", phase=f"{n / 9}") for n in range(9)])
    assert {len(few) for few in many.following} == {REACH}


def test_a_batch_shows_a_later_scan_of_the_subject_and_its_time(tmp_path: Path):
    source = write_beats(tmp_path / "beats", 2)
    manifest, _ = index(source, Pseudonyms(b"x"), converted=tmp_path / "run" / "dicom")
    grid = GRID.model_copy(update={"conditions": (PHASE,)})
    volumes = PreparedVolumes(manifest.cases, grid, tmp_path / "cache")
    found = Neighbours.of(grid, "phase").among(volumes.cases)
    rng = np.random.default_rng(0)
    for number in (0, 5):
        arrays = found.arrays(volumes, number, rng)
        same = [n for n in range(8) if np.array_equal(volumes.arrays(n)[0], arrays["next"])]
        (later,) = same
        assert volumes.cases[later].subject == volumes.cases[number].subject
        assert later != number
        assert arrays["next_code"] == pytest.approx(volumes.condition(later))


def test_a_step_shows_pairs_of_one_latent_and_moves_every_network():
    config = build(TINY, [*SETTINGS, "data.conditions={age: continuous, phase: periodic}"])
    task = chosen_task(GRID, config)
    state = task.start(torch.device("cpu"))
    assert state.pair_discriminator is not None
    networks = [*state.networks.modules().values(), state.pair_discriminator]
    before = [torch.cat([p.flatten() for p in n.parameters()]).clone() for n in networks]
    example = task.example(4, torch.device("cpu"))
    code = torch.tensor([[1.0, 0.0]]).expand(4, 2)
    example = example.having(condition=torch.cat([torch.zeros(4, 2), code], dim=1))
    for _ in range(2):
        scalars = step(task, state, lambda: example)
    after = [torch.cat([p.flatten() for p in n.parameters()]) for n in networks]
    assert not any(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert {"pair/loss", "pair/gap", "generator/pair"} <= scalars.keys()


def test_where_the_time_is_unknown_nothing_is_paired():
    neighbours = Neighbours.of(GRID, "phase")
    task = chosen_task(
        GRID, build(TINY, [*SETTINGS, "data.conditions={age: continuous, phase: periodic}"])
    )
    example = task.example(2, torch.device("cpu"))
    known = torch.tensor([[0.5, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
    timed = neighbours.timed(example.having(condition=known))
    assert timed["paired"].tolist() == [False, True]
    assert timed["next_condition"][1].tolist() == [0, 0, 1, 1]
    assert timed["next_condition"][0, :2].tolist() == [0.5, 1.0]
    assert timed["pair_condition"].shape == (2, 6)
    assert torch.equal(timed.condition, known)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("data.labels=[1]", "data.labels to"),
        ("data.conditions={phase: categorical}", "data.conditions with phase"),
        ("train.along=age", "data.conditions with age"),
        ("data.caption=report", "data.caption needs"),
        ("data.conditions={phase: periodic, noise: continuous}", "leave noise out"),
    ],
)
def test_what_no_sequence_can_be_learned_with_is_refused(setting: str, said: str):
    with pytest.raises(ConfigError, match=said):
        build(TINY, [*SETTINGS, setting])


def test_4d_files_train_a_model_that_writes_4d_files_with_their_time(tmp_path: Path):
    source = write_beats(tmp_path / "beats", 8)
    manifest, _ = index(source, Pseudonyms(b"x"), converted=tmp_path / "run" / "dicom")
    splits = ["train"] * 16 + ["validation"] * 8 + ["test"] * 8
    cases = tuple(replace(c, split=s) for c, s in zip(manifest.cases, splits, strict=True))
    config = tiny_config(tmp_path, *SETTINGS, "train.volumes=8", "train.autoencode=0.5")
    done = train_model(
        config, replace(manifest, cases=cases), tmp_path / "run", tmp_path / "m", {}, lambda: None
    )
    assert "best_at" not in done  # single volumes choose no weights
    assert not list((tmp_path / "run" / "checkpoints").glob("best-*"))
    out = tmp_path / "out"
    done = inside("series", tmp_path / "m", "seed:3/0-1", "--along", "phase", "-n", "5", "-o", out)
    assert done.returncode == 0, done.stderr
    image = nibabel.load(out / "series" / "seed-3-1.nii.gz")
    assert image.shape == (*SIZE, 5)
    assert image.header.get_xyzt_units() == ("mm", "sec")
    assert image.header["pixdim"][4] == pytest.approx(0.8 / 5)  # a cycle of four steps of 0.2 s
    with Image.open(out / "films" / "seed-3-0.gif") as film:
        assert film.n_frames == 5
        film.seek(4)
        assert film.info["duration"] == 160
    assert (out / "strips" / "seed-3-0.png").is_file()
