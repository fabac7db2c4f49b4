"""What a registered model has to keep before it becomes challenger or champion."""

from typing import Literal

from pydantic import Field, model_validator

from medgan.core.config.fields import Section

GateMetric = Literal[
    "kernel_distance", "dice_ratio", "auroc", "average_precision", "false_alarms", "not_comparable"
]
"""What a gate measures; `medgan.studies.gate.limits` says what each is."""


class Limit(Section):
    """What one metric may be."""

    least: float | None = Field(None, description="smallest value that passes")
    most: float | None = Field(None, description="largest value that passes")
    worse_by: float | None = Field(
        None, ge=0, description="how much worse than the champion a version may be"
    )

    @model_validator(mode="after")
    def _says_something(self) -> "Limit":
        if self.least is None and self.most is None and self.worse_by is None:
            raise ValueError("says nothing: give least, most or worse_by")
        return self


class GateConfig(Section):
    """The gate before an alias of a registered model."""

    version: str = Field(
        "",
        pattern=r"^\d*$",
        description="version that asks for the alias; empty is the challenger, or the newest "
        "version where it is to become challenger",
    )
    to: Literal["challenger", "champion"] = Field("champion", description="alias it asks for")
    by: str = Field(
        "",
        max_length=100,
        description="who decides; empty is the MLflow account, else the login name",
    )
    why: str = Field("", max_length=500, description="the reason, for the record")
    command: str = Field(
        "",
        description="program that is run after a promotion, with MEDGAN_NAME, MEDGAN_VERSION, "
        "MEDGAN_ALIAS and MEDGAN_RECORD in its environment",
    )
    audit: bool = Field(
        True,
        description="whether the version has to pass the privacy audit on the training scans",
    )
    lesions_each: int = Field(
        1, gt=0, description="lesions planted into each test scan for each family"
    )
    samples: int = Field(
        0, ge=0, description="synthetic scans that are measured; 0 is as many as training scans"
    )
    limits: dict[GateMetric, Limit | None] = Field(
        {},
        description="what each metric has to keep, such as {auroc: {least: 0.7}}; null takes a "
        "limit of the extended file away",
    )
