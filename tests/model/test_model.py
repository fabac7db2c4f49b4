import hashlib
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open

import medgan
from medgan.anomaly.calibration import ScoringConfig
from medgan.anomaly.regions import Region
from medgan.core.config import WINDOWS, Preprocessing
from medgan.core.errors import ConfigError, DataError, ModelError
from medgan.core.volume import Volume
from medgan.data.labels import largest_components
from medgan.model import anomaly
from medgan.model.model import Model
from tests.kit.models import TWO_LABELS, make_model
from tests.kit.volumes import AFFINE, scans


@pytest.fixture(scope="module")
def calibrated() -> Model:
    model = make_model()
    model.calibrate(scans(12))
    return model


def test_a_shared_model_does_as_before_without_its_discriminator(tmp_path):
    model = make_model()
    model.learn_densities(lambda: [torch.rand(4, 1, *TWO_LABELS.shape) * 2 - 1])
    model.calibrate(scans(12))
    model.save(tmp_path / "whole", half=True)
    model.share(tmp_path / "shared")
    whole, shared = (medgan.load(tmp_path / name) for name in ("whole", "shared"))
    assert set(shared.densities) == {"local", "latent"}
    assert not any("discriminator" in key for key in _keys(tmp_path / "shared"))
    assert any("discriminator" in key for key in _keys(tmp_path / "whole"))
    scan = scans(1, seed=9)[0]
    assert shared.score(scan).score == whole.score(scan).score
    assert np.array_equal(shared.generate(1)[0].image.data, whole.generate(1)[0].image.data)
    assert model.networks.discriminator is not None
    with pytest.raises(ModelError, match="E_DISCRIMINATOR"):
        _ = shared.networks.critic
    with pytest.raises(ConfigError, match="E_SCORER"):
        shared.calibrate(scans(12), ScoringConfig(("features",)))


def test_what_is_calibrated_with_the_discriminator_is_not_shared(tmp_path):
    model = make_model()
    model.calibrate(scans(12), ScoringConfig(("features",)))
    with pytest.raises(ConfigError, match="E_SCORER"):
        model.share(tmp_path / "shared")
    assert not (tmp_path / "shared").exists()


def _keys(folder) -> list[str]:
    with safe_open(folder / "model.safetensors", framework="pt") as weights:
        return list(weights.keys())


def test_a_scan_is_a_function_of_seed_and_number_alone():
    model = make_model()
    many = model.generate(4, seed=3)
    alone = model.generate(1, seed=3, first=2)[0]
    assert np.array_equal(many[2].image.data, alone.image.data)
    assert not np.array_equal(many[1].image.data, many[2].image.data)
    assert not np.array_equal(model.generate(1, seed=4)[0].image.data, many[0].image.data)


def test_synthetic_scans_have_the_models_grid_units_and_label_values():
    scan = make_model().generate(1)[0]
    assert scan.image.data.shape == (16, 16, 16)
    assert scan.image.spacing == (2.0, 2.0, 2.0)
    assert scan.image.data.min() >= 0
    assert scan.image.data.max() <= 1000
    assert scan.label is not None
    assert set(np.unique(scan.label.data)) <= {0, 3, 7}


def test_specks_of_generated_labels_are_removed_unless_asked_for():
    # Untrained networks draw noise, so nearly every label map has specks.
    raw = make_model().generate(2, smallest_component=0.0)
    clean = make_model().generate(2)
    for before, after in zip(raw, clean, strict=True):
        assert before.label is not None
        assert after.label is not None
        cleaned = largest_components(before.label.data.astype(int), TWO_LABELS.labels, 0.05)
        assert np.array_equal(cleaned, after.label.data)
        assert not np.array_equal(before.label.data, after.label.data)
        assert np.array_equal(before.image.data, after.image.data)


def test_synthetic_ct_is_in_hounsfield_units():
    grid = TWO_LABELS.model_copy(
        update={"intensity": "ct", "window": ((-1000.0, 400.0),), "labels": ()}
    )
    scan = make_model(grid).generate(1)[0]
    assert scan.label is None
    assert -1000 <= scan.image.data.min() < 0


CHEST = Preprocessing(
    spacing=TWO_LABELS.spacing, shape=TWO_LABELS.shape, intensity="ct",
    window=(WINDOWS["lung"], WINDOWS["soft tissue"]),
)  # fmt: skip


def chests(count: int, seed: int = 0) -> list[Volume]:
    """Air, then tissue in the ball, in HU."""
    return [
        Volume(scan.data / scan.data.max() * 1100 - 1000, AFFINE) for scan in scans(count, seed)
    ]


def test_a_model_of_several_windows_calibrates_scores_and_comes_back_from_disk(tmp_path):
    model = make_model(CHEST)
    model.calibrate(chests(12))
    model.save(tmp_path / "model")
    scan = chests(1, seed=5)[0]
    before, after = model.score(scan), medgan.load(str(tmp_path / "model")).score(scan)
    assert before.gain == 1
    assert before.score == after.score
    assert np.array_equal(before.score_map.data, after.score_map.data)
    for drawn in (model.generate(1)[0].image, model.reconstruct(scan)):
        assert drawn.data.min() >= -1350
        assert drawn.data.max() <= 240
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["preprocessing"]["window"] == [[-1350, 150], [-160, 240]]


def test_a_single_window_is_stored_as_its_two_ends(tmp_path):
    grid = CHEST.model_copy(update={"window": (WINDOWS["lung"],)})
    make_model(grid).save(tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["preprocessing"]["window"] == [-1350, 150]
    assert medgan.load(str(tmp_path / "model")).preprocessing == grid


def test_hu_are_never_rescaled():
    model = make_model(CHEST)
    model.calibrate(chests(12))
    scan = chests(1, seed=5)[0]
    shifted = Volume(scan.data + 1000, AFFINE)  # stored values, their intercept forgotten
    result = model.score(shifted)
    assert result.gain == 1
    assert result.p_value is None
    assert any("intensities" in reason for reason in result.reasons)


def test_a_saved_model_scores_generates_and_encodes_as_before(calibrated, tmp_path):
    calibrated.save(tmp_path / "model")
    loaded = medgan.load(str(tmp_path / "model"))
    scan = scans(1, seed=5)[0]
    before, after = calibrated.score(scan), loaded.score(scan)
    assert before.score == after.score
    assert before.p_value == after.p_value
    assert np.array_equal(before.score_map.data, after.score_map.data)
    assert np.array_equal(calibrated.encode(scan), loaded.encode(scan))
    assert np.array_equal(calibrated.generate(1)[0].image.data, loaded.generate(1)[0].image.data)


def test_a_model_in_half_precision_takes_half_the_room_and_draws_the_same(calibrated, tmp_path):
    calibrated.save(tmp_path / "whole")
    calibrated.save(tmp_path / "half", half=True)
    for name in ("model.safetensors", "calibration.safetensors"):
        whole, half = ((tmp_path / kind / name).stat().st_size for kind in ("whole", "half"))
        assert half < 0.6 * whole
    again = medgan.load(str(tmp_path / "half"))
    assert all(p.dtype == torch.float32 for p in again.networks.generator.parameters())
    before, after = (m.generate(1, seed=5)[0].image.data for m in (calibrated, again))
    assert np.abs(before.astype(float) - after).max() <= 20  # of 1000
    scan = scans(1, seed=9)[0]
    assert again.score(scan).score == pytest.approx(calibrated.score(scan).score, rel=0.02)


def test_a_scan_of_another_kind_gets_reasons_and_no_p_value_also_after_loading(
    calibrated, tmp_path
):
    calibrated.save(tmp_path / "model")
    healthy = scans(1, seed=5)[0]
    squeezed = Volume(healthy.data, np.diag([2.0, 2.0, 5.0, 1.0]))
    for model in (calibrated, medgan.load(str(tmp_path / "model"))):
        assert model.score(healthy).reasons == ()
        result = model.score(squeezed)
        assert result.p_value is None
        assert any("field of view" in reason for reason in result.reasons)
        assert result.explanation.startswith("Not comparable")


def test_a_scan_squeezed_by_a_very_bright_lesion_is_stretched_back_before_it_is_scored():
    model = make_model()
    model.calibrate(scans(12))
    assert model.calibration is not None
    assert model.calibration.reference is not None
    known = replace(model.calibration.reference, gain=1.6)  # mostly air, these balls need more
    model.calibration = replace(model.calibration, reference=known)
    healthy = scans(1, seed=5)[0]
    lesioned = healthy.data.copy()
    lesioned[2:5, 2:5, 2:5] = 2 * healthy.data.max()
    before, after = (model.score(Volume(d, healthy.affine)) for d in (healthy.data, lesioned))
    assert before.gain == 1
    assert after.gain > 1.7
    assert "scan was raised" in after.explanation
    prepared = model.prepare(Volume(lesioned, healthy.affine))
    stretched, _ = anomaly.rescaled(model, prepared)
    inside = (prepared.volume.abs() < 0.99) & (stretched.volume.abs() < 0.99)
    in_scanner_units = []
    for scan in (prepared, stretched):
        in_scanner_units.append(scan.scale[0].back(scan.volume[inside].numpy()))
    assert np.allclose(*in_scanner_units, rtol=1e-3)


def test_how_a_scan_is_stored_does_not_make_it_incomparable(calibrated):
    tall = [Volume(v.data, np.diag([2.0, 2.0, 3.5, 1.0])) for v in scans(12)]
    model = make_model()
    model.calibrate(tall)
    turned = np.array([[0, 2.0, 0, 0], [0, 0, 2.0, 0], [3.5, 0, 0, 0], [0, 0, 0, 1]])
    scan = Volume(scans(1, seed=5)[0].data.transpose(2, 0, 1), turned)
    assert model.score(scan).reasons == model.score(tall[0]).reasons == ()


def test_regions_lie_where_the_map_is_above_the_level_and_are_named_by_a_label_map():
    model, scan = make_model(), scans(1, seed=5)[0]
    model.calibrate(scans(12))
    assert model.calibration is not None
    model.calibration = replace(model.calibration, level=1.5)
    labels = np.zeros(scan.data.shape, np.float32)
    labels[8:] = 4
    result = model.score(scan, Volume(labels, AFFINE))
    above = result.score_map.data > 1.5
    assert result.region_map is not None
    assert above.any()
    assert np.array_equal(result.region_map.data > 0, above)
    assert sum(r.volume_mm3 for r in result.regions) == pytest.approx(8.0 * above.sum())
    assert {r.name for r in result.regions} <= {"4", "background"}
    largest = max(r.volume_mm3 for r in result.regions)
    few = model.score(scan, smallest_mm3=largest)
    assert {r.volume_mm3 for r in few.regions} == {largest}


def test_a_label_map_on_another_grid_is_refused(calibrated):
    with pytest.raises(DataError, match="E_LABEL_GRID"):
        calibrated.score(scans(1)[0], Volume(np.zeros((3, 3, 3)), AFFINE))


def test_a_calibration_of_an_older_medgan_is_as_none(calibrated, tmp_path):
    calibrated.save(tmp_path)
    values = json.loads((tmp_path / "calibration.json").read_text())
    del values["scoring_config"]
    data = json.dumps(values).encode()
    (tmp_path / "calibration.json").write_bytes(data)
    config = json.loads((tmp_path / "config.json").read_text())
    config["sha256"]["calibration.json"] = hashlib.sha256(data).hexdigest()
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="E_UNCALIBRATED"):
        medgan.load(str(tmp_path)).score(scans(1)[0])


def test_the_card_names_limits_and_calibration(calibrated, tmp_path):
    calibrated.save(tmp_path)
    card = (tmp_path / "card.md").read_text()
    assert "Not a medical device" in card
    assert "12 healthy scans" in card


@pytest.mark.parametrize(
    "name", ["model.safetensors", "calibration.json", "calibration.safetensors"]
)
def test_a_changed_file_is_refused(calibrated, tmp_path, name):
    calibrated.save(tmp_path)
    data = bytearray((tmp_path / name).read_bytes())
    data[-3] ^= 1
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ModelError, match="differs from its hash"):
        medgan.load(str(tmp_path))


@pytest.mark.fault(32)
def test_missing_foreign_and_future_folders_are_refused(calibrated, tmp_path):
    with pytest.raises(ModelError, match=r"no config\.json"):
        medgan.load(str(tmp_path / "nowhere"))
    calibrated.save(tmp_path / "m")
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    for change, message in (
        (
            {"format": 99, "medgan": "0.0.9"},
            r"format 99, .*use the version that made it \(0\.0\.9\)",
        ),
        ({"sha256": {"../secret": "0"}}, "outside itself"),
        (
            {"model": {**config["model"], "latent": 9}},
            r"does not fit its config\.json: \S+ is [\d x]+ there",
        ),
    ):
        shutil.copytree(tmp_path / "m", tmp_path / "x", dirs_exist_ok=True)
        (tmp_path / "x" / "config.json").write_text(json.dumps({**config, **change}))
        with pytest.raises(ModelError, match=message):
            medgan.load(str(tmp_path / "x"))


def test_an_uncalibrated_model_refuses_to_score():
    with pytest.raises(ModelError, match="E_UNCALIBRATED"):
        make_model().score(scans(1)[0])


def test_too_few_calibration_scans_are_refused():
    for count in (0, 4):
        with pytest.raises(DataError, match="E_CALIBRATION"):
            make_model().calibrate(scans(count))


def test_a_scan_with_a_bright_blot_scores_higher():
    calibrated = make_model()
    with torch.no_grad():  # a reconstruction that the blot does not move
        calibrated.networks.encoder.latent.weight.zero_()
    calibrated.calibrate(scans(12))
    scan = scans(1, seed=8)[0]
    data = scan.data.copy()
    data[2:5, 11:14, 2:5] = 100
    clean, spoiled = calibrated.score(scan), calibrated.score(Volume(data, AFFINE))
    assert spoiled.score > clean.score
    assert spoiled.parts["residual"] > clean.parts["residual"]


def test_a_reconstruction_comes_in_the_scans_grid_and_intensities(calibrated):
    scan = scans(1)[0]
    padded = Volume(np.pad(scan.data, ((0, 4), (2, 0), (0, 0))), AFFINE)
    recon = calibrated.reconstruct(padded)
    assert recon.data.shape == padded.data.shape
    assert np.array_equal(recon.affine, padded.affine)
    assert 0 < recon.data.mean() < 150


def test_p_values_of_fresh_healthy_scans_are_not_small_too_often(calibrated):
    p = [calibrated.score(scan).p_value for scan in scans(40, seed=99)]
    assert np.mean(np.array(p) <= 0.2) <= 0.5
    assert min(p) >= 1 / 13


@pytest.mark.fault(15)
def test_bits_of_a_score_do_not_depend_on_storage_order(calibrated, tmp_path, measured):
    import nibabel
    from nibabel.orientations import axcodes2ornt, ornt_transform

    image = nibabel.Nifti1Image(scans(1, seed=4)[0].data, AFFINE)
    results = []
    for codes in ("RAS", "LPI", "SAR", "ILP", "PSR"):
        turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(codes))
        path = tmp_path / f"{codes}.nii.gz"
        nibabel.save(image.as_reoriented(turn), path)
        results.append(calibrated.score(path))
    assert len({r.score for r in results}) == 1
    assert len({r.p_value for r in results}) == 1
    reference = results[0].score_map.canonical().data
    assert all(np.array_equal(r.score_map.canonical().data, reference) for r in results)
    measured(f"{len(results)} orientations, {len({r.score for r in results})} score")


def test_an_explanation_names_the_map_that_drove_the_score_or_the_only_one(calibrated):
    result = calibrated.score(scans(1, seed=5)[0])
    one = replace(result, parts={"localiser": 2.44}, regions=())
    assert one.explanation == (
        "The score is that of the localiser map, 2.4 healthy standard deviations."
    )
    assert " map, 0.0 healthy" in replace(one, parts={"localiser": -0.04}).explanation
    both = replace(one, parts={"localiser": 2.44, "density": 3.0}, gain=1.5)
    assert both.explanation == (
        "The density map drove the score: 3.0 healthy standard deviations, beside 2.4 of the "
        "localiser map; the contrast of the scan was raised 1.5-fold first."
    )
    regions = model_regions(2)
    assert "with 2 regions above" in replace(one, regions=regions).explanation
    assert "with 1 region above" in replace(one, regions=regions[:1]).explanation


def model_regions(count: int) -> tuple[Region, ...]:
    zero = (0.0, 0.0, 0.0)
    return tuple(Region(n + 1, 8.0, 3.0, 2.0, zero, zero) for n in range(count))


def test_a_new_calibration_keeps_the_scorers_of_the_old_one():
    model = make_model()
    model.calibrate(scans(6), ScoringConfig(("similarity",)))
    model.calibrate(scans(6, seed=1))
    assert model.calibration is not None
    assert model.calibration.scoring_config.scorers == ("similarity",)
    model.calibrate(scans(6), ScoringConfig(("residual",)))
    assert model.calibration.scoring_config.scorers == ("residual",)
