"""Settings of the networks and of their training."""

from typing import Literal

from pydantic import Field

from medgan.core.config.fields import Count, Positive, Section, Share
from medgan.core.config.translation import ImageTask


class ModelConfig(Section):
    """The sizes of the networks."""

    latent: int = Field(128, gt=0, description="length of the latent")
    widths: tuple[Count, ...] = Field(
        (16, 32, 64),
        min_length=2,
        max_length=4,
        description="channels at 1/2, 1/4, 1/8 (and 1/16) of the resolution, or further down "
        "where stem_stages says so",
    )
    stem_stages: int = Field(
        1,
        ge=1,
        le=3,
        description="resolutions above the first residual stage; 1 puts it at half resolution, 2 "
        "at a quarter",
    )
    stem_channels: int = Field(
        32,
        gt=1,
        description="channels at half resolution behind the generator's stages and of the first "
        "stage of the stem, twice as many at each stage below",
    )
    blocks: int = Field(1, gt=0, description="residual blocks a stage")
    stem_blocks: int = Field(
        0,
        ge=0,
        le=4,
        description="residual blocks of generator and discriminator at twice the resolution of the "
        "first residual stage, which has to be below half resolution (stem_stages of 2 or more)",
    )
    from_template: bool = Field(
        False,
        description="let the generator bend the mean of aligned scans and add to it, instead of "
        "drawing whole scans; needs data.align",
    )

    @property
    def downsamplings(self) -> int:
        """How many times the coarsest grid is halved."""
        return len(self.widths) + self.stem_stages - 1


class TrainConfig(Section):
    """Length, objective and book-keeping of a training."""

    task: Literal["synthesis", "sequence", "restoration"] | ImageTask = Field(
        "synthesis",
        description="what is trained: synthesis generates scans, sequence scans over time, "
        "restoration makes a healthy scan "
        "of a corrupted one, translation makes channels of other channels, super_resolution a fine "
        "scan of thick slices, mask_to_image a scan of its label map, harmonisation scans in the "
        "style of another site; lesions refines lesions that are drawn into scans",
    )
    along: str = Field(
        "phase",
        description="condition that is the time of train.task sequence: phase, time, or a column "
        "such as age where subjects have scans of several ages",
    )
    start_from: str = Field(
        "",
        description="model whose weights a new training starts from: a folder, one that ships "
        "with medgan as zoo/phantom-head, models:/name@alias or runs:/id/model; empty for none",
    )
    volumes: int = Field(12_000, gt=0, description="length of the training in real volumes")
    minutes: float = Field(0.0, ge=0, description="stop and finish after this long; 0 for no limit")
    batch: int = Field(4, gt=1, description="volumes a step")
    micro_batch: int = Field(
        0,
        ge=0,
        description="volumes whose activations are in memory at a time, a divisor of batch; 0 is "
        "all of them",
    )
    checkpoint_activations: bool = Field(
        False,
        description="compute the activations of the generator's step twice instead of keeping "
        "them: slower, less memory",
    )
    learning_rate: Positive = Field(4e-4, description="Adam's, before it falls at a fifth")
    warmup: int = Field(
        400,
        ge=0,
        description="volumes over which the learning rate rises; gamma is doubled twice as long",
    )
    autoencode: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of a synthesis training in which generator and encoder learn as a "
        "variational autoencoder, before the discriminators take part; it gives smooth anatomy "
        "several times as fast",
    )
    objective: Literal["relativistic", "wgan-gp", "hinge", "non-saturating", "least-squares"] = (
        Field(
            "relativistic",
            description="adversarial objective; its gradient penalty is zero-centred on real and "
            "generated volumes (relativistic), one-centred between them (wgan-gp), or "
            "zero-centred on real volumes (the others)",
        )
    )
    gamma: Positive = Field(
        50.0, description="weight of the penalty, halved in the loss; gp's lambda is its half"
    )
    augment: Share | Literal["adaptive"] = Field(
        0.0,
        description="probability of each change to what the discriminators see; adaptive raises "
        "it while their logits of training scans exceed those of validation scans",
    )
    init_background: bool = Field(
        False,
        description="let the generator's first samples be black; for scans that are mostly air, "
        "such as skull-stripped brains",
    )
    reconstruction_augmentation: Share = Field(
        0.8,
        description="probability of each spatial and intensity augmentation of a scan that "
        "encoder and generator learn to reconstruct; it prevents overfitting",
    )
    ema_half_life: Positive = Field(
        2_500.0, description="half-life of the weight average, in volumes"
    )
    precision: Literal["auto", "bf16", "fp32"] = Field(
        "auto",
        description="what networks compute in; auto: bf16 on a GPU, on a CPU what is faster there",
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where to train")
    deterministic: bool = Field(
        False,
        description="end in the same bytes each time, with the same seed on the same machine; auto "
        "precision is then fp32 on a CPU, and cores that others use are not left to them",
    )
    seed: int = Field(0, ge=0, description="seed of weights, latents, order and corruption")
    metric: Literal[
        "kernel_distance",
        "reconstruction",
        "diversity",
        "precision",
        "coverage",
        "restoration",
        "translation",
    ] = Field(
        "kernel_distance",
        description="metric of the averaged networks by which the shipped weights are chosen "
        "and training stops early; sequences keep the last weights; small is good, diversity, "
        "precision and coverage count as distance from 1",
    )
    stop_at: float | None = Field(None, description="stop and finish once the metric is this small")
    patience: int = Field(
        0,
        ge=0,
        description="stop and finish after this many evaluations without a better metric, counted "
        "in the second half, where the learning rate is low; 0 never",
    )
    sample_every: int = Field(
        1_600,
        gt=1,
        description="volumes from one evaluation of samples to the next; checkpoints are written "
        "twice as often",
    )


class LocaliserConfig(Section):
    """How the localiser learns, once the GAN is trained."""

    volumes: int = Field(
        0,
        ge=0,
        description="scans with planted lesions to learn from, such as 24000; 0 for no localiser",
    )
    minutes: float = Field(0.0, ge=0, description="stop and finish after this long; 0 for no limit")
