import torch

from medgan.networks.blocks import Stages
from medgan.networks.generator import Generator
from medgan.networks.noise import Measured, ScannerNoise

SHAPE = (32, 48, 32)


def white(generator, count=1, images=1):
    return torch.randn(count, 8 * images, *(n // 2 for n in SHAPE), generator=generator)


def test_fresh_noise_is_white_and_a_third_as_strong_as_measured(generator):
    noise = ScannerNoise(Measured(1, 0.1, 0.02), 1)
    image = torch.zeros(2, 1, *SHAPE)
    condition = torch.tensor([[9.0, 0.0], [9.0, 2.0]])
    made = noise(image, condition, white(generator, 2)).detach()
    assert torch.allclose(made.std(dim=(1, 2, 3, 4)), torch.tensor([0.1, 0.14]) / 3, rtol=0.02)
    for axis in (2, 3, 4):
        a, b = made.narrow(axis, 0, SHAPE[axis - 2] - 1), made.narrow(axis, 1, SHAPE[axis - 2] - 1)
        assert abs(float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])) < 0.02


def test_an_unknown_condition_gives_the_mean_noise_and_black_air_none(generator):
    noise = ScannerNoise(Measured(0, 0.1, 0.05), 1)
    image = torch.full((1, 1, *SHAPE), -1.2)
    image[..., :16] = 0.5
    made = noise(image, None, white(generator)).detach()
    assert torch.equal(made[..., 16:], image[..., 16:])
    assert abs(float(made[..., :16].std()) - 0.1 / 3) < 0.002


def test_strength_never_turns_negative(generator):
    noise = ScannerNoise(Measured(0, 0.1, 0.05), 1)
    image = torch.zeros(1, 1, *SHAPE)
    assert torch.equal(noise(image, torch.tensor([[-5.0]]), white(generator)), image)


def test_a_generator_adds_noise_to_images_alone_and_none_without_numbers(generator):
    torch.manual_seed(0)
    net = Generator(SHAPE, 3, 5, Stages((4, 6), 4, 1), 2, noise=Measured(0, 0.2, 0.05), images=2)
    latent, condition = torch.randn(1, 5, generator=generator), torch.tensor([[1.0, 1.0]])
    numbers = net.white_noise(1, torch.Generator().manual_seed(1))
    with torch.no_grad():
        clean, noisy = net(latent, condition), net(latent, condition, white=numbers)
        tiled = net(latent, condition, tile=16, white=numbers)
    assert torch.equal(clean[:, 2:], noisy[:, 2:])
    inside = clean[:, :2].abs() < 0.2
    assert 0.2 < 3 * float((noisy - clean)[:, :2][inside].std()) < 0.3
    assert torch.allclose(tiled, noisy, atol=1e-5)


def test_without_a_condition_on_noise_no_number_is_drawn():
    net = Generator(SHAPE, 1, 5, Stages((4, 6), 4, 1))
    random = torch.Generator().manual_seed(3)
    before = random.get_state()
    assert net.white_noise(2, random) is None
    assert torch.equal(random.get_state(), before)
