"""What each augmentation does to the dynamics of 32 flows, at several strengths: the numbers behind nbs/studies/augmentations.ipynb.

    nice -n 5 python tools/augmentation_study.py          # about ten minutes on one core
    nice -n 5 python tools/augmentation_study.py Lorenz   # this flow again

Writes nbs/results/augmentation_study.json, flow by flow: killed at any moment, it goes on. The flows are of as many families, drawn with the seed from those whose largest exponent
is above 0.15 a period by the reference exponents. Each is integrated over 160 periods, 50 points a period, from a random state on its attractor, and every coordinate
standardised. An augmentation is drawn once for each flow. It is measured in two views: "given", the coordinates of the result at one time, and "delays", its first coordinate at seven times a quarter of a period apart,
which is what a univariate model has to go by. In each view:

* dimension: correlation dimension, Takens' estimator;
* exponent: the slope of the mean logarithm of the distance of nearest neighbours between a half and one and a half periods (Rosenstein et al. 1993), over the closer half of the pairs; per period;
* error: root mean squared error, in standard deviations, of the mean future of the three nearest neighbours half a period ahead, and the same for a phase surrogate of the result.

Neighbours in time closer than a period do not count. Beside that: the largest |value| in standard deviations; the distance between the distributions of the first and the second half (Kolmogorov and Smirnov, mean over
coordinates); and the Hellinger distance of each coordinate's spectrum to that of the nearest original coordinate. "again" is another trajectory of the flow: what the measures make of no change at all. "side by side" are the coordinates of both flows of a pair: what they make of the
product itself, which the projected skew sum projects.
"""

import argparse
import json
import os
import platform
import time
from importlib.metadata import version
from pathlib import Path

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np
import torch
from scipy.spatial import cKDTree
from scipy.stats import ks_2samp

from chronos_dysts import augmentations as aug
from chronos_dysts.generation import processor
from chronos_dysts.integration import integrate_ensemble, sample_initial_conditions
from chronos_dysts.lyapunov import reference_exponents
from chronos_dysts.metrics import correlation_dimension, spectral_hellinger_distance
from chronos_dysts.store import write_json
from chronos_dysts.systems import catalogue, get_system, stream_key

PATH = Path(__file__).resolve().parent.parent / "nbs" / "results" / "augmentation_study.json"
SEED, FLOWS, PERIODS, POINTS, LEAST = 0, 32, 160, 50, 0.15

# name, strength, augmentation; lags in periods
CONDITIONS = [
    ("RandomAffineTransform", "as many coordinates", aug.RandomAffineTransform()), ("RandomAffineTransform", "6 coordinates", aug.RandomAffineTransform(6)),
    ("RandomAffineTransform", "2 coordinates", aug.RandomAffineTransform(2)), ("RandomAffineTransform", "1 coordinate", aug.RandomAffineTransform(1)),
    *[("RandomConvexCombinationTransform", f"as many, alpha {alpha:g}", aug.RandomConvexCombinationTransform(None, alpha)) for alpha in (0.1, 0.6, 1, 3, 10)],
    ("RandomConvexCombinationTransform", "6, alpha 1", aug.RandomConvexCombinationTransform(6, 1)), ("RandomConvexCombinationTransform", "2, alpha 1", aug.RandomConvexCombinationTransform(2, 1)),
    ("RandomProjectedSkewTransform", "as many as both", aug.RandomProjectedSkewTransform()), ("RandomProjectedSkewTransform", "3 coordinates", aug.RandomProjectedSkewTransform(3)),
    *[("RandomTakensEmbedding", f"3 at a lag of {lag:g} period", aug.RandomTakensEmbedding(3, round(lag * POINTS), round(lag * POINTS))) for lag in (0.02, 0.1, 0.24)],
    ("RandomTakensEmbedding", "6 at a lag of 0.1 period", aug.RandomTakensEmbedding(6, round(0.1 * POINTS), round(0.1 * POINTS))),
    ("RandomDimSelection", "1 coordinate", aug.RandomDimSelection(1)), ("RandomDimSelection", "2 coordinates", aug.RandomDimSelection(2)),
    *[("RandomTimeRescale", f"factor {factor:g}", factor) for factor in (1.5, 2, 4)],
    ("RandomTimeReversal", "always", aug.RandomTimeReversal(1.0)),
    *[("ObservationNoise", f"scale {scale:g}", aug.ObservationNoise(scale)) for scale in (0.001, 0.01, 0.05, 0.2)],
    *[("RandomDrop", f"probability {p:g}", aug.RandomDrop(p)) for p in (0.1, 0.3)],
    ("RandomPhaseSurrogate", "always", aug.RandomPhaseSurrogate()), ("Standardize", "", aug.Standardize())]


def flows():
    """Names of the flows of the study, of one family each."""
    chosen, families = [], set()
    for name in np.random.default_rng([SEED, stream_key("augmentation study")]).permutation(catalogue()):
        system, name = get_system(str(name)), str(name)
        try:
            exponent = reference_exponents(name).exponents[0] * system.period
        except ValueError:
            continue
        if exponent > LEAST and not families & set(system.families) and len(chosen) < FLOWS:
            chosen.append(name)
            families |= set(system.families)
    return chosen


def trajectories(name, count=2):
    """Standardised trajectories (count, dim, time) of a flow, from different states on its attractor."""
    system = get_system(name)
    rng = np.random.default_rng([SEED, stream_key("augmentation study"), stream_key(name)])
    ensemble = integrate_ensemble(system, ics=sample_initial_conditions(system, rng, count), length=PERIODS * POINTS, points_per_period=POINTS, transient=10)
    return aug.standardise(torch.from_numpy(np.array(ensemble.observed())))[0].numpy()


def delays(x, lag):
    """Seven delays of a coordinate (time,): (7, time)."""
    return np.stack([x[k * lag:len(x) - (6 - k) * lag] for k in range(7)])


def neighbours(points, period, ahead):
    """Times of every fifth point, of its three nearest neighbours, and the distance to the nearest; those closer in time than a period do not count, and all have `ahead` steps to come."""
    times = np.arange(0, points.shape[1] - ahead, max(1, period // 10))
    library = points[:, times].T
    distance, index = cKDTree(library).query(library, k=2 * 10 + 3 + 3)
    close = np.abs(times[index] - times[:, None]) < period
    order = np.argsort(np.where(close, np.inf, distance), 1, kind="stable")[:, :3]
    return times, times[np.take_along_axis(index, order, 1)], np.take_along_axis(distance, order, 1)[:, 0]


def view(points, values, period):
    """Dimension and exponent of a set of states (dim, time), and the error of forecasts of `values` (k, time) from it."""
    times, near, distance = neighbours(points, period, 3 * period // 2 + 1)
    closer = (distance < np.median(distance)) & (distance > 0)
    steps = np.arange(period // 2, 3 * period // 2 + 1, max(1, period // 10))
    apart = np.linalg.norm(points[:, times[closer, None] + steps] - points[:, near[closer, :1] + steps], axis=0)
    growth = np.log(np.maximum(apart, 1e-12)).mean(0)
    ahead = period // 2
    forecast, truth = values[:, near + ahead].mean(-1), values[:, times + ahead]
    return {"dimension": float(correlation_dimension(points, theiler=period, points=1500)), "exponent": float(np.polyfit(steps / period, growth, 1)[0]),
            "error": float(np.sqrt(np.square(forecast - truth).mean() / np.square(values - values.mean(1, keepdims=True)).mean()))}


def filled(y):
    """Missing values by straight lines between their neighbours."""
    t = np.arange(y.shape[1])
    return np.stack([np.interp(t, t[np.isfinite(row)], row[np.isfinite(row)]) for row in y])


def measure(y, original, period):
    """All measures of a result (dim, time)."""
    y = filled(y)
    z = (y - y.mean(1, keepdims=True)) / y.std(1, keepdims=True)
    half, n = z.shape[1] // 2, min(z.shape[1], original.shape[1])
    surrogate = aug.RandomPhaseSurrogate()(torch.from_numpy(z)[None], np.random.default_rng(SEED))[0].numpy()
    made = {"largest": float(np.abs(z).max()), "halves": float(np.mean([ks_2samp(row[:half:5], row[half::5]).statistic for row in z])),
            "spectrum": float(np.mean([min(float(spectral_hellinger_distance(x[None, -n:], row[None, -n:])) for x in original) for row in z]))}
    lag = period // 4
    for name, states in (("given", lambda s: s), ("delays", lambda s: delays(s[0], lag))):
        values = (lambda s: s) if name == "given" else (lambda s: s[:1, 6 * lag:])
        made[name] = view(states(z), values(z), period)
        made[name]["surrogate"] = view(states(surrogate), values(surrogate), period)["error"]
    return made


def study(name, partner):
    """What all conditions make of one flow; the second of a pair is of the flow `partner`."""
    first, again = trajectories(name)
    second = trajectories(partner, 1)[0]
    period_given = reference_exponents(name).exponents[0] * get_system(name).period
    rows = [{"augmentation": "", "strength": "", **measure(first, first, POINTS)}, {"augmentation": "", "strength": "again", **measure(again, first, POINTS)},
            {"augmentation": "", "strength": "partner", **measure(second, second, POINTS)},
            {"augmentation": "", "strength": "side by side", **measure(np.concatenate([first, second]), np.concatenate([first, second]), POINTS)}]
    for kind, strength, augmentation in CONDITIONS:
        rng = np.random.default_rng([SEED, stream_key(name), stream_key(f"{kind} {strength}")])
        x, original, period = torch.from_numpy(first)[None], first, POINTS
        if kind == "RandomTimeRescale":
            factor = augmentation
            y = aug.RandomTimeRescale(factor).transform([x], np.array([[factor, 0.0]]))
            period = round(POINTS * factor)
        elif augmentation.n_items == 2:
            partner_x = torch.from_numpy(second)[None]
            y = augmentation.transform([x, partner_x], augmentation.draw(rng, 1, (x.shape[1], partner_x.shape[1])))
            original = np.concatenate([first, second])
        else:
            y = augmentation(x, rng)
        rows.append({"augmentation": kind, "strength": strength, **measure(y[0].numpy(), original, period)})
    return {"family": get_system(name).families[0], "dim": len(first), "partner": partner, "reference exponent": float(period_given), "rows": rows}


def rounded(value):
    """The same with four digits behind the point."""
    if isinstance(value, dict):
        return {name: rounded(item) for name, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, list) else round(value, 4) if isinstance(value, float) else value


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("flows", nargs="*", help="measure these again; none: those that are missing")
    args = parser.parse_args()
    names = flows()
    made = {"seed": SEED, "periods": PERIODS, "points_per_period": POINTS, "processor": processor(),
            "versions": {"python": platform.python_version()} | {name: version(name) for name in ("dysts", "heyoka", "numpy", "scipy", "torch")}}
    done = json.loads(PATH.read_text())["flows"] if PATH.exists() else {}
    for name in args.flows or [name for name in names if name not in done]:
        began = time.process_time()
        done[name] = rounded(study(name, names[(names.index(name) + 1) % len(names)]))
        done[name]["seconds"] = round(time.process_time() - began, 1)
        print(name, done[name]["seconds"], "s", flush=True)
        write_json(made | {"flows": {name: done[name] for name in names if name in done}}, PATH)


if __name__ == "__main__":
    main()
