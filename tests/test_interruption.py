"""A request to stop is never taken for the fault of a scan, a file or a server."""

import shutil
import signal
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import JPEGLSLossless

from medgan.core.errors import Interrupted, MedganError
from medgan.data.dicom.decoder import Decoder
from medgan.data.index import index
from medgan.data.pseudonyms import Pseudonyms
from tests.kit.command_line import inside
from tests.kit.data_sets import write_folder
from tests.kit.dicom import compress, make_series, save
from tests.kit.models import CONFIG, GRID, fresh_state
from tests.kit.scored_series import scored_series


@pytest.fixture(params=[Interrupted, KeyboardInterrupt, SystemExit])
def interrupted_in(request):
    """In place of a function, the signal that stops the process; its handler raises."""
    kind = request.param
    stop = kind("E_STOPPED", "medgan", "asked to stop", "again") if kind is Interrupted else kind()

    def handler(number: int, frame: object) -> None:
        raise stop

    def signalled(*_: object, **__: object) -> None:
        signal.raise_signal(signal.SIGTERM)

    @contextmanager
    def inside(function: str):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(function, signalled)
            with pytest.raises(kind) as caught:
                yield
        assert caught.value is stop

    old = signal.signal(signal.SIGTERM, handler)
    yield inside
    signal.signal(signal.SIGTERM, old)


def indexed(folder: Path, out: Path) -> None:
    index(folder, Pseudonyms.of_site(), converted=out / "dicom")


@pytest.mark.fault("swallowed signals")
def test_an_interruption_is_not_among_the_exceptions_that_handlers_of_faults_catch():
    assert issubclass(Interrupted, KeyboardInterrupt)
    assert not issubclass(Interrupted, (Exception, MedganError))


@pytest.mark.fault("swallowed signals")
@pytest.mark.parametrize(
    "function",
    [
        "pydicom.dcmread",
        "pydicom.filereader._read_file_meta_info",
        "pydicom.pixels.decoders.base.get_decoder",
        "medgan.data.dicom.conversion.stack_slices",
        "medgan.data.dicom.conversion.write_converted",
    ],
)
def test_a_series_is_read(function, interrupted_in, tmp_path):
    folder = save(make_series("MR"), tmp_path / "in")
    with interrupted_in(function):
        indexed(folder, tmp_path)


@pytest.mark.fault("swallowed signals")
def test_a_compressed_slice_is_decoded_and_half_an_answer_is_never_taken_for_the_next(
    interrupted_in, tmp_path
):
    folder = save(make_series("CT", slices=2), tmp_path)
    for path in folder.iterdir():
        compress(path, JPEGLSLossless)
    with closing(Decoder()) as decoder:
        second = decoder.read(folder / "i001", JPEGLSLossless, [0], "c")
        with interrupted_in("medgan.data.dicom.decoder._answer"):
            decoder.read(folder / "i000", JPEGLSLossless, [0], "c")
        again = decoder.read(folder / "i001", JPEGLSLossless, [0], "c")
    np.testing.assert_array_equal(again, second)


@pytest.mark.fault("swallowed signals")
@pytest.mark.parametrize(
    "function",
    [
        "medgan.core.volume.Volume.load",
        "pydicom.uid.generate_uid",
        "highdicom.sc.SCImage",
        "pydicom.dataset.Dataset.save_as",
        "medgan.core.files.write_atomic",
    ],
)
def test_dicom_objects_are_written(function, interrupted_in, tmp_path):
    from medgan.workflows.dicom import export_dicom

    run, source, _ = scored_series(tmp_path)
    with interrupted_in(function):
        export_dicom(run, source, tmp_path / "out")


@pytest.mark.fault("swallowed signals")
@pytest.mark.parametrize("function", ["check_scan", "examine"])
def test_scans_are_indexed(function, interrupted_in, tmp_path):
    folder = write_folder(tmp_path / "in", 2)
    with interrupted_in(f"medgan.data.index.{function}"):
        indexed(folder, tmp_path)


@pytest.mark.fault("swallowed signals")
def test_a_data_set_is_scored(interrupted_in, tmp_path):
    from medgan.model.model import Model
    from medgan.workflows.score import score_cases

    model = Model(fresh_state().average, GRID, CONFIG.model, {})
    manifest, _ = index(write_folder(tmp_path / "in", 2), Pseudonyms.of_site())
    with interrupted_in("medgan.workflows.scan_score.score_case"):
        score_cases(model, manifest.cases, tmp_path)


@pytest.mark.fault("swallowed signals")
def test_a_command_ends_with_its_status_and_refuses_nothing(tmp_path, monkeypatch, caplog):
    save(make_series("MR"), tmp_path / "in")
    stop = lambda *_, **__: signal.raise_signal(signal.SIGTERM)  # noqa: E731
    monkeypatch.setattr("pydicom.dcmread", stop)
    done = inside("check", tmp_path / "in", "-o", tmp_path / "out")
    assert done.returncode == 75, done.stderr
    assert done.stderr.splitlines()[-1].startswith("medgan: E_STOPPED")
    assert "refused" not in done.stderr + caplog.text


@pytest.fixture(scope="module")
def recorded(tmp_path_factory, fresh_store):
    """A store with a run that has a model, and the model's URI."""
    from medgan.tracking.mlflow import MlflowRun

    folder = tmp_path_factory.mktemp("mlflow")
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text("{}")
    shutil.copy(fresh_store, folder / "mlflow.db")
    run = MlflowRun(f"sqlite:///{folder / 'mlflow.db'}", "e", folder)
    return run, run.model(folder / "model"), folder


@pytest.mark.fault("swallowed signals")
@pytest.mark.parametrize("interrupted_in", [Interrupted], indirect=True)
@pytest.mark.parametrize(
    ("function", "stage"),
    [
        ("search_experiments", "begin"),
        ("create_run", "begin"),
        ("log_batch", "log"),
        ("log_artifacts", "record"),
        ("set_terminated", "finish"),
        ("create_model_version", "register"),
        ("set_registered_model_alias", "register"),
        ("get_model_version_by_alias", "download"),
    ],
)
def test_mlflow_is_asked(function, stage, interrupted_in, recorded, tmp_path):
    from medgan.tracking.mlflow import MlflowRun
    from medgan.tracking.new_rows import NewRow
    from medgan.tracking.registry import download, register

    run, model, folder = recorded
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    stages = {
        "begin": lambda: MlflowRun(uri, "e", tmp_path),
        "log": lambda: run.log([NewRow(1, 1, {"samples/x": 1.0})]),
        "record": lambda: run.model(folder / "model"),
        "finish": run.finish,
        "register": lambda: register(model, uri, "heads", "best", {}),
        "download": lambda: download("models:/heads@best", uri, tmp_path),
    }
    with interrupted_in(f"mlflow.MlflowClient.{function}"):
        stages[stage]()
