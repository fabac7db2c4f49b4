"""Plain English as words: numbers, words and signs, and the vectors of words."""

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from safetensors import safe_open

from medgan.core.errors import EnvironmentFailure

VECTOR = 256
"""Numbers of the vector of a word."""
FILLERS = frozenset(
    "a an the of is are at with and in has having who whose about around but scan scans image "
    "images volume picture someone person patient subject".split()
)
"""Words that ask for nothing."""
NEGATIONS = frozenset("no not non without never neither nor".split())
UNITS = {
    "years": {
        **dict.fromkeys(("years", "year", "yrs", "yr", "yo"), 1.0),
        **dict.fromkeys(("months", "month"), 1 / 12),
    },
    "mm": dict.fromkeys(("mm", "millimetres", "millimetre", "millimeters", "millimeter"), 1.0)
    | dict.fromkeys(("cm", "centimetres", "centimetre", "centimeters", "centimeter"), 10.0),
    "mm3": {"mm3": 1.0} | dict.fromkeys(("ml", "cc", "cm3", "millilitres", "milliliters"), 1000.0),
    "kg": dict.fromkeys(("kg", "kilograms", "kilogram"), 1.0),
}
"""Of each kind of unit, how many of the first one each of them is."""
_WORD = re.compile(r"\d+(?:\.\d+)?|(?<![\w.)])-\d+(?:\.\d+)?|[^\W\d]\w*|[^\s\w,;.:()=/-]")
_NUMBER = re.compile(r"-?\d+(\.\d+)?")
Words = tuple[str, ...]


def words_of(text: str) -> Words:
    """Numbers, words and signs of a text, in small letters."""
    text = text.lower().replace("³", "3").replace("n't", " not")
    text = re.sub(r"\b(cubic) (mm|cm)\b", r"\g<2>3", text)
    return tuple(_WORD.findall(text))


def is_number(word: str) -> bool:
    """Whether a word is a number."""
    return _NUMBER.fullmatch(word) is not None


def vector_of(word: str) -> Float[np.ndarray, "256"]:
    """The vector of a word, of length 16, so that its numbers vary about as much as noise.

    The mean over the parts of the word, as they are in `wordllama`, whose wheel holds them; nothing
    is downloaded.

    Raises:
        EnvironmentFailure: E_EXTRA without wordllama.

    Reference: WordLlama (MIT), l2_supercat_256.
    """
    return _vector(word)


@cache
def _vector(word: str) -> np.ndarray:
    tokenizer, vectors = _vectors()
    parts = tokenizer.encode(word, add_special_tokens=False).ids
    mean = vectors[parts].astype(np.float32).mean(axis=0)
    return 16 * mean / max(float(np.linalg.norm(mean)), 1e-6)


@cache
def _vectors() -> tuple[Any, np.ndarray]:
    """Tokenizer and vectors of wordllama, from its files: its own loader looks in the network."""
    found = find_spec("wordllama")
    if found is None or found.origin is None:
        raise EnvironmentFailure(
            "E_EXTRA", "wordllama", "not installed, and captions need it",
            "pip install 'medgan[text]'",
        )  # fmt: skip
    from tokenizers import Tokenizer  # pyright: ignore[reportMissingImports]

    folder = Path(found.origin).parent
    tokenizer = Tokenizer.from_file(str(folder / "tokenizers/l2_supercat_tokenizer_config.json"))
    with safe_open(str(folder / "weights/l2_supercat_256.safetensors"), "numpy") as file:
        return tokenizer, file.get_tensor("embedding.weight")
