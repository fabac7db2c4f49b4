"""Anomaly detectors from the literature, as baselines."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from medgan.anomaly.maps import feature_map, residual_map
from medgan.core.seeding import seeded
from medgan.networks.device import fastest
from medgan.networks.encoder import Encoder
from medgan.networks.gan import Networks
from medgan.studies.baselines.blocks import move

Volumes = Float[Tensor, "B 1 X Y Z"]


class Denoiser:
    """A denoising U-Net; what it changes in a scan is anomalous.

    Noise is drawn on a grid of an eighth of the resolution and interpolated, so that removing it
    needs knowledge of anatomy. It is added in tissue.

    Args:
        seed: of the weights.
        device: where to train.

    Reference: Kascenas et al. 2022, Denoising autoencoders for unsupervised anomaly detection in
        brain MRI, PMLR 172, section 3 (noise of 0.2 of the range, in 2D), carried to 3D.
    """

    batch = 8
    CHANNELS = (16, 32, 64)
    NOISE = 0.4
    RATE = 1e-3

    def __init__(self, seed: int, device: torch.device) -> None:
        from monai.networks.nets.unet import UNet

        with seeded(seed, device):
            self.network = UNet(
                3, 1, 1, self.CHANNELS, (2,) * (len(self.CHANNELS) - 1), num_res_units=1
            )
        self.network.to(device, memory_format=torch.channels_last_3d)  # pyright: ignore
        self._optimizer = torch.optim.Adam(self.network.parameters(), self.RATE)

    def networks(self) -> list[nn.Module]:
        """The networks that are trained."""
        return [self.network]

    def step(self, volume: Volumes, random: torch.Generator) -> None:
        """One step on real volumes."""
        size = [max(2, n // 8) for n in volume.shape[2:]]
        coarse = torch.randn(len(volume), 1, *size, generator=random).to(volume.device)
        noise = F.interpolate(coarse, size=volume.shape[2:], mode="trilinear")
        noisy = volume + self.NOISE * noise * (volume > -0.95)
        with fastest(volume.device):
            restored = self._restored(noisy)
        move(self._optimizer, (restored - volume).square().mean())

    @torch.inference_mode()
    def map(self, volumes: Volumes) -> Volumes:
        """Absolute difference between a volume and the denoised volume."""
        self.network.eval()
        restored = self._restored(volumes)
        self.network.train()
        return residual_map(volumes, restored)

    def _restored(self, volume: Tensor) -> Tensor:
        return self.network(volume.contiguous(memory_format=torch.channels_last_3d)).float()


class PostHocEncoder:
    """f-AnoGAN: an encoder trained after the generator, with residuals of voxels and features.

    Args:
        networks: a trained model's, frozen; its own encoder is not used.
        encoder: with random weights.

    Reference: Schlegl et al. 2019 (f-AnoGAN), eq. 5 (izi_f, with a weight of 1) and eq. 6.
    """

    batch = 8
    RATE = 2e-4

    def __init__(self, networks: Networks, encoder: Encoder) -> None:
        self._generator, self._discriminator = networks.generator, networks.critic
        self.encoder = encoder
        self._optimizer = torch.optim.Adam(self.encoder.parameters(), self.RATE)

    def networks(self) -> list[nn.Module]:
        """The networks that are trained."""
        return [self.encoder]

    def step(self, volume: Volumes, random: torch.Generator) -> None:
        """One step on real volumes."""
        with fastest(volume.device):
            recon = self._recon(volume)
            loss = (volume - recon).square().mean()
            features = zip(
                self._discriminator.features(volume),
                self._discriminator.features(recon),
                strict=True,
            )
            loss = loss + sum((a - b).float().square().mean() for a, b in features)
        move(self._optimizer, loss)

    @torch.inference_mode()
    def map(self, volumes: Volumes) -> Volumes:
        """The residual plus that of the discriminator's features."""
        recon = self._recon(volumes)
        real, fake = (self._discriminator.features(v) for v in (volumes, recon))
        shape = (volumes.shape[2], volumes.shape[3], volumes.shape[4])
        return residual_map(volumes, recon) + feature_map(real, fake, shape)

    def _recon(self, volume: Tensor) -> Tensor:
        layout = volume.contiguous(memory_format=torch.channels_last_3d)
        return self._generator(self.encoder(layout).float())[:, :1].float()


class Untrained:
    """Residual of networks with random weights: the effect of the architecture alone.

    Args:
        networks: with random weights.
    """

    def __init__(self, networks: Networks) -> None:
        self._networks = networks

    @torch.inference_mode()
    def map(self, volumes: Volumes) -> Volumes:
        """Absolute difference between a volume and its reconstruction."""
        layout = volumes.contiguous(memory_format=torch.channels_last_3d)
        recon = self._networks.generator(self._networks.encoder(layout))[:, :1].float()
        return residual_map(volumes, recon)
