import re

import yaml

from medgan.core.errors import EnvironmentFailure
from medgan.reporting import training as module
from medgan.reporting.training import MOST_GRIDS, TrainingPage, write_training_page


def test_the_page_shows_every_metric_the_settings_and_the_data(training):
    assert write_training_page(training)
    text = (training / "report" / "training.html").read_text()
    for title in ("Samples over time", "Discriminator of images", "Data card", "Configuration"):
        assert f"<h2>{title}</h2>" in text
    assert text.count('<svg class="plot"') == 3
    assert "from 1 at 4 to 0.025 at 160 volumes seen" in text
    assert "160 volumes seen; the training is not finished" in text
    assert "9 scans of 5 subjects" in text
    assert "20 to 28, median 24; known for 9 scans" in text
    assert "90 to 98 x 80 x 70" in text
    assert "1 files: E_READ 1" in text
    assert re.search(r"<dt>volumes</dt><dd><strong>16</strong>", text)


def test_the_goal_of_a_training_is_a_line_in_the_plot_of_its_metric(training):
    settings = yaml.safe_load((training / "config.yaml").read_text())
    settings["train"] |= {"stop_at": 0.125, "metric": "kernel_distance"}
    (training / "config.yaml").write_text(yaml.safe_dump(settings))
    write_training_page(training)
    text = (training / "report" / "training.html").read_text()
    assert text.count("; the training stops at 0.125") == 1
    assert text.count('<line class="limit"') == 1


def test_no_path_and_no_covariate_that_was_not_asked_for_is_on_the_page(training):
    write_training_page(training)
    text = (training / "report" / "training.html").read_text()
    for secret in ("mustermann", "Erika", str(training), "source"):
        assert secret not in text


def test_sample_grids_are_spread_over_the_training_and_forgotten_with_it(training):
    write_training_page(training)
    beside = training / "report" / "samples"
    shown = sorted(int(path.stem) for path in beside.glob("*.png"))
    assert len(shown) == MOST_GRIDS
    assert (shown[0], shown[-1]) == (10, 150)
    for path in (training / "samples").glob("*.png"):
        if int(path.stem) > 30:
            path.unlink()
    write_training_page(training)
    assert sorted(int(path.stem) for path in beside.glob("*.png")) == [10, 20, 30]
    text = (training / "report" / "training.html").read_text()
    assert len(re.findall(r'<img src="samples/\d+.png"', text)) == 3


def test_the_page_follows_a_training_and_never_ends_it(training, monkeypatch, caplog):
    page = TrainingPage(training)
    page.picture(training / "samples" / "000000150.png")
    assert (training / "report" / "training.html").is_file()

    def full(*_):
        raise EnvironmentFailure("E_DISK", "training.html", "not written", "free some space")

    monkeypatch.setattr(module, "write_atomic", full)
    page.picture(training / "samples" / "000000150.png")
    assert "E_DISK" in caplog.text


def test_without_a_training_there_is_no_page(tmp_path):
    assert not write_training_page(tmp_path)
    assert not (tmp_path / "report").exists()
