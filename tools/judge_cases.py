"""How often the tests of `chronos_dysts.attractors` err, what they cost, and what survives a perturbation.

    python tools/judge_cases.py        # about ten minutes on one core

Writes nbs/results/attractor_tests.json: every test alone and both batteries on the trajectories of nbs/results/labelled_cases.json; the full battery
on every flow at its reference parameters; and the default battery on perturbed parameter sets of every flow at several scales.
Costs are processor time of one thread, for a trajectory that the test was asked about; the look ahead, which tests share, is a row of its own.
"""

import json
import os
import platform
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from chronos_dysts.attractors import DEFAULT_TESTS, FULL_TESTS, TESTS, look_ahead, validate
from chronos_dysts.generation import processor
from chronos_dysts.integration import integrate_ensemble, rough_tolerance, sample_initial_conditions
from chronos_dysts.store import write_json
from chronos_dysts.systems import System, catalogue, get_system, perturb_parameters, stream_key

RESULTS = Path(__file__).resolve().parent.parent / "nbs" / "results"
SEED, DRAWS, SCALES = 0, 32, (0.02, 0.05, 0.1, 0.25)


def ensembles():
    """The ensemble of each system with labelled cases, and the cases."""
    known = json.loads((RESULTS / "labelled_cases.json").read_text())
    for name, cases in known["cases"].items():
        system = System.from_json(known["systems"][name]) if name in known["systems"] else get_system(name)
        params = np.array([case["params"] for case in cases]).reshape(len(cases), -1)
        yield integrate_ensemble(system, params, np.array([case["ic"] for case in cases]), transient=known["transient"], length=known["length"]), cases


def judge_cases() -> dict:
    """Errors and costs of each test alone, and of the batteries by fate and reason."""
    names = ("look ahead", *TESTS)
    judged, seconds = Counter(), Counter()
    errors = {name: Counter() for name in names}
    batteries = {"default": Counter(), "full": Counter()}
    for ensemble, cases in ensembles():
        whole = ensemble.ok
        integrate_ensemble(ensemble.system, length=2, tolerance=rough_tolerance(ensemble.system))  # compiled before it is timed
        for name in names:
            if not whole.any() and name != "diverged":
                continue
            asked = np.ones(len(whole), bool) if name == "diverged" else whole
            began = time.process_time()
            passed = look_ahead(ensemble, asked).ok if name == "look ahead" else TESTS[name](ensemble, asked)[asked]
            seconds[name] += time.process_time() - began
            judged[name] += int(asked.sum())
            for case, good in zip((case for case, one in zip(cases, asked) if one), passed):
                errors[name][f"{case['half']} {case['label']} {'passed' if good else 'failed'}"] += 1
        for name, tests in (("default", DEFAULT_TESTS), ("full", FULL_TESTS)):
            for case, reason in zip(cases, validate(ensemble, tests).reason):
                batteries[name][f"{case['half']} | {case['label']} | {case['fate']} | {reason or 'accepted'}"] += 1
    return {"tests": {name: {**errors[name], "judged": judged[name], "ms": round(1e3 * seconds[name] / judged[name], 3)} for name in names},
            "batteries": batteries}


def judge_references() -> dict:
    """What the full battery says of every flow from its reference state: the reasons, by name, "" where it passes."""
    return {name: str(validate(integrate_ensemble(get_system(name), transient=20), FULL_TESTS).reason[0]) for name in catalogue()}


def survival() -> dict:
    """Reasons of rejection among perturbed parameter sets, by flow and scale."""
    table = {}
    for name in catalogue():
        system = get_system(name)
        for scale in SCALES:
            rng = np.random.default_rng(np.random.SeedSequence([SEED, stream_key("survival"), stream_key(name), int(1000 * scale)]))
            ensemble = integrate_ensemble(system, perturb_parameters(system, rng, scale, DRAWS), sample_initial_conditions(system, rng, DRAWS), transient=20)
            table.setdefault(name, {})[str(scale)] = validate(ensemble).counts()
        print(name, {scale: counts.get("accepted", 0) for scale, counts in table[name].items()}, flush=True)
    return table


def main():
    cases = judge_cases()
    print(json.dumps(cases, indent=1), flush=True)
    packages = {name: version(name) for name in ("dysts", "heyoka", "numpy", "statsmodels")}
    write_json({"seed": SEED, "processor": processor(), "versions": {"python": platform.python_version(), **packages}, **cases,
                "references": judge_references(), "draws": DRAWS, "survival": survival()}, RESULTS / "attractor_tests.json")


if __name__ == "__main__":
    main()
