"""What a certified fresh trajectory of each flow costs: milliseconds of one core.

    nice -n 5 python tools/fresh_costs.py          # five minutes on one core
    nice -n 5 python tools/fresh_costs.py Lorenz   # this flow again

Writes chronos_dysts/data/fresh_costs.json, flow by flow: killed at any moment, it goes on. A unit of `chronos_dysts.fresh` at its default settings, 128 trajectories of 576 points, after eight draws that compile the
flow; where these cost more than a quarter of a second each, they alone. None where a unit is not filled: the flow is hardly ever chaotic near its reference parameters. Processor time, so that other work on
the machine matters little.
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

from chronos_dysts.fresh import UNIT, FreshTrajectories, _attractor
from chronos_dysts.generation import processor
from chronos_dysts.store import write_json
from chronos_dysts.systems import catalogue, perturb_parameters

PATH = Path(__file__).resolve().parent.parent / "chronos_dysts" / "data" / "fresh_costs.json"
SEED, LENGTH, LONGEST = 0, 576, 0.25


def measure(name):
    recipe = FreshTrajectories([name], LENGTH, SEED).recipe
    system, rng = recipe.values[0], np.random.default_rng(SEED)
    try:
        for _ in range(2):  # the first compiles
            began, ics = time.process_time(), np.repeat(np.array(system.ic)[None], 8, 0)
            accepted = len(recipe._certified(system, perturb_parameters(system, rng, recipe.perturbation, 8), ics, recipe.tests)[0])
            taken = (time.process_time() - began) / max(accepted, 1)
        if taken < LONGEST:
            _attractor(recipe.systems[0], SEED)
            began = time.process_time()
            recipe.unit(0)
            taken = (time.process_time() - began) / UNIT
    except ValueError:
        return None
    return round(1000 * taken, 3)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("flows", nargs="*", help="measure these again; none: those that are missing")
    args = parser.parse_args()
    made = {"seed": SEED, "processor": processor(), "versions": {"python": platform.python_version()} | {name: version(name) for name in ("dysts", "heyoka", "numpy")}}
    costs = json.loads(PATH.read_text())["milliseconds"] if PATH.exists() else {}
    for name in args.flows or [name for name in catalogue() if name not in costs]:
        costs[name] = measure(name)
        print(name, costs[name], flush=True)
        write_json(made | {"milliseconds": costs}, PATH)


if __name__ == "__main__":
    main()
