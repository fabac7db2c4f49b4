"""Types that settings share, and what a section of settings is."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field


def rising(pair: tuple[float, float]) -> tuple[float, float]:
    """The pair, or an error where its second value is not the larger."""
    if pair[0] >= pair[1]:
        raise ValueError(f"must rise, not {pair[0]} to {pair[1]}")
    return pair


Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(gt=0)]
Size = Annotated[int, Field(gt=0, multiple_of=16)]
Percentile = Annotated[float, Field(ge=0, le=100)]
Percentiles = Annotated[tuple[Percentile, Percentile], AfterValidator(rising)]
Share = Annotated[float, Field(ge=0, le=1)]


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
