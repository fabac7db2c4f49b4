"""Settings of image to image: what is made of what."""

from typing import Literal

from pydantic import Field, model_validator

from medgan.core.config.fields import Label, Section, Share

ImageTask = Literal["translation", "super_resolution", "mask_to_image", "lesions", "harmonisation"]
"""Tasks that make one image of another."""


class TranslateConfig(Section):
    """Image to image: what is made of what, and how many answers are asked for."""

    source: tuple[Label, ...] = Field(
        (), description="channels that are given, as [T1w]; for train.task translation"
    )
    target: tuple[Label, ...] = Field(
        (), description="channels that are made of them, as [CT]; for train.task translation"
    )
    target_data: str = Field(
        "",
        description="scans of other subjects in the style that is wanted, as data.source names "
        "those to be changed; for train.task harmonisation",
    )
    noise: bool = Field(
        True,
        description="let the network see noise, too: it gives several answers, each with the "
        "texture of a scan, whose spread says how sure the result is",
    )
    adversarial: Share = Field(
        0.5,
        description="share of the training, at its end, in which a discriminator takes part; 0 "
        "trains the same network without one",
    )
    answers: int = Field(8, gt=0, description="answers of translate with noise, for the spread")
    seed: int = Field(0, ge=0, description="seed of the noise of translate")
    thickness_mm: float = Field(
        0.0,
        ge=0,
        description="thickness of the slices that translate restores with a model of train.task "
        "super_resolution, without the gap between them; 0 takes them to touch",
    )
    dicom: bool = Field(
        False,
        description="let translate write each image as a DICOM series, too: of no patient, under "
        "new UIDs, marked as synthetic",
    )
    given: Literal["labels", "scan"] = Field(
        "labels",
        description="what translate is given for a model of train.task mask_to_image: label maps, "
        "or blurred scans",
    )
    rough_mm: float = Field(
        0.0,
        ge=0,
        description="how far outlines of label maps may be off, as a standard deviation in mm, for "
        "a model of train.task mask_to_image; 0 is exact",
    )

    @model_validator(mode="after")
    def _nothing_is_made_of_itself(self) -> "TranslateConfig":
        both = set(self.source) & set(self.target)
        if both or bool(self.source) != bool(self.target):
            raise ValueError("needs channels in source and other channels in target")
        return self
