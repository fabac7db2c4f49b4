"""The steps of pipelines: each works in the folder of a run and says what it has done."""

from collections.abc import Callable

from medgan.app.result import StepResult
from medgan.app.run import Run
from medgan.app.steps.models import (
    calibrate_step,
    load_back_step,
    register_step,
    scorers_step,
    share_step,
    train_step,
)
from medgan.app.steps.reading import edit_step, invert_step, mood_step, report_step, score_step
from medgan.app.steps.scans import index_step, phantoms_step
from medgan.app.steps.studies import (
    audit_step,
    baseline_step,
    compare_step,
    detection_step,
    evaluate_step,
    utility_step,
)
from medgan.app.steps.synthesis import augment_step, generate_step, interpolate_step

STEPS: dict[str, Callable[[Run], StepResult | None]] = {
    "phantoms": phantoms_step,
    "index": index_step,
    "train": train_step,
    "scorers": scorers_step,
    "calibrate": calibrate_step,
    "share": share_step,
    "register": register_step,
    "load_back": load_back_step,
    "generate": generate_step,
    "baseline": baseline_step,
    "compare": compare_step,
    "utility": utility_step,
    "augment": augment_step,
    "audit": audit_step,
    "evaluate": evaluate_step,
    "detection": detection_step,
    "score": score_step,
    "mood": mood_step,
    "invert": invert_step,
    "interpolate": interpolate_step,
    "edit": edit_step,
    "report": report_step,
}
