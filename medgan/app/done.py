"""What the steps of `medgan run` were given and have left, so that unchanged ones are skipped.

A step is known by digests: of its settings, of the code, of files that it is told to read, and of
all that the steps before it have left in the folder. `index` is always done: it looks at the
scans, and the steps after it go by its manifest, which holds the digest of each file.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from medgan.app.digests import FILE, files_of, fingerprint, hash_of
from medgan.app.folder import Asked, asked, inputs
from medgan.app.result import StepResult
from medgan.app.run import Run, facts
from medgan.app.steps import STEPS
from medgan.core.config import Config
from medgan.core.errors import ConfigError
from medgan.core.files import sha256_of, write_atomic
from medgan.core.json_files import read_json
from medgan.data.manifest import Refusal

_ALWAYS = "index"
_PAGES = "report"
"""The step that writes all pages anew, and their folder, which no other step reads."""
_AGAIN = "--force runs it again"


@dataclass(frozen=True)
class Given:
    """What decides what a step does.

    Attributes:
        settings: that it reads, by their full names.
        code: versions of the package.
        files: digest of what it reads beside the scans.
        before: digest of what the steps before it have left.
    """

    settings: Asked
    code: dict[str, str]
    files: str
    before: str


@dataclass(frozen=True)
class Done:
    """A step that was done.

    Attributes:
        given: what it was given.
        left: size, time in nanoseconds and SHA-256 of each file that it left, by its path.
        result: what it handed back.
        refusals: files that it left out.
        changes: settings that it found out, by section.
    """

    given: dict[str, Any]
    left: dict[str, tuple[int, int, str]]
    result: dict[str, Any] | None = None
    refusals: list[dict[str, str]] = field(default_factory=list)
    changes: dict[str, Any] = field(default_factory=dict)


class DoneSteps:
    """The steps that were done in a run's folder.

    Args:
        run: with all its steps.
        first: the step to begin with, as `--from` names it; empty begins with the first.
        force: whether every step is done, whatever is known of it.

    Raises:
        ConfigError: E_USAGE when `first` is no step of the pipeline, or one before it is not done.
    """

    def __init__(self, run: Run, first: str = "", force: bool = False) -> None:
        self._run, self._force = run, force
        self._path = run.out / FILE
        self._known = _read(self._path)
        self._code = facts()
        self._uri = run.config.model_uri
        if first and first not in run.steps:
            raise ConfigError(
                "E_USAGE", "--from", f"no step {first}", f"use {', '.join(run.steps)}"
            )
        self._from = first
        self._first = run.steps.index(first) if first else 0
        missing = [step for step in run.steps[: self._first] if step not in self._known]
        if missing:
            raise ConfigError(
                "E_USAGE", "--from", f"{missing[0]} was not done yet in this folder",
                f"begin with --from {missing[0]}, or leave --from out",
            )  # fmt: skip

    def plan(self, start: int = 0) -> list[str]:
        """Why each step from `start` on is done; empty texts for those that are skipped."""
        steps = self._run.steps
        reasons: list[str] = []
        config, broken = self._run.config, ""
        for number, step in enumerate(steps[start:], start):
            if number < self._first:
                reasons.append("")
            elif self._from:
                reasons.append("asked for by --from")
            else:
                reasons.append(
                    self._reason(number, config) or (broken and f"{broken} is done anew")
                )
            if reasons[-1] and step != _ALWAYS:
                broken = broken or step
            elif step in self._known:
                config = _changed(config, self._known[step].changes)
        for number in reversed(range(start, len(steps))):  # a later step began with what this left
            over = [
                later for later in range(number + 1, len(steps))
                if reasons[later - start] and self._overwrote(later, number)
            ]  # fmt: skip
            if over and not reasons[number - start] and number >= self._first:
                reasons[number - start] = f"{steps[over[0]]} begins with what it leaves"
        return reasons

    def _reason(self, number: int, config: Config) -> str:
        """Why a step has to be done, if those before it have left what they left last time."""
        step = self._run.steps[number]
        if self._force:
            return "asked for by --force"
        if step == _ALWAYS or STEPS[step].always:
            return "looks at the scans"
        known = self._known.get(step)
        if known is None:
            return "was not done yet"
        if "@" in self._uri and "model_uri" in STEPS[step].reads:
            return "the alias of its model may have moved"
        now = asdict(self._given(number, config))
        for part, text in (("settings", ""), ("code", "another version"), ("files", "other inputs"),
                           ("before", "what comes before it is another")):  # fmt: skip
            old, new = known.given[part], now[part]
            if old != new:
                return text or "another " + ", ".join(
                    key for key in sorted({*old, *new}) if old.get(key) != new.get(key)
                )
        return self._damage(number)

    def _damage(self, number: int) -> str:
        """What a step has left and is not there any more as it was."""
        for name, (size, time, digest) in self._known[self._run.steps[number]].left.items():
            if any(name in self._left(later) for later in self._run.steps[number + 1 :]):
                continue
            path = self._run.out / name
            if not path.is_file():
                return f"{name} is gone"
            state = path.stat()
            same = (state.st_size, state.st_mtime_ns) == (size, time)
            if not same and sha256_of(path) != digest:
                return f"{name} was changed"
        return ""

    def _overwrote(self, later: int, number: int) -> bool:
        steps = self._run.steps
        return not self._left(steps[later]).keys().isdisjoint(self._left(steps[number]))

    def _left(self, step: str) -> dict[str, tuple[int, int, str]]:
        known = self._known.get(step)
        return {} if known is None else known.left

    def _given(self, number: int, config: Config) -> Given:
        steps = self._run.steps
        read = inputs(config)
        if _ALWAYS in steps[:number] and config.data.source:  # the manifest knows them better
            read = [path for path in read if path != Path(config.data.source).resolve()]
        outside = [path for path in read if not path.is_relative_to(self._run.out.resolve())]
        before = {
            step: {name: parts[2] for name, parts in sorted(self._left(step).items())}
            for step in steps[:number]
        }
        return Given(
            asked(config, STEPS[steps[number]].reads), self._code, fingerprint(outside),
            hash_of(json.dumps(before)),
        )  # fmt: skip

    def begin(self, number: int) -> "Begun":
        """Forgets a step that is about to be done, and notes what is there."""
        given = asdict(self._given(number, self._run.config))
        before = self._left(self._run.steps[number])
        self._known.pop(self._run.steps[number], None)
        self._save()
        files = files_of(self._run.out)
        return Begun(given, files, {*before}, self._run.config, self._run.refusals)

    def end(self, number: int, begun: "Begun") -> None:
        """Writes down a step that is done."""
        run, step = self._run, self._run.steps[number]
        left = {
            name: (*state, sha256_of(run.out / name))
            for name, state in files_of(run.out).items()
            if not STEPS[step].always
            and (begun.files.get(name) != state or name in begun.before)
            and (step == _PAGES or not name.startswith(f"{_PAGES}/"))
        }
        result = run.results.get(step)
        refusals = [vars(one) for one in run.refusals if one not in begun.refusals]
        changes = _changes(begun.config, run.config)
        kept = None if result is None else {**asdict(result), "page": str(result.page or "")}
        self._known[step] = Done(begun.given, left, kept, refusals, changes)
        self._save()

    def skip(self, number: int) -> None:
        """Does to the run what a step that is skipped did."""
        run, step = self._run, self._run.steps[number]
        known = self._known[step]
        run.config = _changed(run.config, known.changes)
        run.refuse([Refusal(**one) for one in known.refusals])
        result = known.result or {}
        text = (
            "left as it is (--from)" if number < self._first else f"unchanged, skipped ({_AGAIN})"
        )
        run.results[step] = StepResult(
            result.get("values", {}), (f"{step:9} {text}",),
            Path(result["page"]) if result.get("page") else None,
            tuple(result.get("commands", ())), result.get("passed", True),
        )  # fmt: skip

    def _save(self) -> None:
        known = {step: asdict(done) for step, done in self._known.items()}
        write_atomic(self._path, json.dumps(known, indent=1), private=True)


@dataclass(frozen=True)
class Begun:
    """The state of a run before a step.

    Attributes:
        given: what decides what the step does.
        files: size and time of each file.
        before: names of the files that the step left last time.
        config: settings.
        refusals: files that were left out.
    """

    given: dict[str, Any]
    files: dict[str, tuple[int, int]]
    before: set[str]
    config: Config
    refusals: tuple[Refusal, ...]


def plan_lines(steps: Sequence[str], reasons: Sequence[str]) -> list[str]:
    """A line a step: whether it is done, and why."""
    return [
        f"{step:16} {f'run: {reason}' if reason else 'skip: unchanged'}"
        for step, reason in zip(steps, reasons, strict=True)
    ]


def _read(path: Path) -> dict[str, Done]:
    """What is known; nothing where the file is of another version."""
    try:
        found = read_json(path)
        return {
            step: Done(**{**one, "left": {k: tuple(v) for k, v in one["left"].items()}})
            for step, one in found.items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def _changes(before: Config, after: Config) -> dict[str, Any]:
    old, new = before.model_dump(mode="json"), after.model_dump(mode="json")
    return {
        section: {key: value for key, value in values.items() if old[section][key] != value}
        if isinstance(values, dict)
        else values
        for section, values in new.items()
        if old[section] != values
    }


def _changed(config: Config, changes: dict[str, Any]) -> Config:
    """Settings with those that a step found out."""
    update = {}
    for section, values in changes.items():
        old = getattr(config, section)
        nested = isinstance(values, dict)
        update[section] = type(old).model_validate(old.model_dump() | values) if nested else values
    return config.model_copy(update=update)
