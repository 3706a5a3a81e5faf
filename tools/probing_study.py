"""The trajectories and the runs behind nbs/80_embeddings.ipynb and nbs/81_koopman.ipynb: chronos-dysts probe, on every flow of the catalogue.

    nice -n 10 python tools/probing_study.py model_id base     # a few minutes on one core; killed at any moment, it goes on

`model_id` was fine-tuned on flows from `base`. Writes nbs/results/embeddings_*.parquet, koopman_*.parquet and probing.json (how they were made).
"""

import argparse
import json
import os
import shutil
import time
from pathlib import Path

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np
import torch
from rich.console import Console

from chronos_dysts import models
from chronos_dysts.evaluation import environment
from chronos_dysts.integration import integrate_ensemble, sample_initial_conditions
from chronos_dysts.probing.common import families_of, family_groups
from chronos_dysts.probing.embeddings import run_embeddings
from chronos_dysts.probing.koopman import run_koopman
from chronos_dysts.store import Trajectory, write_trajectory
from chronos_dysts.systems import catalogue, get_system, stream_key

RESULTS = Path(__file__).resolve().parent.parent / "nbs" / "results"
LENGTH, COUNT, SEED = 1280, 2, 0


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


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model_id")
    parser.add_argument("base")
    parser.add_argument("--folder", type=Path, default=Path("probing"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    console, began = Console(force_terminal=False, soft_wrap=True), time.process_time()
    trajectories(args.folder / "data" / "all", LENGTH, COUNT, lambda rng: float(np.exp(rng.uniform(np.log(15), np.log(100)))), catalogue())
    trajectories(args.folder / "data" / "long", 4096, 1, lambda rng: 40.0, one_a_family(24), settle=20.0)
    length = min(512, models.load(args.model_id).context_length)
    common = dict(model_id=args.model_id, data_dir=str(args.folder / "data"), seed=SEED)
    run_embeddings(common | dict(base=args.base, split="all", output_dir=str(args.folder / "embeddings"), context_length=length, n_windows=4, n_bootstrap=500), console)
    run_koopman(common | dict(split="long", output_dir=str(args.folder / "koopman"), context_length=256, stride=4, rank=16), console)
    for file in ("probes", "cka", "map"):
        shutil.copyfile(args.folder / "embeddings" / f"{file}.parquet", RESULTS / f"embeddings_{file}.parquet")
    for file in ("table", "modes", "forecasts"):
        shutil.copyfile(args.folder / "koopman" / f"{file}.parquet", RESULTS / f"koopman_{file}.parquet")
    made = models.load_made(args.model_id)
    record = {"model": Path(args.model_id).parent.name if Path(args.model_id).name == "final" else Path(args.model_id).name, "base": args.base, "made": {key: made.get(key) for key in ("model_id", "steps", "seed", "context_length")}, "trained_on": made.get("systems"),
              "embeddings": {"length": LENGTH, "trajectories": COUNT, "n_windows": 4, "context_length": length, "points_per_period": [15, 100]}, "koopman": {"flows": one_a_family(24), "context_length": 256, "stride": 4, "rank": 16}, "seed": SEED, **environment(), "seconds": round(time.process_time() - began)}
    RESULTS.joinpath("probing.json").write_text(json.dumps(record, indent=1, default=str) + "\n")


if __name__ == "__main__":
    main()
