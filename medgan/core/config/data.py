"""Settings of the scans, and what a model keeps of them."""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    SkipValidation,
    field_serializer,
    field_validator,
    model_serializer,
    model_validator,
)

from medgan.core.config.fields import (
    CovariateValue,
    Label,
    Percentiles,
    Positive,
    Section,
    Size,
    rising,
)
from medgan.core.config.windows import WINDOWS, Windows
from medgan.core.errors import ModelError
from medgan.core.template import Template

Intensity = Literal["mri", "ct", "pet"]
Range = Annotated[tuple[float, float], AfterValidator(rising)]
Brain = Literal["none", "deepbet"]
Bias = Literal["none", "n4"]
Align = Literal["none", "rigid", "affine", "deformable"]


class DataConfig(Section):
    """Where scans come from, and the grid and intensities the model sees."""

    source: str = Field(
        "",
        description="folder of NIfTI or DICOM, BIDS tree, Decathlon folder, CSV, or manifest.json, "
        "whose splits stay",
    )
    suffix: str = Field(
        "",
        description="BIDS suffix where a tree holds several, such as T1w; for DICOM MR or CT",
    )
    channels: tuple[Label, ...] = Field(
        (),
        description="image channels of a scan in order, as [T1w, T2w]: BIDS suffixes, columns of a "
        "CSV or channel names of nnU-Net; empty is one image",
    )
    subjects: tuple[Label, ...] = Field(
        (), description='subjects to read, as ["01", "02"]; empty is all'
    )
    session: Label = Field("", description="session of a BIDS tree to read, such as baseline")
    splits: str = Field(
        "",
        description="JSON of the subjects in train, validation, calibration and test, or one of "
        "these four names for all scans; empty splits subjects at random",
    )
    fractions: tuple[Positive, Positive, Positive, Positive] = Field(
        (0.6, 0.1, 0.15, 0.15),
        description="shares of train, validation, calibration and test in a random split",
    )
    healthy: dict[str, list[CovariateValue]] = Field(
        {},
        description="covariate values of healthy cases, as {diagnosis: [control]}; all other "
        "cases are only tested",
    )
    spacing: tuple[Positive, Positive, Positive] | Literal["auto"] = Field(
        "auto", description="voxel size of the model in mm along R, A and S; auto fits the scans"
    )
    shape: tuple[Size, Size, Size] | Literal["auto"] = Field(
        "auto", description="voxels of the model along R, A and S, each divisible by 16"
    )
    brain: Brain = Field(
        "none",
        description="deepbet: T1 scans of whole heads are stripped of their skull and cut to the "
        "brain, by networks inside medgan; scans without a skull stay as they are",
    )
    bias: Bias = Field(
        "none", description="n4: the bias field of the coil is estimated and divided out of MRI"
    )
    align: Align = Field(
        "none",
        description="how scans are brought into one space before they are learned or scored: none, "
        "rigid (position and rotation), affine (lengths and angles too), or deformable: affine, "
        "and the mean healthy scan is bent to each scan that is compared with it",
    )
    voxels: int = Field(50_000, gt=4095, description="voxel budget that auto keeps to")
    intensity: Intensity | dict[str, Intensity] = Field(
        "mri",
        description="mri: the percentiles 0.5 and 99.5 of the foreground become -1 and 1; "
        "ct: a window in HU; pet: the square root of SUV from 0 to 25; or one for each channel, as "
        "{CT: ct, PET: pet}",
    )
    window: Windows = Field(
        (WINDOWS["soft tissue"],),
        description="HU that become -1 and 1 (ct): brain, lung, soft tissue, bone, or [low, high]; "
        "or several, as [lung, soft tissue], which networks see as channels",
    )
    unseen: dict[str, float] = Field(
        {},
        description="value that a channel has outside of its field of view, as {T1w: 0}, with "
        "data.patches: nothing is learned there",
    )
    ranges: dict[str, Range] = Field(
        {},
        description="of channels whose intensities mean the same in all scans, what becomes -1 and "
        "1, as {T1w: [0, 1500]} where fat is 1000; with data.patches",
    )
    synthetic: bool = Field(
        False,
        description="whether scans that medgan generated, edited or translated may be learned from "
        "and calibrated on; they are refused otherwise",
    )
    patches: bool = Field(
        False,
        description="networks see patches of data.shape, cut from whole scans of any size: for the "
        "tasks that make one image of another",
    )
    labels: tuple[int, ...] | Literal["auto"] = Field(
        "auto", description="label values to learn, without background; auto takes all present"
    )
    conditions: dict[str, Literal["categorical", "continuous", "periodic"]] = Field(
        {},
        description="covariates to generate by, as {age: continuous, sex: categorical}; "
        "label_1_mm3 is the volume of label 1, noise that of the scan, both measured; phase, the "
        "share of a cycle such as a heartbeat, is periodic",
    )
    caption: str = Field(
        "",
        description="column of the table with a sentence about each scan, to generate by sentences "
        "(train.task synthesis); needs medgan[text]",
    )
    seed: int = Field(0, ge=0, description="seed of random splits")

    @field_validator("channels")
    @classmethod
    def _channels_differ(cls, channels: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(channels)) < len(channels) or not all(channels):
            raise ValueError("each channel needs a name of its own")
        return channels

    @model_validator(mode="after")
    def _settings_fit_the_intensity(self) -> "DataConfig":
        used = self.intensity.values() if isinstance(self.intensity, dict) else [self.intensity]
        if "ct" not in used and self.window != (WINDOWS["soft tissue"],):
            raise ValueError("a window is for CT; set data.intensity to ct, too")
        if "mri" not in used and (self.brain, self.bias) != ("none", "none"):
            raise ValueError("data.brain and data.bias are for MRI")
        return self

    @model_validator(mode="after")
    def _patches_are_cut_from_whole_scans(self) -> "DataConfig":
        if self.unseen and not self.patches:
            raise ValueError("data.unseen needs data.patches")
        if self.ranges and not self.patches:
            raise ValueError("data.ranges needs data.patches")
        if self.patches and self.align != "none":
            raise ValueError("data.patches needs data.align none")
        return self


class Condition(Section):
    """A covariate that scans are generated by, as the training scans had it: its marginal alone.

    Attributes:
        name: of the covariate.
        kind: categorical, continuous or text, a caption.
        values, shares: categories in order, and how often each was among the known ones; of
            captions their words, and with `no` those that were negated.
        mean, spread: of a continuous covariate, or of the logarithms of the numbers in captions;
            the spread is above 0.
        quantiles: of a continuous covariate at even steps from 0 to 1; the first and last are
            the range that was trained on. Of the numbers in captions, these two alone. Of a
            periodic one of its share of the cycle.
        cycle: of a periodic covariate, mean length of a cycle in seconds; 0 where unknown.
    """

    name: str
    kind: Literal["categorical", "continuous", "periodic", "text"]
    values: tuple[str, ...] = ()
    shares: tuple[float, ...] = ()
    mean: float = 0.0
    spread: Positive = 1.0
    quantiles: tuple[float, ...] = ()
    cycle: float = 0.0

    @model_serializer(mode="wrap")
    def _without_an_unknown_cycle(self, as_before: Any) -> dict[str, Any]:  # noqa: ANN401
        """A cycle of no length is left out, as older models have none."""
        values = as_before(self)
        return {key: value for key, value in values.items() if value or key != "cycle"}


class Preprocessing(Section):
    """What is known of a scan and done to it before a network sees it; it travels with a model.

    Attributes:
        template: of scans that are aligned; dumped as its digest.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    spacing: tuple[Positive, Positive, Positive]
    shape: tuple[Size, Size, Size]
    channels: tuple[str, ...] = ("image",)
    intensity: Intensity | dict[str, Intensity] = "mri"
    percentiles: Percentiles = (0.5, 99.5)
    window: Windows = (WINDOWS["soft tissue"],)
    labels: tuple[int, ...] = ()
    conditions: tuple[Condition, ...] = ()
    brain: Brain = "none"
    bias: Bias = "none"
    align: Align = "none"
    template: SkipValidation[Template | None] = None
    unseen: dict[str, float] = Field(default_factory=dict)
    ranges: dict[str, Range] = Field(default_factory=dict)
    patches: bool = False

    @model_serializer(mode="wrap")
    def _without_what_is_unused(self, as_before: Any) -> dict[str, Any]:  # noqa: ANN401
        """Settings of patches are left out where there are none, as older models have them."""
        values = as_before(self)
        return {k: v for k, v in values.items() if v or k not in ("unseen", "ranges", "patches")}

    @field_serializer("template")
    def _as_digest(self, template: Template | None) -> str | None:
        """Its tensors are in a file of their own; the digest stands for them."""
        return None if template is None else template.digest

    @property
    def known_template(self) -> Template:
        """The template to which scans are aligned.

        Raises:
            ModelError: E_MODEL when it is missing.
        """
        if not isinstance(self.template, Template):
            raise ModelError("E_MODEL", "the model", "has no template", "train it again")
        return self.template

    @model_validator(mode="after")
    def _each_channel_has_an_intensity(self) -> "Preprocessing":
        if isinstance(self.intensity, dict) and set(self.intensity) != set(self.channels):
            raise ValueError(f"data.intensity needs {', '.join(self.channels)}, and no other name")
        return self

    def intensity_of(self, channel: str) -> Intensity:
        """What the intensities of an image channel are."""
        return self.intensity[channel] if isinstance(self.intensity, dict) else self.intensity

    def windows_of(self, channel: str) -> tuple[tuple[float, float], ...]:
        """The windows of an image channel, (low, high) in HU; none of one that is no CT."""
        return self.window if self.intensity_of(channel) == "ct" else ()

    @property
    def holds_ct(self) -> bool:
        """Whether any image channel is CT."""
        return "ct" in map(self.intensity_of, self.channels)

    @property
    def views(self) -> tuple[tuple[tuple[float, float], ...], ...]:
        """Of each image channel the windows through which networks see it, where these are several.

        Empty where every channel is seen as it is.
        """
        if len(self.window) < 2 or not self.holds_ct:
            return ()
        return tuple(map(self.windows_of, self.channels))
