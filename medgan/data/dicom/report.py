"""A short Structured Report of a scored series, for the PACS that the series came from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medgan.core.version import __version__
from medgan.data.dicom.objects import RESEARCH, common, made_of, uid_of
from medgan.data.dicom.sources import Source, source_slices

if TYPE_CHECKING:
    from highdicom.sr import AlgorithmIdentification, CodedConcept, ContentItem
    from pydicom.dataset import Dataset

MOST_REGIONS = 10
"""Most regions in a report, highest peaks first; the Segmentation has all."""
SCHEME = "99MEDGAN"
"""Of codes for what no standard has a code for."""
LIMITS = (
    "Research use only. medgan is not a medical device; this must not be used for diagnosis or "
    "treatment. A low p-value means unusual among the healthy calibration scans, not disease."
)


@dataclass(frozen=True)
class RegionFacts:
    """What a report says of a region.

    Attributes:
        number: its segment.
        volume_mm3: volume.
        peak: of the map in it, in healthy standard deviations.
        place: of the peak, in words.
    """

    number: int
    volume_mm3: float
    peak: float
    place: str


@dataclass(frozen=True)
class Findings:
    """What a report says.

    Attributes:
        score, p_value: of the series; None where it is not comparable with the calibration scans.
        text: the result in one or two sentences, or why it is not comparable.
        version: of the model.
        regions: highest peak first.
        notes: further sentences.
    """

    score: float | None
    p_value: float | None
    text: str
    version: str
    regions: Sequence[RegionFacts] = ()
    notes: Sequence[str] = ()


def report_object(
    source: Source, findings: Findings, segmentation: "Dataset | None", model: Mapping[str, Any]
) -> "Dataset":
    """The result as a Comprehensive SR.

    It names the files of the series and, of each region, the segment. The words of the result are
    comments of the document, which any viewer of reports shows.

    Args:
        source: what was scored.
        findings: the result.
        segmentation: of the regions, as `regions_object` gives it; None without regions.
        model: facts of the model.

    Raises:
        DataError: E_EXPORT.

    Reference: DICOM PS3.3 A.35.3; PS3.16 TID 1500, TID 1501 for the series and TID 1411 for
    regions.
    """

    def build() -> "Dataset":
        from highdicom.sr import ComprehensiveSR

        slices = source_slices(source)
        evidence = [*slices, *([] if segmentation is None else [segmentation])]
        made = ComprehensiveSR(
            evidence, _content(source, findings, slices, segmentation)[0],
            is_complete=True, is_final=False, is_verified=False,
            **common(source, "report", model),
        )  # fmt: skip
        made.SeriesDescription = f"medgan report, {RESEARCH}"
        return made

    made = made_of(source, build)
    for study in made.CurrentRequestedProcedureEvidenceSequence:
        for series in study.ReferencedSeriesSequence:
            for item in series.ReferencedSOPSequence:  # which names files, not frames
                item.pop("ReferencedFrameNumber", None)
    return made


def _content(
    source: Source, findings: Findings, slices: "Sequence[Dataset]", segmentation: "Dataset | None"
) -> "Any":  # noqa: ANN401 - a sequence of highdicom's with one container
    from highdicom.sr import (
        AlgorithmIdentification,
        DeviceObserverIdentifyingAttributes,
        LanguageOfContentItemAndDescendants,
        MeasurementReport,
        ObservationContext,
        ObserverContext,
    )
    from pydicom.sr.codedict import codes

    device = DeviceObserverIdentifyingAttributes(
        uid_of(source, findings.version, "device"), "medgan", "medgan", findings.version[:64]
    )
    observer = ObserverContext(codes.DCM.Device, device)
    algorithm = AlgorithmIdentification(
        "medgan", __version__, parameters=[f"model {findings.version}", RESEARCH]
    )
    groups = [_whole(source, findings, slices, algorithm)]
    if segmentation is not None:
        groups += [
            _region(source, region, segmentation, algorithm)
            for region in findings.regions[:MOST_REGIONS]
        ]
    content = MeasurementReport(
        ObservationContext(observer_device_context=observer),
        _code("363679005", "SCT", "Imaging procedure"), groups,
        language_of_content_item_and_descendants=LanguageOfContentItemAndDescendants(
            _code("en", "RFC5646", "English")
        ),
    )  # fmt: skip
    more = len(findings.regions) - MOST_REGIONS
    hidden = [f"{more} more regions are in the segmentation."] if more > 0 else []
    told = (findings.text, f"Model: {findings.version}, medgan {__version__}.", *hidden)
    for text in (*told, *findings.notes, LIMITS):
        content[0].ContentSequence.append(_comment(text))
    return content


def _whole(
    source: Source, findings: Findings, slices: "Sequence[Dataset]",
    algorithm: "AlgorithmIdentification",
) -> "Any":  # fmt: skip # noqa: ANN401 - a template of highdicom's
    from highdicom.sr import (
        Measurement,
        MeasurementsAndQualitativeEvaluations,
        QualitativeEvaluation,
        SourceImageForMeasurementGroup,
        TrackingIdentifier,
    )
    from pydicom.sr.codedict import codes

    comparable = findings.p_value is not None
    measured = []
    if comparable and findings.score is not None:
        deviations = _code("{SD}", "UCUM", "standard deviations of healthy scans")
        ratio = _code("1", "UCUM", "no units")
        for name, value, unit in (
            (_code("score", SCHEME, "Anomaly score"), findings.score, deviations),
            (_code("p-value", SCHEME, "p-value among healthy scans"), findings.p_value, ratio),
        ):
            measured.append(Measurement(name, float(f"{value:.6g}"), unit))
    images = [SourceImageForMeasurementGroup(one.SOPClassUID, one.SOPInstanceUID) for one in slices]
    said = QualitativeEvaluation(
        _code("comparable", SCHEME, "Comparable with the calibration scans"),
        codes.SCT.Yes if comparable else codes.SCT.No,
    )
    return MeasurementsAndQualitativeEvaluations(
        TrackingIdentifier(uid_of(source, "whole"), "whole series"),
        algorithm_id=algorithm, measurements=measured, qualitative_evaluations=[said],
        source_images=images,
    )  # fmt: skip


def _region(
    source: Source, region: RegionFacts, segmentation: "Dataset",
    algorithm: "AlgorithmIdentification",
) -> "Any":  # fmt: skip # noqa: ANN401 - a template of highdicom's
    from highdicom.sr import (
        Measurement,
        ReferencedSegment,
        SourceSeriesForSegmentation,
        TrackingIdentifier,
        VolumetricROIMeasurementsAndQualitativeEvaluations,
    )
    from pydicom.sr.codedict import codes

    name = f"unusual region {region.number}"
    segment = ReferencedSegment(
        segmentation.SOPClassUID, segmentation.SOPInstanceUID, region.number,
        source_series=SourceSeriesForSegmentation(source.stack.frames[0].series),
    )  # fmt: skip
    deviations = _code("{SD}", "UCUM", "standard deviations of healthy scans")
    volume = float(f"{region.volume_mm3:.6g}")
    measured = [
        Measurement(codes.SCT.Volume, volume, codes.UCUM.CubicMillimeter),
        Measurement(
            _code("map", SCHEME, "Anomaly map"), float(f"{region.peak:.6g}"), deviations,
            derivation=codes.SCT.Maximum,
        ),
    ]  # fmt: skip
    made = VolumetricROIMeasurementsAndQualitativeEvaluations(
        TrackingIdentifier(uid_of(source, name), name), referenced_segment=segment,
        finding_type=codes.DCM.SelectedRegion, algorithm_id=algorithm, measurements=measured,
    )  # fmt: skip
    made[0].ContentSequence.append(_comment(f"Peak: {region.place}."))
    return made


def _comment(text: str) -> "ContentItem":
    from highdicom.sr import RelationshipTypeValues, TextContentItem
    from pydicom.sr.codedict import codes

    return TextContentItem(
        codes.DCM.Comment, text, relationship_type=RelationshipTypeValues.CONTAINS
    )


def _code(value: str, scheme: str, meaning: str) -> "CodedConcept":
    from highdicom.sr import CodedConcept

    return CodedConcept(value, scheme, meaning)
