"""Bodies of requests."""

import json
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from medgan.deployment.serving.refusals import Refused, malformed
from medgan.deployment.serving.tasks import Wanted

Name = Annotated[str, Field(min_length=1, max_length=64)]
Text = Annotated[str, Field(max_length=200)]
Values = Annotated[dict[Name, Text | float], Field(max_length=32)]
_SEED = 2**31


class Body(BaseModel):
    """A body of JSON; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid")


class ScoreByPath(Body):
    """`path` for a model of one channel, else `paths` by the names of the channels."""

    path: str = Field("", description="below the served folder: NIfTI, or a folder of DICOM")
    paths: dict[Name, str] = Field({}, max_length=16, description="a NIfTI file a channel")
    covariates: Values = Field({}, description="of the subject, such as age")
    map: bool = Field(True, description="whether the anomaly map is made")
    page: bool = Field(True, description="whether the page is made")

    def images(self) -> dict[str, str]:
        """The paths by channel; the only one has no name."""
        if bool(self.path) == bool(self.paths):
            raise malformed("it has no path, or both path and paths", "give one of the two")
        return self.paths or {"": self.path}


class UploadedFields(Body):
    """The fields of an upload beside its files."""

    covariates: Values = {}
    map: bool = True
    page: bool = True


class Generate(Body):
    """Which synthetic scans."""

    count: int = Field(1, ge=1, le=1000, description="how many")
    seed: int = Field(0, ge=0, lt=_SEED, description="of the latents")
    first: int = Field(0, ge=0, lt=_SEED, description="number of the first one")
    conditions: Values = Field({}, description="such as age")
    truncation: float = Field(0.0, ge=0, le=10, description="of the latents; 0 is off")
    text: str = Field("", max_length=500, description="conditions in words")


def fields_of(texts: dict[str, str]) -> UploadedFields:
    """The fields of a form; `covariates` is JSON.

    Raises:
        Refused: E_REQUEST, 400.
    """
    values: dict[str, Any] = dict(texts)
    try:
        values["covariates"] = json.loads(texts.get("covariates") or "{}")
    except (ValueError, RecursionError):
        raise malformed("its field covariates is no JSON", 'send such as {"age": 61}') from None
    try:
        return UploadedFields.model_validate(values)
    except ValidationError as error:
        raise invalid(error.errors()) from None


def wanted(body: ScoreByPath | UploadedFields) -> Wanted:
    """What is to be made beside the score."""
    return Wanted(body.map, body.page)


def as_text(values: dict[str, str | float]) -> dict[str, str]:
    """Covariates as a table spells them."""
    return {name: v if isinstance(v, str) else f"{v:.10g}" for name, v in values.items()}


def invalid(errors: "list[Any]") -> Refused:
    """What pydantic found, without the values, which may be a patient's, and unknown names."""
    known = {name for kind in (ScoreByPath, UploadedFields, Generate) for name in kind.model_fields}
    places = dict.fromkeys(
        next((str(part) for part in error["loc"] if part in known), "the body") for error in errors
    )
    kinds = dict.fromkeys(str(error["type"]) for error in errors)
    return malformed(
        f"{', '.join(places)}: {', '.join(kinds)}", "see docs/how-to/serve.md or /openapi.json"
    )
