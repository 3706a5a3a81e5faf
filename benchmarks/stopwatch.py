"""How long a call takes."""

import statistics
import time
from collections.abc import Callable


def seconds(function: Callable[[], object], repeat: int, *, warm: bool = False) -> float:
    """Median seconds of `repeat` calls, after an untimed one where `warm`."""
    if warm:
        function()
    times = []
    for _ in range(repeat):
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return statistics.median(times)
