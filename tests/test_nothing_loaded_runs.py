"""Nothing that is loaded can run code: files with a canary, and the source without what could."""

import ast
import hashlib
import json
import os
import pickle
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import medgan
from medgan.core.errors import MedganError
from medgan.data.shape_library import read_shapes
from medgan.evaluation.sets.pretrained import read_weights
from medgan.model.folder import read_model
from medgan.training.checkpoint import restore_newest, save_checkpoint
from tests.kit.models import fresh_state, make_model

PACKAGE = Path(medgan.__file__).parent
FORCED = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
"""With this variable, `torch.load` runs what is in a file, where it is not told otherwise."""
EXPECTED = {
    ("evaluation/sets/pretrained.py", "import pickle"),  # for the name of an error
    ("core/config/reading.py", "yaml.load"),  # with a SafeLoader
    ("studies/utility/command.py", "shell=True"),  # the user's own command line
}
UNPICKLERS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "skops"}
RUNNERS = {"eval", "exec", "compile", "__import__", "execfile"}
CALLS = (
    "os.system", "os.popen", "yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load",
    "yaml.full_load_all", "yaml.unsafe_load_all", "pyfunc.load_model", "shutil.unpack_archive",
    "subprocess.getoutput", "torch.hub.load", "runpy.run_path", "torch.jit.load",
)  # fmt: skip
METHODS = {"extractall", "read_pickle"}
SAFE = (
    ("torch.load", "weights_only", True), ("np.load", "allow_pickle", False),
    ("numpy.load", "allow_pickle", False),
)  # fmt: skip
"""Functions that are safe only with this argument."""


class Canary:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (os.mkdir, (self.path,))


@pytest.mark.fault(33)
def test_no_reader_runs_what_a_file_holds_even_where_the_environment_asks_for_it(
    tmp_path, monkeypatch, measured
):
    monkeypatch.setenv(FORCED, "1")
    canary, read = tmp_path / "canary", 0
    for content in contents(canary, tmp_path):
        for name, reader in readers(tmp_path / f"files{len(content)}", content):
            with pytest.raises((MedganError, ValueError)):
                reader()
            assert not canary.exists(), name
            read += 1
    shapes = tmp_path / "shapes.npz"
    np.savez(shapes, **dict.fromkeys(("sizes", "centres", "bits"), np.array([Canary(canary)])))
    with pytest.raises(MedganError, match="no library of shapes"):
        read_shapes(shapes)
    assert not canary.exists()
    measured(f"{read + 1} files with a canary read under {FORCED}=1, none ran")
    with pytest.warns(UserWarning, match=FORCED):
        torch.load(tmp_path / "zip")
    assert canary.exists(), "the canary would not have run at all"


def contents(canary, folder):
    """A bare pickle, and what `torch.save` writes."""
    trap = {"state_dict": Canary(canary)}
    torch.save(trap, folder / "zip")
    return pickle.dumps(trap), (folder / "zip").read_bytes()


def readers(folder, content):
    """Files with a canary, with hashes that vouch for it, each with what reads it."""
    digest = hashlib.sha256(content).hexdigest()
    make_model().save(folder / "model")
    for name in ("weights.pth", "weights.safetensors"):
        (folder / name).write_bytes(content)
        yield name, partial(read_weights, folder / name)
    for number, name in enumerate(["config.json", *model_files(folder / "model")]):
        copy = shutil.copytree(folder / "model", folder / f"model{number}")
        (copy / name).write_bytes(content)
        if name != "config.json":
            config = json.loads((copy / "config.json").read_text("utf-8"))
            config["sha256"][name] = digest
            (copy / "config.json").write_text(json.dumps(config), "utf-8")
        yield f"{name} of a model", partial(read_model, copy)
    state = fresh_state()
    mark = save_checkpoint(state, folder / "run")
    mark.with_suffix(".safetensors").write_bytes(content)
    mark.write_text(json.dumps({**json.loads(mark.read_text("utf-8")), "sha256": digest}), "utf-8")
    yield "a checkpoint", partial(restore_newest, state, folder / "run")


def model_files(folder):
    """Those that its `config.json` vouches for."""
    return list(json.loads((folder / "config.json").read_text("utf-8"))["sha256"])


@pytest.mark.fault(33)
def test_the_source_calls_nothing_that_runs_what_it_reads(measured):
    files = sorted(PACKAGE.rglob("*.py"))
    found = {
        (path.relative_to(PACKAGE).as_posix(), what)
        for path in files
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        for what in dangers(node)
    }
    assert found == EXPECTED
    measured(f"{len(files)} files of source, {len(found)} named exceptions")


@pytest.mark.parametrize(
    "code",
    [
        *("import pickle", "from pickle import loads", "import joblib.numpy_pickle", "eval(x)"),
        *(
            "exec(x)",
            "yaml.load(x)",
            "yaml.unsafe_load(x)",
            "run(x, shell=True)",
            "run(x, shell=y)",
        ),
        *("torch.load(x)", "torch.load(x, weights_only=False)", "torch.load(x, weights_only=y)"),
        *("np.load(x)", "np.load(x, allow_pickle=True)", "os.system(x)", "pd.read_pickle(x)"),
        *("mlflow.pyfunc.load_model(x)", "archive.extractall()", "__import__(x)"),
    ],
)
def test_each_of_them_would_be_found(code):
    assert any(dangers(node) for node in ast.walk(ast.parse(code)))


def dangers(node):
    """What of a piece of source could run what is read."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [] if isinstance(node, ast.ImportFrom) else [one.name for one in node.names]
        return [f"import {name}" for name in names if name.split(".")[0] in UNPICKLERS]
    if not isinstance(node, ast.Call):
        return []
    called, given = ast.unparse(node.func), {one.arg: one.value for one in node.keywords}
    found = [called] if called in RUNNERS or called.endswith(CALLS) else []
    found += [called] if isinstance(node.func, ast.Attribute) and node.func.attr in METHODS else []
    for name, argument, wanted in SAFE:
        if called == name and not is_constant(given.get(argument), wanted):
            found.append(called)
    if "shell" in given and not is_constant(given["shell"], False):
        found.append("shell=True")
    return found


def is_constant(node, value):
    return isinstance(node, ast.Constant) and node.value is value
