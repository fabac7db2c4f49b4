"""No name leaves: 22 are planted wherever scans carry them; every byte that comes out is read."""

import base64
import gzip
import json
import logging
import re
import socket
import sqlite3
import stat
import struct
import zlib
from contextlib import closing, suppress

import nibabel
import numpy as np
import pytest
import yaml
from nibabel.nifti1 import Nifti1Extension

from medgan.app.doctor import store
from tests.kit.command_line import inside
from tests.kit.data_sets import TINY
from tests.kit.volumes import ball

PLANTED = {
    place: f"qz{number:02d}{place}"
    for number, place in enumerate(
        (
            *("descrip", "dbname", "auxfile", "intent", "comment", "dicomtag"),
            *("imagefile", "labelfile", "folder", "source", "refused", "corrupt", "table"),
            *("csvsubject", "csvcase", "csvvalue", "csvcolumn"),
            *("bidslabel", "bidsvalue", "bidscolumn", "login", "host"),
        )
    )
}
"""Letters and digits, as BIDS wants labels; short enough for every field of a header."""
PRIVATE = {"private_key.csv", "manifest.json", "mixed_manifest.json"}
"""They lead back to files, and their owner alone may read them."""


def write_scan(path, data):
    """A scan whose header names a person in every field that holds text."""
    image = nibabel.Nifti1Image(data, np.diag([2.0, 2.0, 2.0, 1.0]))
    for field, place in (
        ("descrip", "descrip"), ("db_name", "dbname"), ("aux_file", "auxfile"),
        ("intent_name", "intent"),
    ):  # fmt: skip
        image.header[field] = PLANTED[place].encode()
    for code, place in ((6, "comment"), (4, "dicomtag")):
        extension = Nifti1Extension(code, f"PatientName={PLANTED[place]}".encode())
        image.header.extensions.append(extension)
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, path)


def write_sources(folder):
    """A table of scans in folders, and a BIDS tree; a scan of each is refused, one is damaged."""
    rng = np.random.default_rng(0)
    root = folder / PLANTED["source"]
    rows = [f"image,label,subject,case,sex,group,{PLANTED['csvcolumn']}"]
    for number in range(16):
        place = f"{PLANTED['folder']}/{PLANTED['imagefile']}{number}.nii.gz"
        label = f"{PLANTED['folder']}/{PLANTED['labelfile']}{number}.nii.gz"
        data = ball(rng).astype(np.float32)
        write_scan(root / place, data)
        write_scan(root / label, (data > 60).astype(np.uint8))
        names = f"{PLANTED['csvsubject']}{number},{PLANTED['csvcase']}{number}"
        rows.append(f"{place},{label},{names},{'FM'[number % 2]},0,{PLANTED['csvvalue']}")
    write_scan(root / f"{PLANTED['refused']}.nii.gz", np.ones((16, 16, 16), np.float32))
    whole = (root / f"{PLANTED['refused']}.nii.gz").read_bytes()
    (root / f"{PLANTED['corrupt']}.nii.gz").write_bytes(whole[: len(whole) // 2])
    for place in ("refused", "corrupt"):
        rows.append(f"{PLANTED[place]}.nii.gz,,{PLANTED[place]},,F,0,{PLANTED['csvvalue']}")
    table = root / f"{PLANTED['table']}.csv"
    table.write_text("\n".join(rows))
    bids = folder / "bids"
    people = [f"participant_id\tage\t{PLANTED['bidscolumn']}"]
    for number in range(3):
        subject = f"sub-{PLANTED['bidslabel']}{number}"
        write_scan(bids / subject / "anat" / f"{subject}_T1w.nii.gz", ball(rng).astype(np.float32))
        people.append(f"{subject}\t{40 + number}\t{PLANTED['bidsvalue']}")
    (bids / "participants.tsv").write_text("\n".join(people))
    (bids / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.9.0"}')
    return table, bids, root / f"{PLANTED['refused']}.nii.gz"


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """Everything that the verbs leave behind and say, with MLflow beside it."""
    folder = tmp_path_factory.mktemp("privacy")
    table, bids, refused = write_sources(folder)
    out, model = folder / "out", folder / "out" / "train" / "model"
    pipeline = folder / "tiny.yaml"
    steps = ["index", "train", "calibrate", "register"]
    tiny = {k: v for k, v in TINY.items() if k not in ("tracking", "localiser")}
    tiny["data"] = {
        **tiny["data"],
        "healthy": {"group": ["0"]},
        "conditions": {"sex": "categorical"},
    }
    pipeline.write_text(yaml.safe_dump({"steps": steps, "config": tiny}))
    copied = ["augment.filters=[]", "augment.real=copy", "augment.layout=bids"]
    said: list[str] = []
    handler = logging.Handler(logging.INFO)
    handler.emit = lambda record: said.append(record.getMessage())
    root = logging.getLogger()
    root.addHandler(handler)
    patch = pytest.MonkeyPatch()
    patch.setenv("XDG_CONFIG_HOME", str(folder / "home"))
    patch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        patch.setenv(name, PLANTED["login"])
    patch.setattr(socket, "gethostname", lambda: PLANTED["host"])
    manifest = out / "train" / "manifest.json"
    try:
        for verb, status, *arguments in (
            ("check", 3, table, "-o", out / "check"),
            ("check", 0, bids, "-o", out / "check_bids"),
            ("train", 3, pipeline, "--data", table, "-o", out / "train", "--json"),
            ("generate", 0, model, "-n", 2, "-o", out / "generate"),
            ("score", 0, model, bids, "-o", out / "score", "--format", "bids", "--json"),
            ("score", 3, model, refused, "-o", out / "score_refused"),
            ("report", 0, "-o", out / "train"),
            ("augment", 0, model, manifest, "-o", out / "augment", *sets(copied)),
            ("doctor", 0, "-o", out),
            ("check", 3, folder / f"{PLANTED['table']}-missing.csv", "-o", out / "nothing"),
        ):  # fmt: skip
            done = inside(verb, *arguments)
            assert done.returncode == status, (verb, done.stdout, done.stderr)
            said += [done.stdout, done.stderr]
    finally:
        patch.undo()
        root.removeHandler(handler)
    return out, "\n".join(said)


def sets(settings):
    return [part for setting in settings for part in ("--set", setting)]


def readable(data):
    """What can be read in some bytes, unpacked wherever they are packed, in lower case."""
    found = [data]
    if data[:2] == b"\x1f\x8b":
        with suppress(OSError, EOFError, zlib.error):  # chance, in what was only taken for base64
            found.append(readable(gzip.decompress(data)))
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        found += png_texts(data)
    for encoded in re.findall(rb"[A-Za-z0-9+/]{64,}", data):  # pictures and voxels in pages
        found.append(readable(base64.b64decode(encoded[: len(encoded) // 4 * 4])))
    if b"\\u" in data:
        with suppress(ValueError):
            found.append(json.dumps(json.loads(data), ensure_ascii=False).encode())
    return b"\n".join(found).lower()


def png_texts(data):
    """The chunks of a PNG that hold text, those that are compressed unpacked."""
    at = 8
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        kind, chunk = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        if kind in (b"tEXt", b"iTXt", b"zTXt", b"eXIf"):
            yield chunk
            packed = chunk.partition(b"\0")[2][1:]
            with suppress(zlib.error):
                yield zlib.decompress(packed)
        at += 12 + length


def database_text(path):
    """Every value of a SQLite database, beside its raw bytes."""
    with closing(sqlite3.connect(path)) as database:
        return "\n".join(database.iterdump()).encode().lower()


def hits(data):
    return {place for place, word in PLANTED.items() if word.encode() in data}


@pytest.mark.fault(27)
def test_the_search_finds_what_is_packed(tmp_path):
    word = PLANTED["descrip"]
    write_scan(tmp_path / "a.nii.gz", np.ones((4, 4, 4), np.float32))
    assert {"descrip", "dbname", "comment"} <= hits(readable((tmp_path / "a.nii.gz").read_bytes()))
    from PIL import Image, PngImagePlugin

    texts = PngImagePlugin.PngInfo()
    texts.add_text("Author", word.upper(), zip=True)
    Image.new("L", (2, 2)).save(tmp_path / "a.png", pnginfo=texts)
    picture = (tmp_path / "a.png").read_bytes()
    assert hits(picture.lower()) == set()
    page = b"<img src='data:image/png;base64," + base64.b64encode(picture) + b"'>"
    assert hits(readable(page)) == {"descrip"}
    with closing(sqlite3.connect(tmp_path / "a.db")) as database, database:
        database.execute("create table t (v text)")
        database.execute("insert into t values (?)", [word])
    assert hits(database_text(tmp_path / "a.db")) == {"descrip"}


@pytest.mark.fault(27)
def test_no_planted_name_is_in_any_file_or_its_name(outputs):
    out, _ = outputs
    leaks = {}
    seen = set()
    for path in sorted(out.rglob("*")):
        name = str(path.relative_to(out))
        assert not hits(name.lower().encode()), name
        if path.is_file() and path.name not in PRIVATE:
            seen.add(path.name.partition(".")[2])
            data = readable(path.read_bytes())
            if path.suffix == ".db":
                data += database_text(path)
            if found := hits(data):
                leaks[name] = found
    assert leaks == {}
    assert {"db", "nii.gz", "png", "html", "csv", "json", "jsonl", "yaml", "safetensors"} <= seen


@pytest.mark.fault(27)
def test_no_planted_name_is_said_or_logged(outputs):
    _, said = outputs
    assert "E_CONSTANT" in said
    assert "E_TRUNCATED" in said
    assert hits(said.lower().encode()) == set()


@pytest.mark.fault(27)
def test_only_their_owner_may_read_the_files_that_lead_back(outputs):
    out, _ = outputs
    found = [path for path in out.rglob("*") if path.name in PRIVATE]
    assert {path.name for path in found} == PRIVATE
    for path in found:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    key = (out / "check" / "private_key.csv").read_text()
    for place in ("refused", "corrupt", "imagefile", "source"):
        assert PLANTED[place] in key


@pytest.mark.fault(27)
def test_the_doctor_can_reach_the_store_that_these_runs_made(outputs):
    out, _ = outputs
    assert store.tracking(out / "train", "").what.endswith("(beside the output): reachable")
