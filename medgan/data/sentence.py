"""Sentences as covariates: "a 70-year-old woman" is age 70 and sex F; no word is passed over."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from medgan.core.config import Condition
from medgan.core.errors import ConfigError
from medgan.data.conditions import UNKNOWN, Value
from medgan.data.numeric import NUMBERS
from medgan.data.words import FILLERS, NEGATIONS, UNITS, Words, is_number, words_of

_IN_UNIT = {
    "years": ("years", 1.0), "months": ("years", 1 / 12), "mm": ("mm", 1.0), "cm": ("mm", 10.0),
    "mm3": ("mm3", 1.0), "ml": ("mm3", 1000.0), "kg": ("kg", 1.0),
}  # fmt: skip
"""What the end of a condition's name says of its values: the kind, and the size of its unit."""
_AGE = (("age",), ("aged",), ("old",))
_SEXES = {
    "female": frozenset("f w female woman women lady girl".split()),
    "male": frozenset("m male man men gentleman boy".split()),
}


@dataclass(frozen=True)
class Reading:
    """What a sentence asks for.

    Attributes:
        covariates: values by the names of conditions.
        lost: phrases that were not understood.
        rest: all words that are no value of a condition, for a caption.
    """

    covariates: dict[str, Value] = field(default_factory=dict)
    lost: tuple[str, ...] = ()
    rest: Words = ()


@dataclass(frozen=True)
class _Phrase:
    """The first words of what is left of a sentence, as a value of a condition."""

    condition: Condition
    value: str
    length: int


def covariates_of_sentence(
    sentence: str, conditions: Sequence[Condition], given: Mapping[str, Value] | None = None
) -> dict[str, Value]:
    """What a sentence asks for, together with what is given beside it.

    A model of captions gets as its caption what is no value of another condition.

    Args:
        sentence: such as "a 70-year-old woman"; an empty one asks for nothing.
        conditions: the model's.
        given: further values by name.

    Raises:
        ConfigError: E_TEXT where any word of it is not understood, or asks for what was already
            asked for in another way.
    """
    given = dict(given or {})
    if not sentence.strip():
        return given
    if not conditions:
        raise _error("the model has no conditions", "leave the text out")
    plain = [condition for condition in conditions if condition.kind != "text"]
    captions = [condition for condition in conditions if condition.kind == "text"]
    reading = read_sentence(sentence, plain)
    if captions:
        asked = set(reading.rest) - FILLERS
        caption = sentence.strip() if not reading.covariates else " ".join(reading.rest)
        said = {captions[0].name: caption} if asked else {}
        reading = Reading({**reading.covariates, **said})
    if reading.lost:
        quoted = ", ".join(f"'{phrase}'" for phrase in reading.lost)
        raise _error(f"not understood: {quoted}", f"leave it out, or say {_sayable(conditions)}")
    for name in reading.covariates.keys() & given.keys():
        if str(given[name]) != str(reading.covariates[name]):
            raise _error(f"{name} is also given beside it", "say it once")
    return given | reading.covariates


def read_sentence(sentence: str, conditions: Sequence[Condition]) -> Reading:
    """Reads a sentence from its beginning, at each word the longest phrase that is a value.

    A negated category of two is the other one; every other negation is not understood.

    Args:
        sentence: plain English, numbers with a decimal point.
        conditions: the model's.

    Raises:
        ConfigError: E_TEXT where one condition gets two values, or a phrase could be a value of
            several conditions.
    """
    words = words_of(sentence)
    found: dict[str, Value] = {}
    lost: list[list[str]] = []
    rest: list[str] = []
    position, last_lost = 0, -1
    while position < len(words):
        phrase, length = _next(words[position:], conditions)
        if phrase is not None:
            name = phrase.condition.name
            if found.setdefault(name, phrase.value) != phrase.value:
                raise _error(f"{name} is asked for twice", "ask for one value")
            position += length
            continue
        rest += words[position : position + length]
        if words[position] not in FILLERS:
            if last_lost != position:
                lost.append([])
            lost[-1] += words[position : position + length]
            last_lost = position + length
        position += length
    return Reading(found, tuple(" ".join(phrase) for phrase in lost), tuple(rest))


def _next(words: Words, conditions: Sequence[Condition]) -> tuple[_Phrase | None, int]:
    """The phrase that words begin with, and how many words of them are dealt with."""
    if words[0] not in NEGATIONS:
        phrase = _longest(words, conditions)
        return phrase, phrase.length if phrase else 1
    start = 1
    while start < len(words) and words[start] in FILLERS:
        start += 1
    phrase = _longest(words[start:], conditions) if start < len(words) else None
    length = start + (phrase.length if phrase else 1)
    other = _opposite(phrase) if phrase else None
    return (phrase and other and _Phrase(phrase.condition, other, length)) or None, length


def _opposite(phrase: _Phrase) -> str | None:
    """The other one of two categories."""
    values = phrase.condition.values
    return next(v for v in values if v != phrase.value) if len(values) == 2 else None


def _longest(words: Words, conditions: Sequence[Condition]) -> _Phrase | None:
    phrases = [p for condition in conditions for p in _phrases(words, condition)]
    longest = max((phrase.length for phrase in phrases), default=0)
    best = [phrase for phrase in phrases if phrase.length == longest]
    if len({phrase.condition.name for phrase in best}) > 1:
        names = " or ".join(sorted({phrase.condition.name for phrase in best}))
        text = " ".join(words[:longest])
        raise _error(f"'{text}' may be {names}", "name the one that is meant")
    return best[0] if best else None


def _phrases(words: Words, condition: Condition) -> Iterator[_Phrase]:
    """All ways in which words begin with a value of a condition."""
    for name in _names(condition):
        if _starts(words, name):
            rest = _without_fillers(words, len(name))
            if words[rest : rest + 1] == (UNKNOWN,):
                yield _Phrase(condition, UNKNOWN, rest + 1)
    if condition.kind in NUMBERS:
        yield from _numbers(words, condition)
    else:
        yield from _categories(words, condition)


def _categories(words: Words, condition: Condition) -> Iterator[_Phrase]:
    """Such as "woman", "sex F", and "smoker" where a condition of this name is yes or no."""
    for value in condition.values:
        for said in _said(condition, value):
            if _starts(words, said) and not said[0][0].isdigit():
                yield _Phrase(condition, value, len(said))
            for name in _names(condition):
                rest = _without_fillers(words, len(name))
                if _starts(words, name) and _starts(words[rest:], said):
                    yield _Phrase(condition, value, rest + len(said))
    yes = [value for value in condition.values if value.lower() in ("yes", "true")]
    for name in _names(condition) if yes else ():
        if _starts(words, name):
            yield _Phrase(condition, yes[0], len(name))


def _said(condition: Condition, value: str) -> Iterator[Words]:
    """How a category is said: as the table spells it, and in the words for a sex."""
    yield words_of(value)
    if condition.name.lower() in ("sex", "gender"):
        for words in _SEXES.values():
            if value.lower() in words:
                yield from ((word,) for word in words)


def _numbers(words: Words, condition: Condition) -> Iterator[_Phrase]:
    """Such as "age 70", "diameter of 2 cm", "70 years old", "20 mm in diameter", "20 mm"."""
    names, units = _names(condition), _units(condition)
    for name in (name for name in names if _starts(words, name)):
        rest = _without_fillers(words, len(name))
        yield from _quantity(words, rest, condition, units)
    for phrase in _quantity(words, 0, condition, units):
        if phrase.length > 1:  # a number alone says nothing
            yield phrase
        rest = _without_fillers(words, phrase.length)
        for name in names:
            if _starts(words[rest:], name):
                yield _Phrase(condition, phrase.value, rest + len(name))


def _quantity(
    words: Words, start: int, condition: Condition, units: Mapping[str, float]
) -> Iterator[_Phrase]:
    """The number at a place, with or without a unit behind it."""
    number = words[start] if start < len(words) else ""
    if not is_number(number):
        return
    unit = words[start + 1] if start + 1 < len(words) else ""
    if unit in units:
        yield _Phrase(condition, f"{float(number) * units[unit]:.6g}", start + 2)
    else:
        yield _Phrase(condition, f"{float(number):.6g}", start + 1)


def _names(condition: Condition) -> set[Words]:
    """How a condition is called: its name, its name without the unit, and words for age."""
    parts = condition.name.lower().split("_")
    names = {(condition.name.lower(),), tuple(words_of(" ".join(parts)))}
    if len(parts) > 1 and parts[-1] in _IN_UNIT:
        names.add(tuple(words_of(" ".join(parts[:-1]))))
    age = parts[0] == "age" and set(parts[1:]) <= {"years", "months"}
    return names | set(_AGE) if age else names


def _units(condition: Condition) -> dict[str, float]:
    """The units that a condition can be said in, and how many of its own each of them is."""
    parts = condition.name.lower().split("_")
    unit = "years" if parts == ["age"] else parts[-1]
    if unit not in _IN_UNIT:
        return {}
    kind, size = _IN_UNIT[unit]
    return {name: times / size for name, times in UNITS[kind].items()}


def _starts(words: Words, with_: Words) -> bool:
    return bool(with_) and words[: len(with_)] == with_


def _without_fillers(words: Words, start: int) -> int:
    """Where the next word that is no filler stands."""
    while start < len(words) and words[start] in FILLERS:
        start += 1
    return start


def _sayable(conditions: Sequence[Condition]) -> str:
    """What the sentences of a model can be about."""
    return "; ".join(map(_described, conditions))


def _described(condition: Condition) -> str:
    if condition.kind == "categorical":
        return f"{condition.name} ({', '.join(condition.values)})"
    low, high = (f"{bound:.4g}" for bound in (condition.quantiles[0], condition.quantiles[-1]))
    units = [unit for unit, times in _units(condition).items() if math.isclose(times, 1)]
    return f"{condition.name} ({low} to {high}{' ' + units[0] if units else ''})"


def _error(what: str, remedy: str) -> ConfigError:
    return ConfigError("E_TEXT", "the text", what, remedy)
