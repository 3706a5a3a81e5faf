"""How does the error on flows of families never seen fall with the number of families in the training set, and with the number of trajectories of each?

    nice -n 10 python tools/generalisation_study.py            # about seven minutes of one core; killed at any moment, it goes on

One flow stands for each family, the one whose trajectories cost least. 30 families, drawn once, are set aside to judge on; from the others each seed draws an order, and the first N of it are what a run trains on: sets are nested within a seed.
Two arms, each run with the same base, steps, batch and schedule, and nothing chosen by looking at any score:
families: N = 1, 2, 4, … 32, of each `TOTAL` / N trajectories, so that the number of trajectories is the same too;
trajectories: the first `FIXED` families of the order, of each 1, 4 and 16.
Training flows have perturbed parameters and pass all tests of `generate`; test flows have their reference parameters, for which the Lyapunov exponents are known, and their trajectories need only stay finite and keep moving: of conservative flows some lie on regular islands. Beside the scores stands what might predict them: exponents, dimension, spectral entropy, and the distance of each test flow from each training flow, between mean pooled states of the base's encoder and between autocorrelations.
Writes nbs/results/generalisation.json, run by run.
"""

import argparse
import json
import os
import time
from pathlib import Path

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np
import torch
from rich.console import Console

from chronos_dysts import models
from chronos_dysts.attractors import EVALUATION_TESTS
from chronos_dysts.baselines import get_baseline
from chronos_dysts.evaluation import Protocol, environment, evaluate
from chronos_dysts.fresh import fresh_costs
from chronos_dysts.generation import generate
from chronos_dysts.lyapunov import reference_exponents
from chronos_dysts.plots import power_spectrum
from chronos_dysts.probing.common import families_of, family_groups, layers, states
from chronos_dysts.probing.embeddings import autocorrelation_features, pool, spread_windows
from chronos_dysts.store import open_store, write_json
from chronos_dysts.systems import catalogue, get_system, stream_key
from chronos_dysts.training import train

RESULTS = Path(__file__).resolve().parent.parent / "nbs" / "results" / "generalisation.json"
BASE = "chronos-dysts-generic-bolt"
SEED, SEEDS, HELD_OUT = 0, (0, 1, 2, 3, 4), 30
NUMBERS, TOTAL = (1, 2, 4, 8, 16, 32), 32  # families; trajectories of all of them
FIXED, EACH = 8, (1, 4, 16)  # families; trajectories of each
STEPS, ROWS, MOST = 400, 32, 100.0  # milliseconds for a trajectory of a flow that takes part
PROTOCOL = Protocol(context_length=256, prediction_length=64, horizons=(16, 64), n_windows=3, metrics=("smape100", "mae", "vpt_periods"), seed=0)


def one_a_family() -> list[str]:
    """Of each family the flow that costs least, of those that cost at most `MOST` and are chaotic at their reference parameters beyond doubt; by name."""
    costs, groups, cheapest = fresh_costs(), family_groups(families_of(catalogue())), {}
    for name in sorted(catalogue(), key=lambda name: (costs[name], name)):
        known = reference_exponents(name)
        if costs[name] <= MOST and known.exponents[0] > 3 * known.standard_errors[0]: cheapest.setdefault(groups[name], name)
    return sorted(cheapest.values())


def order(names: list[str], purpose: str, seed: int) -> list[str]:
    """The names in a random order."""
    return np.random.default_rng(np.random.SeedSequence([seed, stream_key(f"generalisation: {purpose}")])).permutation(sorted(names)).tolist()


def scores(forecaster, trajectories) -> dict[str, list[float]]:
    """Means over the windows of each system, the systems by name; keys are metric@horizon."""
    rows = evaluate({"it": forecaster}, trajectories, PROTOCOL)
    means = rows.groupby(["metric", "horizon", "system"])["value"].mean()
    return {f"{metric}@{horizon}": [round(value, 4) for value in part.droplevel([0, 1]).sort_index()] for (metric, horizon), part in means.groupby(level=[0, 1])}


def spectral_entropy(x: np.ndarray) -> float:
    """Of the power spectrum of (dim, time), as a share of that of white noise."""
    _, share = power_spectrum(x)
    return float(-(share * np.log(np.maximum(share, 1e-300))).sum() / np.log(len(share)))


def described(test) -> dict[str, list]:
    """What might predict a gain, of each test system by name."""
    known = {name: reference_exponents(name) for name in sorted({t.system for t in test})}
    rate = [float(known[name].exponents[0] * get_system(name).period) for name in known]
    entropy = [np.mean([spectral_entropy(t.target) for t in test if t.system == name]) for name in known]
    return {"lyapunov": np.round(rate, 4).tolist(), "dimension": [None if (d := known[name].kaplan_yorke_dimension) is None or not np.isfinite(d) else round(float(d), 4) for name in known],
            "variables": [get_system(name).dim for name in known], "entropy": np.round(entropy, 4).tolist()}


def spread(points: np.ndarray, others: np.ndarray) -> list[list[float]]:
    """Distances (n, m) of points (n, width) from others (m, width), in standard deviations over all of them, root mean square over the columns."""
    unit = np.concatenate([points, others]).std(0)
    a, b = (item[:, unit > 1e-9 * unit.max()] / unit[unit > 1e-9 * unit.max()] for item in (points, others))
    return np.round(np.sqrt(np.square(a[:, None] - b[None]).mean(-1)), 4).tolist()


def distances(test, trained) -> dict[str, list]:
    """Distances of the test systems from those that may be trained on, both by name: in the states of the base, and in autocorrelations."""
    base, sides = models.load(BASE), []
    for side in (test, trained):
        windows, found = spread_windows(side, PROTOCOL.context_length, 4), {}
        for rows in windows.batches(0, len(windows), 64):
            x = windows.values(rows)
            state = states(base, x, layers(base)[-1:], pool)[layers(base)[-1]].numpy()
            for row, vector, other in zip(rows, state, np.concatenate([autocorrelation_features(x[i:i + 1]) for i in range(len(x))])):
                found.setdefault(windows.table.system.iloc[row], []).append((vector, other))
        sides.append([[np.mean([pair[k] for pair in found[name]], 0) for name in sorted(found)] for k in (0, 1)])
    return {name: spread(np.stack(sides[0][k]), np.stack(sides[1][k])) for k, name in enumerate(("embedding", "autocorrelation"))}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpora", type=Path, default=Path("corpora/generalisation"))
    parser.add_argument("--runs", type=Path, default=Path("runs/generalisation"))
    parser.add_argument("--seeds", nargs="*", type=int, default=list(SEEDS))
    args = parser.parse_args()
    torch.set_num_threads(1)
    console, names = Console(force_terminal=False, soft_wrap=True), one_a_family()
    held_out = sorted(order(names, "held out", SEED)[:HELD_OUT])
    common = dict(length=1024, points_per_period=100, workers=1, seed=SEED)
    generate(dict(data_dir=str(args.corpora / "test"), split="test", systems=held_out, n_params=1, n_ics=4, perturbation=0.0, tests=list(EVALUATION_TESTS)) | common, console)
    generate(dict(data_dir=str(args.corpora / "train"), split="train", systems=[name for name in names if name not in held_out], n_params=TOTAL) | common, console)
    test, store = open_store(args.corpora / "test" / "test"), open_store(args.corpora / "train" / "train")
    files = {name: [path for path, t in zip(store.paths, store) if t.system == name] for name in sorted(set(store.systems))}
    complete = [name for name, there in files.items() if len(there) >= TOTAL]
    done = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"runs": {}, "scores": {}}
    done |= {"base": BASE, "test": sorted({t.system for t in test}), "pool": complete, "steps": STEPS, "rows": ROWS, "trajectories": {"families arm": TOTAL, "test": len(test)},
             "protocol": {"context_length": PROTOCOL.context_length, "prediction_length": PROTOCOL.prediction_length, "n_windows": PROTOCOL.n_windows, "seed": PROTOCOL.seed}}
    if "predictors" not in done:
        done["predictors"] = described(test)
        done["distances"] = distances(test, [t for name in complete for t in open_store(args.corpora / "train" / "train", [name])[:4]])
    for name in ("persistence", "mean", "parroting", "base"):
        if name not in done["scores"]: done["scores"][name] = scores(models.load(BASE) if name == "base" else get_baseline(name), test)
    write_json(done | environment(), RESULTS)
    for seed in args.seeds:
        drawn = order(complete, "families", seed)
        wanted = [(number, TOTAL // number) for number in NUMBERS] + [(FIXED, each) for each in EACH if FIXED * each != TOTAL]
        for number, each in wanted:
            name, began = f"{number}x{each}-{seed}", time.process_time()
            if name in done["runs"] and name in done["scores"]: continue
            data = args.runs / "data" / name
            for system in drawn[:number]:  # a data set of links
                for file in files[system][:each]:
                    link = data / "train" / system / file.name
                    link.parent.mkdir(parents=True, exist_ok=True)
                    if not link.exists(): link.symlink_to(file.resolve())
            result = train(dict(model_id=BASE, data_dir=str(data), output_dir=str(args.runs), run_name=name, seed=seed, context_length=PROTOCOL.context_length, prediction_length=PROTOCOL.prediction_length, average=0.98, validation=dict(every=0),
                                train=dict(max_steps=STEPS, save_steps=10_000, logging_steps=100, per_device_train_batch_size=ROWS, learning_rate=5e-3)), console)
            done["runs"].setdefault(name, {"families": drawn[:number], "each": each, "seed": seed, "seconds": round(time.process_time() - began, 1) if result.samples_per_second else None, "losses": result.losses})
            done["scores"][name] = scores(models.load(result.directory), test)
            write_json(done | environment(), RESULTS)
            console.print(f"{name}: sMAPE {np.mean(done['scores'][name]['smape100@64']):.2f}", highlight=False)


if __name__ == "__main__":
    main()
