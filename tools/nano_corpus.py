"""What `chronos-dysts train experiment=nano` learns from: corpora/nano, at many sampling rates.

    nice -n 10 python tools/nano_corpus.py       # some minutes on one core; killed at any moment, it goes on
    chronos-dysts train experiment=nano

Training side: the flows that the split `panda20` leaves to train on, and those systems of nbs/results/nano_systems.jsonl: bred by `chronos-dysts discover`, they descend from no other founders. Validation
side: the split's validation flows. The twenty flows of `panda20` and their families are on neither. Each shard has one system at one rate, log-uniform between 10 and 120 points a period.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np

from chronos_dysts import attractors
from chronos_dysts.attractors import DEFAULT_TESTS, validate
from chronos_dysts.generation import processor, read_systems
from chronos_dysts.integration import integrate_ensemble, sample_initial_conditions
from chronos_dysts.store import Trajectory, write_json, write_trajectory
from chronos_dysts.systems import PANDA20, get_system, perturb_parameters, split_systems, stream_key

BRED_SYSTEMS = Path(__file__).resolve().parent.parent / "nbs" / "results" / "nano_systems.jsonl"
SEED, LENGTH, RATES, PERTURBATION, TOLERANCE, TRANSIENT = 0, 1152, (10.0, 120.0), 0.05, 1e-9, 20
# shards of each system, and trajectories tried for each
FLOWS, BRED, VALIDATED = (8, 32), (2, 16), (6, 16)
SECONDS = 20  # a system that has taken so long gets no further shard
AHEAD = {attractors.lasts, attractors.is_chaotic, attractors.stays_the_same, attractors.has_broad_spectrum, attractors.passes_zero_one, attractors.is_stationary, attractors.has_positive_exponent}
# of the usual tests those that look at the trajectory itself: what is not chaotic has to be forecast as well
TESTS = {name: test for name, test in DEFAULT_TESTS.items() if test not in AHEAD}


def families(names):
    return {family for name in names for family in get_system(name).families}


def systems():
    """The systems of either side, with the shards and the trajectories of each."""
    split = split_systems(scheme="panda20")
    others = families(split.validation) | families(split.test) | families(PANDA20)
    train = [(get_system(name), *FLOWS) for name in split.train] + [(system, *BRED) for system in read_systems(BRED_SYSTEMS)]
    assert not others & {family for system, *_ in train for family in system.families}
    return {"train": train, "validation": [(get_system(name), *VALIDATED) for name in split.validation]}


def shard(system, number, count):
    """Trajectories of one system at one rate."""
    rng = np.random.default_rng(np.random.SeedSequence([SEED, stream_key("nano corpus"), stream_key(system.name), number]))
    rate = float(RATES[0] * (RATES[1] / RATES[0]) ** rng.random())
    ics = sample_initial_conditions(system, rng, count)
    params = perturb_parameters(system, rng, PERTURBATION if number else 0.0, count)
    ensemble = integrate_ensemble(system, params, ics, length=LENGTH, points_per_period=rate, transient=TRANSIENT, tolerance=TOLERANCE)
    kept = np.flatnonzero(validate(ensemble, TESTS).accepted)
    observed = ensemble.observed()
    return [Trajectory(observed[k].astype(np.float32), f"{system.name}/{number}.{k}", system.name, system.with_params(ensemble.params[k]).params, ensemble.first_states[k].ravel(), system.period / rate, system.period, SEED) for k in kept]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, default=Path("corpora/nano"))
    args = parser.parse_args()
    began, counts = time.process_time(), {}
    for side, entries in systems().items():
        for system, shards, count in entries:
            start, made = time.process_time(), counts.setdefault(side, {}).setdefault(system.name, 0)
            for number in range(shards):
                path = args.data_dir / side / system.name / f"{number}_T-{LENGTH}.arrow"
                if not path.exists():
                    if time.process_time() - start > SECONDS:
                        break
                    try:
                        found = shard(system, number, count)
                    except ValueError as error:
                        print(f"{system.name}: {error}", file=sys.stderr, flush=True)
                        continue
                    if not found:
                        continue
                    write_trajectory(found, path)
                    made += len(found)
            counts[side][system.name] = made
        print(f"{side}: {sum(counts[side].values())} trajectories of {sum(map(bool, counts[side].values()))} systems made, {time.process_time() - began:.0f} s of the processor", flush=True)
    write_json({"seed": SEED, "length": LENGTH, "points_per_period": RATES, "perturbation": PERTURBATION, "trajectories_made": counts, "tests": list(TESTS), "processor": processor()}, args.data_dir / "corpus.json")


if __name__ == "__main__":
    main()
