"""Threads change neither the order nor the outcome, and an error comes where it belongs."""

import gc
import threading
import time
import weakref

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from placerec import workers
from placerec.workers import map_all, map_in_order, single_threaded_blas


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


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_all_results_come_in_the_order_of_the_items(threads):
    def slow_first(n):
        time.sleep(0.01 if n == 0 else 0)
        return n * n

    assert map_all(slow_first, iter(range(20)), threads) == [n * n for n in range(20)]
    assert map_all(slow_first, [], threads) == []


def test_the_caller_is_one_of_the_threads_that_work():
    together = threading.Barrier(3)

    def name(_):
        together.wait(10)
        return threading.get_ident()

    names = set(map_all(name, range(3), 3))
    assert threading.get_ident() in names
    assert len(names) == 3


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_first_error_of_all_is_raised_and_no_further_item_is_taken(threads):
    taken = []

    def fails_late(n):
        taken.append(n)
        if n == 3:
            time.sleep(0.02)
        if n >= 3:
            raise ValueError(n)
        return n

    with pytest.raises(ValueError, match="3"):
        map_all(fails_late, range(100), threads)
    assert len(taken) <= 3 + threads

    def items():
        yield from range(4)
        raise OSError("no more")

    with pytest.raises(OSError, match="no more"):
        map_all(abs, items(), threads)


def test_an_interrupt_of_the_user_comes_before_the_errors_of_items():
    begun = threading.Event()

    def item(_):
        if threading.current_thread() is threading.main_thread():
            begun.wait(10)
            raise KeyboardInterrupt
        begun.set()
        time.sleep(0.02)
        raise ValueError

    with pytest.raises(KeyboardInterrupt):
        map_all(item, range(4), 2)


def test_a_failure_keeps_nothing_alive():
    class Large:
        pass

    kept = []

    def fails_at_2(n):
        if n == 2:
            raise ValueError
        large = Large()
        kept.append(weakref.ref(large))
        return large

    gc.disable()
    try:
        with pytest.raises(ValueError):
            map_all(fails_at_2, range(4), 2)
        assert kept
        assert not any(one() for one in kept)
    finally:
        gc.enable()


def test_no_more_threads_start_than_there_are_items(monkeypatch):
    start, started = threading.Thread.start, []

    def counted(thread):
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", counted)
    assert map_all(abs, iter([-1, -2]), 64) == [1, 2]
    assert len(started) <= 2


def test_calls_inside_each_other_do_not_wait_for_each_other():
    def inner(n):
        return sum(map_all(lambda m: n * m, range(5), 2))

    assert map_all(inner, range(6), 2) == [10 * n for n in range(6)]


def test_the_limit_of_blas_ends_with_the_last_context_in_whatever_order():
    def threads():
        return [p["num_threads"] for p in threadpool_info() if "numpy.libs" in p["filepath"]]

    np.ones(1) @ np.ones(1)
    before = threads()
    first, second = single_threaded_blas(), single_threaded_blas()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert set(threads()) == {1}
    second.__exit__(None, None, None)
    assert threads() == before


def test_threads_that_cannot_start_do_not_make_the_others_wait(monkeypatch):
    start, started = threading.Thread.start, []

    def refusing(thread):
        if len(started) == 2:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(workers, "TOGETHER_SECONDS", 0.05)
    monkeypatch.setattr(threading.Thread, "start", refusing)
    workers.prepare_small_products.__wrapped__(4)
    assert len(started) == 2
    assert not any(thread.is_alive() for thread in started)


@pytest.mark.parametrize("mapped", [map_all, map_in_order])
def test_a_thread_that_the_system_refuses_is_a_lack_of_memory(monkeypatch, mapped):
    def refuse(_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(MemoryError, match="can't start new thread"):
        list(mapped(abs, [-1, -2], 2))
