"""What a fresh trajectory of each flow costs: milliseconds of one core for one that is integrated and accepted.

    nice -n 5 python tools/fresh_costs.py          # two minutes on one core
    nice -n 5 python tools/fresh_costs.py Lorenz   # this flow again

Writes chronos_dysts/data/fresh_costs.json, flow by flow: killed at any moment, it goes on. As `chronos_dysts.fresh` makes siblings: 576 points, 100 a period, parameters 5 % off, a state near the attractor, 20 periods of
transient, the tests that look at the trajectory itself, and twins over 30 periods; the look ahead of the default tests, over 300 periods, comes once for every four and is not in it. 32 draws, after 8 that compile the flow;
what failed is paid by what passed. Processor time, so that other work on the machine matters little.
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

from chronos_dysts.fresh import FreshTrajectories, _attractor, _sibling_tests
from chronos_dysts.generation import processor
from chronos_dysts.store import write_json
from chronos_dysts.systems import catalogue, perturb_parameters, stream_key

PATH = Path(__file__).resolve().parent.parent / "chronos_dysts" / "data" / "fresh_costs.json"
SEED, LENGTH, DRAWS = 0, 576, 32


def measure(name):
    recipe = FreshTrajectories([name], LENGTH, SEED).recipe
    system, rng, attractor = recipe.values[0], np.random.default_rng([SEED, stream_key("fresh costs"), stream_key(name)]), _attractor(recipe.systems[0], SEED)
    if attractor is None:
        return None

    def make(count):
        params = perturb_parameters(system, rng, recipe.perturbation, count)
        return len(recipe._certified(system, params, recipe._moved(attractor[rng.integers(len(attractor), size=count)], rng), _sibling_tests(recipe.tests))[0])

    make(8)
    began = time.process_time()
    accepted = make(DRAWS)
    return round(1000 * (time.process_time() - began) / accepted, 3) if accepted else None


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
