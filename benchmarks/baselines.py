"""Context parroting for a batch of windows against one window at a time, in the same process, one thread.

    python benchmarks/baselines.py [--windows 1000] [--context 512] [--horizon 128]

The looped side is what a direct implementation does: for each window the distances of the motif to a sliding-window view, the nearest, and the copy.
It is measured on a tenth of the windows and scaled.
"""

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from stopwatch import seconds

from chronos_dysts.baselines import ContextParroting


def looped(context, motif, horizon):
    """One window after the other, with numpy inside the window."""
    forecasts = []
    for window in context:
        x = (window - window.mean(-1, keepdims=True)) / window.std(-1, keepdims=True)
        n = x.shape[-1]
        stretches = np.lib.stride_tricks.sliding_window_view(x, motif, axis=-1)[:, : n - 2 * motif + 1]
        distance = ((stretches - x[:, None, -motif:]) ** 2).sum((0, 2))
        lag = n - motif - (len(distance) - 1 - int(distance[::-1].argmin()))
        forecasts.append(window[:, n - lag + np.arange(horizon) % lag])
    return np.stack(forecasts)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, default=1000)
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--horizon", type=int, default=128)
    args = parser.parse_args()
    # smooth curves: a sum of incommensurate waves in three coordinates, another phase for each window
    rng = np.random.default_rng(0)
    t = np.arange(args.context)
    phases, rates = rng.uniform(0, 6, (args.windows, 3, 4, 1)), rng.uniform(0.05, 0.3, (1, 1, 4, 1))
    context = np.sin(phases + rates * t).sum(2)
    few = context[: max(1, args.windows // 10)]
    for motif in (5, 20):
        parrot = ContextParroting(motif)
        assert np.array_equal(parrot.forecast(few, args.horizon).median, looped(few, motif, args.horizon))
        ours = seconds(lambda: parrot.forecast(context, args.horizon), 5, warm=True)
        theirs = seconds(lambda: looped(few, motif, args.horizon), 5, warm=True) * len(context) / len(few)
        print(f"motif of {motif:>2} points: {args.windows / ours:8,.0f} windows/s batched, {args.windows / theirs:8,.0f} one by one, {theirs / ours:.1f} times as fast")
    ours = seconds(lambda: ContextParroting().forecast(context, args.horizon), 3, warm=True)
    print(f"motif length chosen for each window: {args.windows / ours:,.0f} windows/s")


if __name__ == "__main__":
    main()
