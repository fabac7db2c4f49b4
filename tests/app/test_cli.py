import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time

import pytest
import typer
import yaml
from typer.testing import CliRunner

from medgan.app.cli import app
from medgan.core.version import __version__ as medgan_version
from tests.kit.command_line import MEDGAN, inside, medgan
from tests.kit.data_sets import TINY, write_folder
from tests.kit.models import make_conditioned


def best_of(count, command):
    """Processor time: other tests run beside this one."""
    times = []
    for _ in range(count):
        started = sum(os.times()[2:4])
        subprocess.run(command, check=True, capture_output=True)
        times.append(sum(os.times()[2:4]) - started)
    return min(times)


@pytest.fixture(scope="module")
def training(tmp_path_factory):
    """A folder of scans and a pipeline that trains on them in seconds."""
    folder = tmp_path_factory.mktemp("cli")
    source = write_folder(folder / "scans", 16, labels=False)
    pipeline = folder / "tiny.yaml"
    pipeline.write_text(yaml.safe_dump({"steps": ["index", "train", "calibrate"], "config": TINY}))
    return folder, pipeline, source


def test_import_and_help_are_fast():
    empty = best_of(3, [sys.executable, "-c", ""])
    assert best_of(3, [sys.executable, "-c", "import medgan"]) - empty < 0.1
    assert best_of(3, [*MEDGAN, "--help"]) < 0.4


def test_import_loads_nothing_heavy():
    heavy = "('torch', 'monai', 'mlflow', 'numpy')"
    code = f"import sys, medgan; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def verbs(command=None, path=()):
    """Every verb with its command, nested ones too."""
    command = command or typer.main.get_command(app)
    for name, nested in getattr(command, "commands", {}).items():
        if hasattr(nested, "commands"):
            yield from verbs(nested, (*path, name))
        else:
            yield (*path, name), nested


@pytest.mark.parametrize(("path", "command"), list(verbs()), ids=["-".join(v) for v, _ in verbs()])
def test_every_verb_has_help_with_an_example_of_its_own(path, command):
    done = inside(*path, "--help")
    assert done.returncode == 0
    assert "--json" in done.stdout
    example = re.search(r"Example: medgan (.+)", " ".join(command.help.split()))
    assert example, path
    words = shlex.split(example[1])
    assert tuple(words[: len(path)]) == path
    command.make_context(path[-1], words[len(path) :])  # options and arguments are ones it takes


def test_the_version_is_printed():
    done = inside("--version")
    assert (done.returncode, done.stdout) == (0, f"medgan {medgan_version}\n")


def test_a_task_without_the_format_it_belongs_to_is_refused(tmp_path):
    done = inside("score", "model", tmp_path, "--task", "sample")
    assert done.returncode == 2
    assert "E_USAGE --task" in done.stderr


def completion(words):
    """The variables by which bash asks for the last of some words."""
    line = {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1)}
    return {"_MEDGAN_COMPLETE": "complete_bash", **line}


def complete(words):
    """What the shell is offered for the last of some words."""
    asked = CliRunner(env=completion(words))
    return asked.invoke(app, [], prog_name="medgan").stdout.split()


def test_the_shell_completes_verbs_and_presets():
    asked = {**os.environ, **completion("medgan ge")}
    done = subprocess.run(MEDGAN, env=asked, capture_output=True, text=True)
    assert done.stdout.split() == complete("medgan ge") == ["generate"]
    assert {"check", "doctor", "train", "bench"} <= set(complete("medgan "))
    assert complete("medgan bench sp") == ["speed"]
    assert set(complete("medgan train ixi")) == {"ixi_brain", "ixi_brain_2mm"}
    assert complete("medgan evaluate --config msd_") == ["msd_hippocampus"]


def test_completion_is_shown_and_installed_without_a_network(tmp_path):
    home = {**os.environ, "HOME": str(tmp_path), "http_proxy": "http://127.0.0.1:9"}
    home["_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION"] = "1"  # whoever calls may be no such shell
    shown = medgan("--show-completion", "bash", env=home)
    assert shown.returncode == 0, shown.stderr
    assert "_MEDGAN_COMPLETE=complete_bash" in shown.stdout
    installed = medgan("--install-completion", "bash", env=home)
    assert installed.returncode == 0, installed.stderr
    script = next(tmp_path.rglob("*.sh"))
    assert "_MEDGAN_COMPLETE=complete_bash" in script.read_text()
    assert str(script) in (tmp_path / ".bashrc").read_text()


def test_tracebacks_are_for_debug_alone(tmp_path, monkeypatch):
    def fault(*args):
        raise ZeroDivisionError("DOE_JANE")

    monkeypatch.setattr("medgan.app.pipeline.run_pipeline", fault)
    done = CliRunner().invoke(app, ["check", str(tmp_path), "--json"])
    assert done.exit_code == 70
    assert "E_INTERNAL" in done.stderr
    assert "Traceback" not in done.output
    assert "DOE_JANE" not in done.output
    assert json.loads(done.stdout)["error"]["code"] == "E_INTERNAL"
    monkeypatch.setattr("medgan.app.cli.running.debug", False)
    done = CliRunner().invoke(app, ["--debug", "check", str(tmp_path)])
    assert isinstance(done.exception, ZeroDivisionError)


@pytest.mark.slow
def test_train_then_score_gives_json_and_status_0(training, tmp_path):
    folder, pipeline, source = training
    out = folder / "out-json"
    done = medgan("train", pipeline, "--data", source, "-o", out, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["train"]["volumes_seen"] == 16
    used = yaml.safe_load((out / "config.yaml").read_text())
    assert used["data"]["spacing"] == TINY["data"]["spacing"]
    scan = source / "person-03.nii.gz"
    done = medgan("score", out / "model", scan, "-o", tmp_path / "s", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["score"]["scans"] == 1
    assert (tmp_path / "s" / "scores.csv").read_text().count("\n") == 2


@pytest.mark.slow
def test_the_latent_verbs_say_where_their_results_are(tmp_path):
    make_conditioned().save(tmp_path / "model")
    scan = write_folder(tmp_path / "scans", 1, labels=False) / "person-00.nii.gz"
    steps = ["--set", "latent.steps=1", "--json"]
    for verb, more in (
        ("invert", [scan]),
        ("interpolate", ["seed:1", scan, "-n", 2, "--set", "sex=F"]),
        ("edit", [scan, "--known", "age=55", "--set", "age=70"]),
    ):
        out = tmp_path / verb
        done = inside(verb, tmp_path / "model", *more, "-o", out, *steps)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)[verb]["folder"] == str(out)
        assert list(out.rglob("*.png"))
    assert json.loads((tmp_path / "edit" / "edits.json").read_text())["known"] == {"age": "55"}
    done = inside("edit", tmp_path / "model", scan, "--set", "weight=70", "-o", tmp_path / "no")
    assert done.returncode == 2
    assert "E_CONDITION weight" in done.stderr


def test_a_shared_model_is_half_the_size_and_never_takes_the_models_place(tmp_path):
    make_conditioned().save(tmp_path / "run" / "model")
    done = inside("share", tmp_path / "run" / "model", "-o", tmp_path / "out", "--json")
    result = json.loads(done.stdout)["share"]
    whole = sum(file.stat().st_size for file in (tmp_path / "run" / "model").iterdir())
    assert result["bytes"] < 0.6 * whole
    done = inside("share", tmp_path / "run" / "model", "-o", tmp_path / "run")
    assert done.returncode == 2
    assert "E_OUT" in done.stderr


def test_sharing_replaces_a_shared_model_with_all_its_files_and_no_other(tmp_path):
    def share(model, out):
        done = CliRunner().invoke(app, ["share", str(model), "-o", str(tmp_path / out)])
        return done.exit_code, done.output

    make_conditioned().save(tmp_path / "run" / "model")
    make_conditioned().save(tmp_path / "older" / "model")
    assert share(tmp_path / "run" / "model", "out")[0] == 0
    stale = tmp_path / "out" / "model" / "calibration.json"
    stale.write_text("{}")
    assert share(tmp_path / "run" / "model", "out")[0] == 0
    assert not stale.exists()
    before = (tmp_path / "older" / "model" / "config.json").read_bytes()
    status, told = share(tmp_path / "run" / "model", "older")
    assert status == 2
    assert "E_OUT -o: holds model, which this command did not write" in told
    assert (tmp_path / "older" / "model" / "config.json").read_bytes() == before
    assert share(tmp_path / "out" / "model", "again")[0] == 0


def test_a_dry_run_says_what_a_training_takes_and_writes_nothing(training, tmp_path):
    _, pipeline, source = training
    out = tmp_path / "none"
    dry = ["train", pipeline, "--dry-run", "-o", out]
    done = inside(*dry, "--data", source, "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["preprocessing"]["shape"] == TINY["data"]["shape"]
    assert answer["fits"]
    assert answer["memory"]["peak"] > 1.2 * answer["memory"]["resident"]
    assert answer["seconds"] > 0
    plain = inside(*dry)
    assert plain.returncode == 0
    assert "memory" in plain.stdout
    assert not out.exists()
    nothing = inside("train", "train", "--dry-run", "-o", out)
    assert nothing.returncode == 2
    assert "E_NO_DATA" in nothing.stderr


def test_a_refused_file_gives_status_3_and_one_line_without_its_name(training, tmp_path, caplog):
    _, _, source = training
    folder = tmp_path / "scans"
    folder.mkdir()
    for name in ("person-00.nii.gz", "person-01.nii.gz"):
        (folder / name).write_bytes((source / name).read_bytes())
    (folder / "MUSTERMANN_MAX.nii.gz").write_bytes((folder / "person-00.nii.gz").read_bytes()[:900])
    done = inside("check", folder, "-o", tmp_path / "out")
    assert done.returncode == 3
    lines = [line for line in caplog.messages if "E_TRUNCATED" in line]
    assert len(lines) == 1
    assert "MUSTERMANN" not in done.stdout + done.stderr + caplog.text


slow = pytest.mark.slow


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (["train", "nonsense"], 2, "E_MISSING"),
        (["run", "check", "--set", "train.gama=2"], 2, "train.gamma"),
        (["run", "check"], 2, "E_NO_DATA"),
        (["score", "no/such/model", "."], 4, "E_MODEL"),  # before any scan is read
        (["generate", "no/such/model"], 4, "E_MODEL"),
        pytest.param(["baseline", "nonsense", "--data", "."], 2, "E_VALUE", marks=slow),
        pytest.param(
            ["compare", "a", "--data", ".", "--config", "nonsense"], 2, "E_MISSING", marks=slow
        ),
        pytest.param(["evaluate", "no/such/scans", "no/such/model"], 3, "E_NO_SCANS", marks=slow),
        (["bogus"], 2, "No such command"),
    ],
)
def test_errors_are_one_line_with_code_and_status(arguments, status, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = inside(*arguments)
    assert done.returncode == status, done.stderr
    assert text in done.stderr
    assert "Traceback" not in done.stderr
    if text.startswith("E_"):
        assert len([line for line in done.stderr.splitlines() if line.startswith("medgan:")]) == 1


def test_a_process_that_fails_says_so_in_one_line_and_by_its_status(tmp_path):
    done = medgan("generate", "no/such/model", cwd=tmp_path)
    assert done.returncode == 4
    (line,) = done.stderr.splitlines()
    assert line.startswith("medgan: E_MODEL")
    assert done.stdout == ""


@pytest.mark.fault(30)
def test_sigterm_saves_exits_75_and_the_same_command_ends_with_the_same_weights(training, measured):
    folder, _, source = training
    pipeline = folder / "train.yaml"
    pipeline.write_text(yaml.safe_dump({"steps": ["index", "train"], "config": TINY}))
    command = ["train", pipeline, "--data", source]
    command += ["--set", "train.volumes=48", "--set", "train.sample_every=16"]
    whole, stopped = folder / "whole", folder / "stopped"
    assert inside(*command, "-o", whole).returncode == 0
    sent = []
    sender = threading.Thread(target=terminate_after_checkpoint, args=(stopped, sent))
    sender.start()
    done = inside(*command, "-o", stopped)
    seconds = time.monotonic() - sent[0]
    sender.join()
    assert seconds < 30
    assert done.returncode == 75, done.stderr
    at = re.search(r"E_STOPPED at (\d+) volumes", done.stderr)
    assert at, done.stderr
    assert newest(stopped) == f"{int(at[1]):09d}.json"
    assert inside(*command, "-o", stopped).returncode == 0
    assert weights(whole) == weights(stopped)
    measured(f"saved and ended with status {done.returncode} {seconds:.1f} s after SIGTERM")


@pytest.mark.fault(28)
@pytest.mark.slow
def test_twenty_kills_at_random_moments_end_with_the_same_weights(training):
    import random

    folder, pipeline, source = training
    command = ["train", pipeline, "--data", source, "--set", "train.volumes=400"]
    whole, killed = folder / "whole-400", folder / "killed"
    assert medgan(*command, "-o", whole).returncode == 0
    random.seed(0)
    for _ in range(20):
        process = subprocess.Popen(
            [*MEDGAN, *map(str, command), "-o", str(killed)], stderr=subprocess.DEVNULL
        )
        wait_for_checkpoint(killed, process, newer_than=newest(killed))
        time.sleep(random.uniform(0, 0.6))
        process.kill()
        process.wait()
    assert medgan(*command, "-o", killed).returncode == 0
    assert weights(whole) == weights(killed)


def terminate_after_checkpoint(out, sent):
    """Sends SIGTERM to this process once there is a checkpoint, and notes when."""
    deadline = time.monotonic() + 120
    while not newest(out) and time.monotonic() < deadline:
        time.sleep(0.02)
    sent.append(time.monotonic())
    if newest(out):
        os.kill(os.getpid(), signal.SIGTERM)


def wait_for_checkpoint(out, process, newer_than=""):
    """Until a checkpoint is newer than the one named, or the process has ended."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if newest(out) > newer_than:
            return
        time.sleep(0.02)


def newest(out):
    return max((p.name for p in (out / "checkpoints").glob("*.json")), default="")


def weights(out):
    return (out / "model" / "model.safetensors").read_bytes()
