import threading

import pytest

from medgan.core.announced import ReadingMemory
from medgan.core.errors import DataError

GB = 10**9


@pytest.mark.fault(11)
def test_what_does_not_fit_alone_is_refused_and_names_no_path(measured) -> None:
    memory = ReadingMemory(lambda: 3 * GB)
    with pytest.raises(DataError, match="E_MEMORY c-1: reading it takes 3") as caught, \
            memory.taken(4 * GB, "c-1"):  # fmt: skip
        pass
    measured(f"a scan of 3.7 GiB with 2.8 GiB free: {caught.value.code}")


@pytest.mark.fault(11)
def test_threads_never_take_more_together_than_is_free(measured) -> None:
    memory, held, most, together = ReadingMemory(lambda: 4 * GB), [], [], threading.Lock()

    def read() -> None:
        with memory.taken(1.5 * GB, "c-1"):
            with together:
                held.append(1)
                most.append(len(held))
            inside.wait(0.02)
            with together:
                held.pop()

    inside = threading.Event()
    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(most) == 8
    assert max(most) == 2
    measured(f"8 readings of 1.5 GB with 4 GB free: {max(most)} at a time")


def test_what_was_taken_is_given_back_after_an_error() -> None:
    memory = ReadingMemory(lambda: 3 * GB)
    for _ in range(3):
        with pytest.raises(ValueError, match="damaged"), memory.taken(2 * GB, "c-1"):
            raise ValueError("damaged")
