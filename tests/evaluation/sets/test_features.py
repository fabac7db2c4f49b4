import pickle
import stat

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from medgan.core.errors import ModelError
from medgan.evaluation.sets.encoders import (
    ConvEncoder,
    contrastive_loss,
    random_ensemble,
    train_encoder,
)
from medgan.evaluation.sets.features import (
    EXTRACTORS,
    Extractor,
    ExtractorSource,
    cached_features,
    voxel_hashes,
)
from medgan.evaluation.sets.pretrained import MedicalNet, Planes, read_weights
from tests.kit.volumes import phantom_volumes


@pytest.fixture(scope="module")
def volumes():
    return phantom_volumes(8)


def resnet(dimensions, layers, deep, shortcut="B", channels=1):
    from monai.networks.nets.resnet import ResNet

    torch.manual_seed(0)
    return ResNet(
        "bottleneck" if deep else "basic", layers, [64, 128, 256, 512], spatial_dims=dimensions,
        n_input_channels=channels, conv1_t_stride=2, shortcut_type=shortcut,
        feed_forward=False, bias_downsample=False,
    ).eval()  # fmt: skip


@pytest.mark.parametrize("name", ["bands", "random"])
def test_features_do_not_depend_on_how_volumes_are_batched_nor_on_the_global_seed(name, volumes):
    first = EXTRACTORS[name](ExtractorSource(volumes, None, 0))
    torch.manual_seed(99)
    second = EXTRACTORS[name](ExtractorSource(volumes, None, 0))
    assert first.digest == second.digest
    assert torch.allclose(first(volumes), second(volumes, batch=3), atol=1e-5)


def test_another_seed_makes_another_random_ensemble(volumes):
    first, second = (EXTRACTORS["random"](ExtractorSource(volumes, None, seed)) for seed in (0, 1))
    assert first.digest != second.digest
    assert first(volumes).shape == second(volumes).shape == (8, 3 * ConvEncoder().length)


def test_an_encoder_learns_to_separate_scans_and_depends_on_the_seed_alone(volumes):
    taught, again = (train_encoder(volumes, 0, steps=25) for _ in range(2))
    for a, b in zip(taught.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)

    def told_apart(trunk):
        """Of neighbours by features, the share that show the same scan, moved by a voxel."""
        a, b = (F.normalize(trunk(v)) for v in (volumes[..., 1:], volumes[..., :-1]))
        mean = torch.cat([a, b]).mean(dim=0)
        likeness = F.normalize(a - mean) @ F.normalize(b - mean).T
        others = likeness[~torch.eye(8, dtype=torch.bool)]
        return float(likeness.diagonal().mean() - others.mean())

    untrained = random_ensemble(0, torch.device("cpu")).encoders[0]
    assert told_apart(taught) > told_apart(untrained)


def test_the_contrastive_loss_is_small_for_pairs_that_agree_and_log_of_others_for_all_alike():
    codes = F.normalize(torch.randn(6, 64, generator=torch.Generator().manual_seed(0)))
    agreed, crossed = contrastive_loss(codes, codes), contrastive_loss(codes, codes.roll(1, 0))
    assert agreed < crossed
    same = F.normalize(torch.ones(6, 4))
    assert float(contrastive_loss(same, same)) == pytest.approx(float(torch.tensor(11.0).log()))


def test_features_are_read_back_until_weights_scans_or_preprocessing_change(tmp_path, volumes):
    calls = []

    def network(part):
        calls.append(len(part))
        return part.flatten(1)[:, :3]

    def features(digest="a", keys=("1", "2"), preprocessing="p"):
        extractor = Extractor("test", digest, network)
        return cached_features(extractor, volumes[:2], keys, preprocessing, tmp_path)

    first = features()
    assert torch.equal(first, features())
    assert len(calls) == 1
    features(digest="b")
    features(keys=("1", "3"))
    features(preprocessing="q")
    assert len(calls) == 4
    files = list(tmp_path.iterdir())
    assert len(files) == 4
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in files)
    for path in files:
        path.write_bytes(path.read_bytes()[:20])
    assert torch.equal(first, features())
    assert len(calls) == 5


def test_volumes_without_files_are_known_by_their_voxels(volumes):
    hashes = voxel_hashes(volumes)
    assert len(set(hashes)) == len(volumes)
    assert hashes == voxel_hashes(volumes.clone())


@pytest.mark.parametrize(
    ("layers", "deep", "shortcut", "length"),
    [
        ([1, 1, 1, 1], False, "B", 512), ([2, 2, 2, 2], False, "A", 512),
        ([1, 2, 1, 1], True, "B", 2048),
    ],
)  # fmt: skip
def test_a_medicalnet_file_is_read_whole_and_its_features_are_the_networks(
    tmp_path, volumes, layers, deep, shortcut, length
):
    net = resnet(3, layers, deep, shortcut)
    path = tmp_path / "resnet.pth"
    torch.save({"state_dict": {f"module.{k}": v for k, v in net.state_dict().items()}}, path)
    ours = MedicalNet(path)
    for name, value in net.state_dict().items():
        assert torch.equal(ours.net.state_dict()[name], value)
    part = volumes[:2]
    features = ours(part)
    assert features.shape == (2, length)
    brighter = ours(torch.where(part > -0.99, 0.8 * part + 0.1, part))
    assert not torch.allclose(features, torch.zeros_like(features))
    inside = part > -0.99
    mean = torch.stack([v[m].mean() for v, m in zip(part, inside, strict=True)])
    spread = torch.stack([v[m].std(correction=0) for v, m in zip(part, inside, strict=True)])
    by_hand = net((part - mean.view(2, 1, 1, 1, 1)) / spread.view(2, 1, 1, 1, 1))
    assert torch.allclose(features, by_hand, atol=1e-4)
    assert brighter.shape == features.shape


def test_planes_look_at_three_planes_with_a_network_of_photographs(tmp_path, volumes):
    net = resnet(2, [1, 1, 1, 1], True, channels=3)
    state = net.state_dict() | {"fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}
    path = tmp_path / "resnet.safetensors"
    save_file(state, path)
    planes = Planes(path)
    part = volumes[:1]
    features = planes(part)
    assert features.shape == (1, 3 * 2048)
    axial = []
    for at in (11, 12, 13):
        grey = F.interpolate((part[..., at] + 1) / 2, size=(224, 261), mode="bilinear")
        mean, spread = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        axial.append(net((grey - mean[:, None, None]) / spread[:, None, None]))
    assert torch.allclose(features[:, 4096:], torch.stack(axial).mean(dim=0), atol=1e-3)


class _Evil:
    def __reduce__(self):
        return (print, ("ran",))


@pytest.mark.fault(33)
def test_files_that_are_not_such_weights_are_refused_and_nothing_in_them_runs(tmp_path, capsys):
    path = tmp_path / "weights.pth"
    with pytest.raises(ModelError, match="cannot be read"):
        MedicalNet(path)
    path.write_bytes(pickle.dumps({"state_dict": _Evil()}))
    with pytest.raises(ModelError, match="more than tensors"):
        read_weights(path)
    torch.save({"state_dict": _Evil()}, path)
    with pytest.raises(ModelError, match="more than tensors"):
        read_weights(path)
    assert capsys.readouterr().out == ""
    for content in ([1, 2], {"state_dict": {}}, {"a": 3}):
        torch.save(content, path)
        with pytest.raises(ModelError, match="no state dict"):
            read_weights(path)
    torch.save(nn.Linear(2, 2).state_dict(), path)
    with pytest.raises(ModelError, match="not a ResNet"):
        MedicalNet(path)
    state = resnet(2, [1, 1, 1, 1], False, channels=3).state_dict()
    torch.save(state, path)
    with pytest.raises(ModelError, match="does not fit a 3D ResNet"):
        MedicalNet(path)
    torch.save(state | {"layer1.0.extra": torch.zeros(1)}, path)
    with pytest.raises(ModelError, match="another network"):
        Planes(path)


def test_an_extractor_that_needs_weights_says_so(volumes):
    for name in ("medicalnet", "planes"):
        with pytest.raises(ModelError, match=r"evaluate\.weights"):
            EXTRACTORS[name](ExtractorSource(volumes, None, 0))


def test_every_extractor_that_settings_name_is_there():
    from typing import get_args

    from medgan.core.config import EvaluateConfig

    assert set(get_args(EvaluateConfig.model_fields["features"].annotation)) == set(EXTRACTORS)
