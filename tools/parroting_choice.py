"""Is the parrot that chooses its motif length worse than those of fixed length, on any flow? For nbs/46_baselines.ipynb.

    python tools/parroting_choice.py [--seed 0] [--windows 6] [--store]

All chaotic flows of the catalogue and the twenty of Panda, sampled with 20, 50 and 100 points a period: all coordinates, the first alone, and all with 5 % noise in the context.
512 points of context, 128 steps ahead. The default of `ContextParroting`, the least error on the held-back ends alone (`published=()`), and the fixed lengths 3, 5 and 10 forecast
the same windows; errors are means over the windows of a flow. The two shares that a choice has to win by were set on trajectories of the seeds 11 and 12 of the flows that
`split_systems(scheme="panda20")` trains and validates on; both halves are shown. `--store` writes nbs/results/parroting.json.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from chronos_dysts.baselines import PUBLISHED_LENGTHS, ContextParroting
from chronos_dysts.evaluation import environment
from chronos_dysts.forecasting import Standardiser
from chronos_dysts.metrics import mae, smape100, valid_prediction_time
from chronos_dysts.protocols import TrajectorySpec, chaotic_flows
from chronos_dysts.store import write_json
from chronos_dysts.systems import PANDA20, split_systems, stream_key

PATH = Path(__file__).resolve().parent.parent / "nbs" / "results" / "parroting.json"
RATES, CONTEXT, HORIZON, NOISE = (20, 50, 100), 512, 128, 0.05
PARROTS = {f"D = {d}": ContextParroting(d) for d in PUBLISHED_LENGTHS} | {"least error held back": ContextParroting(published=()), "default": ContextParroting()}


def cases(name, seed, windows):
    """What is asked of a flow: (label, contexts, truths), in units of the contexts."""
    x = TrajectorySpec((name,), length=6000, points_per_period=100, seed=seed).make(name)[0].target
    rng = np.random.default_rng([seed, stream_key("parroting"), stream_key(name)])
    for rate in RATES:
        sampled = x[:, :: 100 // rate]
        starts = np.linspace(0, sampled.shape[1] - CONTEXT - HORIZON, windows).astype(int)
        cut = np.stack([sampled[:, s : s + CONTEXT + HORIZON] for s in starts])
        past, truth = np.split(cut, [CONTEXT], axis=-1)
        noisy = past + NOISE * past.std(-1, keepdims=True) * rng.normal(size=past.shape)
        for label, context, ahead in (("all coordinates", past, truth), ("one coordinate", past[:, :1], truth[:, :1]), ("5 % noise", noisy, truth)):
            units = Standardiser.of(context)
            yield f"{label}, {rate} points a period", units.apply(context), units.apply(ahead)


def scores(context, truth):
    """MAE, sMAPE and valid prediction time of each parrot, means over the windows."""
    forecasts = [parrot.forecast(context, HORIZON).median for parrot in PARROTS.values()]
    return [[float(np.mean(measure(f))) for f in forecasts] for measure in (lambda f: mae(truth, f), lambda f: smape100(truth, f), lambda f: valid_prediction_time(truth, f, np.ones(truth.shape[:2])))]


def summary(table):
    """What the rows (case, metric, parrot) say: means, medians, and on which share of flows and cases a choice is worse than the worst fixed length."""
    lines, worst = {}, table[:, :2, : len(PUBLISHED_LENGTHS)].max(-1)
    for k, name in enumerate(PARROTS):
        own = table[:, :, k]
        lines[name] = {"mae": own[:, 0].mean(), "mae_median": np.median(own[:, 0]), "smape100": own[:, 1].mean(), "smape100_median": np.median(own[:, 1]), "vpt_steps": own[:, 2].mean(),
                       "worse_mae": np.mean(own[:, 0] > worst[:, 0]), "worse_smape100": np.mean(own[:, 1] > worst[:, 1]), "most": np.max(own[:, 0] / worst[:, 0])}
    return {name: {key: round(float(value), 4) for key, value in line.items()} for name, line in lines.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--windows", type=int, default=6, help="of a flow and case")
    parser.add_argument("--store", action="store_true", help="write nbs/results/parroting.json")
    args = parser.parse_args()
    split = split_systems(scheme="panda20")
    set_on = {*split.train, *split.validation}
    rows, flows, labels, left = [], [], [], []
    for name in sorted({*chaotic_flows(), *PANDA20}):
        try:
            asked = list(cases(name, args.seed, args.windows))
        except ValueError as error:
            left.append(name)
            print(error)
            continue
        for label, context, truth in asked:
            rows.append(scores(context, truth))
            flows.append(name)
            labels.append(label)
    table, seen, labels = np.array(rows), np.isin(flows, list(set_on)), np.array(labels)
    result = {"halves": {half: {"flows": len({f for f, s in zip(flows, seen) if s == chosen}), "parrots": summary(table[seen == chosen])} for half, chosen in (("set on these families", True), ("other families", False))},
              "cases": {label: {name: round(float(np.median(table[labels == label, 1, k])), 2) for k, name in enumerate(PARROTS)} for label in dict.fromkeys(labels.tolist())},
              "left_out": left, "seed": args.seed, "windows": args.windows, "context": CONTEXT, "horizon": HORIZON}
    for half, part in result["halves"].items():
        print(f"{half}, {part['flows']} flows")
        for name, line in part["parrots"].items():
            print(f"  {name:22} MAE {line['mae']:.4f} (median {line['mae_median']:.3f}), sMAPE (0–100) {line['smape100']:.2f} (median {line['smape100_median']:.2f}), worse than the worst fixed length on {line['worse_mae']:.1%} (MAE), {line['worse_smape100']:.1%} (sMAPE), {line['most']:.2f} times at most")
    for label, line in result["cases"].items():
        print(f"  {label:40}", ", ".join(f"{name} {value:.1f}" for name, value in line.items()))
    if args.store:
        made = environment()
        write_json(result | {key: made[key] for key in ("hardware", "python", "versions")}, PATH)


if __name__ == "__main__":
    main()
