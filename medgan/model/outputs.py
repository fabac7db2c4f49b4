"""What a model's verbs return: synthetic scans, latents, inversions, edits, scores."""

from dataclasses import dataclass, field

import numpy as np

from medgan.anomaly.regions import Region
from medgan.core.tables import html_facts, html_table
from medgan.core.volume import Volume
from medgan.data.conditions import Value


@dataclass(frozen=True)
class Synthetic:
    """A synthetic scan.

    Attributes:
        image: its first channel: int16, HU for CT, 0 to 1000 for MRI, on the model's grid.
        label: label map, or None where the model learned none.
        seed, number: of its random latent; an interpolated scan has no seed.
        covariates: with which it was generated, None where unknown; empty without conditions.
        images: every channel by its name.
    """

    image: Volume
    label: Volume | None
    seed: int | None
    number: int
    covariates: dict[str, Value] = field(default_factory=dict)
    images: dict[str, Volume] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.images:
            object.__setattr__(self, "images", {"image": self.image})


@dataclass(frozen=True)
class Latent:
    """A latent vector of the generator.

    Attributes:
        values: shape (L,).
        covariates: of the scan, None where unknown; empty without conditions.
    """

    values: np.ndarray
    covariates: dict[str, Value] = field(default_factory=dict)


@dataclass(frozen=True)
class Inversion:
    """The latent that reproduces a real scan best.

    Attributes:
        latent: the result.
        start: generated from the encoder's latent, in the scan's own grid and intensities; the
            first of several channels.
        recon: generated from the result, likewise.
        error_before, error_after: mean absolute difference of start and of recon from the scan,
            in [-1, 1] on the model's grid.
        recons: every channel of the result by its name.
        p_value: share of held-out scans that are as unlike the training scans as this one; None for
            a model that does not know (`Hull`).
        remarks: on a scan that is unlike them.
    """

    latent: Latent
    start: Volume
    recon: Volume
    error_before: float
    error_after: float
    recons: dict[str, Volume] = field(default_factory=dict)
    p_value: float | None = None
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Edit:
    """A real scan with other covariates, in its own grid and intensities.

    Attributes:
        edited: the scan plus the difference, clipped to the scan's own range of intensities.
        difference: of the generated scan with the changed covariates from that with its own.
        generated: generated with the changed covariates.
        inversion: of the scan, with its own covariates.
        covariates: the changed ones.
        p_value: as that of the inversion, of the edited scan.
        remarks: what the generator was not trained on.
    """

    edited: Volume
    difference: Volume
    generated: Volume
    inversion: Inversion
    covariates: dict[str, Value]
    p_value: float | None = None
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Translation:
    """An image made of another, in the grid of the scan that was given.

    Of thick slices it is a finer grid at the same place, and their own intensities. A harmonised
    scan has its own intensities, too: MRI of another site has no unit that it could be brought to.

    Attributes:
        images: every target channel by its name: the answer without noise, in HU for CT, SUV for
            PET, 0 to 1000 for MRI, which has no unit. Where the source was not seen it is the
            lowest of these.
        spread: standard deviation of the answers, in the same unit: how unsure the model is.
        answer: the first answer, which has the texture of a scan; the image is smoother.
        answers: how many there are; 1 for a model without noise, whose spread is 0.
    """

    images: dict[str, Volume]
    spread: dict[str, Volume]
    answer: dict[str, Volume]
    answers: int


@dataclass(frozen=True)
class ScanScore:
    """The anomaly score of one scan.

    Attributes:
        score: mean of the parts; 0 is an average healthy scan, 1 a healthy standard deviation
            more. Where `adjusted` names covariates, less the mean of healthy scans like it.
        p_value: share of healthy scans, this one included, that score at least as high; None for a
            scan that is not comparable with them.
        parts: the score of each map, in healthy standard deviations.
        score_map: healthy standard deviations a voxel, in the scan's own grid; 0 outside the
            model's field of view.
        recon: the reconstruction, in the scan's own grid and intensities; its first channel.
        regions: connected components of the map above the level of healthy maps, highest peak
            first.
        region_map: their numbers, in the scan's own grid.
        reasons: why the scan is not comparable with the healthy ones; empty when it is.
        gain: by which the contrast of the scan was raised, where something very bright or dark had
            compressed it; 1 for nearly every scan.
        recons: the reconstruction of every channel by its name.
        adjusted: covariates that the calibration adjusts scores for.
        remarks: which of them are unknown of this scan, or outside of what healthy scans have.
    """

    score: float
    p_value: float | None
    parts: dict[str, float]
    score_map: Volume
    recon: Volume
    regions: tuple[Region, ...] = ()
    region_map: Volume | None = None
    reasons: tuple[str, ...] = ()
    gain: float = 1.0
    recons: dict[str, Volume] = field(default_factory=dict)
    adjusted: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    def _repr_html_(self) -> str:
        """For notebooks: score and p-value, and the ten highest regions."""
        facts = {
            "score": f"{self.score:.2f}",
            "p-value": "none" if self.p_value is None else f"{self.p_value:.3g}",
            "explanation": self.explanation,
        }
        rows = [
            (r.number, f"{r.volume_mm3:.0f}", f"{r.peak:.1f}", _position(r.peak_mm), r.name)
            for r in self.regions[:10]
        ]
        columns = ("region", "mm³", "peak", "R, A, S in mm", "label")
        regions = html_table(columns, rows, "Regions, highest first") if rows else ""
        return html_facts(facts, "Score among healthy scans") + regions

    @property
    def explanation(self) -> str:
        """One sentence: what the score is and which map drove it."""
        if self.reasons:
            return f"Not comparable with the healthy scans: {'; '.join(self.reasons)}."
        first, *others = sorted(self.parts, key=lambda name: -self.parts[name])
        height = f"{self.parts[first]:z.1f} healthy standard deviations"
        text = f"The score is that of the {first} map, {height}"
        if others:
            text = f"The {first} map drove the score: {height}"
            text += f", beside {self.parts[others[0]]:z.1f} of the {others[0]} map"
        if self.regions:
            count = "1 region" if len(self.regions) == 1 else f"{len(self.regions)} regions"
            text += f", with {count} above the level of healthy maps"
        if self.gain != 1:
            text += f"; the contrast of the scan was raised {self.gain:.1f}-fold first"
        if self.adjusted:
            names = " and ".join(self.adjusted)
            text += f"; adjusted for {names}, the score is {self.score:z.1f}"
        return "; ".join((text, *self.remarks)) + "."


def _position(mm: tuple[float, float, float]) -> str:
    return ", ".join(f"{v:.0f}" for v in mm)
