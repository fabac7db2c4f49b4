import json
import re
import shutil
from dataclasses import replace

import pytest
import torch
import yaml
from scipy.ndimage import gaussian_filter

from medgan.app.pipeline import run_pipeline
from medgan.core.errors import ConfigError, DataError, Exit
from medgan.core.volume import Volume
from medgan.evaluation.interval import Interval
from medgan.evaluation.sets.description import describe
from medgan.evaluation.sets.findings import finding, inside
from medgan.evaluation.sets.metrics import (
    METRICS,
    MetricWithReference,
    compare,
    extrapolation_sizes,
    halves,
    largest_size,
    metrics_of,
)
from medgan.networks.metrics import band_features
from tests.kit.data_sets import TINY, remove_contrast, write_folder
from tests.kit.volumes import phantom_volumes

pytestmark = pytest.mark.long

SPACING = (8.0, 8.0, 8.0)


@pytest.fixture(scope="module")
def heads():
    return phantom_volumes(90)


@pytest.fixture(scope="module")
def real(heads):
    return described(heads[:60])


def described(volumes):
    return describe(volumes, band_features(volumes), SPACING, pairs=80)


def compared(real, fake):
    return compare(real, described(fake), [str(n) for n in range(60)], 30, 6, 0)


def blur(volumes, amount):
    return torch.from_numpy(gaussian_filter(volumes.numpy(), (0, 0, amount, amount, amount)))


def noise(volumes, amount):
    random = torch.Generator().manual_seed(0)
    return (volumes + amount * torch.randn(volumes.shape, generator=random)).clamp(-1, 1)


def fewer(volumes, kept):
    return volumes[torch.arange(len(volumes)) % kept]


DEGRADED = {
    "blur": [lambda v: blur(v, 0.4), lambda v: blur(v, 0.8), lambda v: blur(v, 1.6)],
    "noise": [lambda v: noise(v, 0.1), lambda v: noise(v, 0.2), lambda v: noise(v, 0.4)],
    "fewer": [lambda v: fewer(v, 8), lambda v: fewer(v, 4), lambda v: fewer(v, 1)],
}
WORSE = {
    "blur": (
        *("kernel_distance", "rbf_distance", "frechet", "frechet_infinity", "spectrum"),
        *("histogram", "precision", "coverage"),
    ),
    "noise": (
        *("kernel_distance", "rbf_distance", "frechet", "frechet_infinity", "spectrum"),
        *("histogram", "precision", "coverage", "ms_ssim"),
    ),
    # Other metrics leave the range too, but how far depends on who is left.
    "fewer": ("recall", "coverage", "vendi"),
}
"""What has to leave the range of real scans, and ever farther: the matrix in the docs."""


@pytest.mark.parametrize("name", list(DEGRADED))
def test_metrics_that_should_react_get_worse_the_worse_the_scans(name, heads, real):
    found = [compared(real, degrade(heads[60:])) for degrade in DEGRADED[name]]
    for metric in WORSE[name]:
        floor = found[0][metric].real.value
        far = [abs(one[metric].synthetic.value - floor) for one in found]
        assert far == sorted(far), (metric, far)
        assert not inside(METRICS[metric], found[-1][metric]), (metric, found[-1][metric])


def test_other_real_scans_stand_in_the_range_of_real_scans(heads, real):
    found = compared(real, heads[60:])
    outside = [name for name in METRICS if not inside(METRICS[name], found[name])]
    assert len(outside) <= 2
    assert "kernel_distance" not in outside


def test_copies_of_the_real_scans_pass_which_is_why_the_page_says_so(heads, real):
    found = compared(real, heads[:30])
    assert all(inside(METRICS[name], found[name]) for name in METRICS)


def test_the_class_score_counts_volumes_whose_class_is_known(real):
    unknown = torch.full((20, 2), torch.nan, dtype=torch.float64)
    sure = torch.eye(2, dtype=torch.float64).repeat(20, 1)
    both = replace(real, classes=torch.cat([sure, unknown]))
    assert metrics_of(both)["class_score"].measure(both, both) == pytest.approx(2)
    assert "class_score" not in metrics_of(real)


def test_the_floor_does_not_depend_on_what_is_judged(heads, real):
    a, b = (compared(real, v) for v in (heads[60:], noise(heads[60:], 0.3)))
    for name in METRICS:
        assert a[name].real == b[name].real
        assert a[name].real.low <= a[name].real.value <= a[name].real.high


def test_halves_never_share_a_subject_and_hold_as_many_scans_as_promised():
    subjects = ["a"] * 4 + ["b"] * 3 + list("cdefgh")
    size = largest_size(subjects)
    random = torch.Generator().manual_seed(0)
    for _ in range(50):
        first, second = halves(subjects, random)
        assert min(len(first), len(second)) >= size
        people = [{subjects[row] for row in half.tolist()} for half in (first, second)]
        assert not people[0] & people[1]
        assert sorted(torch.cat([first, second]).tolist()) == list(range(13))
    assert largest_size([str(n) for n in range(20)]) == 10


def test_halves_do_not_depend_on_what_subjects_are_called():
    subjects = list("aabcdefg")
    renamed = [chr(ord("z") - ord(name) + ord("a")) for name in subjects]
    drawn = [halves(names, torch.Generator().manual_seed(3)) for names in (subjects, renamed)]
    for one, other in zip(*drawn, strict=True):
        assert torch.equal(one, other)


def test_sizes_to_extrapolate_from_rise_to_the_whole():
    for size in (5, 20, 100):
        sizes = extrapolation_sizes(size)
        assert sizes == sorted(set(sizes))
        assert sizes[-1] == size
        assert len(sizes) >= 2


def test_a_verdict_says_where_a_metric_lies_and_how_far_out():
    near = MetricWithReference(Interval(0.1, 0, 0.2), Interval(0.0, -0.2, 0.2), 0.1)
    far = MetricWithReference(
        Interval(0.5, 0.4, 0.6),
        Interval(0.0, -0.2, 0.2),
        0.1,
    )
    low = MetricWithReference(
        Interval(-0.5, -0.6, -0.4),
        Interval(0.0, -0.2, 0.2),
        0.1,
    )
    distance, share, alike = (METRICS[n] for n in ("kernel_distance", "coverage", "vendi"))
    assert finding(distance, near) == "In the range of real scans."
    assert finding(distance, far).startswith("Above the range of real scans: 5.0 standard")
    assert finding(distance, low) == "Better than other real scans: too typical, or copied."
    assert finding(share, far) == "Better than other real scans: too typical, or copied."
    assert finding(share, low).startswith("Below")
    assert finding(alike, low).startswith("Below")
    assert finding(alike, far).startswith("Above")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A tiny model, and real and synthetic scans in folders."""
    folder = tmp_path_factory.mktemp("realism")
    home = pytest.MonkeyPatch()
    home.setenv("XDG_CONFIG_HOME", str(folder / "home"))
    for name, size in (("DRAWS", 6), ("PAIRS", 10), ("PROBE_STEPS", 3)):
        home.setattr(f"medgan.studies.fidelity.{name}", size)
    write_folder(folder / "real", 24)
    write_folder(folder / "other", 14, seed=1)
    for path in write_folder(folder / "noisy", 14, seed=2).glob("person-??.nii.gz"):
        scan = Volume.load(path)
        random = torch.Generator().manual_seed(int(path.name[7:9]))
        data = scan.data + 40 * torch.randn(scan.data.shape, generator=random).numpy()
        Volume(data.astype("float32"), scan.affine).save(path)
    config = {**TINY, "train": {**TINY["train"], "minutes": 0}}
    for name in ("train", "evaluate"):
        text = yaml.safe_dump({"steps": ["index", name], "config": config})
        (folder / f"{name}.yaml").write_text(text)
    source = f"data.source={folder / 'real'}"
    run_pipeline(str(folder / "train.yaml"), [source, f"out={folder / 'tiny'}"])
    yield folder
    home.undo()


def run(made, monkeypatch, fake, *more):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(made / "home"))
    settings = [f"data.source={made / 'real'}", f"evaluate.fake={made / fake}",
                f"out={made / 'out'}", *more]  # fmt: skip
    done = run_pipeline(str(made / "evaluate.yaml"), settings, replace=True)
    return done, json.loads((made / "out" / "evaluation.json").read_text())


def test_noisy_scans_in_a_folder_stand_out_and_nothing_written_names_a_scan_or_a_path(
    made, monkeypatch
):
    done, plain = run(made, monkeypatch, "other")
    _, noisy = run(made, monkeypatch, "noisy")
    assert plain["protocol"]["real_scans"] == 24
    assert plain["protocol"]["synthetic_scans"] == 14
    assert plain["protocol"]["scans_a_set"] == 12
    assert plain["protocol"]["copies"] == 0
    rows, worse = ({row["metric"]: row for row in found["rows"]} for found in (plain, noisy))
    assert rows["kernel_distance"]["inside"]
    assert not worse["kernel_distance"]["inside"]
    assert not worse["spectrum"]["inside"]
    assert rows["kernel_distance"]["reference"] == worse["kernel_distance"]["reference"]
    assert "volume_label_1" in rows
    assert "class_score" in plain["left_out"]
    for name in ("evaluation.json", "evaluation.html"):
        text = (made / "out" / name).read_text()
        assert "person" not in text
        assert str(made) not in text
    assert "identical to real scans, voxel" not in (made / "out" / "evaluation.html").read_text()
    lines = done.results["evaluate"].values["table"].splitlines()
    assert len(lines) == 2 + len(rows)
    assert lines[3] in done.closing_lines()


def test_a_model_is_measured_on_its_own_grid_and_the_page_holds_everything(made, monkeypatch):
    _, found = run(made, monkeypatch, "tiny/model", "evaluate.probes=true")
    assert found["protocol"]["synthetic"] == "tiny"
    assert found["protocol"]["synthetic_scans"] == 24
    assert found["protocol"]["grid"]["shape"] == [16, 16, 16]
    rows = {row["metric"]: row for row in found["rows"]}
    assert 0 <= rows["auroc"]["value"] <= 1
    assert not rows["kernel_distance"]["inside"]
    page = (made / "out" / "evaluation.html").read_text()
    assert page.count("data:image/png;base64,") == 5
    for row in found["rows"]:
        assert row["finding"] in page
    assert not re.search(r"(src|href)=\"(?!data:)", page)


def test_the_same_seed_gives_the_same_metrics_and_another_one_others(heads, real):
    fake = described(heads[60:])
    names = [str(n) for n in range(60)]
    first, again, other = (compare(real, fake, names, 30, 3, seed) for seed in (0, 0, 1))
    assert first == again
    assert first["kernel_distance"] != other["kernel_distance"]


def test_splits_choose_the_real_scans(made, monkeypatch):
    _, found = run(made, monkeypatch, "other", "evaluate.splits=[train, validation]")
    assert found["protocol"]["real_scans"] == 12
    assert found["protocol"]["splits"] == ["train", "validation"]


def test_synthetic_scans_that_equal_real_ones_are_reported(made, monkeypatch, caplog):
    _, found = run(made, monkeypatch, "real")
    assert found["protocol"]["copies"] == 24
    assert "24 synthetic scans equal real ones, voxel by voxel" in caplog.text
    assert (
        "24 of them are identical to real scans" in (made / "out" / "evaluation.html").read_text()
    )


def test_scans_that_cannot_be_prepared_are_left_out_and_the_rest_measured(
    made, monkeypatch, tmp_path
):
    for name, spoiled in (("real", "person-03"), ("other", "person-05")):
        shutil.copytree(made / name, tmp_path / name)
        remove_contrast(tmp_path / name / f"{spoiled}.nii.gz")
    done, found = run(made, monkeypatch, tmp_path / "other", f"data.source={tmp_path / 'real'}")
    assert found["protocol"]["real_scans"] == 23
    assert found["protocol"]["synthetic_scans"] == 13
    assert [refusal.code for refusal in done.refusals] == ["E_CONTRAST"] * 2
    assert (made / "out" / "refused.csv").read_text().count("E_CONTRAST") == 2
    assert done.exit_status == Exit.REFUSED
    for path in (tmp_path / "other").glob("person-0[0-9].nii.gz"):
        if path.name != "person-05.nii.gz":
            remove_contrast(path)
    with pytest.raises(DataError, match="E_SPLIT 23 real and 4 synthetic scans"):
        run(made, monkeypatch, tmp_path / "other", f"data.source={tmp_path / 'real'}")


def test_too_few_scans_and_nothing_named_are_errors(made, monkeypatch, tmp_path):
    with pytest.raises(DataError, match="E_SPLIT"):
        run(made, monkeypatch, "other", "evaluate.splits=[test]")
    with pytest.raises(ConfigError, match="E_USAGE"):
        run(made, monkeypatch, "other", "evaluate.fake=''")
    with pytest.raises(DataError, match=r"E_NO_SCANS evaluate\.fake: does not exist"):
        run(made, monkeypatch, "nothing here")
