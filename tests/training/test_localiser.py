from dataclasses import replace

import numpy as np
import pytest
import torch

from medgan.anomaly.context import LOCAL, ScoringContext, ScoringNetworks, network_input
from medgan.anomaly.density import FeatureDensity
from medgan.anomaly.features import coarse_features
from medgan.anomaly.statistics import floored
from medgan.core.config import LocaliserConfig
from medgan.core.errors import TrainingDiverged
from medgan.data.lesions import plant
from medgan.networks.blocks import Stages
from medgan.networks.gan import Networks
from medgan.networks.localiser import Localiser
from medgan.training import localiser as module
from medgan.training.localiser import CHECKPOINT, localiser_inputs, train_localiser
from medgan.training.patches import cut_patches
from tests.kit.ranks import without_a_slope

SHAPE = (16, 16, 16)
CONFIG = LocaliserConfig(volumes=640)


def scan(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (0.1 * rng.standard_normal((1, *SHAPE))).astype(np.float32)


@pytest.fixture(scope="module")
def scoring_networks():
    torch.manual_seed(0)
    made = Networks.build(SHAPE, 0, 8, Stages((8, 8), 4, 1))
    made.requires_grad(False)
    scans = torch.from_numpy(np.stack([scan(seed) for seed in range(12)]))
    usual = FeatureDensity.fit([coarse_features(scans)])
    return ScoringNetworks(
        made.encoder, made.generator, made.discriminator.features, {LOCAL: usual}
    )


def fresh() -> Localiser:
    torch.manual_seed(1)
    return Localiser(("density", "recon"), Stages((8, 8), 4, 1))


def trained(scoring_networks, folder, config=CONFIG, **more):
    scans = [scan(seed) for seed in range(12)]
    localiser = fresh()
    seen = train_localiser(
        scoring_networks, 8, localiser, scans, ["brighter"], config, 0, folder, **more
    )
    assert seen >= config.volumes or config.minutes
    return localiser


@pytest.mark.long
def test_it_learns_to_point_at_what_was_planted(scoring_networks, tmp_path, monkeypatch):
    monkeypatch.setattr("medgan.training.localiser.LEARNING_RATE", 4e-3)  # it is a short training
    localiser = trained(scoring_networks, tmp_path)
    found = []
    for seed in range(100, 106):
        healthy = scan(seed)[0]
        planted = plant(healthy, healthy, "brighter", 3.0, 1.0, np.random.default_rng(seed))
        volume = torch.from_numpy(planted.volume)[None, None]
        with torch.inference_mode():
            seen = replace(scoring_networks, inputs=localiser.inputs)
            logits = localiser(network_input(ScoringContext(volume, seen), seen.inputs))[
                0, 0
            ].numpy()
        found.append(logits[planted.truth].mean() - logits[~planted.truth].mean())
    assert min(found) > 1.0


def test_a_stopped_lesson_goes_on_to_the_same_weights(scoring_networks, tmp_path, monkeypatch):
    config = LocaliserConfig(volumes=64)
    whole = trained(scoring_networks, tmp_path / "whole", config)
    monkeypatch.setattr("medgan.training.localiser._CHECKPOINT_SECONDS", 0.0)

    class Stopped(Exception):
        pass

    def stop(done: int, total: int) -> None:
        assert total == 64
        if done == 40:
            raise Stopped

    with pytest.raises(Stopped):
        trained(scoring_networks, tmp_path / "parts", config, progress=stop)
    assert (tmp_path / "parts" / CHECKPOINT).is_file()
    resumed = trained(scoring_networks, tmp_path / "parts", config)
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_checkpoint_of_another_lesson_is_not_gone_on_with(scoring_networks, tmp_path):
    config = LocaliserConfig(volumes=16)
    trained(scoring_networks, tmp_path, config)
    shown = []
    longer = LocaliserConfig(volumes=24)
    trained(scoring_networks, tmp_path, longer, progress=lambda done, total: shown.append(done))
    assert shown == [8, 16, 24]
    shown.clear()
    other = replace(
        scoring_networks, generate=lambda latent: 0.5 + 0 * scoring_networks.generate(latent)
    )
    trained(other, tmp_path, longer, progress=lambda done, total: shown.append(done))
    assert shown == [8, 16, 24]
    (tmp_path / CHECKPOINT).write_bytes(b"damaged")
    trained(scoring_networks, tmp_path, config)


@pytest.mark.fault(31)
def test_a_checkpoint_with_a_wrong_bit_is_not_gone_on_with(scoring_networks, tmp_path):
    config, shown = LocaliserConfig(volumes=16), []
    trained(scoring_networks, tmp_path, config)
    path = tmp_path / CHECKPOINT
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1  # a weight or a moment
    path.write_bytes(data)
    trained(scoring_networks, tmp_path, config, progress=lambda done, total: shown.append(done))
    assert shown == [8, 16]


def test_a_gradient_that_is_not_finite_ends_it_before_anything_moves(
    scoring_networks, tmp_path, monkeypatch
):
    real, losses, localiser = module.localisation_loss, [], fresh()

    def spoiled(logits, *arguments, **more):
        losses.append(real(logits, *arguments, **more))
        return losses[-1] + without_a_slope(logits) if len(losses) == 2 else losses[-1]

    monkeypatch.setattr(module, "localisation_loss", spoiled)
    scans, config = [scan(seed) for seed in range(4)], LocaliserConfig(volumes=24)
    with pytest.raises(TrainingDiverged, match="E_NAN at 8 volumes of the localiser"):
        train_localiser(
            scoring_networks, 8, localiser, scans, ["brighter"], config, 0, tmp_path
        )  # fmt: skip
    assert all(torch.isfinite(loss) for loss in losses)
    assert all(torch.isfinite(p).all() for p in localiser.parameters())
    assert not (tmp_path / CHECKPOINT).exists()


def test_patches_of_scan_and_truth_lie_on_each_other_and_most_hold_a_lesion():
    truth = torch.zeros(2, 1, 60, 70, 52)
    truth[0, 0, 5:9, 60:66, 40:44] = 1
    truth[1, 0, 50:55, 3:6, 2:5] = 1
    shown = torch.cat([truth, torch.rand(2, 1, 60, 70, 52)], dim=1)
    patches, where = cut_patches(shown, truth, 20, np.random.default_rng(0))
    assert patches.shape == (40, 2, 48, 48, 48)
    assert torch.equal(patches[:, :1], where)
    assert (where.sum(dim=(1, 2, 3, 4)) > 0).float().mean() > 0.6


def test_a_localiser_of_aligned_scans_learns_without_a_generator_from_patches(
    scoring_networks, tmp_path, monkeypatch
):
    monkeypatch.setattr("medgan.training.patches._WHOLE", 8)
    monkeypatch.setattr("medgan.training.patches._PATCH", 12)
    scans = [scan(seed) for seed in range(12)]
    stack = torch.from_numpy(np.stack(scans))
    bare = ScoringNetworks(
        None, None, None, scoring_networks.densities,
        healthy=floored(stack.mean(dim=0), stack.std(dim=0)),
    )  # fmt: skip
    torch.manual_seed(1)
    localiser = Localiser(("density", "deviation"), Stages((8, 8), 4, 1))
    start = localiser.unet.out.weight.clone()
    families = ["brighter", "dark shape"]
    config = LocaliserConfig(volumes=16)
    assert train_localiser(bare, 8, localiser, scans, families, config, 0, tmp_path) == 16
    assert torch.isfinite(localiser.unet.out.weight).all()
    assert not torch.equal(localiser.unet.out.weight, start)


def test_what_a_localiser_sees_follows_from_the_alignment(scoring_networks):
    assert localiser_inputs(scoring_networks) == ("density", "recon")
    known = floored(torch.zeros(1, 16, 16, 16), torch.ones(1, 16, 16, 16))
    assert localiser_inputs(replace(scoring_networks, healthy=known)) == ("density", "deviation")


def test_beside_a_restorer_a_localiser_sees_the_restored_scan(scoring_networks, tmp_path):
    shown = []

    def restore(seen):
        shown.append(seen.shape)
        return seen[:, :1]

    restoring = ScoringNetworks(None, None, None, scoring_networks.densities, restore=restore)
    localiser = Localiser(localiser_inputs(restoring), Stages((8, 8), 4, 1))
    scans, config = [scan(seed) for seed in range(4)], LocaliserConfig(volumes=8)
    train_localiser(restoring, 8, localiser, scans, ["brighter"], config, 0, tmp_path)
    assert shown
