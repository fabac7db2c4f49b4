import signal

import pytest

from medgan.training.stopping import stop_requests
from tests.kit.command_line import inside

STOPS = [n for n in ("SIGTERM", "SIGINT", "SIGUSR1") if hasattr(signal, n)]


@pytest.mark.fault(30)
@pytest.mark.parametrize("name", STOPS)
def test_a_training_takes_note_of_a_signal_and_gives_the_handler_back(name):
    number = getattr(signal, name)
    before = signal.getsignal(number)
    with stop_requests() as stop:
        assert not stop
        signal.raise_signal(number)
        assert stop
    assert signal.getsignal(number) == before


@pytest.mark.fault(30)
@pytest.mark.parametrize("name", STOPS)
def test_a_signal_outside_a_training_ends_a_command_with_status_75(name, monkeypatch, tmp_path):
    handlers = {
        number: signal.getsignal(number) for number in map(signal.Signals.__getitem__, STOPS)
    }
    monkeypatch.setattr(
        "medgan.app.merging.merge_shards", lambda out: signal.raise_signal(signal.Signals[name])
    )
    done = inside("merge", tmp_path)
    for number, handler in handlers.items():
        signal.signal(number, handler)
    assert done.returncode == 75
    assert "E_STOPPED" in done.stderr
