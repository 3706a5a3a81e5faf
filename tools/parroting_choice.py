"""Is the parrot that chooses its motif length worse than those of fixed length, on any flow? For nbs/46_baselines.ipynb.

    python tools/parroting_choice.py [--seeds 0 1 2] [--windows 6] [--store]        # two minutes of one core a seed

All chaotic flows of the catalogue and the twenty of Panda, sampled with 20, 50 and 100 points a period: all coordinates, the first alone, and all with 5 % noise in the context.
512 points of context; 2, 16 and 128 steps ahead. The default of `ContextParroting` and the fixed lengths 3, 5 and 10 forecast the same windows, and it counts on how many flows and cases the default is worse
than the worst of the three: in the mean over the windows of a case or in the median, in MAE or in sMAPE. The rule has no fitted number; its form was looked for on trajectories of seed 11.
Shown for the flows that `split_systems(scheme="panda20")` trains and validates on, and for the others. `--store` writes nbs/results/parroting.json.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from chronos_dysts.baselines import MOTIF_LENGTHS, ContextParroting
from chronos_dysts.evaluation import environment
from chronos_dysts.forecasting import Standardiser
from chronos_dysts.metrics import mae, smape100, valid_prediction_time
from chronos_dysts.protocols import TrajectorySpec, chaotic_flows
from chronos_dysts.store import write_json
from chronos_dysts.systems import PANDA20, split_systems, stream_key

PATH = Path(__file__).resolve().parent.parent / "nbs" / "results" / "parroting.json"
RATES, CONTEXT, HORIZONS, NOISE = (20, 50, 100), 512, (2, 16, 128), 0.05
PARROTS = {f"D = {d}": ContextParroting(d) for d in MOTIF_LENGTHS} | {"default": ContextParroting()}


def cases(name, seed, windows):
    """What is asked of a flow: (label, contexts, truths), in units of the contexts."""
    x = TrajectorySpec((name,), length=6000, points_per_period=100, seed=seed).make(name)[0].target
    rng = np.random.default_rng([seed, stream_key("parroting"), stream_key(name)])
    for rate in RATES:
        sampled = x[:, :: 100 // rate]
        starts = np.linspace(0, sampled.shape[1] - CONTEXT - max(HORIZONS), windows).astype(int)
        cut = np.stack([sampled[:, s : s + CONTEXT + max(HORIZONS)] for s in starts])
        past, truth = np.split(cut, [CONTEXT], axis=-1)
        noisy = past + NOISE * past.std(-1, keepdims=True) * rng.normal(size=past.shape)
        for label, context, ahead in (("all coordinates", past, truth), ("one coordinate", past[:, :1], truth[:, :1]), ("5 % noise", noisy, truth)):
            units = Standardiser.of(context)
            yield f"{label}, {rate} points a period", units.apply(context), units.apply(ahead)


def scores(context, truth):
    """MAE, sMAPE, valid prediction time and whether the motif is shorter than the longest, of each parrot and window: (horizon, score, parrot, window)."""
    found = []
    for steps in HORIZONS:
        ahead, of_horizon = truth[..., :steps], []
        for parrot in PARROTS.values():
            forecast = parrot.forecast(context, steps).median
            of_horizon.append([mae(ahead, forecast).mean(-1), smape100(ahead, forecast).mean(-1), valid_prediction_time(ahead, forecast, np.ones(truth.shape[:2])), parrot.neighbours(context, steps)[1] < MOTIF_LENGTHS[-1]])
        found.append(np.swapaxes(np.array(of_horizon, dtype=float), 0, 1))
    return found


def summary(table):
    """What the rows (case, score, parrot, window) say of each parrot: means over cases, medians, and on how many cases it is worse than the worst fixed length."""
    lines, fixed = {}, len(MOTIF_LENGTHS)
    of_cases = np.stack([table[:, :2].mean(-1), np.median(table[:, :2], axis=-1)])  # (mean or median over windows, case, score, parrot)
    above = of_cases / np.maximum(of_cases[..., :fixed].max(-1, keepdims=True), 1e-12)
    for k, name in enumerate(PARROTS):
        own, over = table[:, :, k].mean(-1), above[..., k]
        lines[name] = {"mae": own[:, 0].mean(), "mae_median": np.median(own[:, 0]), "smape100": own[:, 1].mean(), "smape100_median": np.median(own[:, 1]), "vpt_steps": own[:, 2].mean(), "shorter": own[:, 3].mean(),
                       "worse": int((over > 1 + 1e-9).any((0, 2)).sum()), "most": over.max()}
    return {name: {key: value if key == "worse" else round(float(value), 5) for key, value in line.items()} for name, line in lines.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=(0, 1, 2))
    parser.add_argument("--windows", type=int, default=6, help="of a flow and case")
    parser.add_argument("--store", action="store_true", help="write nbs/results/parroting.json")
    args = parser.parse_args()
    split = split_systems(scheme="panda20")
    rows, flows, labels, left = [], [], [], []
    for seed in args.seeds:
        for name in sorted({*chaotic_flows(), *PANDA20}):
            try:
                asked = list(cases(name, seed, args.windows))
            except ValueError as error:
                left.append(f"{name}, seed {seed}")
                print(error)
                continue
            for label, context, truth in asked:
                rows.append(scores(context, truth))
                flows.append(name)
                labels.append(label)
    table, seen, labels = np.array(rows), np.isin(flows, [*split.train, *split.validation]), np.array(labels)
    result = {"halves": {half: {"flows": len({f for f, s in zip(flows, seen) if s == chosen}), "cases": int((seen == chosen).sum()),
                                "horizons": {str(steps): summary(table[seen == chosen, h]) for h, steps in enumerate(HORIZONS)}}
                         for half, chosen in (("families that panda20 trains on", True), ("other families", False))},
              "medians": {label: {name: round(float(np.median(table[labels == label, -1, 1, k].mean(-1))), 2) for k, name in enumerate(PARROTS)} for label in dict.fromkeys(labels.tolist())},
              "left_out": left, "seeds": list(args.seeds), "windows": args.windows, "context": CONTEXT}
    for half, part in result["halves"].items():
        print(f"{half}, {part['flows']} flows, {part['cases']} cases")
        for steps, parrots in part["horizons"].items():
            for name, line in parrots.items():
                print(f"  {steps:>3} steps, {name:8} MAE {line['mae']:.4f} (median {line['mae_median']:.4f}), sMAPE (0–100) {line['smape100']:.3f} (median {line['smape100_median']:.3f}), "
                      f"worse than the worst fixed length on {line['worse']} cases, {line['most']:.3f} times at most; a shorter motif in {line['shorter']:.2%} of the windows")
    for label, line in result["medians"].items():
        print(f"  {label:40}", ", ".join(f"{name} {value:.1f}" for name, value in line.items()))
    if args.store:
        made = environment()
        write_json(result | {key: made[key] for key in ("hardware", "python", "versions")}, PATH)


if __name__ == "__main__":
    main()
