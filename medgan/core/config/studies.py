"""Settings of studies: fidelity, utility, privacy, detection."""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from medgan.core.config.fields import CovariateValue, Positive, Section


class UtilityConfig(Section):
    """Whether synthetic scans help a network that learns from few real ones."""

    task: Literal["segmentation", "classification", "lesions", "contrast"] = Field(
        "segmentation",
        description="what the network learns; lesions is a segmentation whose synthetic scans are "
        "other scans with lesions drawn into them; contrast one that is tested on scans of changed "
        "contrast",
    )
    sizes: tuple[Annotated[int, Field(ge=5)], ...] = Field(
        (20,), min_length=1, description="numbers of real training scans, 5 or more"
    )
    seeds: int = Field(
        3, gt=0, description="random subsets of real scans, each with a generator of its own"
    )
    arms: tuple[
        Literal["real", "classical", "oversampling", "synthetic", "mixed", "all", "first"]
        | Literal["strong", "healthy", "paste", "refined", "filtered", "library"]
        | Literal["inversion", "appearance", "generated"],
        ...,
    ] = Field(
        ("real", "classical", "oversampling", "synthetic", "mixed", "all"),
        description="ways of training; the others are compared with strong where it is named, "
        "else with classical, in a classification with oversampling; arms of the task lesions are "
        "augmented as the one they are compared with",
    )
    ratios: tuple[Positive, ...] = Field(
        (1.0,),
        min_length=1,
        description="synthetic scans a real one; in a classification, drawn scans of each group "
        "for each scan that the rare group lacks",
    )
    steps: int = Field(1000, gt=1, description="steps of every network")
    tested: tuple[Literal["validation", "calibration", "test"], ...] = Field(
        ("test",),
        min_length=1,
        description="splits that the networks are tested on; validation to choose a design",
    )
    unlabelled: bool = Field(
        False,
        description="whether generators also learn from the images, without the label maps, of "
        "the other training scans; lesions are drawn into these where no scan is known to be "
        "healthy",
    )
    relabel: bool = Field(
        False,
        description="whether synthetic scans get the label maps of a network that learned from "
        "the real scans of the subset, in place of their own",
    )
    command: str = Field(
        "",
        description="training of your own in place of the U-Net: a shell command with {data}, "
        "{result} and, optionally, {seed}; see docs/how-to/utility.md",
    )
    target: str = Field("", description="condition that defines the two groups of a classification")
    rare: str = Field(
        "above 0",
        description="the rare group: a category of the target, or a range of a continuous one, "
        "as above 60 or below 60",
    )
    frequent: str = Field(
        "", description="the frequent group, written likewise; empty is all that is not rare"
    )
    share: float = Field(
        0.1, gt=0, le=0.5, description="share of the rare group in the training sets"
    )

    @field_validator("rare", "frequent")
    @classmethod
    def _range_has_a_number(cls, group: str) -> str:
        side, _, cut = group.partition(" ")
        if side in ("above", "below"):
            try:
                float(cut)
            except ValueError:
                raise ValueError(f"{side} needs a number, as {side} 60") from None
        return group

    @model_validator(mode="after")
    def _relabels_for_the_unet(self) -> "UtilityConfig":
        if self.relabel and (self.task != "segmentation" or self.command):
            raise ValueError("relabel: is for segmentations by the U-Net; leave it out")
        return self


class AugmentConfig(Section):
    """A training set of real scans and of synthetic scans that pass filters."""

    ratio: float = Field(1.0, ge=0, description="synthetic scans for each real training scan")
    layout: Literal["decathlon", "bids"] = Field("decathlon", description="of the data set")
    real: Literal["reference", "copy"] = Field(
        "reference",
        description="name the real files where they lie, or copy them under their pseudonyms",
    )
    filters: tuple[Literal["volumes", "appearance", "realism", "consistency", "privacy"], ...] = (
        Field(
            ("volumes", "appearance", "realism", "consistency", "privacy"),
            description="filters that a synthetic scan must pass; empty keeps every scan",
        )
    )


class DrawConfig(Section):
    """Lesions that are drawn into healthy scans."""

    masks: str = Field(
        "shapes",
        description="where masks come from: shapes (those of strokes, which ship with medgan), "
        "examples (each with its lesion, of draw.examples), label (the label map of the scan says "
        "where), or a folder of lesion masks in MNI space or file of shapes",
    )
    examples: str = Field(
        "",
        description="scans of patients with lesion masks as label maps, from which the appearance "
        "is learned, such as 5 to 20; empty draws draw.families",
    )
    only: dict[str, CovariateValue] = Field(
        {}, description="covariates of the examples to learn from, as {class: malignant}"
    )
    families: tuple[str, ...] = Field(
        ("dark shape", "bright shape"),
        description="procedural appearances: dark shape, bright shape, and the families of "
        "detection.families",
    )
    place: Literal["own", "random"] = Field(
        "own",
        description="where the lesion lay in the patient, or anywhere; an example then goes to "
        "the place whose surround is most like its own",
    )
    strength: tuple[Positive, Positive] = Field(
        (0.8, 1.2), description="range of a factor on the contrast; 1 is that of the examples"
    )
    margin: Positive = Field(
        3.0, description="mm around the mask over which a lesion fades; beyond, no voxel changes"
    )
    each: int = Field(1, gt=0, description="scans drawn from each healthy scan")
    lesions: int = Field(1, gt=0, description="lesions drawn into each of them")
    value: int = Field(1, gt=0, lt=256, description="of lesions in label maps")
    seed: int = Field(0, ge=0, description="seed of masks, places and appearance")

    @field_validator("strength")
    @classmethod
    def _strength_does_not_fall(cls, strength: tuple[float, float]) -> tuple[float, float]:
        if strength[0] > strength[1]:
            raise ValueError(f"must rise, not {strength[0]} to {strength[1]}")
        return strength


class AuditConfig(Section):
    """Whether a model or its synthetic scans leak information about its training scans."""

    train: str = Field("", description="scans it was trained on; empty takes data.source's splits")
    holdout: str = Field("", description="scans of subjects it was not trained on")
    scope: Literal["scans", "model"] = Field(
        "scans", description="what has to pass: the synthetic scans, or the model folder as well"
    )
    count: int = Field(300, gt=19, description="synthetic scans that a model generates")


class EvaluateConfig(Section):
    """Whether synthetic scans are realistic and varied."""

    fake: str = Field(
        "", description="synthetic scans; or a model or folder of a baseline, which makes them"
    )
    count: int = Field(
        0, ge=0, description="volumes that a model generates; 0 is as many as there are real scans"
    )
    splits: tuple[Literal["train", "validation", "calibration", "test"], ...] = Field(
        (),
        description="splits of the real scans to compare with, such as [calibration, test] where "
        "the others were trained on; empty is all",
    )
    features: Literal["bands", "random", "selfsupervised", "medicalnet", "planes"] = Field(
        "bands", description="features that are compared; the last two need weights"
    )
    weights: str = Field(
        "",
        description="file of a MedicalNet network (medicalnet) or of a torchvision ResNet (planes)",
    )
    probes: bool = Field(
        False,
        description="whether real-or-fake classifiers are trained, which takes minutes",
    )


class DetectionConfig(Section):
    """The benchmark of scorers on planted lesions."""

    families: tuple[str, ...] = Field(
        (
            *("brighter", "darker", "noise", "blur", "fill", "push", "pull", "shift"),
            *("reflection", "foreign", "missing", "bias", "ghost"),
        ),
        description="families of lesions; empty is none",
    )
    lesions_per_family: int = Field(
        2,
        ge=0,
        description="lesions that a scan gets of each family, sizes and contrasts in turn; 0 is "
        "every size in every contrast",
    )
    shapes: str = Field(
        "",
        description="folder of lesion masks in MNI space, or a file of shapes, to plant dark and "
        "bright as well; of a folder that data.splits names, those of its test subjects. With "
        "families=[] nothing is trained",
    )


class TranslationConfig(Section):
    """The benchmark of a model that makes one image of another."""

    others: dict[str, str] = Field(
        {},
        description="models to compare with, by the names of their rows, as {without "
        "discriminator: runs/unet/model}",
    )


class LesionsConfig(Section):
    """The benchmark on scans with masks of real lesions."""

    healthy: str = Field(
        "",
        description="healthy scans, split as for the training of the model (data.splits): the "
        "calibration split gives thresholds and floors, the test split false alarms; empty leaves "
        "these out",
    )
    values: tuple[int, ...] = Field(
        (), description="values of the label maps that are lesions; empty is all above 0"
    )
    scorers: tuple[str, ...] = Field(
        (),
        description="scorers of the model that get a row of their own; empty is localiser, "
        "restoration, density and residual, as far as the model has them",
    )


class ResolutionConfig(Section):
    """The benchmark of super-resolution on thick slices of fine scans."""

    others: dict[str, str] = Field(
        {},
        description="models to compare with, by the names of their rows, as {without "
        "discriminator: runs/unet/model}",
    )
    factors: tuple[Annotated[float, Field(gt=1.2)], ...] = Field(
        (2.0, 4.0, 6.0), min_length=1, description="distances of slices, in voxels of the model"
    )
    gap: float = Field(
        0.0, ge=0, lt=1, description="share of the distance that lies between slices"
    )
    noise: float = Field(
        0.0, ge=0, le=0.5, description="standard deviation of the noise of slices, in [-1, 1]"
    )
