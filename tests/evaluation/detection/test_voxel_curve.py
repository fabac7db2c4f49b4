import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from medgan.evaluation.detection.voxel_curve import voxel_curve


def lesion() -> tuple[np.ndarray, np.ndarray]:
    truth = np.zeros((16, 18, 20), bool)
    truth[4:8, 5:9, 6:10] = True
    return truth, np.ones(truth.shape, bool)


def test_a_perfect_map_has_full_marks():
    truth, within = lesion()
    curve = voxel_curve(truth.astype(float), truth, within)
    assert curve.auroc == 1
    assert curve.average_precision == 1
    assert curve.best_dice == (1.0, 1.0)


def test_a_map_shifted_by_a_voxel_loses_what_no_longer_overlaps():
    truth, within = lesion()
    curve = voxel_curve(np.roll(truth, 1, axis=0).astype(float), truth, within)
    assert curve.best_dice[0] == pytest.approx(0.75)
    assert 0.5 < curve.average_precision < 0.75
    assert curve.auroc == pytest.approx(0.75 / 2 + (1 - 16 / (truth.size - 64)) / 2)


def test_a_constant_map_is_at_chance():
    truth, within = lesion()
    curve = voxel_curve(np.zeros(truth.shape), truth, within)
    assert curve.auroc == 0.5
    assert curve.average_precision == pytest.approx(curve.prevalence) == truth.mean()


def test_metrics_agree_with_scikit_learn_ties_included():
    rng = np.random.default_rng(0)
    truth, within = rng.random((9, 9, 9)) < 0.1, rng.random((9, 9, 9)) < 0.7
    score_map = rng.integers(0, 20, truth.shape) + 3.0 * truth
    curve = voxel_curve(score_map, truth, within)
    plain = truth[within], score_map[within]
    assert curve.auroc == pytest.approx(roc_auc_score(*plain))
    assert curve.average_precision == pytest.approx(average_precision_score(*plain))
    assert curve.prevalence == pytest.approx(truth[within].mean())
    value, threshold = curve.best_dice
    for tried in np.unique(score_map):
        found = (score_map >= tried) & within
        dice = 2 * (found & truth).sum() / (found.sum() + (truth & within).sum())
        assert dice <= value + 1e-12
        assert dice == pytest.approx(value) or tried != threshold
