"""The whole set of metrics over all windows at once against a loop over windows, in the same process, one thread.

    python benchmarks/metrics.py [--windows 10000] [--dim 3] [--horizon 512]

The looped side calls for each window what one would call: dysts' functions for errors, rank correlation and distances between
attractors, nolds' for the correlation dimension and the largest Lyapunov exponent, the textbook formula where neither has one, and the running valid
prediction time as it is published, one sMAPE for each length. It is measured on 100 windows (distances, dimensions and exponents on
20) and scaled; ours on `--chunk` windows at a time, as the evaluation does. Errors of both sides have to agree; dysts' distances
between attractors and nolds' estimators are other estimators of the same thing, at their defaults.
"""

import argparse
import importlib
import importlib.util
import os
import sys
import types
import warnings
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import dysts.metrics as theirs
import numpy as np
from stopwatch import seconds

from chronos_dysts import metrics as ours
from chronos_dysts.integration import integrate_ensemble
from chronos_dysts.systems import get_system

LEVELS = np.arange(1, 10) / 10


def nolds():
    """nolds.measures; the package itself asks for pkg_resources, which is no more."""
    found = importlib.util.find_spec("nolds")
    if found is None:
        raise SystemExit("this benchmark needs nolds: pip install nolds==0.6.2")
    package = types.ModuleType("nolds")
    package.__path__ = [str(Path(found.origin).parent)]
    sys.modules["nolds"] = package
    return importlib.import_module("nolds.measures")


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


def windows(metric):
    """A metric of one window over all."""
    return lambda y, f, q: np.array([metric(a, b) for a, b in zip(y, f)])


def cases(estimators):
    """name: (ours, the loop, windows of the loop that are timed, whether both have to agree)."""
    return {
        "mae": (lambda y, f, q: ours.mae(y, f), coordinates(theirs.mae), 100, True),
        "rmse": (lambda y, f, q: ours.rmse(y, f), coordinates(theirs.rmse), 100, True),
        "nrmse": (lambda y, f, q: ours.nrmse(y, f), coordinates(lambda a, b: theirs.rmse(a, b) / np.std(a)), 100, True),
        "mase": (lambda y, f, q: ours.mase(y, f, y), coordinates(lambda a, b: theirs.mae(a, b) / np.mean(np.abs(np.diff(a)))), 100, True),
        "smape100": (lambda y, f, q: ours.smape100(y, f), coordinates(theirs.smape), 100, True),
        "spearman": (lambda y, f, q: ours.spearman(y, f), coordinates(theirs.spearman), 100, True),
        "wql": (lambda y, f, q: ours.wql(y, q, LEVELS), lambda y, f, q: np.array([[pinball(a, b) / np.mean(np.abs(a)) for a, b in zip(*pair)] for pair in zip(y, q)]), 100, True),
        "coverage": (lambda y, f, q: ours.coverage(y, q[..., 0], q[..., -1]), lambda y, f, q: np.array([[np.mean((b[:, 0] <= a) & (a <= b[:, -1])) for a, b in zip(*pair)] for pair in zip(y, q)]), 100, True),
        "valid_prediction_time": (lambda y, f, q: ours.valid_prediction_time(y, f, np.ones(y.shape[1])), windows(first_large_error), 100, True),
        "valid_prediction_time_smape200": (lambda y, f, q: ours.valid_prediction_time_smape200(y, f), windows(running_smape), 100, True),
        "state_space_divergence": (lambda y, f, q: ours.state_space_divergence(y, f), windows(lambda a, b: theirs.estimate_kl_divergence(a.T, b.T)), 20, False),
        "spectral_hellinger_distance": (lambda y, f, q: ours.spectral_hellinger_distance(y, f), windows(lambda a, b: theirs.average_hellinger_distance(a.T, b.T)), 20, False),
        "correlation_dimension": (lambda y, f, q: ours.correlation_dimension(f), windows(lambda a, b: estimators.corr_dim(b[0], 3, lag=5, fit="poly")), 20, False),
        "lyapunov_from_data": (lambda y, f, q: ours.lyapunov_from_data(f), windows(lambda a, b: estimators.lyap_r(b[0], emb_dim=3, lag=5, min_tsep=40, trajectory_len=100, fit="poly")), 20, False),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, default=10_000)
    parser.add_argument("--dim", type=int, default=3)
    parser.add_argument("--horizon", type=int, default=512)
    parser.add_argument("--chunk", type=int, default=200, help="windows that are scored at a time, as the evaluation does")
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    flow = integrate_ensemble(get_system("Lorenz"), length=20_000 + args.horizon, points_per_period=50, transient=20).states[0]
    flow = (flow - flow.mean(1, keepdims=True)) / flow.std(1, keepdims=True)
    flow = np.concatenate([flow] * -(-args.dim // 3))[: args.dim]
    y, later = (np.stack([flow[:, s : s + args.horizon] for s in rng.integers(0, 20_000, args.chunk)]) for _ in range(2))
    f = y + np.minimum(0.01 * np.exp(np.arange(args.horizon) / 80), 1) * (later - y)  # slides from the truth to another moment of the flow
    q = f[..., None] + np.linspace(-1, 1, 9)
    total, without = {"ours": 0.0, "loop": 0.0}, {"ours": 0.0, "loop": 0.0}
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    for name, (batched, looped, count, agree) in cases(nolds()).items():
        few = slice(0, min(count, args.chunk))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            values = batched(y[few], f[few], q[few]), looped(y[few], f[few], q[few])
            assert not agree or np.allclose(*values, rtol=1e-6), name
            # interleaved, so that both meet the same neighbours on this machine
            times = [(seconds(lambda: batched(y, f, q), 1), seconds(lambda: looped(y[few], f[few], q[few]), 1)) for _ in range(3)]
        fast, slow = np.median(times, axis=0) * args.windows / np.array([args.chunk, len(y[few])])
        for sums in (total, without) if name != "state_space_divergence" else (total,):
            sums["ours"], sums["loop"] = sums["ours"] + fast, sums["loop"] + slow
        print(f"{name:32} {fast:8.2f} s at once {slow:9.2f} s in a loop  {slow / fast:7.1f} times as fast", flush=True)
    # dysts' estimate of the divergence is by far the slowest of the loop: what the rest gains is told apart
    print(f"{'all but state_space_divergence':32} {without['ours']:8.2f} s at once {without['loop']:9.2f} s in a loop  {without['loop'] / without['ours']:7.1f} times as fast")
    ratio = total["loop"] / total["ours"]
    print(f"{'all':32} {total['ours']:8.2f} s at once {total['loop']:9.2f} s in a loop  {ratio:7.1f} times as fast ({args.windows} windows of {args.dim} × {args.horizon}; the goal is 50)")


if __name__ == "__main__":
    main()
