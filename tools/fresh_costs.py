"""What a fresh trajectory of each flow costs: milliseconds of one core for one that is integrated and accepted.

    nice -n 5 python tools/fresh_costs.py          # two minutes on one core
    nice -n 5 python tools/fresh_costs.py Lorenz   # this flow again

Writes chronos_dysts/data/fresh_costs.json, flow by flow: killed at any moment, it goes on. A whole unit of `chronos_dysts.fresh` at its defaults, 128 trajectories of 576 points, after one
that compiles the flow: whatever is integrated for it, look ahead and what is rejected included, is shared by those that it holds. Processor time, so that other work on the machine matters little.
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

from chronos_dysts.fresh import UNIT, FreshTrajectories
from chronos_dysts.generation import processor
from chronos_dysts.store import write_json
from chronos_dysts.systems import catalogue

PATH = Path(__file__).resolve().parent.parent / "chronos_dysts" / "data" / "fresh_costs.json"
SEED, LENGTH = 0, 576


def measure(name):
    recipe = FreshTrajectories([name], LENGTH, SEED).recipe
    try:
        recipe.unit(0)
    except ValueError:  # nothing passes
        return None
    began = time.process_time()
    recipe.unit(1)
    return round(1000 * (time.process_time() - began) / UNIT, 3)


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
