import pytest
import torch

from medgan.networks.blocks import Stages, Trunk, halve
from medgan.networks.gan import Networks, checkpoint_activations
from medgan.networks.losses import squared_gradients

SHAPE, LATENT = (16, 48, 32), 7


def make(labels=2, blocks=2, widths=(4, 6, 8, 10), seed=0, stem_stages=1, stem_blocks=0):
    torch.manual_seed(seed)
    stages = Stages(widths, 4, blocks, stem_stages, stem_blocks)
    return Networks.build(SHAPE, labels, LATENT, stages)


SIZES = [((4, 6, 8, 10), 1), ((4, 6, 8), 2), ((4, 6), 3)]
"""Widths and stem_stages that end at the same coarse grid."""


def perturb(networks):
    """Leaves the start, where convolutions at zero hide the weights before them."""
    with torch.no_grad():
        for module in networks.modules().values():
            for parameter in module.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.05)


@pytest.mark.parametrize(("widths", "stem_stages"), SIZES)
@pytest.mark.parametrize("labels", [0, 1, 4])
def test_the_generator_emits_the_image_and_a_channel_a_label(labels, widths, stem_stages):
    networks = make(labels, widths=widths, stem_stages=stem_stages)
    out = networks.generator(torch.zeros(1, LATENT))
    assert out.shape == (1, 1 + labels, *SHAPE)
    assert networks.discriminator(out[:, :1]).shape == (1,)
    assert networks.encoder(out[:, :1]).shape == (1, LATENT)


@pytest.mark.parametrize(("blocks", "expected"), [(1, 1), (2, 1), (4, 2)])
def test_the_encoder_has_half_the_blocks_but_at_least_one(blocks, expected):
    networks = make(blocks=blocks)
    assert len(networks.encoder.trunk.stages[0]) == expected
    assert len(networks.discriminator.trunk.stages[0]) == blocks


def test_the_global_seed_decides_the_weights():
    states = [
        [p for m in make(seed=seed).modules().values() for p in m.parameters()]
        for seed in (0, 0, 1)
    ]
    assert all(torch.equal(a, b) for a, b in zip(states[0], states[1], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(states[0], states[2], strict=True))


def test_a_batch_gives_what_its_members_give_one_by_one(generator):
    networks = make()
    perturb(networks)
    latent = torch.randn(3, LATENT, generator=generator)
    volume = torch.randn(3, 1, *SHAPE, generator=generator)
    inputs = {"generator": latent, "encoder": volume, "discriminator": volume}
    with torch.no_grad():
        for name, module in networks.modules().items():
            together = module(inputs[name])
            alone = torch.cat([module(x[None]) for x in inputs[name]])
            assert torch.allclose(together, alone, rtol=1e-4, atol=1e-5), name
            assert not torch.allclose(together[0], together[1], rtol=1e-3), name


@pytest.mark.parametrize(("widths", "stem_stages"), SIZES)
def test_one_backward_reaches_every_parameter_once_the_weights_left_their_start(
    widths, stem_stages, generator
):
    networks = make(widths=widths, stem_stages=stem_stages)
    perturb(networks)
    latent = torch.randn(2, LATENT, generator=generator)
    volume = torch.randn(2, 1, *SHAPE, generator=generator)
    fake = networks.generator(latent)
    recon = networks.generator(networks.encoder(volume))
    logits = networks.discriminator(fake[:, :1])
    loss = logits.sum() + (recon[:, :1] - volume).abs().mean()
    (loss + fake[:, 1:].square().mean()).backward()
    for name, module in networks.modules().items():
        for key, parameter in module.named_parameters():
            assert parameter.grad is not None, f"{name}.{key}"
            assert torch.isfinite(parameter.grad).all(), f"{name}.{key}"
            assert parameter.grad.abs().max() > 0, f"{name}.{key}"


def test_networks_run_under_bf16_autocast_close_to_fp32(generator):
    networks = make()
    perturb(networks)
    networks.to(torch.device("cpu"))
    latent = torch.randn(2, LATENT, generator=generator)
    with torch.no_grad():
        exact = networks.generator(latent)
        with torch.autocast("cpu", torch.bfloat16):
            fake = networks.generator(latent)
            logits = networks.discriminator(fake[:, :1])
            recovered = networks.encoder(fake[:, :1])
    assert recovered.dtype == torch.bfloat16
    assert fake.dtype == logits.dtype == torch.float32
    assert torch.isfinite(logits).all()
    assert torch.isfinite(recovered).all()
    assert (fake.float() - exact).abs().mean() < 0.05 * exact.abs().mean()


def test_moving_networks_keeps_their_results_and_lays_channels_last(generator):
    networks = make()
    latent = torch.randn(1, LATENT, generator=generator)
    before = networks.generator(latent).detach()
    networks.to(torch.device("cpu"))
    weight = networks.generator.stem.weight
    assert weight.is_contiguous(memory_format=torch.channels_last_3d)
    assert torch.allclose(networks.generator(latent), before, atol=1e-5)


def test_parameters_can_be_frozen_and_freed():
    networks = make()
    parameters = [p for m in networks.modules().values() for p in m.parameters()]
    for on in (False, True):
        networks.requires_grad(on)
        assert {p.requires_grad for p in parameters} == {on}


def test_a_penalty_can_be_differentiated_through_the_discriminator(generator):
    networks = make()
    perturb(networks)
    volume = torch.randn(2, 1, *SHAPE, generator=generator, requires_grad=True)
    penalty = squared_gradients(networks.discriminator(volume), volume).mean()
    penalty.backward()
    assert penalty.item() > 0
    for key, parameter in networks.discriminator.named_parameters():
        if key.endswith("weight"):
            assert parameter.grad.abs().max() > 0, key


def test_two_thin_octaves_put_the_wide_stages_at_a_quarter():
    networks = make(widths=(4, 6, 8), stem_stages=2)
    features = networks.discriminator.features(torch.zeros(1, 1, *SHAPE))
    assert [tuple(f.shape[2:]) for f in features] == [(4, 12, 8), (2, 6, 4), (1, 3, 2)]
    assert (
        networks.generator.stem_stages[0].conv.out_channels == networks.generator.stem.in_channels
    )


@pytest.mark.parametrize("stem_stages", [1, 2, 3])
def test_a_trunk_without_thin_layers_reads_the_volume_of_the_last_thin_octave(
    stem_stages, generator
):
    torch.manual_seed(0)
    trunk = Trunk(1, Stages((4, 6), 0, 1, stem_stages))
    torch.manual_seed(0)
    plain = Trunk(1, Stages((4, 6), 0, 1))
    volume = torch.randn(2, 1, *SHAPE, generator=generator)
    small = volume
    for _ in range(stem_stages - 1):
        small = halve(small)
    assert all(torch.equal(a, b) for a, b in zip(trunk(volume), plain(small), strict=True))


def test_halving_takes_means_of_eight_voxels(generator):
    volume = torch.randn(1, 2, 4, 4, 4, generator=generator)
    expected = volume[0, 1, 2:, :2, 2:].mean()
    assert torch.allclose(halve(volume)[0, 1, 1, 0, 1], expected)


@pytest.mark.parametrize("stem_blocks", [0, 2])
@pytest.mark.parametrize(("widths", "stem_stages"), SIZES)
@pytest.mark.parametrize("tile", [8, 24])
def test_a_volume_made_in_tiles_is_the_volume_made_at_once(widths, stem_stages, tile, stem_blocks):
    stem_blocks *= stem_stages > 1
    networks = make(widths=widths, stem_stages=stem_stages, stem_blocks=stem_blocks)
    perturb(networks)
    latent = torch.randn(2, LATENT, generator=torch.Generator().manual_seed(1))

    with torch.no_grad():
        whole, tiled = (networks.generator(latent, None, edge) for edge in (0, tile))
    assert whole.std() > 0.1
    assert torch.allclose(whole, tiled, atol=1e-5)


def test_a_tile_computes_no_more_than_itself_and_its_halo():
    networks = make()
    sizes = []
    networks.generator.stem.register_forward_hook(lambda m, x, y: sizes.append(y.shape[2:].numel()))
    networks.generator(torch.zeros(1, LATENT), tile=8)
    assert max(sizes) <= (8 + 2 * 4) ** 3


@pytest.mark.parametrize(("widths", "stem_stages"), SIZES)
def test_activations_computed_twice_give_the_same_gradients(widths, stem_stages, generator):
    networks = make(widths=widths, stem_stages=stem_stages)
    perturb(networks)
    latent = torch.randn(2, LATENT, generator=generator)
    volume = torch.randn(2, 1, *SHAPE, generator=generator)

    def gradients(on):
        checkpoint_activations(networks.modules().values(), on)
        fake = networks.generator(latent)
        recon = networks.generator(networks.encoder(volume))
        loss = networks.discriminator(fake[:, :1]).sum() + recon.square().mean()
        real = volume.clone().requires_grad_(True)
        penalty = squared_gradients(networks.discriminator(real), real).mean()
        for module in networks.modules().values():
            module.zero_grad()
        (loss + penalty).backward()
        return [
            (key, p.grad.clone())
            for m in networks.modules().values()
            for key, p in m.named_parameters()
            if p.grad is not None
        ]

    kept, twice = gradients(False), gradients(True)
    for (key, one), (same, other) in zip(kept, twice, strict=True):
        assert key == same
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-6 * one.abs().max()), key


def test_activations_computed_twice_are_not_kept():
    networks = make()
    kept = {}
    for on in (False, True):
        checkpoint_activations(networks.modules().values(), on)
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda x, sizes=sizes: sizes.append(x.numel()) or x, lambda x: x
        ):
            networks.generator(torch.zeros(1, LATENT))
        kept[on] = sum(sizes)
    assert kept[True] < kept[False] / 2
