import psutil
import pytest

from medgan.core import system

GIB = 2**30


@pytest.fixture
def container(tmp_path, monkeypatch):
    """A container with a limit of 4 GiB that uses 3, of which 1 is cached files."""
    monkeypatch.setattr(system, "_CONTAINER", tmp_path)
    (tmp_path / "memory.max").write_text(f"{4 * GIB}\n")
    (tmp_path / "memory.current").write_text(f"{3 * GIB}\n")
    (tmp_path / "memory.stat").write_text(f"anon {2 * GIB}\ninactive_file {GIB}\n")
    return tmp_path


@pytest.fixture
def machine(monkeypatch):
    """A machine of 64 GiB with 32 free."""
    memory = psutil.virtual_memory()._replace(total=64 * GIB, available=32 * GIB)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)


def test_a_container_limits_memory_and_its_cached_files_count_as_free(container, machine):
    assert (system.free_ram(), system.total_ram()) == (2 * GIB, 4 * GIB)


def test_a_container_without_a_limit_has_the_memory_of_the_machine(container, machine):
    (container / "memory.max").write_text("max\n")
    assert (system.free_ram(), system.total_ram()) == (32 * GIB, 64 * GIB)


def test_a_limit_above_what_the_machine_has_does_not_add_any(container, machine):
    (container / "memory.max").write_text(f"{256 * GIB}\n")
    assert (system.free_ram(), system.total_ram()) == (32 * GIB, 64 * GIB)


def test_a_container_that_is_full_has_nothing_free(container, machine):
    (container / "memory.current").write_text(f"{6 * GIB}\n")
    assert system.free_ram() == 0


def test_without_a_container_the_machine_counts(machine, tmp_path, monkeypatch):
    monkeypatch.setattr(system, "_CONTAINER", tmp_path / "none")
    assert (system.free_ram(), system.total_ram()) == (32 * GIB, 64 * GIB)


@pytest.mark.parametrize(
    ("text", "cores"), [("200000 100000", 2), ("150000 100000", 2), ("50000 100000", 1)]
)
def test_a_container_limits_the_cores(container, text, cores):
    (container / "cpu.max").write_text(f"{text}\n")
    assert system.core_limit() == cores


def test_a_container_without_a_limit_has_the_cores_of_the_machine(container):
    (container / "cpu.max").write_text("max 100000\n")
    assert system.core_limit() == psutil.cpu_count()
