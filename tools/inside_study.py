"""What the models at hand foresee, copy and attend to, and how their errors grow: the runs behind nbs/82_tokens.ipynb and nbs/83_error_growth.ipynb.

    nice -n 10 python tools/inside_study.py                          # all models; tools/forgetting.py has fine-tuned those of runs/inside
    nice -n 10 python tools/inside_study.py chronos-dysts-nano       # one, whose numbers take the place of those that were there; minutes on one core
    nice -n 10 python tools/inside_study.py chronos-dysts-nano --only tokens

Fine-tuned models are those of three trainings, which differ in their seed alone; numbers are means over these with 95 % intervals over families of flows (tokens) or over trajectories (error growth), and stand beside those of each training.
Writes nbs/results/tokens.json, error_growth.json and error_growth.parquet.
"""

import argparse
import json
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np
import pandas as pd
import torch
from forgetting import corpus
from rich.console import Console
from scipy.stats import spearmanr

from chronos_dysts import models
from chronos_dysts.baselines import ContextParroting
from chronos_dysts.evaluation import environment
from chronos_dysts.forecasting import Standardiser
from chronos_dysts.integration import integrate_ensemble
from chronos_dysts.lyapunov import reference_exponents
from chronos_dysts.probing.common import families_of, family_groups, group_interval, random_twin
from chronos_dysts.probing.error_growth import Integrator, bit_scaling, context_scaling, forecast_errors, precision_limits, twins, window_ends
from chronos_dysts.probing.tokens import RANKED, bin_counts, bin_usage, calibration_error, head_table, run_tokens
from chronos_dysts.protocols import TrajectorySpec
from chronos_dysts.store import open_store, write_atomically, write_json
from chronos_dysts.systems import get_system
from chronos_dysts.tokenizers import MeanScaleBins

RESULTS = Path(__file__).resolve().parent.parent / "nbs" / "results"
TRAININGS = (0, 1, 2)  # seeds
def tuned(name): return tuple(f"runs/inside/{name}-plain-{seed}/final" for seed in TRAININGS)


MODELS = {  # by the name that they have in the tables: the model of each training
    "t5, base": ("chronos-dysts-generic-t5",), "t5, fine-tuned": tuned("t5"), "bolt, base": ("chronos-dysts-generic-bolt",), "bolt, fine-tuned": tuned("bolt"),
    "chronos-2, fine-tuned": tuned("2"), "chronos-dysts-nano": ("chronos-dysts-nano",), "chronos-dysts-nano, untrained": ("runs/inside/untrained",)}
IN_TOKENS = [name for name in MODELS if name != "bolt, base"]
IN_ERROR_GROWTH = [name for name in MODELS if not name.startswith("t5") and not name.endswith("untrained")]
FLOWS, N_ICS, N_WINDOWS, LONGEST, HORIZON, BITS, SEED = ("Lorenz", "Rossler", "HyperRossler"), 8, 12, 16384, 30, (2, 3, 4, 5, 6, 8, 10, 12, 14), 7


def foreseen(name, folder, data):
    """What `probe tokens` finds of the models of a name, on one trajectory of each flow that was set aside; and the flows."""
    if name.endswith(", untrained"): models.save(random_twin(models.load(name.removesuffix(", untrained"))).model, MODELS[name][0], overwrite=True)
    parts, calibration, summaries = {"windows": [], "attention": [], "ablation": []}, [], []
    for seed, model_id in enumerate(MODELS[name]):
        where = folder / f"{name.replace(', ', '-')}-{seed}"
        shutil.rmtree(where, ignore_errors=True)
        summaries.append(run_tokens(dict(model_id=model_id, data_dir=str(data), output_dir=str(where), n_trajectories=1, n_windows=12, prediction_length=16, n_samples=4, context_length=None if "t5" in name else 256), Console(quiet=True))["summary"])
        for part, frames in parts.items():
            if (where / f"{part}.parquet").exists(): frames.append(pd.read_parquet(where / f"{part}.parquet").assign(seed=seed))
    rows = pd.concat(parts["windows"], ignore_index=True)
    rows["trajectory"] += " of " + rows["seed"].astype(str)  # the windows of each training by themselves
    group_of = family_groups(families_of(rows.system.unique()))
    numbers = {key: number(rows, group_of, lambda part, column=column: part[column].mean()) for key, column in (("overlap", "overlap"), ("with surrogates", "overlap_chance"), ("overlap of the truth", "overlap_of_truth"), ("of the truth with surrogates", "overlap_of_truth_chance"))}
    numbers["overlap beyond surrogates"] = number(rows, group_of, lambda part: (part.overlap - part.overlap_chance).mean())
    numbers["overlap beyond the truth's"] = number(rows, group_of, lambda part: (part.overlap - part.overlap_of_truth).mean())
    for key, column in (("calibration error, first step", "pit"), ("calibration error, last step", "pit_last")): numbers[key] = number(rows, group_of, lambda part, column=column: calibration_error(part[column]), by_seed=True)
    ranks = correlations(rows)
    for key, column in (("entropy against expansion", "own"), ("with shifted rates", "shifted"), ("beyond shifted rates", "beyond")): numbers[key] = number(ranks, group_of, lambda part, column=column: part[column].mean())
    entropy = rows.groupby(["trajectory", "window"])[["entropy", "expansion"]].mean().dropna().groupby("trajectory").rank(pct=True)
    told = {"trainings": len(MODELS[name]), "summary": summaries[0], "pit": np.histogram(rows.pit, 20, (0, 1), density=True)[0].round(3).tolist(), "entropy": entropy.groupby(pd.cut(entropy.expansion, np.linspace(0, 1, 9)), observed=True).mean().round(4).to_dict("list"), "numbers": numbers}
    if "t5" in name: numbers |= bins_of(MODELS[name][0], data, rows.system.unique(), group_of)
    if parts["attention"]:
        attention = [part[part["own"].isna()] for part in parts["attention"]]  # over time
        columns = ["attention", "head", "ratio", "low", "high", "after_match", "chance", "excess", "toeplitz", "blocks"]
        told["heads"] = head_table(pd.concat(attention, ignore_index=True), group_of)[columns].round(4).to_dict("list")  # a head is the same in all trainings: they began alike
        of_each = [head_table(part, group_of) for part in attention]
        told["attending"] = [[f"{row.attention} · {row.head}" for row in table[table["low"] > 1].itertuples()] for table in of_each]
        for key, column in (("Toeplitz score", "toeplitz"), ("block score", "blocks")): numbers[key] = number(pd.concat(attention, ignore_index=True), group_of, lambda part, column=column: part[column].mean())
        effects = pd.concat(parts["ablation"], ignore_index=True).pivot_table(index=["seed", "system", "trajectory"], columns="ablated", values=["error", "overlap"])
        arms = [arm for arm in effects["error"] if arm.startswith("others")]
        for measure in ("error", "overlap"):
            changes = {"the most parroting": effects[measure]["most parroting"] - effects[measure]["none"], "others": effects[measure][arms].mean(axis=1) - effects[measure]["none"]}
            changes["the most parroting rather than others"] = changes["the most parroting"] - changes["others"]
            for label, change in changes.items(): numbers[f"{measure} without {label}"] = number(change.rename("value").reset_index(), group_of, lambda part: part["value"].mean())
    return told, sorted(rows.system.unique())


def number(rows, group_of, statistic, by_seed=False):
    """[value, low, high, [value of each training]]: a statistic of all rows (`by_seed`: its mean over the trainings, where it is no mean of rows), with its interval over families."""
    seeds, of_seed = sorted(rows["seed"].unique()), rows["seed"].to_numpy()
    def over_all(index):
        some = rows.iloc[index]
        return float(np.mean([statistic(some[of_seed[index] == seed]) for seed in seeds]) if by_seed else statistic(some))
    value, low, high = group_interval(over_all, [group_of.get(name, name) for name in rows.system], n_bootstrap=500)
    return [round(x, 4) for x in (value, low, high)] + [[round(float(statistic(rows[of_seed == seed])), 4) for seed in seeds]]


def correlations(rows):
    """Of each trajectory and training: rank correlation of entropy and expansion rate over the windows, the same with the rates shifted by half a trajectory, and the difference."""
    means, found = rows.groupby(["seed", "system", "trajectory", "window"])[["entropy", "expansion"]].mean().dropna(), []
    for (seed, system, _), part in means.groupby(["seed", "system", "trajectory"]):
        if len(part) >= RANKED and part.expansion.std() > 0:
            own, shifted = (spearmanr(part.entropy, rates)[0] for rates in (part.expansion, np.roll(part.expansion, len(part) // 2)))
            found.append((seed, system, own, shifted, own - shifted))
    return pd.DataFrame(found, columns=["seed", "system", "own", "shifted", "beyond"])


def bins_of(model_id, data, systems, group_of):
    """Which bins of a T5 the contexts of the windows use: whatever it has learnt."""
    forecaster = models.load(model_id)
    bins, length = MeanScaleBins.from_config(forecaster.model.config.chronos_config), forecaster.context_length
    counts = []
    for name in systems:
        x = next(t for t in open_store(Path(data) / "test") if t.system == name).target.astype(float)
        windows = np.stack([x[:, end - length:end] for end in np.linspace(length, x.shape[1] - 16, 12).astype(int)])
        counts.append(bin_counts(bins, Standardiser.of(windows).apply(windows) if forecaster.standardise else windows))
    table = np.stack(counts)
    def told(key): return [*(round(x, 4) for x in group_interval(lambda rows: bin_usage(table[rows].sum(0))[key], [group_of.get(name, name) for name in systems], n_bootstrap=500)), []]
    return {"entropy of the bins (bits)": told("entropy"), "effective bins": told("effective bins")}


CURVES = []  # frames of what is written to error_growth.parquet


def keep(flow, forecaster, kind, x, errors, seed=-1):
    """Keep log errors (trajectory, window, x), in the mean over windows; `seed` of a training, -1 where there is none."""
    log = np.log(errors).mean(1)
    trajectory, k = np.divmod(np.arange(log.size), log.shape[1])
    CURVES.append(pd.DataFrame({"flow": flow, "forecaster": forecaster, "kind": kind, "seed": seed, "trajectory": trajectory, "x": np.asarray(x, float)[k], "log_error": log.ravel().round(4).astype(np.float32)}))


def growth_of(forecaster, trajectories, length):
    """Errors (trajectory, window, step) of forecasts from contexts of a length, two Lyapunov times ahead."""
    return np.stack([forecast_errors(forecaster, t.target, window_ends(t.length, LONGEST, 2 * HORIZON, N_WINDOWS), length, 2 * HORIZON) for t in trajectories])


def of_flow(flow, trajectories, parrot):
    """What is told of a flow without any model."""
    reference, dt = reference_exponents(flow.name), trajectories[0].dt
    told = {"exponent": reference.exponents[0], "dimension": reference.kaplan_yorke_dimension}
    told["twins"] = [float(x) for x in vars(twins(flow).rate()).values()][:3]
    told["lost"] = {label: [round(x, 3) for x in group_interval(lambda rows: float(np.median(horizon[rows])), np.arange(len(horizon)))] for label, s in precision_limits(flow, n_pairs=32).items() for horizon in [s.horizon() * s.exponent]}
    lengths = 2 ** np.arange(7, int(np.log2(LONGEST)) + 1)
    keep(flow.name, "parroting", "length", lengths, context_scaling(parrot, trajectories, lengths, HORIZON, N_WINDOWS, spacing=HORIZON))
    keep(flow.name, "equations", "bits", BITS, bit_scaling(Integrator(flow, dt), trajectories, BITS, LONGEST, HORIZON, N_WINDOWS))
    for length in (512, 4096, 16384): keep(flow.name, f"parroting, {length} points", "bits", BITS, bit_scaling(parrot, trajectories, BITS, length, HORIZON, N_WINDOWS))
    steps = np.arange(1, 2 * HORIZON + 1)
    for length in (256, LONGEST): keep(flow.name, f"parroting, {length} points", "growth", steps, growth_of(parrot, trajectories, length))
    for tolerance in (1e-9, 1e-6, 1e-3):
        made = integrate_ensemble(flow, ics=np.stack([t.ic for t in trajectories]), length=LONGEST + HORIZON * N_WINDOWS, dt=dt, tolerance=tolerance).states
        keep(flow.name, f"parroting, computed to {tolerance:.0e}", "length", (4096,), context_scaling(parrot, [replace(t, target=x) for t, x in zip(trajectories, made)], (4096,), HORIZON, N_WINDOWS, spacing=HORIZON))
    return told


def of_model(name, flow, trajectories):
    """Keep what is told of the models of a name on the trajectories of a flow."""
    for seed, model_id in enumerate(MODELS[name]):
        forecaster = models.load(model_id)
        reads = 2 ** np.arange(5 if forecaster.context_length < 512 else 7, int(np.log2(forecaster.context_length)) + 1)
        keep(flow.name, name, "length", reads, context_scaling(forecaster, trajectories, reads, HORIZON, N_WINDOWS, spacing=HORIZON), seed)
        keep(flow.name, name, "bits", BITS, bit_scaling(forecaster, trajectories, BITS, reads[-1], HORIZON, N_WINDOWS), seed)
        keep(flow.name, name, "growth", np.arange(1, 2 * HORIZON + 1), growth_of(forecaster, trajectories, reads[-1]), seed)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", help=f"of {'; '.join(MODELS)}; none: all, and what is told without a model")
    parser.add_argument("--only", choices=("tokens", "error_growth"))
    parser.add_argument("--corpus", type=Path, default=Path("corpora/inside"))
    parser.add_argument("--folder", type=Path, default=Path("runs/inside/tokens"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    console, asked = Console(force_terminal=False, soft_wrap=True), args.models or list(MODELS)
    for name in asked:
        if name not in MODELS:
            parser.error(f"{name!r} is none of {', '.join(map(repr, MODELS))}")
    def known(name): return json.loads((RESULTS / f"{name}.json").read_text()) if (RESULTS / f"{name}.json").exists() else {}
    if args.only != "error_growth":
        corpus(args.corpus, console)
        runs = known("tokens").get("runs", {})
        for name in asked:
            if name in IN_TOKENS:
                began = time.process_time()
                runs[name], systems = foreseen(name, args.folder, args.corpus)
                write_json({"runs": runs, "systems": systems, **environment()}, RESULTS / "tokens.json")
                console.print(f"tokens of {name}: {time.process_time() - began:.0f} s", highlight=False)
    if args.only != "tokens":
        flows, path = known("error_growth").get("flows", {}), RESULTS / "error_growth.parquet"
        for name in FLOWS:
            began, flow = time.process_time(), get_system(name)
            trajectories = TrajectorySpec((name,), n_ics=N_ICS, length=LONGEST + HORIZON * N_WINDOWS, points_per_lyapunov_time=30, seed=SEED).make(name)
            if not args.models or name not in flows or not path.exists():
                flows[name] = of_flow(flow, trajectories, ContextParroting(motif_length=1, exclude=HORIZON))
            for label in asked:
                if label in IN_ERROR_GROWTH:
                    of_model(label, flow, trajectories)
            console.print(f"error growth on {name}: {time.process_time() - began:.0f} s", highlight=False)
        rows = pd.concat(CURVES, ignore_index=True)
        if path.exists():  # what was made before stays until it is made again
            old, key = pd.read_parquet(path), ["flow", "forecaster"]
            rows = pd.concat([old[~old.set_index(key).index.isin(rows.set_index(key).index)], rows], ignore_index=True)
        rows = rows.sort_values(["flow", "forecaster", "kind", "seed", "trajectory", "x"], ignore_index=True)
        write_atomically(path, lambda temporary: rows.to_parquet(temporary, index=False))
        write_json({"flows": flows, "trajectories": N_ICS, "windows": N_WINDOWS, "seed": SEED, "trainings": {name: len(MODELS[name]) for name in IN_ERROR_GROWTH}, **environment()}, RESULTS / "error_growth.json")


if __name__ == "__main__":
    main()
