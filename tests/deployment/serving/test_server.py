"""What a server needs to start."""

import asyncio
import socket
import stat
import sys

import pytest
import uvicorn

from medgan.core.errors import EnvironmentFailure
from medgan.deployment.serving import server
from medgan.deployment.serving.server import is_loopback
from medgan.deployment.serving.tokens import Tokens, add_token, read_tokens
from tests.kit.command_line import inside


@pytest.mark.parametrize(
    ("arguments", "status", "code"),
    [
        (["--host", "0.0.0.0"], 2, "E_SERVE"),
        (["--host", "::"], 2, "E_SERVE"),
        (["--host", "hospital.example"], 2, "E_SERVE"),
        (["--root", "absent"], 2, "E_MISSING"),
        (["--tokens", "absent"], 4, "E_TOKENS"),
        (["--add-token", "ann:reader"], 2, "E_USAGE"),
        (["--tokens", "new", "--add-token", "ann:chief"], 2, "E_VALUE"),
        (["--tokens", "new", "--add-token", "ann b:reader"], 2, "E_VALUE"),
        (["--set", "train.batch=4"], 2, "E_SET"),
        (["--set", "serve.queue=0"], 2, "E_VALUE"),
    ],
)
def test_a_server_that_must_not_start_says_why(
    arguments, status, code, tmp_path, monkeypatch, root
):
    monkeypatch.chdir(tmp_path)
    done = inside("serve", "model", *arguments)
    assert done.returncode == status
    assert code in done.stderr


def test_a_port_in_use_and_a_folder_without_a_model(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = inside("serve", tmp_path, "--port", taken.getsockname()[1])
    assert (done.returncode, "E_SERVE" in done.stderr) == (4, True)
    done = inside("serve", tmp_path, "--port", 0)
    assert (done.returncode, "E_MODEL" in done.stderr) == (4, True)


def test_the_extra_is_named_where_it_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    done = inside("serve", tmp_path)
    assert done.returncode == 4
    assert "E_EXTRA prometheus-client" in done.stderr
    assert "pip install 'medgan[serve]'" in done.stderr


def test_connections_that_ask_nothing_do_not_keep_others_out(monkeypatch):
    monkeypatch.setattr(server, "_SILENT_S", 0.1)

    async def app(scope, receive, send):
        await asyncio.sleep(0.5)  # longer than silence may last
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def silent(port, start):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(start)
        answer = await asyncio.wait_for(reader.read(), 5)
        writer.close()
        return answer

    async def run(listening):
        running = uvicorn.Server(uvicorn.Config(app, http="h11", lifespan="off", log_config=None))
        tasks = [asyncio.create_task(running.serve([listening])),
                 asyncio.create_task(server.drop_silent(running))]  # fmt: skip
        port = listening.getsockname()[1]
        asked = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
        starts = (b"", asked[:20], asked, asked + asked[:20])
        answers = await asyncio.gather(*(silent(port, start) for start in starts))
        running.should_exit = True
        await tasks[0]
        tasks[1].cancel()
        return answers

    with socket.create_server(("127.0.0.1", 0)) as listening:
        nothing, half, whole, then_half = asyncio.run(run(listening))
    assert nothing == half == b""
    assert whole.startswith(b"HTTP/1.1 204")
    assert then_half.count(b"HTTP/1.1 204") == 1


def test_this_machine_is_told_from_others():
    assert all(map(is_loopback, ("127.0.0.1", "127.0.0.2", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "hospital.example", "")))


def test_a_token_is_told_once_and_only_its_hash_is_kept(tmp_path):
    file = tmp_path / "tokens"
    done = inside("serve", "model", "--tokens", file, "--add-token", "ann:reader")
    token = done.stdout.split()[1]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert token not in file.read_text()
    assert Tokens(file).user_of(token) == ("ann", "reader")
    assert Tokens(file).user_of(token[:-1]) is None
    again = inside("serve", "model", "--tokens", file, "--add-token", "ann:operator")
    assert (again.returncode, len(read_tokens(file))) == (2, 1)


@pytest.mark.parametrize("text", ["", "# nobody\n", "ann reader\n", "ann chief " + "0" * 64])
def test_a_damaged_file_of_tokens_is_refused(text, tmp_path):
    file = tmp_path / "tokens"
    add_token(file, "ann:reader")
    file.write_text(text)
    with pytest.raises(EnvironmentFailure, match="E_TOKENS"):
        Tokens(file)


def test_a_file_of_tokens_that_others_may_read_is_refused(tmp_path):
    file = tmp_path / "tokens"
    add_token(file, "ann:reader")
    file.chmod(0o640)
    with pytest.raises(EnvironmentFailure, match=r"E_TOKENS .* others"):
        Tokens(file)
