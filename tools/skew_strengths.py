"""What coupling does to a response: `python tools/skew_strengths.py [nbs/results/skew_products.json]`.

For a sample of pairs of training flows, every kind of coupling and a row of strengths: does the trajectory stay, is the response chaotic by itself (conditional Lyapunov
exponent), and how far is what is observed from either founder (divergence in state space, distance of spectra, dimension; the first three coordinates, standardised).
"""

import json
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np  # noqa: E402

from chronos_dysts.attractors import is_whole, keeps_moving  # noqa: E402
from chronos_dysts.discovery import DiscoveryConfig, contraction  # noqa: E402
from chronos_dysts.generation import processor  # noqa: E402
from chronos_dysts.integration import integrate_ensemble  # noqa: E402
from chronos_dysts.lyapunov import lyapunov_spectrum  # noqa: E402
from chronos_dysts.metrics import correlation_dimension, spectral_hellinger_distance, state_space_divergence  # noqa: E402
from chronos_dysts.skew import KINDS, Coupling, skew_product  # noqa: E402
from chronos_dysts.store import write_json  # noqa: E402

SEED, PAIRS = 0, 20
STRENGTHS = [0.0, 0.03, 0.1, 0.2, 0.4, 0.7, 1.0, 1.5]
SHARES = [0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 1.0]  # of a replacement
LENGTH, POINTS, TRANSIENT, PERIODS = 4096, 32, 100, 60


def standard(x):
    return (x[..., :3, :] - x[..., :3, :].mean(-1, keepdims=True)) / x[..., :3, :].std(-1, keepdims=True)


def alone(system, rng):
    """Two trajectories of a founder, standardised."""
    ics = np.array(system.ic) + 1e-3 * np.array(system.scale) * rng.normal(size=(2, system.dim))
    ensemble = integrate_ensemble(system, ics=ics, length=LENGTH, points_per_period=POINTS, transient=TRANSIENT)
    return standard(ensemble.observed()) if ensemble.ok.all() else None


def measure(driver, response, kind, normalisation, rng, seed):
    values = SHARES if kind == "replacement" else STRENGTHS
    system = skew_product(driver, response, Coupling(kind, 0.5, normalisation), seed=seed)
    params = np.repeat(system.parameter_values[None], len(values), 0)
    params[:, system.parameter_names.index("strength")] = values
    ensemble = integrate_ensemble(system, params, length=LENGTH, points_per_period=POINTS, transient=TRANSIENT)
    whole = is_whole(ensemble, np.ones(len(values), bool))
    moving = keeps_moving(ensemble, whole) & (contraction(ensemble) * system.period < 100)
    rows = [{"driver": driver.name, "response": response.name, "kind": kind, "normalisation": normalisation, "strength": value, "diverged": bool(~w), "settled": bool(w and not m)}
            for value, w, m in zip(values, whole, moving)]
    lanes = np.flatnonzero(moving)
    if not len(lanes):
        return rows
    mine = [name for name in system.variables if name.startswith("b_")]
    conditional = lyapunov_spectrum(system, params[lanes], ensemble.last_states[lanes], periods=PERIODS, settle=10, directions=1, variables=mine)
    founders = [alone(founder, rng) for founder in (driver, response)]
    seen = standard(ensemble.observed())
    for lane, exponent, error in zip(lanes, conditional.exponents[:, 0], conditional.standard_errors[:, 0]):
        rows[lane] |= {"conditional": exponent * system.period, "error": error * system.period, "dimension": correlation_dimension(seen[lane], points=1000)}
        for role, own in zip(("driver", "response"), founders):
            if own is not None and own.shape[1] == seen.shape[1]:
                rows[lane] |= {f"divergence_{role}": state_space_divergence(own[0], seen[lane], bins=12), f"spectrum_{role}": spectral_hellinger_distance(own[0], seen[lane]),
                               f"dimension_{role}": correlation_dimension(own[0], points=1000)}
        if founders[1] is not None:
            rows[lane] |= {"divergence_none": state_space_divergence(founders[1][0], founders[1][1], bins=12),
                           "spectrum_none": spectral_hellinger_distance(founders[1][0], founders[1][1])}
    return rows


def main(path="nbs/results/skew_products.json"):
    founders = [founder for founder in DiscoveryConfig(seed=SEED).chosen_founders() if founder.dim <= 4]
    rng, rows, began = np.random.default_rng(SEED), [], time.process_time()
    for k in range(PAIRS):
        driver, response = (founders[i] for i in rng.choice(len(founders), 2, replace=False))
        for kind in KINDS:
            for normalisation in ("flow", "amplitude") if kind in ("flow", "state") else ("flow",):
                try:
                    rows += measure(driver, response, kind, normalisation, np.random.default_rng([SEED, k]), seed=k)
                except ValueError as error:
                    rows.append({"driver": driver.name, "response": response.name, "kind": kind, "normalisation": normalisation, "refused": str(error)})
        print(f"{k + 1}/{PAIRS} {driver.name} -> {response.name}", file=sys.stderr, flush=True)
        rounded = [{key: round(float(value), 4) if isinstance(value, float) else value for key, value in row.items()} for row in rows]
        setting = {"seed": SEED, "pairs": k + 1, "length": LENGTH, "points_per_period": POINTS, "transient": TRANSIENT, "periods": PERIODS, "processor": processor(),
                   "cpu_seconds": round(time.process_time() - began)}
        write_json({"setting": setting, "rows": json.loads(json.dumps(rounded).replace("NaN", "null"))}, path)


if __name__ == "__main__":
    main(*sys.argv[1:])
