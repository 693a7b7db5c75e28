"""Work on the pieces of one tensor by several threads."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from bale.compressors.parallel import helped_by, in_order


def test_without_helpers_the_caller_does_all() -> None:
    assert in_order(lambda number: (number * number, threading.get_ident()), range(4)) == [
        (number * number, threading.get_ident()) for number in range(4)
    ]
    assert in_order(str, []) == []


def test_results_are_in_order_and_two_threads_make_them() -> None:
    meeting = threading.Barrier(2, timeout=20)

    def work(number: int) -> tuple[int, int]:
        if number < 2:
            meeting.wait()  # neither goes on before the other is there
        return number, threading.get_ident()

    with ThreadPoolExecutor(2) as executor, helped_by(executor, 1):
        found = in_order(work, range(9))
    assert [number for number, _ in found] == [*range(9)]
    assert len({thread for _, thread in found}) == 2


def test_threads_that_wait_here_themselves_hold_nobody_up() -> None:
    def job(number: int) -> list[int]:
        with helped_by(executor, 3):
            return in_order(lambda each: number * each, range(5))

    with ThreadPoolExecutor(2) as executor:
        found = [each.result(timeout=20) for each in [executor.submit(job, number) for number in range(8)]]
    assert found == [[number * each for each in range(5)] for number in range(8)]


def test_helpers_have_none_of_their_own() -> None:
    def inner(number: int) -> list[int]:
        return in_order(lambda each: threading.get_ident(), range(3)) if number else []

    def outer(number: int) -> bool:
        meeting.wait()
        return number == 0 or len({*inner(number)}) == 1 or threading.current_thread() is threading.main_thread()

    meeting = threading.Barrier(2, timeout=20)
    with ThreadPoolExecutor(2) as executor, helped_by(executor, 1):
        assert in_order(outer, range(2)) == [True, True]


@pytest.mark.parametrize("count", [0, 2])
def test_an_error_ends_the_work(count: int) -> None:
    done = []

    def work(number: int) -> None:
        done.append(number)
        if number == 3:
            raise ValueError("the third")

    with ThreadPoolExecutor(2) as executor, helped_by(executor, count), pytest.raises(ValueError, match="the third"):
        in_order(work, range(10_000))
    assert len(done) < 10_000
