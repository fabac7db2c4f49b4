"""Settings of a sweep: which settings of a training are tried, and how."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from medgan.core.config.fields import Section


class Range(Section):
    """Numbers between two ends, to draw from."""

    low: float = Field(description="smallest value")
    high: float = Field(description="largest value")
    log: bool = Field(False, description="whether each factor is as likely, not each difference")

    @model_validator(mode="after")
    def _rises(self) -> "Range":
        if self.low >= self.high:
            raise ValueError(f"must rise, not {self.low:g} to {self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError("a logarithmic range begins above 0")
        return self


def _several(values: object) -> object:
    """What a setting is varied over, or an error: YAML reads 1:10 as 70."""
    if isinstance(values, list | tuple | Range):
        return values
    if isinstance(values, dict) and {"low", "high"} <= values.keys() <= {"low", "high", "log"}:
        return values
    raise ValueError("write a list of values, or {low: 1, high: 10} with log: true if you like")


class SweepConfig(Section):
    """Trainings with several settings, one after the other (`medgan sweep`)."""

    over: dict[str, Annotated[tuple[Any, ...] | Range, BeforeValidator(_several)]] = Field(
        {},
        description="settings to vary, each with a list of values or with {low, high} and, for "
        "logarithmic draws, log: true; of model, train and translate",
    )
    trials: int = Field(
        0, ge=0, description="trainings; 0 is one for each combination of the values"
    )
    seed: int = Field(0, ge=0, description="seed of the draws")
    stop: Literal["median", "halving", "none"] = Field(
        "median",
        description="which trainings are stopped early: those worse than the median of the "
        "finished ones at the same evaluation, those outside the best third at each rung of "
        "successive halving, or none",
    )
