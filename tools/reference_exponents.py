"""Lyapunov exponents of every flow and delay system at its reference parameters, and of published cases at theirs.

    python tools/reference_exponents.py                # half an hour on one core
    python tools/reference_exponents.py Lorenz Chua    # these again

Writes chronos_dysts/data/lyapunov.json (the flows) and nbs/results/reproduced_exponents.json (the cases of
nbs/results/published_exponents.csv). Whatever is there already for the same seed is kept: killed at any moment, it goes on.

Thirty-two trajectories from states a thousandth of a deviation around the reference run for 250 periods, after 30 of transient and 20 in which the
frames turn. The standard errors come from the spread of the trajectories, which are independent of each other by then. The method is that which
`lyapunov_spectrum` chooses; twins, where fewer of them fail. Trajectories that escape do not count.
"""

import argparse
import csv
import json
import platform
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np

from chronos_dysts import systems
from chronos_dysts.integration import integrate_ensemble
from chronos_dysts.lyapunov import kaplan_yorke_dimension, lyapunov_spectrum
from chronos_dysts.store import write_json

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "chronos_dysts" / "data" / "lyapunov.json"
REPRODUCED = ROOT / "nbs" / "results" / "reproduced_exponents.json"
PUBLISHED = ROOT / "nbs" / "results" / "published_exponents.csv"
SEED, TRAJECTORIES, TRANSIENT, PERIODS, SETTLE = 0, 32, 30, 250, 20
# Periods for systems that are costly to integrate: stiff bursts, stirring by switching, sliding, many dimensions, long pasts
COSTLY = {"BelousovZhabotinsky": 25, "MacArthur": 25} | dict.fromkeys(("InteriorSquirmer", "BlinkingRotlet", "BlinkingVortex",
          "LidDrivenCavityFlow", "StickSlipOscillator", "CellularNeuralNetwork"), 50) | dict.fromkeys(("ExcitableCell", "Hopfield", "CellCycle"), 100) | \
    dict.fromkeys(("IkedaDelay", "PiecewiseCircuit", "ScrollDelay", "SprottDelay", "VossDelay"), 25)

# and of those that wander between regions for thousands of periods
SLOW = dict.fromkeys(("SprottA", "NoseHoover", "HyperRossler"), 2000)


def measure(system: systems.System, key: str) -> dict:
    """The spectrum of one system from independent trajectories; `key` names their random stream."""
    rng = np.random.default_rng(np.random.SeedSequence([SEED, systems.stream_key("reference exponents"), systems.stream_key(key)]))
    periods = SLOW.get(system.name) or COSTLY.get(system.name, PERIODS)
    # neighbours of the reference state, which soon have nothing in common; points of one trajectory would share its slow motions
    near = np.array(system.ic) + 1e-3 * np.array(system.scale or np.ones(system.dim)) * rng.standard_normal((TRAJECTORIES, system.dim))
    settled = integrate_ensemble(system, ics=near, length=1, transient=TRANSIENT)
    spectra = []
    for method in ("auto", "twins"):
        spectra.append(lyapunov_spectrum(system, ics=settled.last_states, periods=periods, settle=SETTLE, method=method, start=float(settled.times[-1])))
        if np.isfinite(spectra[-1].exponents).all():
            break
    # a trajectory may escape; and a tangent may grow a thousandfold in the shortest interval, as near a coordinate singularity, where twins do not
    whole = [np.isfinite(spectrum.exponents).all(1) for spectrum in spectra]
    best = int(np.argmax([rows.sum() for rows in whole]))
    spectrum, values = spectra[best], spectra[best].exponents[whole[best]]
    if len(values) < TRAJECTORIES // 4:
        raise ArithmeticError(f"{key}: {TRAJECTORIES - len(values)} of {TRAJECTORIES} trajectories escape at the reference parameters")
    mean, error = values.mean(0), values.std(0, ddof=1) / np.sqrt(len(values))
    # of a delay system the first exponents alone are known: enough for its dimension once their sum is negative
    dimension = None if len(mean) < system.dim or system.is_delayed and mean.sum() >= 0 else \
        round(float(kaplan_yorke_dimension(mean)), 4)
    return {"exponents": [float(f"{value:.6g}") for value in mean], "standard_errors": [float(f"{value:.2g}") for value in error],
            "kaplan_yorke_dimension": dimension,
            "method": spectrum.method, "trajectories": len(values), "periods": periods}


def published_case(row: dict) -> systems.System:
    """The system of a row of the published cases, at its parameters and, where that matters, from its initial state."""
    system = systems.get_system(row["system"]).with_params(json.loads(row["parameters"]))
    return replace(system, ic=tuple(map(float, json.loads(row["ic"])))) if row["ic"] else system


def provenance() -> dict:
    """What the numbers depend on."""
    packages = {name: version(name) for name in ("dysts", "heyoka", "numpy")}
    return {"seed": SEED, "transient": TRANSIENT, "settle": SETTLE, "versions": {"python": platform.python_version(), **packages}}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="systems to measure again (default: what is missing)")
    names = parser.parse_args().names
    delayed = systems.delay_systems()
    with PUBLISHED.open() as file:
        cases = {" ".join(filter(None, (row["system"], row["parameters"], row["ic"]))): row for row in csv.DictReader(file)}
    work = {TABLE: {name: systems.get_system(name) for name in (*systems.catalogue(), *delayed)},
            REPRODUCED: {key: published_case(row) for key, row in cases.items() if row["parameters"] != "{}" or row["ic"]}}
    for path, items in work.items():
        table = json.loads(path.read_text()) if path.exists() else {}
        known = table.get("systems", {}) if table.get("seed") == SEED and table.get("transient") == TRANSIENT else {}
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
