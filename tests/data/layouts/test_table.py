"""Tables of scans: what spreadsheets write is read, what is missing is said."""

from pathlib import Path

import numpy as np
import pytest

from medgan.core.errors import DataError
from medgan.core.volume import Volume
from medgan.data.index import index
from medgan.data.pseudonyms import Pseudonyms

PSEUDONYMS = Pseudonyms(b"salt")


def table(folder: Path, text: str, name: str = "list.csv") -> Path:
    for number, scan in enumerate("ab"):
        values = np.random.default_rng(number).normal(100, 20, (8, 9, 10)).astype(np.float32)
        Volume(values, np.eye(4)).save(folder / f"{scan}.nii.gz")
        label = np.zeros((8, 9, 10), np.uint8)
        label[2] = 1
        Volume(label, np.eye(4)).save(folder / f"{scan}_l.nii.gz")
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


@pytest.mark.parametrize("name", ["list.csv", "list.TSV", "list.CSV", "list.tsv"])
@pytest.mark.parametrize(
    "text",
    [
        "image,label,subject,Age\na.nii.gz,a_l.nii.gz,p,5\nb.nii.gz,,p,\n",
        "\ufeffIMAGE;Label;SUBJECT;Age\r\na.nii.gz;a_l.nii.gz;p;5\r\nb.nii.gz;;p;\r\n",
        "Image\tLABEL\tSubject\tAge\n\"a.nii.gz\"\ta_l.nii.gz\tp\t5\nb.nii.gz\t\tp\n",
        "sep=;\nImage;label;subject;Age\na.nii.gz;a_l.nii.gz;p;5\nb.nii.gz;;p;\n;;;\n",
    ],
)  # fmt: skip
def test_separators_capitals_and_marks_of_spreadsheets_are_understood(tmp_path, text, name):
    manifest, _ = index(table(tmp_path, text, name), PSEUDONYMS)
    first, second = manifest.cases
    assert (first.labels, second.labels) == ((1,), ())
    assert first.subject == second.subject == PSEUDONYMS.subject("p")
    assert (first.covariates, second.covariates) == ({"Age": "5"}, {})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("images,age\na.nii.gz,5\n", "no column image among images, age; rename the column images"),
        ("Path;age\na.nii.gz;5\n", "no column image among Path, age; rename the one with the pa"),
        ("a.nii.gz,5\nb.nii.gz,6\n", "the first line names no columns; begin with .* image,label"),
        ("image,age\na.nii.gz,5\n,6\n", "row 2 has no path in the column image"),
    ],
)
def test_what_a_table_lacks_is_said(tmp_path, text, message):
    with pytest.raises(DataError, match=f"E_DATASET the table: {message}") as refused:
        index(table(tmp_path, text), PSEUDONYMS)
    assert "a.nii" not in str(refused.value)


def test_a_column_of_another_name_is_one_channel(tmp_path):
    manifest, _ = index(table(tmp_path, "T1w;age\na.nii.gz;5\n"), PSEUDONYMS, channels=["T1w"])
    assert manifest.channels == ("T1w",)
    assert manifest.cases[0].covariates == {"age": "5"}
    manifest, _ = index(table(tmp_path, "Image;age\na.nii.gz;5\n"), PSEUDONYMS, channels=["T1w"])
    assert manifest.channels == ("T1w",)


def test_a_channel_without_a_column_is_said(tmp_path):
    path = table(tmp_path, "t1;age\na.nii.gz;5\n")
    with pytest.raises(DataError, match="no column T1w among t1, age"):
        index(path, PSEUDONYMS, channels=["T1w", "T2w"])
    with pytest.raises(DataError, match="no column T2w among T1, age"):
        index(path, PSEUDONYMS, channels=["T1", "T2w"])


def test_a_workbook_is_told_from_a_table(tmp_path):
    (tmp_path / "list.xlsx").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"E_LAYOUT.*workbook; save it as CSV"):
        index(tmp_path / "list.xlsx", PSEUDONYMS)
