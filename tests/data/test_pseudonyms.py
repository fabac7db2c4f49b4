import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

from medgan.core.errors import EnvironmentFailure
from medgan.data.pseudonyms import Pseudonyms, write_private_key


def site(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Pseudonyms:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder))
    return Pseudonyms.of_site()


def test_pseudonyms_stay_the_same_on_a_site(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first, second = site(monkeypatch, tmp_path), site(monkeypatch, tmp_path)
    assert first == second
    assert first.subject("jane") == second.subject("jane")


def test_pseudonyms_differ_between_sites_names_and_kinds(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    here, there = site(monkeypatch, tmp_path / "a"), site(monkeypatch, tmp_path / "b")
    names = [here.subject("jane"), there.subject("jane"), here.subject("john"), here.case("jane")]
    assert len({name[2:] for name in names}) == 4
    assert [name[:2] for name in names] == ["s-", "s-", "s-", "c-"]
    assert all(len(name) == 12 and int(name[2:], 16) >= 0 for name in names)


def test_the_secret_is_the_owners_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        site(monkeypatch, tmp_path)
    finally:
        os.umask(old)
    (salt,) = (tmp_path / "medgan").iterdir()
    assert salt.stat().st_mode & 0o777 == 0o600
    assert len(bytes.fromhex(salt.read_text())) == 32


@pytest.mark.parametrize("text", ["", "abcd", "not hexadecimal" * 10])
def test_a_damaged_secret_is_refused_and_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str
) -> None:
    path = tmp_path / "medgan" / "salt"
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(EnvironmentFailure, match="E_SALT"):
        site(monkeypatch, tmp_path)
    assert path.read_text() == text


def test_a_secret_that_cannot_be_written_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentFailure, match="E_SALT"):
        site(monkeypatch, tmp_path / "file")


def test_processes_that_race_agree_on_one_secret(tmp_path: Path) -> None:
    code = (
        "import sys; from medgan.data.pseudonyms import Pseudonyms; sys.stdin.read(1);"
        "print(Pseudonyms.of_site().case('x'))"
    )
    environment = os.environ | {"XDG_CONFIG_HOME": str(tmp_path)}
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", code], env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )
        for _ in range(3)
    ]  # fmt: skip
    for racer in racers:
        racer.stdin.write("g")
        racer.stdin.flush()
    answers = [racer.communicate()[0] for racer in racers]
    assert answers[0].startswith("c-")
    assert len(set(answers)) == 1
    assert [path.name for path in (tmp_path / "medgan").iterdir()] == ["salt"]


def test_who_comes_second_takes_the_secret_of_the_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "medgan" / "salt"
    link = os.link

    def overtaken(source: Path, target: Path) -> None:
        path.write_text("ab" * 32)
        link(source, target)

    monkeypatch.setattr(os, "link", overtaken)
    assert site(monkeypatch, tmp_path).salt == b"\xab" * 32
    assert list(path.parent.iterdir()) == [path]


def test_the_private_key_leads_back_and_is_private(tmp_path: Path) -> None:
    rows = [("c-1", "s-1", '/data/DOE, "JANE".nii'), ("c-2", "s-2", "/data/Zoë.nii")]
    path = tmp_path / "out" / "private_key.csv"
    write_private_key(path, iter(rows))
    assert path.stat().st_mode & 0o777 == 0o600
    with path.open(newline="", encoding="utf-8") as file:
        assert [tuple(row) for row in csv.reader(file)] == [("case", "subject", "file"), *rows]
