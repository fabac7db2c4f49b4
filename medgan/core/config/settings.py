"""All settings of a pipeline."""

from typing import Annotated, get_args

from pydantic import Field, model_validator

from medgan.core.config.data import DataConfig
from medgan.core.config.executor import ExecutorConfig
from medgan.core.config.fields import Count, Section
from medgan.core.config.gate import GateConfig
from medgan.core.config.generators import BaselineConfig, CompareConfig, ConvergenceConfig
from medgan.core.config.inference import GenerateConfig, LatentConfig, ScoreConfig
from medgan.core.config.node import PacsConfig
from medgan.core.config.serving import ServeConfig
from medgan.core.config.studies import (
    AuditConfig,
    AugmentConfig,
    DetectionConfig,
    DrawConfig,
    EvaluateConfig,
    LesionsConfig,
    ResolutionConfig,
    TranslationConfig,
    UtilityConfig,
)
from medgan.core.config.sweep import SweepConfig
from medgan.core.config.training import LocaliserConfig, ModelConfig, TrainConfig
from medgan.core.config.translation import ImageTask, TranslateConfig


class PhantomConfig(Section):
    """The data set of procedural head phantoms."""

    subjects: tuple[Count, Annotated[int, Field(ge=0)]] = Field(
        (72, 8), description="numbers of healthy subjects and of subjects with one planted lesion"
    )


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


class NightlyConfig(Section):
    """The pipeline that scores what is new in an inbox."""

    settle_seconds: float = Field(
        60.0,
        ge=0,
        description="a scan of which a file was written to since then waits for the next run",
    )


class Config(Section):
    """All settings of a pipeline."""

    out: str = Field("runs/latest", description="folder that receives everything")
    model_uri: str = Field("", description="model folder, models:/name@alias or runs:/id/model")
    data: DataConfig = DataConfig()  # pyright: ignore[reportCallIssue]
    model: ModelConfig = ModelConfig()  # pyright: ignore[reportCallIssue]
    train: TrainConfig = TrainConfig()  # pyright: ignore[reportCallIssue]
    sweep: SweepConfig = SweepConfig()  # pyright: ignore[reportCallIssue]
    localiser: LocaliserConfig = LocaliserConfig()  # pyright: ignore[reportCallIssue]
    score: ScoreConfig = ScoreConfig()  # pyright: ignore[reportCallIssue]
    generate: GenerateConfig = GenerateConfig()  # pyright: ignore[reportCallIssue]
    baseline: BaselineConfig = BaselineConfig()  # pyright: ignore[reportCallIssue]
    compare: CompareConfig = CompareConfig()  # pyright: ignore[reportCallIssue]
    convergence: ConvergenceConfig = ConvergenceConfig()  # pyright: ignore[reportCallIssue]
    utility: UtilityConfig = UtilityConfig()  # pyright: ignore[reportCallIssue]
    augment: AugmentConfig = AugmentConfig()  # pyright: ignore[reportCallIssue]
    draw: DrawConfig = DrawConfig()  # pyright: ignore[reportCallIssue]
    audit: AuditConfig = AuditConfig()  # pyright: ignore[reportCallIssue]
    evaluate: EvaluateConfig = EvaluateConfig()  # pyright: ignore[reportCallIssue]
    detection: DetectionConfig = DetectionConfig()  # pyright: ignore[reportCallIssue]
    lesions: LesionsConfig = LesionsConfig()  # pyright: ignore[reportCallIssue]
    translation: TranslationConfig = TranslationConfig()  # pyright: ignore[reportCallIssue]
    translate: TranslateConfig = TranslateConfig()  # pyright: ignore[reportCallIssue]
    resolution: ResolutionConfig = ResolutionConfig()  # pyright: ignore[reportCallIssue]
    latent: LatentConfig = LatentConfig()  # pyright: ignore[reportCallIssue]
    phantoms: PhantomConfig = PhantomConfig()  # pyright: ignore[reportCallIssue]
    gate: GateConfig = GateConfig()  # pyright: ignore[reportCallIssue]
    tracking: TrackingConfig = TrackingConfig()  # pyright: ignore[reportCallIssue]
    nightly: NightlyConfig = NightlyConfig()  # pyright: ignore[reportCallIssue]
    executor: ExecutorConfig = ExecutorConfig()  # pyright: ignore[reportCallIssue]
    report: ReportConfig = ReportConfig()  # pyright: ignore[reportCallIssue]
    serve: ServeConfig = ServeConfig()  # pyright: ignore[reportCallIssue]
    pacs: PacsConfig = PacsConfig()  # pyright: ignore[reportCallIssue]

    @model_validator(mode="after")
    def _sizes_fit(self) -> "Config":
        part, divisor = self.train.micro_batch, 2**self.model.downsamplings
        if part and self.train.batch % part:
            raise ValueError(f"train.micro_batch {part} does not divide train.batch")
        if self.train.metric == "restoration" and self.train.task != "restoration":
            raise ValueError("train.metric restoration needs train.task restoration")
        if self.train.task in get_args(ImageTask):
            if not self.data.patches:
                raise ValueError(f"train.task {self.train.task} needs data.patches true")
            if self.train.task == "translation" and not self.translate.source:
                raise ValueError("train.task translation needs translate.source and .target")
            if self.train.augment == "adaptive":
                raise ValueError("train.augment adaptive needs train.task synthesis or restoration")
        elif self.data.patches or self.train.metric == "translation":
            raise ValueError(
                f"data.patches and train.metric translation are not for train.task "
                f"{self.train.task}"
            )
        if self.train.task == "harmonisation":
            if self.translate.source or self.train.metric == "translation":
                raise ValueError(
                    "translate.source, translate.target and train.metric translation are not for "
                    "train.task harmonisation"
                )
        elif self.translate.target_data:
            raise ValueError("translate.target_data needs train.task harmonisation")
        if self.data.caption and self.train.task != "synthesis":
            raise ValueError("data.caption needs train.task synthesis")
        if self.model.from_template and self.data.align == "none":
            raise ValueError("model.from_template needs data.align rigid, affine or deformable")
        if self.train.autoencode and self.train.task not in ("synthesis", "sequence"):
            raise ValueError("train.autoencode needs train.task synthesis or sequence")
        if self.train.task == "sequence":
            kind = self.data.conditions.get(self.train.along)
            if kind not in ("continuous", "periodic"):
                raise ValueError(
                    f"train.task sequence needs data.conditions with {self.train.along}, periodic "
                    "or continuous"
                )
            if self.data.labels:
                raise ValueError("train.task sequence learns no labels: set data.labels to []")
            if "noise" in self.data.conditions:
                raise ValueError(
                    "train.task sequence cannot learn noise as a condition: leave noise out of "
                    "data.conditions"
                )
        if self.model.stem_blocks and self.model.stem_stages == 1:
            raise ValueError("model.stem_blocks needs model.stem_stages of 2 or more")
        if self.data.shape == "auto" and divisor > 16:
            raise ValueError(
                f"model.widths and model.stem_stages halve {self.model.downsamplings} times: set "
                f"data.shape to multiples of {divisor}"
            )
        if self.data.shape != "auto" and any(n % divisor for n in self.data.shape):
            raise ValueError(
                f"data.shape must be multiples of {divisor}, as model.widths and model.stem_stages "
                f"halve {self.model.downsamplings} times"
            )
        return self
