"""Does one archive give the same trajectories on another machine? nbs/results/reproduced.json.

    python tools/reproduce_archive.py there.npz           # on each of two machines: every system of nbs/results/archive.jsonl from its JSON alone
    python tools/reproduce_archive.py here.npz --compare there.npz
    python tools/reproduce_archive.py --otherwise                 # a sample, on this machine alone, by other instructions: nbs/results/reproduced_otherwise.json

What one processor rounds otherwise than another grows as chaos makes it grow. So the differences are shown after so many Lyapunov times, beside what a tolerance ten times as large does on one machine.

Where there is one machine only, other instructions stand for another: registers of four, two and one trajectory in the place of eight, and two integrators that share no code with heyoka, DOP853 of scipy and ours
in torch. The states are kept: a test integrates some of these systems on every machine that it runs on, and compares.
"""

import argparse
import json
import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np

from scipy.integrate import solve_ivp

from chronos_dysts.discovery import read_archive
from chronos_dysts.engines import taylor
from chronos_dysts.generation import processor
from chronos_dysts.integration import integrate_ensemble
from chronos_dysts.store import write_atomically, write_json
from chronos_dysts.systems import System

RESULTS = Path(__file__).resolve().parent.parent / "nbs" / "results"
TIMES, TOLERANCE = (0, 1, 2, 5, 10), 1e-12  # Lyapunov times
EARLY, EACH, SEED = (0.5, 1, 2), 3, 0  # Lyapunov times, before chaos has grown anything; systems of each kind


def states_of(tolerance, entry):
    """The states of one system at `TIMES`, from the state in its JSON, in deviations, (dim, time)."""
    system = System.from_json(entry.system.to_json())
    return integrate_ensemble(system, times=np.array(TIMES) / entry.exponents[0], tolerance=tolerance).states[0] / np.array(system.scale)[:, None]


def states(tolerance):
    """Those of all systems, by name."""
    entries = read_archive(RESULTS / "archive.jsonl")
    with ProcessPoolExecutor() as pool:
        return dict(zip((entry.name for entry in entries), pool.map(partial(states_of, tolerance), entries, chunksize=4)))


def by_scipy(system, times):
    """The states by DOP853 at 1e-13, (dim, time)."""
    field, p = system.field(), system.parameter_values
    solution = solve_ivp(lambda t, x: field(x, t, p), (0, times[-1]), system.ic, method="DOP853", rtol=1e-13, atol=1e-13 * np.array(system.scale), t_eval=times, max_step=system.period / 64)
    return solution.y


def otherwise():
    """Some systems of the archive, by kind, at `EARLY` Lyapunov times: their states, and how far those by other instructions are from them, in deviations."""
    entries, rows = read_archive(RESULTS / "archive.jsonl"), []
    for kind in sorted({entry.kind for entry in entries}):
        some = [entry for entry in entries if entry.kind == kind]
        rows += [some[k] for k in sorted(np.random.default_rng(SEED).choice(len(some), EACH, replace=False))]
    made = []
    for entry in rows:
        system, times = System.from_json(entry.system.to_json()), np.array(EARLY) / entry.exponents[0]
        scale = np.array(system.scale)[:, None]
        here = integrate_ensemble(system, times=times, tolerance=TOLERANCE).states[0]
        apart = lambda there: [float(f"{value:.2g}") for value in np.abs((there - here) / scale).max(0)]
        row = {"name": entry.name, "kind": entry.kind, "times": times.tolist(), "states": here.tolist(), "scipy": apart(by_scipy(system, times)),
               "torch": apart(integrate_ensemble(system, times=times, engine="torch", tolerance=TOLERANCE).states[0])}
        for lanes in (4, 2, 1):
            row[f"{lanes} abreast"] = apart(narrower(system, times, lanes))
        made.append(row)
        print(row["name"], {name: value for name, value in row.items() if isinstance(value, list) and name not in ("times", "states")}, flush=True)
    ways = ["scipy", "torch", "4 abreast", "2 abreast", "1 abreast"]
    largest = {way: dict(zip(map(str, EARLY), np.array([row[way] for row in made]).max(0).tolist())) for way in ways}
    print(json.dumps(largest, indent=1))
    write_json({"processor": processor(), "tolerance": TOLERANCE, "seed": SEED, "lyapunov_times": EARLY, "largest": largest, "systems": made}, RESULTS / "reproduced_otherwise.json")


def narrower(system, times, lanes):
    """The states by heyoka with registers of `lanes` trajectories."""
    usual, compiled = taylor._HeyokaIntegrator.lanes, taylor._compiled.__dict__
    taylor._HeyokaIntegrator.lanes = lanes
    compiled.clear()
    try:
        return integrate_ensemble(system, times=times, tolerance=TOLERANCE, engine="heyoka").states[0]
    finally:
        taylor._HeyokaIntegrator.lanes = usual
        compiled.clear()


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
    parser.add_argument("file", type=Path, nargs="?")
    parser.add_argument("--otherwise", action="store_true", help="by other instructions on this machine")
    parser.add_argument("--compare", type=Path, help="the file that another machine wrote")
    args = parser.parse_args()
    if args.otherwise:
        return otherwise()
    if args.file is None:
        parser.error("name the file for the states, or --otherwise")
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
