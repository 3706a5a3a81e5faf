"""What a certified fresh trajectory of each flow costs: milliseconds of one core, and the share of draws that is accepted.

    nice -n 5 python tools/fresh_costs.py          # two minutes on one core
    nice -n 5 python tools/fresh_costs.py Lorenz   # this flow again

Writes chronos_dysts/data/fresh_costs.json, flow by flow: killed at any moment, it goes on. As `chronos_dysts.fresh` makes them: 576 points, 100 a period, parameters 5 % off, a state near
the attractor, 20 periods of transient, the default tests. 64 draws, after 8 that compile the flow; what failed is paid by what passed. Processor time, so that other work on the machine matters little.
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

from chronos_dysts.attractors import validate
from chronos_dysts.generation import processor
from chronos_dysts.integration import integrate_ensemble, sample_initial_conditions
from chronos_dysts.store import write_json
from chronos_dysts.systems import catalogue, get_system, perturb_parameters, stream_key

PATH = Path(__file__).resolve().parent.parent / "chronos_dysts" / "data" / "fresh_costs.json"
SEED, DRAWS, LENGTH, PERTURBATION, TOLERANCE = 0, 64, 576, 0.05, 1e-9


def measure(name):
    system, rng = get_system(name), np.random.default_rng([SEED, stream_key("fresh costs"), stream_key(name)])
    try:
        attractor = sample_initial_conditions(system, rng, 256)
    except ValueError:
        return {"milliseconds": None, "accepted": 0.0}

    def make(count):
        params = perturb_parameters(system, rng, PERTURBATION, count)
        ics = attractor[rng.integers(256, size=count)] * (1 + 0.02 * rng.standard_normal((count, system.dim)))
        ensemble = integrate_ensemble(system, params, ics, length=LENGTH, transient=20, tolerance=TOLERANCE)
        return validate(ensemble).accepted.sum()

    make(8)
    began = time.process_time()
    accepted = sum(int(make(DRAWS // 2)) for _ in range(2))
    taken = time.process_time() - began
    return {"milliseconds": round(1000 * taken / accepted, 3) if accepted else None, "accepted": accepted / DRAWS}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("flows", nargs="*", help="measure these again; none: those that are missing")
    args = parser.parse_args()
    made = {"seed": SEED, "processor": processor(), "versions": {"python": platform.python_version()} | {name: version(name) for name in ("dysts", "heyoka", "numpy")}}
    flows = json.loads(PATH.read_text())["flows"] if PATH.exists() else {}
    for name in args.flows or [name for name in catalogue() if name not in flows]:
        flows[name] = measure(name)
        print(name, flows[name], flush=True)
        write_json(made | {"flows": flows}, PATH)


if __name__ == "__main__":
    main()
