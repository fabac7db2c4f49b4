"""Settings of what a trained model does: score, generate, invert, edit."""

from typing import Literal

from pydantic import Field

from medgan.core.config.fields import CovariateValue, Section


class ScoreConfig(Section):
    """How score maps become a score."""

    scorers: tuple[str, ...] = Field(
        (),
        description="whose maps are combined, from calibration on; empty keeps those of the "
        "model's calibration, or chooses those that find most lesions planted into the validation "
        "scans; with fewer than five of these, takes the first that it has of localiser, "
        "restoration, density and residuals",
    )
    top_fraction: float = Field(
        0.01, gt=0, le=1, description="share of the highest voxels of a map that make its score"
    )
    covariates: dict[str, Literal["categorical", "continuous"]] = Field(
        {},
        description="covariates that calibration adjusts scores for, as {age: continuous, sex: "
        "categorical}: a scan is compared with healthy ones of its age and sex. Ten healthy scans "
        "are needed for each; where they are fewer, the first are kept",
    )
    false_alarms: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="rate of healthy scans that may be called abnormal, such as 0.05: fills the "
        "column alarm; 0 leaves it empty",
    )
    smallest_mm3: float = Field(0.0, ge=0, description="smaller regions are left out")
    layout: Literal["medgan", "bids", "bids-named", "mood-pixel", "mood-sample"] = Field(
        "medgan",
        description="bids puts maps and regions into a BIDS data set, derivatives/medgan, under "
        "pseudonyms, bids-named under subject and session of the BIDS tree they came from; mood is "
        "the folder contract of a challenge, for the step mood alone",
    )


class GenerateConfig(Section):
    """How many synthetic scans, and which."""

    count: int = Field(
        8, gt=0, description="synthetic scans to write; in an interpolation with both ends"
    )
    seed: int = Field(0, ge=0, description="seed of the latents")
    first: int = Field(
        0,
        ge=0,
        description="number of the first scan: scan 5 of a seed is the same however many "
        "come before",
    )
    conditions: dict[str, CovariateValue] = Field(
        {},
        description="values of the model's conditions, as {age: 70, sex: F}; unknown leaves one "
        "open, and conditions that are not named are sampled from the training scans",
    )
    text: str = Field(
        "",
        description="what the scans are of, in words, as a 70-year-old woman: values of the "
        "model's conditions; what is not understood is refused",
    )
    balance: str = Field(
        "",
        description="categorical condition whose rarer categories are filled up: by generate "
        "among the scans of data.source, by augment among the training scans before the rest of "
        "augment.ratio is spread evenly over the categories",
    )
    truncation: float = Field(
        0.0,
        ge=0,
        description="limit of latent coordinates; those beyond it are sampled again. Smaller gives "
        "more typical and less varied scans; 0 is off",
    )
    explain: bool = Field(
        False,
        description="show the nearest training scans of each scan on the page, and what other "
        "values of each condition change, also as NIfTI files; of the first 100 scans",
    )
    dicom: bool = Field(
        False,
        description="write each scan as a DICOM series, too: of no patient, under new UIDs, "
        "marked as synthetic",
    )


class LatentConfig(Section):
    """Inversion of real scans, interpolation of two, edits and series along a covariate."""

    steps: int = Field(100, ge=0, description="steps of an inversion; 0 keeps the encoder's latent")
    ends: tuple[str, str] = Field(
        ("seed:0", "seed:1"),
        description="scans to interpolate between: a NIfTI file each, or seed:3, or seed:3/5 for "
        "number 5 of that seed",
    )
    changes: dict[str, CovariateValue] = Field(
        {}, description="conditions that an edit changes, as {age: 80}"
    )
    known: dict[str, CovariateValue] = Field(
        {}, description="what is known of the scans to edit, over what their table says"
    )
    along: str = Field(
        "",
        description="what a series goes along: a continuous condition, as age; direction:1; or "
        "covariate:age, the direction that follows a column of the training scans' table",
    )
    covariates: tuple[str, ...] = Field(
        (),
        description="columns of the table of the training scans whose directions in the latent are "
        "looked for: numbers, or two categories",
    )
    start: float | None = Field(
        None, description="first value of a series; without one, the lowest of the training scans"
    )
    stop: float | None = Field(
        None, description="last value of a series; without one, the highest of the training scans"
    )
