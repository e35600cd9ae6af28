"""Map a function over items on several threads; no result depends on the number of threads.

NumPy's matrix products may round differently with another number of BLAS threads. So BLAS runs on
one thread here, and each thread processes one item (photo, candidate) at a time.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any, Generic, TypeVar

import numpy as np
from threadpoolctl import ThreadpoolController

Item = TypeVar("Item")
Result = TypeVar("Result")
TOGETHER_SECONDS = 1.0  # within which threads that are to work at once have started

_lock = threading.Lock()
_inside: list[Any] = []  # the limit, once for each context that is open


@contextmanager
def single_threaded_blas() -> Iterator[None]:
    """A context in which NumPy's matrix products use one thread.

    The limit is one of the whole process. So the first context that opens sets it, and the last one
    that closes takes it back, in whatever order they close.
    """
    with _lock:
        _inside.append(_inside[0] if _inside else _controller().limit(limits=1, user_api="blas"))
    try:
        yield
    finally:
        with _lock:
            limit = _inside.pop()
            if not _inside:
                limit.restore_original_limits()


def map_in_order(
    function: Callable[[Item], Result], items: Iterable[Item], threads: int
) -> Iterator[Result]:
    """Yield ``function(item)`` in the order of the items, reading at most ``2 * threads`` ahead.

    An exception of an item is raised in place of its result. Raises ``MemoryError`` if the system
    refuses a thread.
    """
    if threads <= 1:
        yield from map(function, items)
        return
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="placerec") as pool:
        try:
            for item in items:
                waiting.append(_submit(pool, function, item))
                if len(waiting) >= 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def map_all(
    function: Callable[[Item], Result], items: Iterable[Item], threads: int
) -> list[Result]:
    """Return ``function(item)`` of all items, in their order.

    The calling thread works too, and a thread that is ready takes the next item by itself. With
    items of less than a millisecond this is much faster than ``map_in_order``. After an exception
    no further item is taken; that of the first item is raised. Raises ``MemoryError`` if the system
    refuses a thread.
    """
    if threads <= 1:
        return list(map(function, items))
    with ThreadPoolExecutor(threads - 1, thread_name_prefix="placerec") as pool:
        shared = _Shared(function, enumerate(items), pool, threads)
        shared.work()
    return shared.all_results()


class _Shared(Generic[Item, Result]):
    """What the threads of ``map_all`` share: the items that are left, results and errors."""

    def __init__(
        self, function: Callable[[Item], Result], numbered: Iterator[tuple[int, Item]],
        pool: ThreadPoolExecutor, threads: int,
    ) -> None:  # fmt: skip
        self._function, self._numbered, self._lock = function, numbered, threading.Lock()
        self._pool, self._threads = pool, threads
        self._results: dict[int, Result] = {}
        self._errors: dict[float, BaseException] = {}  # by number of the item

    def work(self) -> None:
        """Take items until there are none, or there is an error."""
        number = math.inf  # an error of the items themselves comes after those of all taken items
        try:
            while taken := self._take():
                number, item = taken
                self._results[number] = self._function(item)
                number = math.inf
        except Exception as error:
            self._errors[number] = error
        except BaseException as interrupt:  # of the user; it comes before all errors
            self._errors[-1] = interrupt

    def _take(self) -> tuple[int, Item] | None:
        with self._lock:
            taken = None if self._errors else next(self._numbered, None)
            if taken and taken[0] < self._threads - 1:  # there may be work for one thread more
                _submit(self._pool, self.work)
            return taken

    def all_results(self) -> list[Result]:
        """Return the results in the order of the items, or raise the first error."""
        try:
            if self._errors:
                raise self._errors[min(self._errors)]
        finally:
            self._errors.clear()  # an error refers to ``work``, and so to the results
        return [self._results[number] for number in range(len(self._results))]


def _submit(
    pool: ThreadPoolExecutor, function: Callable[..., Result], *arguments: Any
) -> Future[Result]:
    try:
        return pool.submit(function, *arguments)
    except RuntimeError as error:
        if "new thread" not in str(error):
            raise
        raise MemoryError(str(error)) from error


@cache
def prepare_small_products(threads: int) -> None:
    """Make small matrix products as fast as they can be on so many threads at once.

    OpenBLAS has one buffer for each product that is at work, and reads ahead of what it needs. It
    is slow while it reads where nothing was ever written: a product of (1131, 64) and (64, 300)
    takes three times as long. A larger product on each thread writes there. If the system refuses
    some of the threads, nothing is prepared.
    """
    rows = np.ones((1200, 64), np.float32)
    together = threading.Barrier(threads, timeout=TOGETHER_SECONDS)

    def multiply(_: int) -> None:
        together.wait()
        np.matmul(rows[:64], rows.T)

    # RuntimeError: the others waited too long for a thread. MemoryError: a thread cannot start.
    with suppress(RuntimeError, MemoryError), single_threaded_blas():
        map_all(multiply, range(threads), threads)


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()
