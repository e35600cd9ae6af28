"""Threads change neither the order nor the outcome, and an error comes where it belongs."""

import time

import pytest

from placerec.workers import map_in_order


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_results_come_in_the_order_of_the_items(threads):
    def slow_first(n):
        time.sleep(0.01 if n == 0 else 0)
        return n * n

    assert list(map_in_order(slow_first, range(20), threads)) == [n * n for n in range(20)]


@pytest.mark.parametrize("threads", [1, 3])
def test_an_error_is_raised_where_its_result_would_have_come(threads):
    def fail_at_three(n):
        if n == 3:
            raise ValueError("three")
        return n

    results = map_in_order(fail_at_three, range(10), threads)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(results)


def test_items_are_not_read_far_ahead():
    read = []

    def items():
        for n in range(100):
            read.append(n)
            yield n

    next(map_in_order(lambda n: n, items(), 2))
    assert len(read) <= 5
