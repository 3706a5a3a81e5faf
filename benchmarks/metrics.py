"""The metrics over all windows at once against a loop over windows, in the same process, one thread.

    python benchmarks/metrics.py [--windows 10000] [--dim 3] [--horizon 512]

The looped side calls the textbook formula for each window and coordinate (dysts' own functions for sMAPE, MAE and RMSE), the running
valid prediction time as it is published: one sMAPE for each length. It is measured on 100 windows and scaled.
"""

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import dysts.metrics as theirs
import numpy as np
from stopwatch import seconds

from chronos_dysts import metrics as ours

LEVELS = np.arange(1, 10) / 10


def pinball(y, q):
    return 2 * np.mean([np.mean(np.maximum(level * (y - q[:, i]), (level - 1) * (y - q[:, i]))) for i, level in enumerate(LEVELS)])


def running_smape(y, f):
    values = np.array([theirs.smape(y[:, : t + 1], f[:, : t + 1], scaled=False) for t in range(y.shape[-1])])
    return int(np.argmax(values > 30)) if (values > 30).any() else len(values)


def first_large_error(y, f):
    error = np.sqrt(np.mean((y - f) ** 2, axis=0))
    return int(np.argmax(error > 0.4)) if (error > 0.4).any() else len(error)


def coordinates(metric):
    """A metric of one series over every window and coordinate."""
    return lambda y, f, q: np.array([[metric(a, b) for a, b in zip(window, forecast)] for window, forecast in zip(y, f)])


CASES = {
    "mae": (lambda y, f, q: ours.mae(y, f), coordinates(theirs.mae)),
    "rmse": (lambda y, f, q: ours.rmse(y, f), coordinates(theirs.rmse)),
    "smape100": (lambda y, f, q: ours.smape100(y, f), coordinates(theirs.smape)),
    "quantile_loss": (lambda y, f, q: ours.quantile_loss(y, q, LEVELS), lambda y, f, q: np.array([[pinball(a, b) for a, b in zip(*pair)] for pair in zip(y, q)])),
    "valid_prediction_time": (lambda y, f, q: ours.valid_prediction_time(y, f, np.ones(y.shape[1])), lambda y, f, q: np.array([first_large_error(*pair) for pair in zip(y, f)])),
    "valid_prediction_time_smape200": (lambda y, f, q: ours.valid_prediction_time_smape200(y, f), lambda y, f, q: np.array([running_smape(*pair) for pair in zip(y, f)])),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, default=10_000)
    parser.add_argument("--dim", type=int, default=3)
    parser.add_argument("--horizon", type=int, default=512)
    parser.add_argument("--chunk", type=int, default=200, help="windows that are scored at a time, as the evaluation does")
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    y = rng.normal(size=(args.chunk, args.dim, args.horizon))
    f = y + 0.01 * np.exp(np.arange(args.horizon) / 80) * rng.normal(size=(args.chunk, args.dim, 1))
    q = f[..., None] + np.linspace(-1, 1, 9)
    few, total = slice(0, min(100, args.chunk)), {"ours": 0.0, "loop": 0.0}
    for name, (batched, looped) in CASES.items():
        assert np.allclose(batched(y[few], f[few], q[few]), looped(y[few], f[few], q[few]), rtol=1e-6), name
        fast = seconds(lambda: batched(y, f, q), 3) * args.windows / args.chunk
        slow = seconds(lambda: looped(y[few], f[few], q[few]), 1) * args.windows / len(y[few])
        total["ours"], total["loop"] = total["ours"] + fast, total["loop"] + slow
        print(f"{name:32} {fast:8.2f} s at once {slow:9.2f} s in a loop  {slow / fast:7.1f} times as fast")
    print(f"{'all':32} {total['ours']:8.2f} s at once {total['loop']:9.2f} s in a loop  {total['loop'] / total['ours']:7.1f} times as fast ({args.windows} windows of {args.dim} × {args.horizon})")


if __name__ == "__main__":
    main()
