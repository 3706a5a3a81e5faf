"""The trajectories and the runs behind nbs/80_embeddings.ipynb and nbs/81_koopman.ipynb: chronos-dysts probe, on every flow of the catalogue.

    nice -n 10 python tools/probing_study.py chronos-dysts-nano                                                   # some minutes on one core; killed at any moment, it goes on
    nice -n 10 python tools/probing_study.py runs/inside/bolt-plain-0/final --base chronos-dysts-generic-bolt      # a model and what it was fine-tuned from

Each call looks into one model and puts it in the place of what was known of it, beside the others: nbs/results/embeddings_*.parquet and koopman_*.parquet (column `model`) and probing.json (how they were made). `--drop` takes a model out.
"""

import argparse
import json
import os
import time
from pathlib import Path

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np
import pandas as pd
import torch
from rich.console import Console

from chronos_dysts import models
from chronos_dysts.evaluation import environment
from chronos_dysts.integration import integrate_ensemble, sample_initial_conditions
from chronos_dysts.probing.common import families_of, family_groups
from chronos_dysts.probing.embeddings import run_embeddings
from chronos_dysts.probing.koopman import run_koopman
from chronos_dysts.store import Trajectory, write_atomically, write_json, write_trajectory
from chronos_dysts.systems import catalogue, get_system, stream_key

RESULTS = Path(__file__).resolve().parent.parent / "nbs" / "results"
LENGTH, COUNT, SEED = 1280, 2, 0
FLOWS = 24  # whose states are followed
EMBEDDINGS = dict(context_length=256, n_windows=4, n_bootstrap=500)  # all models read windows of the same length
KOOPMAN = dict(context_length=256, stride=8, rank=16, horizons=(1, 2, 8, 16))  # five steps of an operator in a period
FILES = {"embeddings": ("probes", "cka", "map"), "koopman": ("table", "modes", "forecasts")}


def trajectories(folder, length, count, rates, names, settle=5.0):
    """Write `count` trajectories of each flow at its reference parameters, from random states, sampled at rates(generator) points a period."""
    for name in names:
        done = folder / name / f"{count - 1}_T-{length}.arrow"
        if done.exists():
            continue
        rng, system = np.random.default_rng(np.random.SeedSequence([SEED, stream_key(name)])), get_system(name)
        states = sample_initial_conditions(system, rng, count)
        for k, state in enumerate(states):
            rate = rates(rng)
            made = integrate_ensemble(system, ics=state[None], length=length, points_per_period=rate, transient=settle)
            values = made.observed()[0]
            if made.ok[0] and (values.std(1) > 1e-9).all():
                item = Trajectory(values.astype(np.float32), f"{name}/{k}", name, system.params, made.states[0, :, 0], system.period / rate, system.period, SEED)
                write_trajectory(item, folder / name / f"{k}_T-{length}.arrow")


def one_a_family(count):
    """The first flow of each of `count` families, drawn in a fixed random order."""
    groups = family_groups(families_of(catalogue()))
    firsts = {}
    for name in catalogue():
        firsts.setdefault(groups[name], name)
    order = np.random.default_rng(SEED).permutation(len(firsts))
    return sorted(np.array(list(firsts.values()))[order[:count]].tolist())


def merge(file, name, frame):
    """Put the rows of a model (None: nothing) in the place of what is known of it."""
    path = RESULTS / f"{file}.parquet"
    known = pd.read_parquet(path) if path.exists() else pd.DataFrame()
    parts = [known[known["model"] != name]] if "model" in known else []
    parts += [] if frame is None else [frame.assign(model=name)]
    table = pd.concat(parts, ignore_index=True).sort_values("model", kind="stable", ignore_index=True)
    write_atomically(path, lambda temporary: table.to_parquet(temporary, index=False))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model_id")
    parser.add_argument("--base", help="what it was fine-tuned from")
    parser.add_argument("--folder", type=Path, default=Path("runs/probing"))
    parser.add_argument("--only", choices=tuple(FILES), help="one of the two")
    parser.add_argument("--drop", action="store_true", help="take the model of this name out of the results instead")
    args = parser.parse_args()
    torch.set_num_threads(1)
    console, began = Console(force_terminal=False, soft_wrap=True), time.process_time()
    record = json.loads((RESULTS / "probing.json").read_text()) if (RESULTS / "probing.json").exists() else {}
    found = record.get("models", {})
    name = Path(args.model_id).parent.name if Path(args.model_id).name == "final" else Path(args.model_id).name
    tables = {f"{part}_{file}": None for part, files in FILES.items() for file in files if args.only in (None, part)}
    if args.drop:
        found.pop(name, None)
    else:
        trajectories(args.folder / "data" / "all", LENGTH, COUNT, lambda rng: float(np.exp(rng.uniform(np.log(15), np.log(100)))), catalogue())
        trajectories(args.folder / "data" / "long", 4096, 1, lambda rng: 40.0, one_a_family(FLOWS), settle=20.0)
        common = dict(model_id=args.model_id, data_dir=str(args.folder / "data"), seed=SEED)
        commands = {"embeddings": lambda: run_embeddings(common | EMBEDDINGS | dict(base=args.base, split="all", output_dir=str(args.folder / name / "embeddings")), console),
                    "koopman": lambda: run_koopman(common | KOOPMAN | dict(split="long", systems=one_a_family(FLOWS), output_dir=str(args.folder / name / "koopman")), console)}
        told = {part: command()["summary"] for part, command in commands.items() if args.only in (None, part)}
        for key in tables:
            part, file = key.split("_")
            tables[key] = pd.read_parquet(args.folder / name / part / f"{file}.parquet")
        made = models.load_made(args.model_id)
        found[name] = {"base": args.base, "made": {key: made.get(key) for key in ("model_id", "steps", "seed", "context_length")}, "trained_on": sorted(set(made.get("systems") or ()) & set(catalogue())),
                       "weights": sum(p.numel() for p in models.load_model(args.model_id).parameters()), "summary": found.get(name, {}).get("summary", {}) | told, "seconds": round(time.process_time() - began)}
    for key, table in tables.items():
        merge(key, name, table)
    write_json({"models": dict(sorted(found.items())), "embeddings": EMBEDDINGS | {"length": LENGTH, "trajectories": COUNT, "points_per_period": [15, 100]}, "koopman": KOOPMAN | {"flows": one_a_family(FLOWS), "points_per_period": 40}, "seed": SEED, **environment()}, RESULTS / "probing.json")


if __name__ == "__main__":
    main()
