"""The published test series with the default baselines, beside the published scores: nbs/results/benchmark.json, which nbs/72_benchmark.ipynb shows.

    python benchmarks/published.py    # fetches the wheel dysts==0.1 with pip where it is not in the cache; four minutes on one core; what is made is kept, part by part

How much the parrot's score hangs on the length of its motif. And how much of NVAR's score hangs on the contexts being free of noise: the multivariate series again, with noise of so many standard deviations added to what is seen and none to what is scored.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from scipy.stats import wilcoxon

from chronos_dysts import metrics
from chronos_dysts.baselines import ContextParroting, get_baseline
from chronos_dysts.benchmark import BenchmarkConfig, run_benchmark
from chronos_dysts.evaluation import Protocol, environment, evaluate
from chronos_dysts.protocols import PUBLISHED_SERIES, published_trajectories
from chronos_dysts.store import write_json
from chronos_dysts.systems import get_system

PATH = Path(__file__).resolve().parent.parent / "nbs" / "results" / "benchmark.json"


NOISE, SEED, LENGTHS = (0.0, 0.001, 0.01, 0.1), 0, (3, 5, 10, 20, 30)


def is_quadratic(name):
    """Is the field of a flow a polynomial of degree two at most? Then its third differences along every straight line vanish. None where it is not known: a flow that is not in the catalogue, with delays or with phases."""
    try:
        system = get_system(name)
        if system.is_delayed:
            return None
        rng = np.random.default_rng(SEED)
        start, along = rng.normal(size=(2, 20, system.dim))
        with np.errstate(all="ignore"):
            f = [np.array([system.vector_field(x + k * d) for x, d in zip(start, along)]) for k in range(4)]
        third = np.abs(f[3] - 3 * f[2] + 3 * f[1] - f[0])
        return bool(np.all(third <= 1e-8 * np.max(np.abs(f), axis=0).max()))
    except (ValueError, FloatingPointError):
        return None


def noise():
    """Median sMAPE200 of NVAR and the parrot on the multivariate series at each level of noise: over all systems, those with a quadratic field, and the others."""
    trajectories = published_trajectories("dysts-multivariate")
    kind = {t.system: is_quadratic(t.system) for t in trajectories}
    groups = {"all": list(kind), "quadratic": [n for n, k in kind.items() if k], "other": [n for n, k in kind.items() if k is False]}
    table = {"systems": {group: len(names) for group, names in groups.items()}, "median_smape200": {}}
    for name in ("nvar", "parroting"):
        forecaster, lines = get_baseline(name), {}
        for level in NOISE:
            scores = {}
            for t in trajectories:
                context, truth = t.target[:, :1000], t.target[:, 1000:1199]
                eps = np.random.default_rng([SEED, *t.system.encode()]).normal(size=context.shape)
                ahead = forecaster.forecast((context + level * context.std(-1, keepdims=True) * eps)[None], 200).median[0, :, :199]
                scores[t.system] = metrics.smape200(truth, ahead).mean()
            lines[str(level)] = {group: round(float(np.median([scores[n] for n in names])), 2) for group, names in groups.items()}
            print(name, level, lines[str(level)], flush=True)
        table["median_smape200"][name] = lines
    return table


def motif_lengths():
    """Of each series the median and the mean sMAPE200 of parrots of fixed length and of the default over the systems, and on how many systems each is better and worse than the default, with the p-value of Wilcoxon's test."""
    table = {}
    for series in PUBLISHED_SERIES:
        rows = evaluate({f"D = {d}": ContextParroting(d) for d in LENGTHS} | {"parroting": ContextParroting()}, published_trajectories(series), Protocol.named(series))
        scores = rows[rows["metric"] == "smape200"].pivot_table(index="system", columns="forecaster", values="value")
        table[series] = {}
        for name in scores:
            gain = scores["parroting"] - scores[name]
            table[series][name] = {"median": round(float(scores[name].median()), 2), "mean": round(float(scores[name].mean()), 2), "better": int((gain > 0).sum()), "worse": int((gain < 0).sum()), "p_value": round(float(wilcoxon(gain[gain != 0]).pvalue), 3) if gain.any() else None}
        print(series, table[series], flush=True)
    return table


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join((*PUBLISHED_SERIES, 'noise', 'motif_lengths'))}; none: all. The others stay as they are")
    args = parser.parse_args()
    kept, made = json.loads(PATH.read_text()) if PATH.exists() else {"tables": {}}, environment()
    about = {"seed": SEED, "versions": {name: made["versions"][name] for name in ("dysts", "numpy", "scipy")}, "python": made["python"]}
    for part in args.parts or (*PUBLISHED_SERIES, "noise", "motif_lengths"):
        began = time.perf_counter()
        if part in PUBLISHED_SERIES:
            with tempfile.TemporaryDirectory() as folder:
                table = run_benchmark(BenchmarkConfig(series=part, output_dir=f"{folder}/{part}", n_examples=0), Console(quiet=True))
            kept["tables"][part] = table.round(4).astype(object).where(table.notna(), None).to_dict("records")
            print(table.head(8).round(1).to_string(index=False))
        elif part in ("noise", "motif_lengths"):
            kept[part] = {"noise": noise, "motif_lengths": motif_lengths}[part]()
        else:
            parser.error(f"no part is called {part!r}")
        print(f"{part}: {time.perf_counter() - began:.0f} s", flush=True)
        write_json(kept | about, PATH)


if __name__ == "__main__":
    main()
