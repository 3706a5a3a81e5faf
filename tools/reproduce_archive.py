"""Does one archive give the same trajectories on another machine? nbs/results/reproduced.json.

    python tools/reproduce_archive.py there.npz           # on each of two machines: every system of nbs/results/archive.jsonl from its JSON alone
    python tools/reproduce_archive.py here.npz --compare there.npz

What one processor rounds otherwise than another grows as chaos makes it grow. So the differences are shown after so many Lyapunov times, beside what a tolerance ten times as large does on one machine.
"""

import argparse
import json
import os
from pathlib import Path

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np

from chronos_dysts.discovery import read_archive
from chronos_dysts.generation import processor
from chronos_dysts.integration import integrate_ensemble
from chronos_dysts.store import write_atomically, write_json
from chronos_dysts.systems import System

RESULTS = Path(__file__).resolve().parent.parent / "nbs" / "results"
TIMES, TOLERANCE = (0, 1, 2, 5, 10), 1e-12  # Lyapunov times


def states(tolerance):
    """The states of all systems at `TIMES`, from the state in their JSON, by name."""
    found = {}
    for entry in read_archive(RESULTS / "archive.jsonl"):
        system = System.from_json(entry.system.to_json())
        found[entry.name] = integrate_ensemble(system, times=np.array(TIMES) / entry.exponents[0], tolerance=tolerance).states[0] / np.array(system.scale)[:, None]
    return found


def save(path, found):
    def write(temporary):
        with temporary.open("wb") as file:
            np.savez_compressed(file, _processor=processor(), **found)
    write_atomically(path, write)


def differences(first, second):
    """Quantiles over systems of the largest difference of a coordinate, in deviations, at each of `TIMES`."""
    errors = np.array([np.abs(first[name] - second[name]).max(0) for name in first])
    return {f"{time} Lyapunov times": dict(zip(("median", "q90", "largest"), (float(f"{value:.2g}") for value in np.quantile(errors[:, k], (0.5, 0.9, 1.0))))) for k, time in enumerate(TIMES)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--compare", type=Path, help="the file that another machine wrote")
    args = parser.parse_args()
    if not args.file.exists():
        save(args.file, states(TOLERANCE))
    here = dict(np.load(args.file))
    if args.compare is None:
        print(f"{args.file}: {len(here) - 1} systems, {here['_processor']}")
        return
    there = dict(np.load(args.compare))
    machines = [str(found.pop("_processor")) for found in (here, there)]
    if here.keys() != there.keys():
        raise SystemExit("error: the two files have other systems: both have to be of the same nbs/results/archive.jsonl")
    result = {"processors": machines, "systems": len(here), "tolerance": TOLERANCE, "same_bytes": sum(np.array_equal(here[name], there[name]) for name in here),
              "between_machines": differences(here, there), "between_tolerances": differences(here, states(10 * TOLERANCE))}
    print(json.dumps(result, indent=1))
    write_json(result, RESULTS / "reproduced.json")


if __name__ == "__main__":
    main()
