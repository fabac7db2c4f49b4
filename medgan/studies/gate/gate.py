"""Whether a version of a registered model becomes challenger or champion, measured now."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medgan.core.config import AuditConfig, Config, GateConfig
from medgan.core.errors import ConfigError, DataError, ModelError
from medgan.core.files import write_together
from medgan.data.manifest import Manifest
from medgan.data.reading import Refuse
from medgan.model.model import Model
from medgan.reporting.gate import gate_page
from medgan.studies.audit import audit
from medgan.studies.gate.limits import Check, checks
from medgan.studies.gate.measure import Read, measure
from medgan.studies.generated_sets import read_generated_set, undrawn

REPORT, PAGE = "gate.json", "gate.html"


@dataclass(frozen=True)
class Candidate:
    """A version of a registered model, loaded.

    Attributes:
        uri: `models:/name/version`.
        model: that it is.
    """

    uri: str
    model: Model


@dataclass(frozen=True)
class Verdict:
    """What a gate has found.

    Attributes:
        checks: a line for each limit, and the audit.
        figures: of the version, by metric.
        champion: of the champion, on the same scans; empty without one.
    """

    checks: tuple[Check, ...]
    figures: Mapping[str, float | str]
    champion: Mapping[str, float | str]

    @property
    def passed(self) -> bool:
        """Whether every line is."""
        return all(one.passed for one in self.checks)


def run_gate(
    candidate: Candidate,
    champion: Candidate | None,
    manifest: Manifest,
    out: Path,
    config: Config,
    facts: dict[str, str],
    refuse: Refuse,
    read: Read,
) -> Verdict:
    """Measures a version, and the champion on the same scans; writes gate.json and gate.html.

    Args:
        candidate: version that asks for an alias.
        champion: it is compared with; None where there is none, or none is needed.
        manifest: splits as for the training of the version.
        out: receives cache, audit, gate.json and gate.html.
        config: sections gate, audit and generate.
        facts: versions, for the record.
        refuse: receives scans that cannot be used; they are left out.
        read: reads a case of the manifest.

    Raises:
        ConfigError: E_GATE without any limit.
        DataError: E_SPLIT with too few scans.
    """
    settings = config.gate
    if not any(settings.limits.values()):
        raise ConfigError(
            "E_GATE", "gate.limits", "is empty: nothing would be checked",
            "name limits, as pipelines/gate.yaml does",
        )  # fmt: skip
    figures = measure(candidate.model, candidate.uri, manifest, out, settings, refuse, read)
    others = None
    if champion is not None:
        others = measure(champion.model, champion.uri, manifest, out, settings, refuse, read)
    found = checks(figures, others, settings.limits)
    numbers = {name: round(one.value, 4) for name, one in figures.items()}
    numbers |= _facts(candidate.model)
    if settings.audit:
        check, words = _audited(candidate, manifest, out / "audit", config, facts, refuse)
        found, numbers = (*found, check), {**numbers, "audit": words}
    before = {} if others is None else {n: round(one.value, 4) for n, one in others.items()}
    verdict = Verdict(found, numbers, before)
    result = _result(candidate, champion, manifest, settings, verdict, facts)
    write_together({out / PAGE: gate_page(result), out / REPORT: json.dumps(result, indent=1)})
    return verdict


def _facts(model: Model) -> dict[str, str]:
    """Where the version comes from, for the record."""
    digest = str(model.facts.get("training_digest", ""))[:16]
    return {"training": digest} if digest else {}


def _audited(
    candidate: Candidate,
    manifest: Manifest,
    out: Path,
    config: Config,
    facts: dict[str, str],
    refuse: Refuse,
) -> tuple[Check, str]:
    """The privacy audit of the version on its training scans, run now, and its verdict."""

    def check(finding: str, verdict: str = "not run") -> tuple[Check, str]:
        passed = verdict == "passed"
        return Check("audit", "privacy audit", passed, finding, limit="passed"), verdict

    known = candidate.model.facts.get("training_digest")
    if known and known != manifest.training_digest:
        return check("the training scans given are not those that it learned from")
    if candidate.model.networks.translator is not None:
        return check("there is none of models that make one image of another")
    out.mkdir(parents=True, exist_ok=True)
    settings: AuditConfig = config.audit
    seed = config.generate.seed
    try:
        if candidate.model.networks.synthesises:
            drawn = read_generated_set(
                candidate.uri, lambda _: candidate.model, settings.count, seed
            )
        else:
            drawn = undrawn(candidate.model, candidate.uri)
        found = audit(drawn, manifest, out, settings, seed, facts, refuse)
    except (ConfigError, DataError, ModelError) as error:
        return check(f"cannot be run: {error}")
    if not found["protocol"]["members_are_its_training_scans"]:
        return check("the version records no training scans, or others than those given")
    verdict = str(found["verdict"])
    words = [f"{name}: {one['words'].rstrip('.')}" for name, one in found["verdicts"].items()]
    return check(f"{verdict}; {'; '.join(words)}", verdict)


def _result(
    candidate: Candidate,
    champion: Candidate | None,
    manifest: Manifest,
    settings: GateConfig,
    verdict: Verdict,
    facts: dict[str, str],
) -> dict[str, Any]:
    def numbers(one: Check) -> dict[str, Any]:
        return {
            "name": one.name, "title": one.title, "passed": one.passed, "finding": one.finding,
            "limit": one.limit, "meaning": one.meaning,
            "value": None if one.value is None else one.value.rounded(),
            "champion": None if one.champion is None else one.champion.rounded(),
        }  # fmt: skip

    return {
        "version": candidate.uri,
        "champion": "" if champion is None else champion.uri,
        "alias": settings.to,
        "passed": verdict.passed,
        "checks": [numbers(one) for one in verdict.checks],
        "protocol": {
            "data_digest": manifest.digest,
            "training_scans": len(manifest.split("train")),
            "calibration_scans": len(manifest.split("calibration")),
            "test_scans": len(manifest.split("test")),
            "lesions_each": settings.lesions_each,
            **facts,
        },
    }
