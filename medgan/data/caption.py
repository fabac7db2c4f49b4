"""Captions: the words that those of the training scans use, and sentences in these words."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from jaxtyping import Float

from medgan.core.config import Condition
from medgan.core.errors import ConfigError
from medgan.data.words import (
    FILLERS,
    NEGATIONS,
    UNITS,
    VECTOR,
    Words,
    is_number,
    vector_of,
    words_of,
)

MOST_WORDS = 48
"""Words of a caption that networks see."""
FEATURES = VECTOR + 2
"""Of a word: its vector, or zeros and a number: the standardised logarithm and a one, each times
`_NUMBER`."""
_NUMBER = 8.0
"""With which a number weighs as much as a word, whose vector has the length 16."""
COLUMNS = MOST_WORDS * FEATURES
"""Of an encoded caption."""
SIMILAR = 0.37
"""Cosine of two words from which one is read as the other: `spiculated` as spiculation (0.88),
`spherical` as round (0.38); what means something else was below (`suspected` and suspicious 0.33,
`benign` and malignant 0.16), but for words that differ by a prefix, which are told apart."""
_COMMON = 2
"""Training captions that have a word before it is one of the model's: rarer ones may name a
patient."""


_PREFIXES = ("un", "non", "in", "im", "dis")
"""Of words that mean the opposite."""


@dataclass(frozen=True)
class CaptionReading:
    """What a model makes of a caption.

    Attributes:
        words: those that it knows, in order; numbers in the first of their units.
        remarks: what was read as another word, and numbers outside those of training captions.
        lost: what was not understood.
    """

    words: Words
    remarks: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()


def learn_captions(name: str, captions: Sequence[str]) -> Condition:
    """What at least two captions have: words, negated words, and units of numbers.

    And how large the numbers are.

    Args:
        name: of the column.
        captions: of the training scans, those that are known.
    """
    counts: Counter[str] = Counter()
    numbers = []
    for caption in captions:
        words = list(_with_one_unit(words_of(caption)))
        numbers += [float(word) for word in words if is_number(word)]
        plain = {word for word in words if not is_number(word)}
        negated = {f"no {b}" for a, b in pairwise(words) if a in NEGATIONS and not is_number(b)}
        measured = {_unit(b) for a, b in pairwise([*words, ""]) if is_number(a)}
        counts.update(plain | negated | measured)
    values = tuple(sorted(value for value, n in counts.items() if n >= _COMMON))
    logs = [math.log(number) for number in numbers if number > 0] or [0.0]
    bounds = (min(numbers), max(numbers)) if numbers else ()
    return Condition(
        name=name, kind="text", values=values, mean=float(np.mean(logs)),
        spread=float(np.std(logs)) or 1.0, quantiles=bounds,
    )  # fmt: skip


def read_caption(caption: str, condition: Condition) -> CaptionReading:
    """A caption in the words of a model.

    A word that the model does not know is read as the most similar one that it knows, where they
    are similar enough. A negation is understood before words that training captions negate, a
    number before the words, such as units, that they have behind numbers.

    Args:
        caption: any sentence.
        condition: the model's, of captions.

    Raises:
        EnvironmentFailure: E_EXTRA where a word's vector is needed and wordllama is not installed.
    """
    known = tuple(value for value in condition.values if " " not in value)
    found: list[str] = []
    remarks: list[str] = []
    lost: list[str] = []
    negation = ""
    words = [*_with_one_unit(words_of(caption)), ""]
    for word, behind in pairwise(words):
        if is_number(word):
            if negation or _unit(behind) not in condition.values:
                lost.append(f"{negation} {word}".strip())
            else:
                found.append(word)
                remarks += _range_remark(word, condition)
        elif word in NEGATIONS:
            lost += [negation] if negation else []
            negation = word
            continue
        elif word in FILLERS and (negation or word not in known):
            continue
        else:
            read = word if word in known else _most_similar(word, known)
            if not read or (negation and f"no {read}" not in condition.values):
                lost.append(f"{negation} {word}".strip())
            else:
                found += ["no", read] if negation else [read]
                unknown = f"'{word}' is in no training caption and is read as '{read}'"
                remarks += [unknown] if read != word else []
        negation = ""
    lost += [negation] if negation else []
    return CaptionReading(tuple(found[:MOST_WORDS]), tuple(remarks), (*lost, *found[MOST_WORDS:]))


def check_caption(caption: str, condition: Condition) -> list[str]:
    """Remarks on a caption.

    Raises:
        ConfigError: E_TEXT where a part of it is not understood.
    """
    reading = read_caption(caption, condition)
    if reading.lost:
        quoted = ", ".join(f"'{phrase}'" for phrase in dict.fromkeys(reading.lost))
        raise ConfigError(
            "E_TEXT", "the text", f"not understood: {quoted}",
            f"leave it out, or use words of the training captions: {words_text(condition)}",
        )  # fmt: skip
    return list(dict.fromkeys(reading.remarks))


def words_text(condition: Condition) -> str:
    """The words of a model's captions but for fillers, in one line."""
    plain = [v for v in condition.values if " " not in v and v not in FILLERS | NEGATIONS]
    more = [v for v in condition.values if " " in v]
    return ", ".join([*plain, *more])


def encode_caption(caption: str, condition: Condition) -> Float[np.ndarray, " N"]:
    """A caption as networks read it: a row of features for each word, one after the other.

    Args:
        caption: any sentence; what the model does not understand is left out.
        condition: the model's, of captions.
    """
    rows = np.zeros((MOST_WORDS, FEATURES), np.float32)
    for row, word in zip(rows, read_caption(caption, condition).words, strict=False):
        if is_number(word):
            log = math.log(max(float(word), 1e-6))
            row[VECTOR:] = _NUMBER * (log - condition.mean) / condition.spread, _NUMBER
        else:
            row[:VECTOR] = vector_of(word)
    return rows.ravel()


def _with_one_unit(words: Words) -> Iterator[str]:
    """The words, lengths in mm, times in years, volumes in mm3."""
    position = 0
    while position < len(words):
        word, unit = words[position], words[position + 1 : position + 2]
        kind = next((k for k, units in UNITS.items() if unit and unit[0] in units), "")
        if is_number(word) and kind:
            yield f"{float(word) * UNITS[kind][unit[0]]:g}"
            yield kind
            position += 1
        else:
            yield word
        position += 1


def _unit(behind: str) -> str:
    """How a number with this word behind it is kept among the words of a model."""
    return f"number {behind}".strip()


def _range_remark(word: str, condition: Condition) -> list[str]:
    low, high = condition.quantiles[0], condition.quantiles[-1]
    inside = low <= float(word) <= high
    return [] if inside else [f"{word} is outside the {low:g} to {high:g} trained on"]


@lru_cache(1024)
def _most_similar(word: str, known: Words) -> str:
    """The known word that is most similar, or an empty one.

    Neither a negation nor a word that differs by a prefix, as likely does from unlikely, and
    unspiculated from what spiculated is read as.
    """
    others = [o for o in known if o not in NEGATIONS | FILLERS and not o.endswith(word)]
    others = [other for other in others if not word.endswith(other)]
    if not others:
        return ""
    similarity = np.stack([vector_of(other) for other in others]) @ vector_of(word) / 256
    best = others[int(np.argmax(similarity))] if similarity.max() >= SIMILAR else ""
    bare = [word.removeprefix(prefix) for prefix in _PREFIXES if word.startswith(prefix)]
    return "" if any(_most_similar(one, known) == best or one in known for one in bare) else best
