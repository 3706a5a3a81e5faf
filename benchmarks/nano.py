"""How long a forecast of chronos-dysts-nano takes beside Chronos-Bolt-tiny and Chronos-T5-tiny: nbs/results/nano_speed.json.

    python benchmarks/nano.py        # two minutes on one core

A forecast of 512 steps, by its median, of 64 windows of three channels and 512 points; processor time of one thread, the models in turn, the median of some rounds. The others have random weights of the published geometry, which take as
long. A T5 draws one path, its cheapest answer, and of fewer windows, for its sake. The goal is 20 ms a window.
"""

import argparse
import os
import platform
import statistics
import sys
import time
from pathlib import Path

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np
import torch

from chronos_dysts import models
from chronos_dysts.generation import processor
from chronos_dysts.integration import integrate_ensemble, sample_initial_conditions
from chronos_dysts.store import write_json
from chronos_dysts.systems import get_system

RESULTS = Path(__file__).resolve().parent.parent / "nbs" / "results" / "nano_speed.json"
WINDOWS, CONTEXT, STEPS, GOAL = 64, 512, 512, 20.0
OTHERS = {"chronos-bolt-tiny": ("chronos-bolt", "median", WINDOWS), "chronos-t5-tiny": ("chronos-t5", "greedy", 8)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    lorenz = get_system("Lorenz")
    states = sample_initial_conditions(lorenz, np.random.default_rng(0), WINDOWS)
    context = integrate_ensemble(lorenz, ics=states, length=CONTEXT, points_per_period=100).observed()
    runs = {"chronos-dysts-nano": (models.load("chronos-dysts-nano"), WINDOWS)}
    runs |= {name: (models.forecaster(models.build(family, "tiny", context_length=CONTEXT), name, rollout=rollout), count) for name, (family, rollout, count) in OTHERS.items()}
    seconds = {name: [] for name in runs}
    for name, (forecaster, count) in runs.items(): forecaster.forecast(context[:2], STEPS)
    for _ in range(args.repeat):
        for name, (forecaster, count) in runs.items():
            began = time.process_time()
            forecaster.forecast(context[:count], STEPS)
            seconds[name].append((time.process_time() - began) / count)
    each = {name: round(1000 * statistics.median(values), 2) for name, values in seconds.items()}
    write_json({"steps": STEPS, "context": CONTEXT, "windows": WINDOWS, "channels": 3, "milliseconds_per_window": each, "windows_of_each": {name: count for name, (_, count) in runs.items()}, "repeat": args.repeat, "goal": GOAL,
                "load": round(os.getloadavg()[0], 1), "processor": processor(), "python": platform.python_version(), "versions": models.versions()}, RESULTS)
    nano = each["chronos-dysts-nano"]
    print(", ".join(f"{name} {value:.1f} ms a window ({value / nano:.1f}×)" for name, value in each.items()) + f"; the goal is {GOAL:.0f} ms; load {os.getloadavg()[0]:.1f}")
    return 0 if nano < GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
