"""The steps of pipelines: each works in the folder of a run and says what it has done."""

from collections.abc import Callable
from dataclasses import dataclass

from medgan.app.result import StepResult
from medgan.app.run import Run
from medgan.app.steps.gate import gate_step
from medgan.app.steps.models import (
    bare_step,
    calibrate_step,
    load_back_step,
    register_step,
    scorers_step,
    share_step,
    train_step,
)
from medgan.app.steps.nightly import nightly_step
from medgan.app.steps.reading import (
    edit_step,
    invert_step,
    mood_step,
    report_step,
    score_step,
    translate_step,
)
from medgan.app.steps.scans import index_step, phantoms_step
from medgan.app.steps.studies import (
    audit_step,
    baseline_step,
    compare_step,
    convergence_step,
    detection_step,
    evaluate_step,
    lesions_step,
    super_resolution_step,
    translation_step,
    utility_step,
)
from medgan.app.steps.synthesis import (
    augment_step,
    directions_step,
    draw_lesions_step,
    generate_step,
    interpolate_step,
    series_step,
)
from medgan.core.config import DataConfig


@dataclass(frozen=True)
class Step:
    """A step of a pipeline.

    Attributes:
        work: what it does.
        reads: sections, or single settings by their full names, that decide what it does.
        writes: what it leaves, as glob patterns within its folder.
        folder: subfolder of a run that also trains.
        resumes: whether it goes on with what an interrupted run of the same request has left,
            instead of doing its work again.
        extends: whether it knows by itself what of an earlier request still holds.
        overwrites: whether it replaces its files itself, and keeps what must not be lost.
        always: whether it is done whenever it is asked for, since it looks at what is new and knows
            by itself what it has done.
        uses: settings that it reads and that do not change what it writes.
        divisible: whether shards of the scans can be worked on apart.
    """

    work: Callable[[Run], StepResult | None]
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    folder: str = ""
    resumes: bool = False
    extends: bool = False
    overwrites: bool = False
    always: bool = False
    uses: tuple[str, ...] = ()
    divisible: bool = False


_GRID = (
    *("spacing", "shape", "voxels", "intensity", "window", "labels", "conditions"),
    *("caption", "patches", "unseen", "ranges"),
)
SCANS = tuple(f"data.{name}" for name in DataConfig.model_fields if name not in _GRID)
"""What decides which scans there are and what each is for; the rest of `data` is about the grid."""
CONVERSION = tuple(
    f"translate.{name}" for name in ("source", "target", "target_data", "noise", "adversarial")
)
"""What a translator is trained for."""
ANSWERS = tuple(
    f"translate.{name}"
    for name in ("answers", "seed", "thickness_mm", "dicom", "given", "rough_mm")
)
"""What it is asked for once it is trained."""
_WHICH = tuple(f"generate.{name}" for name in ("conditions", "text", "truncation"))
"""Which synthetic scans are wanted, wherever they go."""
_SERIES = tuple(f"latent.{name}" for name in ("along", "start", "stop", "known", "steps"))

STEPS = {
    "phantoms": Step(phantoms_step, ("phantoms", "train.seed"), ("phantoms",)),
    "index": Step(
        index_step, (*SCANS, "train.task", "translate.target_data"), divisible=True
    ),
    "train": Step(
        train_step, ("data", "model", "train", *CONVERSION),
        ("checkpoints", "samples", "mlflow_run.txt", "mlflow_sent.json"), resumes=True,
    ),
    "bare": Step(bare_step, ("data", "model", "train.start_from")),
    "scorers": Step(scorers_step, ("localiser", "train.seed", "train.start_from")),
    "calibrate": Step(
        calibrate_step,
        (*SCANS, "score.scorers", "score.top_fraction", "score.covariates", "train.seed"),
    ),
    "share": Step(share_step, ("model_uri",), ("model",), overwrites=True),
    "register": Step(register_step, ("tracking",)),
    "load_back": Step(load_back_step),
    "gate": Step(
        gate_step, (*SCANS, "tracking", "gate", "audit", "generate.seed"),
        ("gate.json", "gate.html", "audit"),
    ),
    "generate": Step(
        generate_step, ("model_uri", "generate", "data.source", "data.suffix"),
        ("imagesTr", "labelsTr", "dicom", "dataset.json", "provenance.json", "covariates.csv",
         "generated.html", "explained.json", "differences", "work"),
        "synthetic", resumes=True, uses=("executor",), divisible=True,
    ),
    "baseline": Step(
        baseline_step, ("data", "train", "baseline"), ("samples.safetensors", "baseline.json")
    ),
    "compare": Step(compare_step, (*SCANS, "compare"), ("comparison.json",)),
    "convergence": Step(
        convergence_step, ("data", "model", "train", "convergence"),
        ("convergence.json", "convergence.png", "curves", "samples"), resumes=True,
    ),
    "utility": Step(
        utility_step, ("data", "model", "train", "utility"), ("utility.json", "utility.html"),
        resumes=True, extends=True,
    ),
    "augment": Step(
        augment_step,
        ("model_uri", *SCANS, "augment", *_WHICH, "generate.seed", "generate.balance"),
        (
            *("imagesTr", "labelsTr", "dataset.json", "splits_final.json", "sub-*", "derivatives"),
            *("dataset_description.json", "participants.tsv", "provenance.json", "work"),
        ),
        resumes=True, extends=True, uses=("executor.shard",), divisible=True,
    ),
    "draw_lesions": Step(
        draw_lesions_step, ("model_uri", *SCANS, "data.intensity", "draw"),
        ("imagesTr", "labelsTr", "dataset.json", "provenance.json", "lesions.csv"),
    ),
    "audit": Step(
        audit_step, ("model_uri", "data", "audit", "generate.seed"),
        ("audit.json", "audit.html", "pairs.png"),
    ),
    "evaluate": Step(
        evaluate_step, ("data", "evaluate"), ("evaluation.json", "evaluation.html")
    ),
    "detection": Step(
        detection_step, ("model_uri", *SCANS, "detection", "localiser", "train.seed"),
        (
            *("detection.json", "lesions.csv", "lesions.png", "scorers.png", "fold*"),
            *("shapes.csv", "shapes.png"),
        ),
        resumes=True,
    ),
    "lesions": Step(
        lesions_step, ("model_uri", *SCANS, "lesions"),
        ("patients.json", "patients.csv", "patients.png"),
    ),
    "translation": Step(
        translation_step, ("model_uri", *SCANS, "translation"),
        ("translation.json", "translation.csv", "translation_*.png"),
    ),
    "super_resolution": Step(
        super_resolution_step, ("model_uri", *SCANS, "resolution"),
        ("super_resolution.json", "super_resolution.png"),
    ),
    "score": Step(
        score_step,
        ("model_uri", *SCANS, "score.false_alarms", "score.smallest_mm3", "score.layout"),
        (
            *("maps", "recons", "regions", "scores.csv", "scores.json", "regions.csv"),
            *("derivatives", "work"),
        ),
        "scores", resumes=True, uses=("executor",), divisible=True,
    ),
    "nightly": Step(
        nightly_step,
        (
            *("model_uri", "data.source", "data.suffix", "data.subjects", "data.session"),
            *("data.channels", "score.false_alarms", "score.smallest_mm3", "nightly"),
            "report.scans",
        ),
        (
            *("records", "maps", "recons", "regions", "scores.csv", "scores.json", "regions.csv"),
            "inbox.json",
        ),
        resumes=True, extends=True, always=True,
    ),
    "mood": Step(
        mood_step, ("model_uri", "data.source", "score.layout"), ("*.txt", "*.nii", "*.nii.gz")
    ),
    "invert": Step(
        invert_step, ("model_uri", *SCANS, "latent.steps"),
        ("recons", "pictures", "latents.csv", "latents.json"),
    ),
    "translate": Step(
        translate_step, ("model_uri", *SCANS, *ANSWERS),
        (
            *("images", "spread", "answers", "dicom", "pictures", "translations.csv"),
            *("translations.json", "work"),
        ),
        resumes=True, uses=("executor",), divisible=True,
    ),
    "interpolate": Step(
        interpolate_step,
        ("model_uri", "latent.ends", "latent.steps", "generate.count", *_WHICH),
        ("images", "labels", "strip.png", "provenance.json"),
    ),
    "edit": Step(
        edit_step,
        ("model_uri", *SCANS, "latent.changes", "latent.known", "latent.steps"),
        ("before", "after", "difference", "generated", "pictures", "edits.csv", "edits.json"),
    ),
    "directions": Step(
        directions_step,
        ("model_uri", "generate.count", "generate.seed", "latent.covariates", "data.source"),
        ("directions.png", "directions.json"),
    ),
    "series": Step(
        series_step, ("model_uri", *SCANS, *_SERIES, "generate.count", "generate.truncation"),
        ("series", "labels", "strips", "films", "series.csv", "series.json"),
    ),
    "report": Step(report_step, ("report",), uses=("executor",), divisible=True),
}  # fmt: skip
"""All steps, by the names that pipeline files use."""
