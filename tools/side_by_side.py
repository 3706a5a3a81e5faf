"""Long calls of a study, several at a time in processes of their own: what is done is told at once, and after a given time nothing more is begun."""

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context
from typing import Any


class _Here:
    """Calls in this process, in the manner of an executor."""

    def __enter__(self) -> "_Here":
        return self

    def __exit__(self, *exc: Any) -> None:
        pass

    def submit(self, function: Callable, *arguments: Any) -> Future:
        future = Future()
        try:
            future.set_result(function(*arguments))
        except Exception as error:
            future.set_exception(error)
        return future


def side_by_side(jobs: Mapping[str, tuple],  # a function of a module, and its arguments
                 workers: int = 1,  # calls at a time; 1: in this process
                 seconds: float = float("inf"),  # after so many no call is begun
                 ) -> Iterator[tuple[str, Any]]:
    """The name and the answer of each call, as they come; in their order with one worker. The names of what was not begun follow, each with None. What a call raises is told at once, and raised when the others are through."""
    waiting, under_way, errors, began = list(jobs.items()), {}, [], time.perf_counter()
    with ProcessPoolExecutor(workers, get_context("spawn")) if workers > 1 else _Here() as pool:
        while True:
            while waiting and len(under_way) < workers and time.perf_counter() - began < seconds:
                name, (function, *arguments) = waiting.pop(0)
                under_way[pool.submit(function, *arguments)] = name
            if not under_way:
                break
            for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                name, error = under_way.pop(future), future.exception()
                if error is None:
                    yield name, future.result()
                else:
                    print(f"{name}: {type(error).__name__}: {error}", flush=True)
                    errors.append(error)
    yield from ((name, None) for name, _ in waiting)
    if errors:
        raise errors[0]
