"""Runs the README's Python, every documented command and those of pipeline files on tiny data.

Paths of the pages lead to a folder with small data sets and a tiny model. Settings that make a
command fast are appended; `EXCEPTIONS` lists what is not run, and why.
"""

import csv
import json
import re
import shlex
import shutil
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import medgan
from medgan.app import pipeline
from medgan.app.pipeline_files import read_pipeline
from medgan.app.presets import shipped_pipelines
from medgan.core.config import Config
from medgan.core.errors import ConfigError
from medgan.core.volume import Volume
from medgan.studies.detection.protocol import all_lesions
from medgan.studies.translation.judge import judge
from tests.kit.command_line import inside
from tests.kit.dicom import MATRIX, make_series, save
from tests.kit.opening_commands import ELSEWHERE, opening_command
from tests.kit.volumes import AFFINE, ball

pytestmark = pytest.mark.slow
ROOT = Path(medgan.__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

EXCEPTIONS = {
    "make": "installs or calls one command of this list; tests/test_docs.py checks the target",
    "train ixi_brain --data heads": "takes heads, not balls; tests/data/test_cleaning.py has some",
    "lesions none healthy_brains": "takes brains, not balls: tests/workflows/test_lesions.py",
    "translate runs/fine/model thick_scans": "takes thick slices, which "
    "tests/training/test_super_resolution.py has",
    "bench super-resolution": "takes a model of tests/training/test_super_resolution.py",
    "train lidc_nodule_text": "takes captions, which tests/training/test_captions.py has",
    "generate runs/nodule-text": "takes a model of tests/training/test_captions.py",
    "export models:": "needs a register: tests/deployment/packages/test_registered.py",
    "export zoo/phantom-head --format folder": "builds and downloads wheels: "
    "tests/deployment/packages/test_folder.py",
    "run demo": "takes minutes; tests/app/test_every_pipeline.py runs it with tiny settings",
    "sync": "needs a server: tests/tracking/test_sync.py",
    "pacs": "runs until it is stopped: tests/deployment/pacs",
    "serve": "runs until it is stopped: tests/deployment/serving/test_load.py",
    "check /path/to/cine": "takes sequences, which tests/data/test_sequences.py has",
    "train sequence": "takes sequences, which tests/training/test_neighbours.py has",
    "series runs/cine": "takes a model of tests/training/test_neighbours.py",
    "series runs/mine/model scan.nii.gz --along covariate": "refuses balls, which tell no age; "
    "tests/workflows/test_explained.py has some that do",
    "train brain_1mm": "forecasts a training that does not fit into the memory of a small machine",
    "train large_256": "forecasts a training that does not fit into the memory of a small machine",
}
SPLITS = {
    "train": range(30), "validation": range(30, 32), "calibration": range(32, 52),
    "test": range(52, 60),
}  # fmt: skip
GRID = ("data.spacing=[2, 2, 2]", "data.shape=[16, 16, 16]", "data.labels=[1]")
NETWORKS = (
    *("model.latent=8", "model.widths=[16, 16]", "model.stem_channels=16", "model.blocks=1"),
    *("train.volumes=16", "train.minutes=0", "train.batch=2", "train.warmup=4"),
    "train.sample_every=8",
)
LOCALISER = ("localiser.volumes=16", "localiser.minutes=0")
CONDITIONS = "data.conditions={age: continuous, sex: categorical, diagnosis: categorical}"
TINY = {
    "train": (*GRID, *NETWORKS, *LOCALISER),
    "sweep": (*GRID, *NETWORKS),
    "baseline": (*GRID, *NETWORKS),
    "compare": GRID,
    "utility": (*GRID, *NETWORKS, "utility.sizes=[20]", "utility.share=0.25", "utility.seeds=1",
                "utility.steps=4", "utility.ratios=[1]"),
    "audit": (*GRID, "audit.count=40"),
    "evaluate": (*GRID, "evaluate.count=24"),
    "augment": ("data.labels=[1]", "augment.filters=[]"),
    "bench": (*GRID, *NETWORKS, *LOCALISER, "detection.lesions_per_family=1",
              "convergence.minutes=0.02", "convergence.factor=1", "convergence.seeds=1",
              "convergence.generators=[medgan, dcgan]"),
    "generate": ("generate.count=2",),
}  # fmt: skip
"""Settings that make a verb fast; they win over those of the page."""
CONSTANTS = {
    "generated_sets.SAMPLE_COUNT": 20,
    **{f"comparison.{name}": n for name, n in
       (("COUNT", 20), ("PAIRS", 4), ("SEEDS", 1), ("STEPS", 2), ("SEGMENTER_STEPS", 2))},
    **{f"fidelity.{name}": 4 for name in ("DRAWS", "PAIRS")},
    **{f"audit.{name}": n for name, n in (("PLANTED", 4), ("PERMUTATIONS", 100))},
    "detection.scorers.BASELINE_VOLUMES": 8,
    "translation.benchmark.judge": partial(judge, steps=2), "translation.floors.VOXELS": 500,
    "detection.benchmark.all_lesions": partial(all_lesions, radii=(3.0,)),
}  # fmt: skip
"""The same for constants of `medgan.studies`, and the smallest radius of lesions."""
PATHS = {
    "/path/to/scans": "scans", "/path/to/export": "export", "/path/to/new": "export",
    "ct": "export",
    "/path/to/bids": "bids", "ixi": "subjects.csv", "ixi_brain_2mm": "subjects.csv",
    "msd_hippocampus": "scans", "new_scans": "scans", "healthy_scans": "scans",
    "patients": "scans", "healthy": "others", "lidc_nodules": "scans", "new_heads": "scans",
    "/path/to/brains/or/heads": "others", "head.nii.gz": "scans/person-00.nii.gz",
    "synthetic_scans": "others", "runs/demo/phantoms/images": "scans",
    "runs/pages/scans/scans.csv": "subjects.csv",
    "petmr": "petmr.csv", "new_mr": "scans", "site_b": "members", "new_of_b": "scans",
    "lidc_nodules/nodules.csv": "nodules.csv",
}  # fmt: skip
"""Data sets of the pages, and the tiny ones in their place."""
VERBS = {"lesions": "draw_lesions"}
"""Verbs whose pipeline has another name."""
MAY_END_WITH = {"audit": (0, 6)}
"""Statuses other than 0: an audit of a tiny model passes or not."""


def documented_commands() -> dict[tuple[str, ...], str]:
    """Commands of all pages as words, each once, and the page."""
    found: dict[tuple[str, ...], str] = {}
    for page in PAGES:
        for block in re.findall(r"```bash\n(.*?)```", page.read_text(), re.DOTALL):
            for line in block.splitlines():
                for command in re.sub(r"(^|\s)#.*", "", line).split("&&"):
                    words = shlex.split(command.strip().removeprefix(".venv/bin/"))
                    if words:
                        found.setdefault(tuple(words), page.name)
    return found


def opening_commands() -> dict[tuple[str, ...], str]:
    """What pipeline files open with, but for those that train: tests/app/test_every_pipeline.py."""
    return {
        opening_command(path): path.name
        for name, path in shipped_pipelines().items()
        if name not in ELSEWHERE and not {"train", "bare"} & set(read_pipeline(name)[0])
    }


def exception(words: tuple[str, ...]) -> str:
    """Why a command is not run; empty for one that is."""
    text = " ".join(words).removeprefix("medgan ")
    return next((why for start, why in EXCEPTIONS.items() if text.startswith(start)), "")


def tiny(words: tuple[str, ...], out: str) -> list[str]:
    """The arguments of a documented command with tiny data and settings, and its own output."""
    verb, before = words[1], ""
    found = [verb]
    for word in words[2:]:
        if before == "-o" and verb != "report":
            word = out
        elif before not in ("--config", "-n", "--set") and not (
            verb in ("train", "sweep") and not before
        ):
            two = word == "/path/to/bids" and any("data.channels" in other for other in words)
            word = "channels" if two else PATHS.get(word, word)
        if before == "--train":
            word = "members"
        found.append(word.replace("=python ", f"={sys.executable} "))
        before = word
    if verb in ("export-dicom", "export"):
        return found
    name = words[2] if verb in ("train", "bench", "run", "sweep") else VERBS.get(verb, verb)
    steps = read_pipeline("mood" if "mood" in words else name)[0]
    for setting in (*TINY.get(verb, ()), "tracking.uri=none"):
        without_labels = "export" in found and setting.startswith("data.labels")  # DICOM has none
        if is_read(setting, steps) and not without_labels:
            found.append(f"--set={setting}")
    return found


def is_read(setting: str, steps: Sequence[str]) -> bool:
    """Whether there is such a setting and a step reads it; others are refused."""
    section, key = setting.split("=")[0].split(".")[:2]
    fields = getattr(Config.model_fields[section].annotation, "model_fields", {})
    try:
        pipeline._refuse_unread([setting], steps)
    except ConfigError:
        return False
    return key in fields


def run(*words: str, statuses: tuple[int, ...] = (0,)) -> None:
    done = inside(*words)
    assert done.returncode in statuses, f"{' '.join(words)}\n{done.stderr[-3000:]}"


def write_scans(folder: Path) -> None:
    """Sixty subjects as a folder, a table, members and others, a BIDS tree and single files."""
    rng = np.random.default_rng(0)
    rows: list[tuple[str, ...]] = [("image", "label", "subject", "age", "sex", "diagnosis")]
    channels: list[tuple[str, ...]] = [("subject", "CT", "PET")]
    registered: list[tuple[str, ...]] = [("subject", "T1w", "ct", "pet", "label")]
    rated: list[tuple[str, ...]] = [("image", "label", "subject", "malignancy")]
    for number in range(60):
        data, name = ball(rng).astype(np.float32), f"person-{number:02d}"
        image, label = folder / f"scans/{name}.nii.gz", folder / f"scans/{name}_label.nii.gz"
        Volume(data, AFFINE).save(image)
        Volume((data > 60).astype(np.uint8), AFFINE).save(label)
        for place in ("members",) if number < 30 else ("others", "site_a"):
            shutil.copy(image, new_folder(folder / place))
        pet = folder / f"pet/{name}.nii.gz"
        Volume(300 - 2 * data, AFFINE).save(pet)
        channels.append((name, *(str(path.relative_to(folder)) for path in (image, pet))))
        kind = "control" if number % 5 else "patient"
        names = [str(path.relative_to(folder)) for path in (image, label)]
        rated.append((*names, name, "1" if number % 4 else "5"))
        rows.append((*names, name, str(20 + 7 * number % 50), "FM"[number % 2], kind))
        if number < 4:
            subject = f"sub-0{number + 1}"
            kinds = (("bids", "T1w", image), ("channels", "T1w", image), ("channels", "T2w", pet))
            for tree, suffix, scan in kinds:
                anat = new_folder(folder / tree / subject / "ses-baseline" / "anat")
                shutil.copy(scan, anat / f"{subject}_ses-baseline_{suffix}.nii.gz")
            shutil.copy(image, new_folder(folder / "toy"))
        ct = folder / f"ct/{name}.nii.gz"
        Volume(5 * data - 500, AFFINE).save(ct)
        files = (str(path.relative_to(folder)) for path in (image, ct, pet, label))
        registered.append((name, *files))
    tables = {"subjects": rows, "petct": channels, "petmr": registered, "nodules": rated}
    for table, lines in tables.items():
        with (folder / f"{table}.csv").open("w", newline="") as file:
            csv.writer(file).writerows(lines)
    masks = np.indices((5, 5, 5)).sum(axis=0) < 20
    for number in range(30):
        affine = np.diag([2.0, 2.0, 2.0, 1.0])
        affine[:3, 3] = rng.uniform(-40, 40, 3)
        mask = np.pad(np.repeat(masks, 3, axis=0).repeat(3, axis=1).astype(np.uint8), 1)
        Volume(mask, affine).save(folder / f"stroke_masks/sub-{number:02d}_mask.nii.gz")
    splits = {split: [f"person-{n:02d}" for n in found] for split, found in SPLITS.items()}
    (folder / "splits.json").write_text(json.dumps(splits))
    described = {"Name": "tiny", "BIDSVersion": "1.9.0"}
    for tree in ("bids", "channels"):
        (folder / tree / "dataset_description.json").write_text(json.dumps(described))
    for name in ("scan", "patient"):
        shutil.copy(folder / "scans" / "person-45.nii.gz", folder / f"{name}.nii.gz")


def write_dicom(folder: Path) -> None:
    """Forty CT series of balls, a patient each, from -924 to 76 HU."""
    for number in range(40):
        values = ball(np.random.default_rng(number), (8, *MATRIX)) * 10
        series = make_series("CT", seed=number, PatientID=f"p{number}")
        for ds, plane in zip(series, values, strict=True):
            ds.PixelData = plane.round().clip(0, 4095).astype("<u2").tobytes()
        save(series, folder / str(number))


def new_folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder with data sets, tiny models and results under the names of the pages."""
    folder = tmp_path_factory.mktemp("workplace")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, value in CONSTANTS.items():
            patch.setattr(f"medgan.studies.{name}", value)
        patch.setenv("XDG_CONFIG_HOME", str(folder / "home"))
        write_scans(folder)
        write_dicom(folder / "export")
        page = (ROOT / "docs" / "how-to" / "own-data.md").read_text()
        yaml = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)[-1]
        for name in ("my.yaml", "mine.yaml"):
            (folder / name).write_text(yaml)
        (folder / "train.py").write_text(TRAIN_PY)
        train = ("medgan", "train", "train", "--data", "subjects.csv", "--set", CONDITIONS,
                 "--set", "data.splits=splits.json")  # fmt: skip
        run(*tiny((*train, "-o", "x"), "runs/mine"))
        for name in ("runs/ixi", "runs/hippocampus", "runs/demo"):
            shutil.copytree("runs/mine", name)
        for name in ("zoo/ixi-brain", "zoo/brain-anomalies"):
            shutil.copytree("runs/mine/model", name)
        run(*tiny(("medgan", "train", "train", "--data", "scans", "-o", "x"), "runs/plain"))
        shutil.copytree("runs/plain/model", "zoo/hippocampus")
        chest = ("medgan", "train", "train", "--data", "export", "--set", "data.intensity=ct")
        run(*tiny((*chest, "--set", "data.window=lung", "-o", "x"), "runs/chest"))
        run(*tiny(("medgan", "score", "runs/chest/model", "export", "-o", "x"), "runs/score"))
        run(*tiny(("medgan", "share", "runs/mine/model", "-o", "x"), "runs/share"))
        for name in ("mr2ct", "unet"):
            given = ("--data", "petmr.csv", "--set", "data.splits=splits.json", "-o", "x")
            run(*tiny(("medgan", "train", "translate_mr_ct", *given), f"runs/{name}"))
        nodules = ("--data", "lidc_nodules", "--set", "data.splits=splits.json", "-o", "x")
        run(*tiny(("medgan", "train", "lidc_lesions", *nodules), "runs/nodules"))
        sites = ("--data", "members", "--set", "translate.target_data=site_a", "-o", "x")
        run(*tiny(("medgan", "train", "harmonise", *sites), "runs/harmonise"))
        augment = ("medgan", "augment", "runs/mine/model", "runs/mine/manifest.json", "-o", "x")
        run(*tiny(augment, "runs/mixed"))
        for name in ("alpha_wgan", "dcgan", "vae"):
            baseline = ("medgan", "baseline", name, "--data", "subjects.csv", "-o", "x")
            splits = ("--set", CONDITIONS, "--set", "data.splits=splits.json")
            run(*tiny((*baseline, *splits), f"runs/{name}"))
        yield folder


TRAIN_PY = """
import argparse, json
from pathlib import Path
options = argparse.ArgumentParser()
for name in ("data", "result", "seed"):
    options.add_argument(f"--{name}")
given = options.parse_args()
entries = json.loads((Path(given.data) / "dataset.json").read_text())["test"]
Path(given.result).write_text(json.dumps({"Dice": [0.5 for _ in entries]}))
"""


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(words, id=f"{page}: {' '.join(words)[:60]}")
        for words, page in (documented_commands() | opening_commands()).items()
        if words[0] == "medgan" and not exception(words)
    ],
)  # fmt: skip
def test_a_documented_command_runs(words, workplace, monkeypatch, tmp_path):
    monkeypatch.chdir(workplace)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(workplace / "home"))
    run(*tiny(words, str(tmp_path / "out")), statuses=MAY_END_WITH.get(words[1], (0,)))


def test_no_opening_command_is_an_exception():
    assert not [words for words in opening_commands() if exception(words)]


def test_every_exception_is_still_documented():
    commands = [" ".join(words).removeprefix("medgan ") for words in documented_commands()]
    for start in EXCEPTIONS:
        assert any(command.startswith(start) for command in commands), start


def test_the_python_of_the_readme_runs(workplace, monkeypatch):
    monkeypatch.chdir(workplace)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(workplace / "home"))
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    values = {}
    exec(compile(block, "README.md", "exec"), values)
    written = Volume.load(workplace / "map.nii.gz")
    assert written.data.shape == Volume.load(workplace / "patient.nii.gz").data.shape
    assert values["result"].score_map.data.max() == pytest.approx(written.data.max(), abs=1e-5)
