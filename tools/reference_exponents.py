"""Lyapunov exponents of every flow and delay system at its reference parameters, and of published cases at theirs.

    python tools/reference_exponents.py                # about an hour on one core
    python tools/reference_exponents.py Lorenz Chua    # these again

Writes chronos_dysts/data/lyapunov.json (the flows) and nbs/results/reproduced_exponents.json (the cases of
nbs/results/published_exponents.csv). Whatever is there already for the same seed is kept: killed at any moment, it goes on.

Eight trajectories from random points of the attractor run for 250 periods, and eight more, until the standard error of the
largest exponent is below 1 % of it, four such rounds at least and eight at most. The standard errors come from the
spread of the trajectories, which are independent of each other. The method is that which `lyapunov_spectrum` chooses; twins, where it fails.
"""

import argparse
import csv
import json
import platform
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

from chronos_dysts import systems
from chronos_dysts.integration import sample_initial_conditions
from chronos_dysts.lyapunov import kaplan_yorke_dimension, lyapunov_spectrum
from chronos_dysts.store import write_json

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "chronos_dysts" / "data" / "lyapunov.json"
REPRODUCED = ROOT / "nbs" / "results" / "reproduced_exponents.json"
PUBLISHED = ROOT / "nbs" / "results" / "published_exponents.csv"
SEED, LANES, PERIODS, SETTLE, ROUNDS, PRECISION = 0, 8, 250, 20, (4, 8), 0.01
# Periods of a round for systems that are costly to integrate: stiff bursts, stirring by switching, sliding, many dimensions, long pasts
COSTLY = {"BelousovZhabotinsky": 25, "MacArthur": 25} | dict.fromkeys(("InteriorSquirmer", "BlinkingRotlet", "BlinkingVortex",
          "LidDrivenCavityFlow", "StickSlipOscillator", "CellularNeuralNetwork"), 50) | dict.fromkeys(("ExcitableCell", "Hopfield", "CellCycle"), 100) | \
    dict.fromkeys(("IkedaDelay", "PiecewiseCircuit", "ScrollDelay", "SprottDelay", "VossDelay"), 25)


def measure(system: systems.System, key: str, method: str = "auto") -> dict:
    """The spectrum of one system from independent trajectories; `key` names their random stream."""
    rng = np.random.default_rng(np.random.SeedSequence([SEED, systems.stream_key("reference exponents"), systems.stream_key(key)]))
    periods, found = COSTLY.get(system.name, PERIODS), []
    for round_ in range(ROUNDS[1]):
        starts = sample_initial_conditions(system, rng, LANES)
        spectrum = lyapunov_spectrum(system, ics=starts, periods=periods, settle=SETTLE, method=method)
        if not np.isfinite(spectrum.exponents).all():  # a tangent that grew a thousandfold in the shortest interval, as near a coordinate singularity
            if method == "twins":
                raise ArithmeticError(f"{system.name}: a trajectory diverges at its reference parameters")
            return measure(system, key, "twins")
        found.append(spectrum.exponents)
        values = np.concatenate(found)
        mean, error = values.mean(0), values.std(0, ddof=1) / np.sqrt(len(values))
        if round_ + 1 >= ROUNDS[0] and (error[0] < PRECISION * abs(mean[0]) or abs(mean[0]) * system.period < 1e-4):
            break
    # of a delay system the first exponents alone are known: enough for its dimension once their sum is negative
    dimension = None if len(mean) < system.dim or system.is_delayed and mean.sum() >= 0 else \
        round(float(kaplan_yorke_dimension(mean)), 4)
    return {"exponents": [float(f"{value:.6g}") for value in mean], "standard_errors": [float(f"{value:.2g}") for value in error],
            "kaplan_yorke_dimension": dimension,
            "method": spectrum.method, "trajectories": len(values), "periods": periods}


def provenance() -> dict:
    """What the numbers depend on."""
    packages = {name: version(name) for name in ("dysts", "heyoka", "numpy")}
    return {"seed": SEED, "settle": SETTLE, "versions": {"python": platform.python_version(), **packages}}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="systems to measure again (default: what is missing)")
    names = parser.parse_args().names
    delayed = systems.delay_systems()
    with PUBLISHED.open() as file:
        cases = {f"{row['system']} {row['parameters']}": row for row in csv.DictReader(file)}
    work = {TABLE: {name: systems.get_system(name) for name in (*systems.catalogue(), *delayed)},
            REPRODUCED: {key: systems.get_system(row["system"]).with_params(json.loads(row["parameters"]))
                         for key, row in cases.items() if row["parameters"] != "{}"}}
    for path, items in work.items():
        table = json.loads(path.read_text()) if path.exists() else {}
        known = table.get("systems", {}) if table.get("seed") == SEED else {}
        known = {key: value for key, value in known.items() if key in items}
        for key, system in items.items():
            if key in known and system.name not in names:
                continue
            begin = time.process_time()
            known[key] = measure(system, key)
            write_json({**provenance(), "systems": known}, path)
            print(f"{time.process_time() - begin:6.1f} s  {key}: {known[key]}", flush=True)


if __name__ == "__main__":
    main()
