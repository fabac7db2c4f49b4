import hashlib

import numpy as np
import pytest

from medgan.data.codebook import ONE_HOT, channels, codewords


def test_few_labels_have_a_channel_each() -> None:
    for count in range(ONE_HOT + 1):
        assert np.array_equal(codewords(count)[1:], np.eye(count))


@pytest.mark.parametrize(
    ("count", "wanted"),
    [(0, 0), (1, 1), (9, 9), (10, 9), (15, 9), (16, 13), (31, 13), (32, 15), (63, 15), (64, 20),
     (127, 20), (128, 24), (255, 24)],
)  # fmt: skip
def test_more_labels_share_channels(count: int, wanted: int) -> None:
    assert channels(tuple(range(1, count + 1))) == wanted


@pytest.mark.parametrize("count", [*range(10, 33), 63, 127])
def test_of_three_words_two_agree_against_the_third(count: int) -> None:
    code = codewords(count)
    assert not code[0].any()
    assert len({word.tobytes() for word in code}) == count + 1
    for third in range(count + 1):
        differ = (np.delete(code, third, axis=0) != code[third]).astype(int)
        # how often two words agree with each other and not with the third
        assert (differ @ differ.T).min() >= 1


def test_a_code_never_changes_because_models_on_disk_depend_on_it() -> None:
    digests = [hashlib.sha256(codewords(n).tobytes()).hexdigest()[:8] for n in (10, 16, 32, 127)]
    assert digests == ["0032506d", "34506bea", "d5576423", "79a7439e"]


def test_nobody_can_write_into_a_code() -> None:
    with pytest.raises(ValueError, match="read-only"):
        codewords(12)[0, 0] = 1
