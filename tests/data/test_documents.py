"""Tables, JSON, YAML and tensors with random damage: errors with a code, and nothing else."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from safetensors import SafetensorError

from medgan.core.config.reading import build, read_yaml
from medgan.core.errors import MedganError
from medgan.core.json_files import parse_json, read_json_object
from medgan.core.table_files import read_table
from medgan.data import prepared_file
from medgan.data.inbox import _read as read_inbox
from medgan.data.layouts.layouts import list_scans
from medgan.data.layouts.listed import Selection
from medgan.data.manifest import Case, Manifest, Refusal
from medgan.data.splits import read_splits
from medgan.deployment.pacs.records import RECORD, Record
from medgan.tracking.sent import SENT_FILE, SentFile
from medgan.tracking.tracker import read_metrics
from medgan.workflows.executor.records import CaseRecords

DEEP = "[" * 100_000
VALUES = ("5", "-1", "1e999", "null", "true", "[]", "{}", '""', '"\\u0000"', "[[[]]]", "NaN", DEEP)
COUNTS = [150, pytest.param(5000, marks=pytest.mark.slow)]


def manifest() -> str:
    case = Case(
        "c-1", "s-1", {"image": "/x/1.nii"}, "/x/1_seg.nii", {"image": "0" * 64}, "1" * 64,
        (4, 5, 6), (1.0, 1.0, 1.0), (1,), {"age": "7"}, split="train",
    )  # fmt: skip
    values = {"cases": [case.__dict__], "refusals": [Refusal("c-2", "E_NAN", "a", "b").__dict__]}
    return json.dumps(values)


SPLITS = json.dumps({"train": ["a"], "calibration": ["b"], "test": ["c"]})
DATASET = json.dumps(
    {
        "training": [{"image": "a.nii.gz", "label": "b.nii.gz", "case": "x"}], "test": ["c.nii.gz"],
        "modality": {"0": "MRI"}, "channel_names": {"0": "T1"},
    }
)  # fmt: skip
NNUNET = json.dumps(
    {
        "channel_names": {"0": "T1"}, "file_ending": ".nii.gz",
        "dataset": {"x": {"images": ["a_0000.nii.gz"], "label": "b.nii.gz"}},
    }
)  # fmt: skip
TABLE = 'image,label,case,subject,age\na.nii.gz,a_seg.nii.gz,"x, y",s,7\nb.nii.gz,,z,t,8\n'
YAML = "data:\n  source: in\n  fractions: [0.7, 0.1, 0.1, 0.1]\ntrain:\n  minutes: 3\n  seed: 1\n"


def nodes(value, path=()):
    """Places of all values in a document."""
    yield path
    for key, inner in (
        value.items()
        if isinstance(value, dict)
        else enumerate(value if isinstance(value, list) else ())
    ):
        yield from nodes(inner, (*path, key))


def exchanged(text: str, rng: np.random.Generator) -> str:
    """A JSON document with one value exchanged for another of any kind."""
    value = json.loads(text)
    places = [*nodes(value)]
    path, mark = places[rng.integers(len(places))], "@@here@@"
    new = VALUES[rng.integers(len(VALUES))]
    if not path:
        return new
    inner = value
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = mark
    return json.dumps(value).replace(f'"{mark}"', new)


def damaged(text: str, rng: np.random.Generator) -> bytes:
    """Bytes changed, removed, doubled or put in, NUL, a huge cell or deep nesting among them."""
    raw = bytearray(text.encode())
    for _ in range(rng.integers(1, 4)):
        place = int(rng.integers(len(raw)))
        match rng.integers(6):
            case 0:
                raw[place] = rng.integers(256)
            case 1:
                del raw[place : place + int(rng.integers(1, 9))]
            case 2:
                raw[place:place] = raw[place : place + 40]
            case 3:
                raw[place:place] = [b"\0", b'"', b"\n", b"{", b"&a [*a]", b"\xff"][rng.integers(6)]
            case 4:
                raw[place:place] = b"x" * 200_000
            case 5:
                raw[place:place] = DEEP.encode()
        raw = raw or bytearray(b" ")
    return bytes(raw)


READERS = {
    "manifest.json": (manifest(), Manifest.load),
    "splits.json": (SPLITS, lambda path: read_splits(path, path.parent)),
    "dataset.json": (DATASET, lambda path: list_scans(path, Selection())),
    "nnunet/dataset.json": (NNUNET, lambda path: list_scans(path, Selection())),
    "table.csv": (TABLE, lambda path: list_scans(path, Selection())),
    "table.tsv": (TABLE.replace(",", "\t"), lambda path: read_table(path, "the table", ("image",))),
    "config.yaml": (YAML, lambda path: build(read_yaml(path))),
}


@pytest.mark.fault("documents")
@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("name", READERS)
def test_damage_gives_errors_with_a_code(tmp_path: Path, name: str, count: int, measured) -> None:
    text, read = READERS[name]
    path, rng, outcomes = tmp_path / name, np.random.default_rng(len(name)), Counter()
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    read(path)
    for number in range(count):
        exchange = name.endswith(".json") and number % 2
        raw = exchanged(text, rng).encode() if exchange else damaged(text, rng)
        path.write_bytes(raw)
        try:
            read(path)
            outcomes["read"] += 1
        except MedganError as error:
            outcomes[error.code] += 1
        except Exception as error:
            raise AssertionError(f"{type(error).__name__} {error} for {raw[:300]!r}") from error
    assert outcomes.total() - outcomes["read"] > 0.2 * count, outcomes
    measured(f"{name}: {count:,} damaged, {count - outcomes['read']:,} refused by type")


@pytest.mark.parametrize(
    ("field", "value"),
    [("split", "elsewhere"), ("images", {}), ("images", {"image": 5}), ("shape", [4, 5]),
     ("subject", None), ("covariates", []), ("label", 7)],
)  # fmt: skip
def test_a_manifest_with_a_case_that_is_none_is_refused(tmp_path: Path, field, value) -> None:
    values = json.loads(manifest())
    values["cases"][0][field] = value
    (tmp_path / "manifest.json").write_text(json.dumps(values))
    with pytest.raises(MedganError, match="E_MANIFEST"):
        Manifest.load(tmp_path / "manifest.json")


@pytest.mark.fault("documents")
def test_no_file_of_medgan_nested_without_end_ends_a_command(tmp_path: Path, measured) -> None:
    (tmp_path / "work/cases").mkdir(parents=True)
    texts = (DEEP, "[]", "5", "null", '{"runs": 5}', "{", "\0")
    readers = {
        "inbox.json": read_inbox,
        SENT_FILE: lambda path: SentFile(path.parent),
        RECORD: lambda path: Record.read(path.parent),
        "metrics.jsonl": read_metrics,
        "work/cases/a.json": lambda path: CaseRecords(tmp_path).read("a"),
    }
    for name, read in readers.items():
        for text in texts:
            (tmp_path / name).write_text(text)
            try:
                read(tmp_path / name)
            except MedganError:
                continue
    measured(f"{len(readers)} own files, each damaged in {len(texts)} ways: none raises")


def test_json_that_is_nested_too_deeply_or_no_object_is_a_value_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_json(DEEP)
    (tmp_path / "a.json").write_text("[1]")
    with pytest.raises(ValueError, match="no"):
        read_json_object(tmp_path / "a.json")


@pytest.mark.fault("documents")
@pytest.mark.parametrize("count", COUNTS)
def test_damaged_tensors_are_told_by_one_error(count: int, measured) -> None:
    item = {"image": np.arange(60, dtype=np.float32).reshape(1, 3, 4, 5)}
    whole, found = prepared_file.to_bytes(item), 0
    np.testing.assert_array_equal(prepared_file.from_bytes(whole)["image"], item["image"])
    rng = np.random.default_rng(0)
    for _ in range(count):
        raw = bytearray(whole)
        for place in rng.integers(0, len(raw), rng.integers(1, 4)):
            raw[place] = rng.integers(256)
        try:
            np.testing.assert_array_equal(
                prepared_file.from_bytes(bytes(raw))["image"], item["image"]
            )
        except SafetensorError:
            found += 1
    measured(f"safetensors: {count:,} damaged, {found:,} refused by type, the others unchanged")
