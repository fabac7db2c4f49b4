"""The notebooks of the docs: run in this process on tiny heads, and as they are in a kernel."""

import contextlib
import io
import os
from pathlib import Path

import matplotlib
import nbformat
import pytest

import medgan

FOLDER = Path(medgan.__file__).parent.parent / "docs" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
SETTINGS = [
    "phantoms.subjects=[20, 2]",
    *("data.spacing=[8,8,8]", "data.shape=[32,32,32]", "model.latent=8"),
    *(
        "data.fractions=[0.5,0.1,0.3,0.1]",
        "model.widths=[16,16]",
        "model.stem_channels=16",
        "model.blocks=1",
    ),
    *(
        "train.start_from=",
        "train.volumes=8",
        "train.batch=2",
        "train.warmup=4",
        "localiser.volumes=8",
    ),
]
AUGMENT = [
    "augment.filters=[]",
    "augment.ratio=0.2",
]


def read(path, **parameters):
    """A notebook, its cell of parameters replaced."""
    notebook = nbformat.read(path, as_version=4)
    (cell,) = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    cell.source = "\n".join(f"{name} = {value!r}" for name, value in parameters.items())
    return notebook


def parameters(folder):
    return {"OUT": str(folder / "out"), "SETTINGS": SETTINGS, "AUGMENT": AUGMENT}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebooks_are_committed_without_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None


@pytest.mark.slow
def test_both_notebooks_run_one_after_the_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = io.StringIO()
    for path in reversed(NOTEBOOKS):  # the second goes on with the training of the first
        names = {}
        for cell in read(path, **parameters(tmp_path)).cells:
            if cell.cell_type == "code":
                with contextlib.redirect_stdout(said):
                    exec(compile(cell.source, path.name, "exec"), names)
    assert said.getvalue().count(" score ") >= 2
    assert "of them synthetic" in said.getvalue()
    assert isinstance(medgan.show(names["synthetic"][0]["image"]), matplotlib.figure.Figure)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_kernel_runs_them_and_shows_tables_and_pictures(path, tmp_path, monkeypatch):
    from nbclient import NotebookClient

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(FOLDER.parent.parent)]))
    notebook = read(path, **parameters(tmp_path))
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [
        output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", [])
    ]
    assert any("image/png" in data for data in shown)
    assert any("<table>" in data.get("text/html", "") for data in shown)
    assert not any(output.get("name") == "stderr" and "Traceback" in output.text
                   for cell in notebook.cells for output in cell.get("outputs", []))  # fmt: skip
