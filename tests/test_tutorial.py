"""The tutorial from DICOM, as a person with one folder of it would follow it."""

import re
from pathlib import Path

import pydicom
import pytest

from tests.kit.command_line import inside

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "tutorials" / "from-dicom.md").read_text()


@pytest.mark.data
def test_three_commands_lead_from_dicom_to_a_report_and_back(real_data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "zoo").symlink_to(ROOT / "zoo")
    source = real_data / "dicom" / "head_mr_hfs"
    lines = re.findall(r"^\.venv/bin/medgan (.*)$", PAGE, re.MULTILINE)
    check, score, export = (line.replace("/path/to/export", str(source)).split() for line in lines)

    done = inside(*check)
    assert done.returncode == 0, done.stderr
    printed = re.search(r"```\n(series .*?)```", PAGE, re.DOTALL).group(1).splitlines()
    said = done.stdout.splitlines()
    assert len(said) == len(printed) == 3
    assert said[1].split()[2:] == printed[1].split()[2:]  # pseudonyms are the site's own
    assert said[2] == printed[2]

    done = inside(*score)
    assert done.returncode == 0, done.stderr
    report = (tmp_path / "runs" / "score" / "report" / "index.html").read_text()
    quoted = " ".join(re.findall(r"^> (.*)$", PAGE, re.MULTILINE))
    assert quoted in " ".join(report.split())

    done = inside(*export)
    assert done.returncode == 0, done.stderr
    (made,) = (tmp_path / "runs" / "for-pacs").rglob("*.dcm")
    assert made.name == "summary.dcm"
    summary, slice_ = pydicom.dcmread(made), pydicom.dcmread(next(source.iterdir()))
    assert summary.StudyInstanceUID == slice_.StudyInstanceUID
    assert summary.PatientID == slice_.PatientID
    for text in (slice_.InstitutionName, slice_.PatientBirthDate, slice_.StudyInstanceUID):
        assert text not in report
