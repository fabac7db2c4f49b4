"""Every knob: frozen sections, unknown keys refused with the nearest known one."""

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from medgan.errors import ConfigError


def _rising(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] >= pair[1]:
        raise ValueError(f"must rise, not {pair[0]} to {pair[1]}")
    return pair


Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(gt=0)]
Size = Annotated[int, Field(gt=0, multiple_of=16)]
Percentile = Annotated[float, Field(ge=0, le=100)]
Percentiles = Annotated[tuple[Percentile, Percentile], AfterValidator(_rising)]
Share = Annotated[float, Field(ge=0, le=1)]

WINDOWS = {
    "brain": (0.0, 80.0),
    "lung": (-1350.0, 150.0),
    "soft tissue": (-160.0, 240.0),
    "bone": (-500.0, 1300.0),
}
"""HU that are shown from black to white, as radiologists set them (level and width 40 and 80,
-600 and 1500, 40 and 400, 400 and 1800)."""


def _named_windows(value: object) -> object:
    """One window or several, each by its name or its two ends, as a tuple of windows."""
    if isinstance(value, str) or _is_pair(value):
        value = (value,)
    if not isinstance(value, list | tuple):
        return value
    return tuple(_named_window(window) if isinstance(window, str) else window for window in value)


def _is_pair(value: object) -> bool:
    return isinstance(value, list | tuple) and any(isinstance(end, int | float) for end in value)


def _named_window(name: str) -> tuple[float, float]:
    name = name.strip().lower().replace("_", " ")
    if name not in WINDOWS:
        raise ValueError(f"no window of this name; use {', '.join(WINDOWS)} or [low, high] in HU")
    return WINDOWS[name]


def _without_gaps(windows: tuple[tuple[float, float], ...]) -> tuple[tuple[float, float], ...]:
    """Different windows that touch or overlap, or an error that says what none of them shows."""
    if not windows:
        raise ValueError("no window; name one or more")
    if len(set(windows)) < len(windows):
        raise ValueError("names a window twice")
    reached = min(low for low, _ in windows)
    for low, high in sorted(_rising(window) for window in windows):
        if low > reached:
            raise ValueError(f"shows nothing from {reached:g} to {low:g} HU; let windows touch")
        reached = max(reached, high)
    return windows


Windows = Annotated[
    tuple[tuple[float, float], ...],
    BeforeValidator(_named_windows),
    AfterValidator(_without_gaps),
]


def _as_text(value: object) -> object:
    """A covariate's value as a table spells it; YAML reads `0` as a number, `no` as false."""
    if isinstance(value, bool):
        raise ValueError("YAML reads this as true or false; put it in quotes")
    return str(value) if isinstance(value, int | float) else value


CovariateValue = Annotated[str, BeforeValidator(_as_text)]


def _in_quotes(value: object) -> object:
    """A label of BIDS: YAML reads 01 as 1."""
    if not isinstance(value, str):
        raise ValueError("YAML reads this as a number; put it in quotes")
    return value


Label = Annotated[str, BeforeValidator(_in_quotes)]


class Section(BaseModel):
    """A frozen group of settings."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


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
    subjects: tuple[Label, ...] = Field(
        (), description='subjects to read, as ["01", "02"]; empty is all'
    )
    session: Label = Field("", description="session of a BIDS tree to read, such as baseline")
    splits: str = Field(
        "", description="JSON of subjects in train, calibration and test; empty draws them"
    )
    fractions: tuple[Positive, Positive, Positive] = Field(
        (0.7, 0.15, 0.15), description="shares of train, calibration and test when drawn"
    )
    assign: Literal["draw", "train", "calibration", "test"] = Field(
        "draw", description="draw splits by subject, or put every case into one"
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
    voxels: int = Field(50_000, gt=4095, description="voxel budget that auto keeps to")
    intensity: Literal["mri", "ct"] = Field(
        "mri", description="mri: percentiles of the foreground; ct: a window in HU"
    )
    percentiles: Percentiles = Field(
        (0.5, 99.5), description="foreground percentiles that become -1 and 1 (mri)"
    )
    window: Windows = Field(
        (WINDOWS["soft tissue"],),
        description="HU that become -1 and 1 (ct): brain, lung, soft tissue, bone, or [low, high]; "
        "or several, as [lung, soft tissue], which networks see as channels",
    )
    labels: tuple[int, ...] | Literal["auto"] = Field(
        "auto", description="label values to learn, without background; auto takes all present"
    )
    conditions: dict[str, Literal["categorical", "continuous"]] = Field(
        {},
        description="covariates to generate by, as {age: continuous, sex: categorical}; "
        "label_1_mm3 is the volume of label 1",
    )
    seed: int = Field(0, ge=0, description="seed of the drawn splits")

    @model_validator(mode="after")
    def _window_is_for_ct(self) -> "DataConfig":
        if self.intensity == "mri" and self.window != (WINDOWS["soft tissue"],):
            raise ValueError("a window is for CT; set data.intensity to ct, too")
        return self


class ModelConfig(Section):
    """The sizes of the networks."""

    latent: int = Field(128, gt=0, description="length of the latent")
    widths: tuple[Count, ...] = Field(
        (16, 32, 64),
        min_length=2,
        max_length=4,
        description="channels at 1/2, 1/4, 1/8 (and 1/16) of the resolution, or further down "
        "where octaves says so",
    )
    octaves: int = Field(
        1,
        ge=1,
        le=3,
        description="1 puts the finest stage at half resolution; each more is a thin octave, "
        "without residual blocks, above it: with 2, widths begin at 1/4",
    )
    thin: int = Field(
        32,
        gt=1,
        description="channels at half resolution behind the generator's stages and of the first "
        "thin octave, twice as many at each thin octave below",
    )
    blocks: int = Field(1, gt=0, description="residual blocks a stage")
    patches: int = Field(
        0, ge=0, description="stages of the discriminator, finest first, that judge every place"
    )
    minibatch_std: bool = Field(
        False, description="show the discriminator how much the volumes of a batch differ"
    )

    @property
    def halvings(self) -> int:
        """How many times the coarsest grid is halved."""
        return len(self.widths) + self.octaves - 1


class TrainConfig(Section):
    """Length, objective and book-keeping of a training."""

    volumes: int = Field(12_000, gt=0, description="real volumes seen before stopping")
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
    beta2: float = Field(
        0.9, gt=0, lt=1, description="Adam's decay of squared gradients; its beta1 is 0"
    )
    warmup: int = Field(
        400,
        ge=0,
        description="volumes over which the learning rate rises; gamma is doubled twice as long",
    )
    objective: Literal["relativistic", "wgan-gp", "hinge", "non-saturating", "least-squares"] = (
        Field("relativistic", description="adversarial objective")
    )
    penalty: Literal["r1+r2", "r1", "gp"] = Field(
        "r1+r2",
        description="gradient penalty: zero-centred on reals and fakes, on reals alone, or "
        "one-centred between them",
    )
    gamma: Positive = Field(
        50.0, description="weight of the penalty, halved in the loss; gp's lambda is its half"
    )
    penalty_every: int = Field(2, gt=0, description="steps from one penalty to the next")
    patch_weight: float = Field(
        1.0, ge=0, description="weight of each patch head's objective beside the whole's"
    )
    patch_gamma: Positive = Field(0.5, description="as gamma, for the logits of patches")
    encoder_every: int = Field(
        2, gt=0, description="generator steps from one encoder step to the next"
    )
    augment: Share | Literal["adaptive"] = Field(
        0.0,
        description="probability of each change to what the discriminators see; adaptive raises "
        "it while they judge training scans better than held-out ones",
    )
    begin_black: bool = Field(
        False,
        description="let the generator's first samples be black; for scans that are mostly air, "
        "such as skull-stripped brains",
    )
    mirror: bool = Field(False, description="let augmentation exchange left and right")
    reconstruction: float = Field(10.0, ge=0, description="weight of the reconstruction loss")
    restore_moved: Share = Field(
        0.8,
        description="probability of each change (moved, turned, otherwise lit) to a scan before "
        "encoder and generator learn to restore it, so that they do not learn scans by heart",
    )
    latent: float = Field(0.5, ge=0, description="weight of the latent loss")
    condition_dropout: float = Field(
        0.1, ge=0, le=1, description="how often each condition of a scan is made unknown"
    )
    ema_half_life: Positive = Field(
        2_500.0, description="half-life of the weight average, in volumes"
    )
    precision: Literal["bf16", "fp32"] = Field("bf16", description="autocast of the networks")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where to train")
    seed: int = Field(0, ge=0, description="seed of weights, latents, order and corruption")
    metric: Literal["kernel_distance", "reconstruction", "diversity", "precision", "coverage"] = (
        Field(
            "kernel_distance",
            description="figure of the averaged networks by which the shipped weights are chosen "
            "and training stops early; small is good, diversity, precision and coverage count as "
            "distance from 1",
        )
    )
    stop_at: float | None = Field(None, description="stop and finish once the metric is this small")
    patience: int = Field(
        0,
        ge=0,
        description="stop and finish after this many pictures without a better metric, counted "
        "in the second half, where the learning rate is low; 0 never",
    )
    max_gap: float = Field(
        10.0,
        ge=0,
        description="alarm when the discriminator's gap between real and fake stays beyond this; "
        "healthy ones stay below 4; 0 for objectives whose gap has no bound",
    )
    checkpoint_every: int = Field(800, gt=0, description="volumes from one checkpoint to the next")
    sample_every: int = Field(1_600, gt=0, description="volumes from one picture to the next")
    resume: Literal["auto", "never"] = Field(
        "auto", description="auto continues from the newest good checkpoint"
    )


class LocaliserConfig(Section):
    """How the localiser learns, once the GAN is trained."""

    volumes: int = Field(
        0,
        ge=0,
        description="scans with planted lesions to learn from, such as 24000; 0 for no localiser",
    )
    minutes: float = Field(0.0, ge=0, description="stop and finish after this long; 0 for no limit")
    batch: int = Field(8, gt=0, description="scans a step")
    learning_rate: Positive = Field(1e-3, description="AdamW's, before the fall in the second half")
    looks_at: tuple[Literal["density", "recon"], ...] = Field(
        ("density", "recon"),
        description="what it sees beside the scan: how unusual each place is, the reconstruction",
    )
    leave_out: tuple[str, ...] = Field(
        (), description="families of lesions not to learn from, to test with"
    )


class ScoreConfig(Section):
    """How score maps become a score."""

    folder: str = Field("scores", description="subfolder of out that receives the scores")
    scorers: tuple[str, ...] = Field(
        (),
        description="whose maps are combined, from calibration on; empty takes the localiser, "
        "the density where there is none, the residuals where there is neither",
    )
    sign: Literal["both", "bright", "dark"] = Field(
        "both", description="what counts beside the reconstruction, from calibration on"
    )
    erosion: float = Field(
        0.0, ge=0, description="voxels from air within which nothing counts, from calibration on"
    )
    median: int = Field(
        0, ge=0, description="edge of a median filter over maps, in voxels, from calibration on"
    )
    top: float = Field(
        0.01, gt=0, le=1, description="share of the highest voxels of a map that make its score"
    )
    false_alarms: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="rate of healthy scans that may be called abnormal, such as 0.05: fills the "
        "column alarm; 0 leaves it empty",
    )
    smallest_mm3: float = Field(0.0, ge=0, description="smaller regions are left out")
    layout: Literal["medgan", "bids"] = Field(
        "medgan", description="bids puts maps and regions into a BIDS data set, derivatives/medgan"
    )
    bids_labels: Literal["pseudonym", "keep"] = Field(
        "pseudonym", description="keep takes subject and session from the names of a BIDS tree"
    )


class GenerateConfig(Section):
    """How many synthetic scans, and which."""

    folder: str = Field("synthetic", description="subfolder of out that receives the scans")
    count: int = Field(8, gt=0, description="synthetic scans to write")
    seed: int = Field(0, ge=0, description="seed of the latents")
    smallest_component: float = Field(
        0.05,
        ge=0,
        le=1,
        description="parts of a label smaller than this share of its largest part are filled with "
        "what surrounds them; 0 keeps all",
    )
    conditions: dict[str, CovariateValue] = Field(
        {},
        description="values of the model's conditions, as {age: 70, sex: F}; unknown leaves one "
        "open, and what is not named is drawn as the training scans had it",
    )
    balance: str = Field(
        "", description="condition whose rarer categories in data.source are filled up"
    )
    truncation: float = Field(
        0.0,
        ge=0,
        description="latent coordinates beyond this are drawn again from within it: smaller is "
        "more typical and less varied; 0 is off",
    )
    dicom: bool = Field(
        False,
        description="write each scan as a DICOM series, too: of no patient, under new UIDs, "
        "marked as synthetic",
    )


class LatentConfig(Section):
    """Projection of real scans, ways between two scans, edits along a covariate."""

    steps: int = Field(100, ge=0, description="steps of a projection; 0 keeps the encoder's latent")
    ends: tuple[str, str] = Field(
        ("seed:0", "seed:1"),
        description="scans to interpolate between: a NIfTI file each, or seed:3, or seed:3/5 for "
        "number 5 of that seed",
    )
    frames: int = Field(8, gt=1, description="scans on the way, both ends included")
    changes: dict[str, CovariateValue] = Field(
        {}, description="conditions that an edit changes, as {age: 80}"
    )
    known: dict[str, CovariateValue] = Field(
        {}, description="what is known of the scans to edit, over what their table says"
    )


class BaselineConfig(Section):
    """A generator from the literature, trained to compare with."""

    name: Literal["alpha_wgan", "dcgan", "vae"] = Field("dcgan", description="which one")
    count: int = Field(500, gt=0, description="synthetic volumes to write")


class CompareConfig(Section):
    """How generators are compared with real scans, and so with each other."""

    models: tuple[str, ...] = Field(
        (), description="model folders, models:/name@alias, or folders of baselines"
    )
    count: int = Field(500, gt=15, description="volumes that a model generates")
    seeds: int = Field(3, gt=0, description="trainings of each network that judges or segments")
    steps: int = Field(400, gt=1, description="steps of the network that tells fake from real")
    pairs: int = Field(500, gt=0, description="pairs of volumes whose similarity is averaged")
    segmentation: bool = Field(False, description="whether to train segmenters, which takes long")
    segmentation_steps: int = Field(600, gt=1, description="steps of each segmenter")


class UtilityConfig(Section):
    """Whether synthetic scans help a network that learns from few real ones."""

    task: Literal["segmentation", "classification"] = Field(
        "segmentation", description="what the network learns"
    )
    sizes: tuple[Annotated[int, Field(ge=5)], ...] = Field(
        (20,), min_length=1, description="numbers of real training scans, 5 or more"
    )
    seeds: int = Field(3, gt=0, description="draws of real scans, each with a generator of its own")
    arms: tuple[
        Literal["real", "classical", "oversampling", "synthetic", "mixed", "all", "first"], ...
    ] = Field(
        ("real", "classical", "oversampling", "synthetic", "mixed", "all"),
        description="ways of training; the others are compared with classical, in a "
        "classification with oversampling",
    )
    ratios: tuple[Positive, ...] = Field(
        (1.0,), min_length=1, description="synthetic scans a real one, in a segmentation"
    )
    steps: int = Field(1000, gt=1, description="steps of every network")
    tested: tuple[Literal["calibration", "test"], ...] = Field(
        ("test",), min_length=1, description="splits that the networks are tested on"
    )
    unlabelled: bool = Field(
        False,
        description="whether generators also learn from the images, without the label maps, of "
        "the other training scans",
    )
    relabel: bool = Field(
        False,
        description="whether synthetic scans get the label maps of a network that learned from "
        "the real scans of the draw, in place of their own",
    )
    command: str = Field(
        "",
        description="a training of your own in place of the U-Net: a shell command with {data} and "
        "{result}, if it likes {seed}; see docs/how-to/utility.md",
    )
    target: str = Field("", description="condition that tells the groups of a classification apart")
    rare: str = Field(
        "above", description="the rare group: a category of the target, or above or below the cut"
    )
    cut: float = Field(0.0, description="value of a continuous target between the groups")
    share: float = Field(0.1, gt=0, le=0.5, description="of the rare group in the training sets")

    @model_validator(mode="after")
    def _relabels_for_the_unet(self) -> "UtilityConfig":
        if self.relabel and (self.task != "segmentation" or self.command):
            raise ValueError("relabel: is for segmentations by the U-Net; leave it out")
        return self


class AugmentConfig(Section):
    """A training set of real and synthetic scans, and which synthetic ones are good enough."""

    ratio: float = Field(1.0, ge=0, description="synthetic scans for each real training scan")
    balance: str = Field(
        "",
        description="categorical condition whose rarer categories among the training scans are "
        "filled up first; the rest of ratio is spread evenly over its categories",
    )
    layout: Literal["decathlon", "bids"] = Field("decathlon", description="of the data set")
    real: Literal["reference", "copy"] = Field(
        "reference",
        description="name the real files where they lie, or copy them under their pseudonyms",
    )
    suffix: str = Field("T1w", pattern="^[A-Za-z0-9]+$", description="of the files of a BIDS tree")
    shard: str = Field(
        "", pattern=r"^(\d+/\d+)?$", description="part of the synthetic scans to make, such as 1/4"
    )
    tries: int = Field(
        10, gt=0, description="candidates for each synthetic scan before it is left out"
    )
    appearance: float = Field(
        0.1,
        ge=0,
        description="share by which textures may be stranger than those of held-out training "
        "scans; 0 is off",
    )
    realism: float = Field(
        4.0,
        ge=0,
        description="robust standard deviations below the median candidate's logit at which the "
        "discriminator drops a candidate; 0 is off",
    )
    consistency: Percentile = Field(
        1.0,
        description="percentile of the Dice of held-out training scans below which a segmenter "
        "drops a candidate; 0 is off",
    )
    segmenter_steps: int = Field(600, gt=1, description="steps of each of the two segmenters")
    volumes: float = Field(
        0.25,
        ge=0,
        description="share by which volumes may leave those of training scans; 0 is off",
    )
    privacy: Percentile = Field(
        99.0,
        description="percentile of how alike real scans are to the training scan most like them, "
        "above which a candidate is dropped; 0 is off",
    )


class AuditConfig(Section):
    """Whether a model, or what it generates, gives away the scans it was trained on."""

    model: str = Field("", description="model folder, models:/name@alias, or a baseline's folder")
    train: str = Field("", description="scans it was trained on; empty takes data.source's splits")
    holdout: str = Field("", description="scans of people it was not trained on")
    of: Literal["scans", "model"] = Field(
        "scans", description="what has to pass: the synthetic scans, or the model folder as well"
    )
    count: int = Field(300, gt=19, description="synthetic scans that a model generates")
    planted: int = Field(20, gt=0, description="disguised training scans hidden among them")
    rate: float = Field(0.05, ge=0.05, lt=0.5, description="share of fresh scans that is flagged")
    level: float = Field(
        0.95, gt=0.5, lt=1, description="that a verdict of a clean generator is not a failure"
    )
    exchanges: int = Field(400, gt=99, description="times that people are dealt anew")
    seed: int = Field(0, ge=0, description="seed of synthetic scans, disguises and draws")


class EvaluateConfig(Section):
    """Whether synthetic scans are real and varied enough."""

    fake: str = Field(
        "", description="synthetic scans; or a model or folder of a baseline, which makes them"
    )
    count: int = Field(
        0, ge=0, description="volumes that a model generates; 0 is as many as there are real scans"
    )
    splits: tuple[Literal["train", "calibration", "test"], ...] = Field(
        (),
        description="splits of the real scans to compare with, such as [calibration, test] where "
        "the others were trained on; empty is all",
    )
    features: Literal["bands", "random", "selfsupervised", "medicalnet", "planes"] = Field(
        "bands", description="what volumes are compared by; the last two need weights"
    )
    weights: str = Field(
        "",
        description="file of a MedicalNet network (medicalnet) or of a torchvision ResNet (planes)",
    )
    size: int = Field(
        0, ge=0, description="scans in each set compared; 0 is as many as real halves have"
    )
    draws: int = Field(50, gt=1, description="how often sets are drawn, real halves among them")
    pairs: int = Field(60, gt=0, description="pairs of scans a set whose similarity is measured")
    judge: bool = Field(
        False, description="whether networks learn to tell fake from real, which takes minutes"
    )
    judge_steps: int = Field(400, gt=1, description="steps of each of these networks")
    seed: int = Field(0, ge=0, description="seed of latents' choice, draws and networks")


class DetectionConfig(Section):
    """Planted lesions, who looks for them, and how long each may learn."""

    families: tuple[str, ...] = Field(
        (
            *("brighter", "darker", "noise", "blur", "fill", "push", "pull", "shift"),
            *("reflection", "foreign", "missing", "bias", "ghost"),
        ),
        description="families of lesions",
    )
    radii: tuple[Positive, ...] = Field((3.0, 4.5, 6.0), description="radii of lesions, in voxels")
    contrasts: tuple[str, ...] = Field(("faint", "strong"), description="strengths of lesions")
    scorers: tuple[str, ...] = Field(
        (
            *("residual", "similarity", "features", "density", "discriminator", "localiser"),
            *("ensemble", "latent", "reencoding"),
        ),
        description="the model's scorers that are judged, each alone",
    )
    each: int = Field(
        2,
        ge=0,
        description="sizes and contrasts that a scan gets of each family, in turn; 0 is all",
    )
    combinations: dict[str, tuple[str, ...]] = Field(
        {
            "density + localiser": ("density", "localiser"),
            "density + localiser + residual": ("density", "localiser", "residual"),
        },
        description="those also judged together, by the name of the row",
    )
    shown: str = Field("localiser", description="the row whose lesions are listed and drawn")
    minutes: float = Field(10.0, ge=0, description="that each learned baseline may train")
    baseline_volumes: int = Field(24_000, gt=0, description="the same in volumes, if minutes is 0")
    baselines: tuple[str, ...] = Field((), description="scorers to compare with; empty is all")


class PhantomConfig(Section):
    """The procedural cohort."""

    healthy: int = Field(72, gt=0, description="healthy subjects")
    lesioned: int = Field(8, ge=0, description="subjects with one planted lesion")
    shape: tuple[Count, Count, Count] = Field((48, 56, 48), description="voxels as stored")
    spacing: Positive = Field(4.0, description="voxel size in mm")
    seed: int = Field(0, ge=0, description="seed of the cohort")


class TrackingConfig(Section):
    """MLflow: where runs are recorded and models registered."""

    uri: str = Field(
        "", description="tracking URI; empty is sqlite:///mlflow.db beside the output; none is off"
    )
    experiment: str = Field("medgan", description="MLflow experiment")
    name: str = Field("medgan", description="registered model")
    alias: str = Field("challenger", description="alias set on the registered version")


class ReportConfig(Section):
    """The pages at the end."""

    scans: int = Field(
        100, ge=0, description="scans that get a page of their own, highest scores first"
    )


class Config(Section):
    """All settings of a pipeline."""

    out: str = Field("runs/latest", description="folder that receives everything")
    model_uri: str = Field("", description="model folder, models:/name@alias or runs:/id/model")
    data: DataConfig = DataConfig()  # pyright: ignore[reportCallIssue]
    model: ModelConfig = ModelConfig()  # pyright: ignore[reportCallIssue]
    train: TrainConfig = TrainConfig()  # pyright: ignore[reportCallIssue]
    localiser: LocaliserConfig = LocaliserConfig()  # pyright: ignore[reportCallIssue]
    score: ScoreConfig = ScoreConfig()  # pyright: ignore[reportCallIssue]
    generate: GenerateConfig = GenerateConfig()  # pyright: ignore[reportCallIssue]
    baseline: BaselineConfig = BaselineConfig()  # pyright: ignore[reportCallIssue]
    compare: CompareConfig = CompareConfig()  # pyright: ignore[reportCallIssue]
    utility: UtilityConfig = UtilityConfig()  # pyright: ignore[reportCallIssue]
    augment: AugmentConfig = AugmentConfig()  # pyright: ignore[reportCallIssue]
    audit: AuditConfig = AuditConfig()  # pyright: ignore[reportCallIssue]
    evaluate: EvaluateConfig = EvaluateConfig()  # pyright: ignore[reportCallIssue]
    detection: DetectionConfig = DetectionConfig()  # pyright: ignore[reportCallIssue]
    latent: LatentConfig = LatentConfig()  # pyright: ignore[reportCallIssue]
    phantoms: PhantomConfig = PhantomConfig()  # pyright: ignore[reportCallIssue]
    tracking: TrackingConfig = TrackingConfig()  # pyright: ignore[reportCallIssue]
    report: ReportConfig = ReportConfig()  # pyright: ignore[reportCallIssue]

    @model_validator(mode="after")
    def _sizes_fit(self) -> "Config":
        part, divisor = self.train.micro_batch, 2**self.model.halvings
        if part and self.train.batch % part:
            raise ValueError(f"train.micro_batch {part} does not divide train.batch")
        if part and self.model.minibatch_std:
            raise ValueError("model.minibatch_std needs whole batches, without train.micro_batch")
        if self.data.shape == "auto" and divisor > 16:
            raise ValueError(
                f"model.widths and model.octaves halve {self.model.halvings} times: set data.shape "
                f"to multiples of {divisor}"
            )
        if self.data.shape != "auto" and any(n % divisor for n in self.data.shape):
            raise ValueError(
                f"data.shape must be multiples of {divisor}, as model.widths and model.octaves "
                f"halve {self.model.halvings} times"
            )
        return self


class Condition(Section):
    """A covariate that scans are generated by, as the training scans had it: its marginal alone.

    Attributes:
        name: of the covariate.
        kind: categorical or continuous.
        values, shares: categories in order, and how often each was among the known ones.
        mean, spread: of a continuous covariate; the spread is above 0.
        quantiles: of a continuous covariate at even steps from 0 to 1; the first and last are
            the range that was trained on.
    """

    name: str
    kind: Literal["categorical", "continuous"]
    values: tuple[str, ...] = ()
    shares: tuple[float, ...] = ()
    mean: float = 0.0
    spread: Positive = 1.0
    quantiles: tuple[float, ...] = ()


class Preprocessing(Section):
    """What is known of a scan and done to it before a network sees it; it travels with a model."""

    spacing: tuple[Positive, Positive, Positive]
    shape: tuple[Size, Size, Size]
    intensity: Literal["mri", "ct"] = "mri"
    percentiles: Percentiles = (0.5, 99.5)
    window: Windows = (WINDOWS["soft tissue"],)
    labels: tuple[int, ...] = ()
    conditions: tuple[Condition, ...] = ()

    @property
    def views(self) -> tuple[tuple[float, float], ...]:
        """Windows through which networks see a volume besides; none where one is all."""
        return self.window if self.intensity == "ct" and len(self.window) > 1 else ()


def build(values: dict[str, Any], overrides: list[str] | None = None) -> Config:
    """Validated configuration from nested values and `section.key=value` overrides.

    Args:
        values: nested dictionary, as read from YAML.
        overrides: settings that win over `values`; the right side is YAML.

    Raises:
        ConfigError: E_KEY for an unknown key, E_VALUE for a value out of range, E_SET and
            E_YAML for an override that cannot be read.

    Example:
        >>> build({"train": {"batch": 4}}, ["train.gamma=20"]).train.gamma
        20.0
    """
    merged = merge({}, values)
    for override in overrides or []:
        path, separator, text = override.partition("=")
        if not separator:
            raise ConfigError("E_SET", override, "no value", "write section.key=value")
        value: Any = _yaml(text, override)
        for key in reversed(path.strip().split(".")):
            value = {key: value}
        merged = merge(merged, value)
    try:
        return Config.model_validate(merged)
    except ValidationError as error:
        raise _explain(error) from None


_NAMES = {
    "data": ("source", "splits", "subjects", "session"),
    "compare": ("models",),
    "utility": ("command",),
    "audit": ("model", "train", "holdout"),
    "evaluate": ("fake", "weights"),
    "latent": ("ends",),
    "tracking": ("uri",),
}
"""Settings that hold paths, and so perhaps names of people."""


def without_names(config: Config) -> dict[str, Any]:
    """All settings that may be read by others: those that hold paths are left out."""
    settings = config.model_dump(mode="json", exclude={"out", "model_uri"})
    for section, names in _NAMES.items():
        for name in names:
            del settings[section][name]
    return settings


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`base` with the values of `over` laid over it, dictionaries key by key.

    An empty dictionary empties what it is laid over: `data.conditions={}` drops a preset's.
    """
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        both = isinstance(old, dict) and isinstance(value, dict) and value
        merged[key] = merge(old, value) if both else value  # pyright: ignore[reportArgumentType]
    return merged


def read_yaml(path: Path) -> dict[str, Any]:
    """The dictionary in a YAML file.

    Raises:
        ConfigError: E_MISSING, E_YAML.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError:
        raise ConfigError("E_MISSING", str(path), "cannot be read", "check the path") from None
    except UnicodeDecodeError:
        raise ConfigError("E_YAML", path.name, "not UTF-8 text", "save it as UTF-8") from None
    values = _yaml(text, path.name)
    if not isinstance(values, dict):
        raise ConfigError("E_YAML", path.name, "not a mapping", "write `key: value` lines")
    return values


def _yaml(text: str, where: str) -> Any:  # noqa: ANN401 - YAML holds anything
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date that does not exist
        what = " ".join(str(error).split())
        raise ConfigError("E_YAML", where, what, "mend the YAML") from None


def _explain(error: ValidationError) -> ConfigError:
    errors = [(_location(e["loc"]), e) for e in error.errors()]
    location, first = errors[0]
    where = ".".join(location) or "the settings together"
    if first["type"] != "extra_forbidden":
        messages = [e["msg"] for place, e in errors if place == location]
        what = " or ".join(message.removeprefix("Value error, ") for message in messages)
        return ConfigError("E_VALUE", where, what, "see docs/reference/configuration.md")
    section: Any = Config
    for part in location[:-1]:
        section = section.model_fields[part].annotation
    near = difflib.get_close_matches(location[-1], section.model_fields, n=1, cutoff=0.0)
    prefix = ".".join([*location[:-1], ""])
    return ConfigError("E_KEY", where, "no such setting", f"did you mean {prefix}{near[0]}?")


def _location(loc: tuple[int | str, ...]) -> list[str]:
    """The path of a setting, without pydantic's names for the branches of a union."""
    return [str(part) for part in loc if not str(part).startswith(("tuple[", "literal["))]
