"""Settings of comparisons of generators with each other."""

from typing import Literal

from pydantic import Field

from medgan.core.config.fields import Positive, Section

Peer = Literal["alpha_wgan", "dcgan", "ha_gan", "vae"]
"""A generator from the literature."""


class BaselineConfig(Section):
    """A generator from the literature, trained to compare with."""

    name: Peer = Field("dcgan", description="which one")


class CompareConfig(Section):
    """How generators are compared with real scans, and so with each other."""

    models: tuple[str, ...] = Field(
        (), description="model folders, models:/name@alias, or folders of baselines"
    )
    segmentation: bool = Field(False, description="whether to train segmenters, which takes long")
    relabel: bool = Field(
        False,
        description="with segmentation: synthetic scans get the label maps of the segmenter that "
        "learned from real scans with the same seed, in place of their own",
    )


class ConvergenceConfig(Section):
    """How soon samples of generators come near to real scans."""

    generators: tuple[Literal["medgan"] | Peer, ...] = Field(
        ("medgan", "ha_gan", "dcgan", "alpha_wgan", "vae"),
        min_length=1,
        description="medgan, by the sections data, model and train, and generators from the "
        "literature; trained one after the other",
    )
    variants: dict[str, tuple[str, ...]] = Field(
        {},
        description="further trainings of medgan, by name, each with settings that differ, such as "
        "{thin: [train.gamma=50]}; letters, digits, _ and - in names",
    )
    goals: tuple[Positive, ...] = Field(
        (1.0, 0.5, 0.3),
        min_length=1,
        description="kernel distances whose processor minutes are told; a training ends at the "
        "smallest",
    )
    minutes: Positive = Field(
        30, description="processor minutes of a training of medgan at most, over which its "
        "learning rate falls"
    )  # fmt: skip
    factor: float = Field(
        5,
        ge=1,
        description="generators from the literature train so many times as long as the soonest of "
        "medgan and its variants took to the smallest goal that any of them reached with all seeds",
    )
    seeds: int = Field(1, gt=0, description="trainings of each, from train.seed on")
