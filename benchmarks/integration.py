"""Trajectories a second: ours against dysts' own `make_trajectory` and against scipy on dysts' compiled right-hand side.

    python benchmarks/integration.py [--flows Lorenz,Rossler,…|all] [--trajectories 64] [--json FILE]

One process, one thread. A trajectory is 1,024 points, 100 a period, from the reference state at parameters 1 % off. Each side is
judged by its largest error over the first period against scipy's DOP853 at 1e-13, in standard deviations of the coordinate. dysts and
scipy are measured on few trajectories and scaled; compiling (ours, and numba's) is reported apart. Where a flow's right-hand side is
not compiled by dysts, scipy runs on the plain one and the row says so.
"""

import argparse
import json
import os
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import dysts.flows
import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.integrate import solve_ivp

from chronos_dysts.integration import integrate_ensemble
from chronos_dysts.systems import catalogue, get_system, perturb_parameters

FLOWS = ("Lorenz", "Rossler", "Chua", "Duffing", "DoublePendulum", "HyperLorenz", "CellCycle", "Halvorsen", "HindmarshRose", "ArnoldWeb")
LENGTH, POINTS = 1024, 100


def dysts_flow(system, values):
    flow = getattr(dysts.flows, system.name)()
    flow.params = {key: np.array(value) if np.ndim(value) else value for key, value in system.with_params(values).params.items()}
    flow.__dict__.update(flow.params)
    flow.param_list = [flow.params[key] for key in sorted(flow.params)]
    return flow


def seconds(function, repeats=1):
    """(result, seconds a call), the best of `repeats`."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        result = function()
        times.append(time.perf_counter() - began)
    return result, min(times)


def measure(name, count):
    system = get_system(name)
    sets = perturb_parameters(system, np.random.default_rng(0), 0.01, count)
    dt = system.period / POINTS
    times = dt * np.arange(LENGTH)
    _, compiling = seconds(lambda: integrate_ensemble(system, sets[:8], length=2))
    ours, ours_seconds = seconds(lambda: integrate_ensemble(system, sets, length=LENGTH), 3)

    flow = dysts_flow(system, sets[0])
    compiled = hasattr(type(flow), "_rhs") and type(flow).rhs is dysts.flows.DynSys.rhs
    field = (lambda t, x: flow._rhs(*x, t, *flow.param_list)) if compiled else (lambda t, x: flow.rhs(np.asarray(x), t))
    field(0.0, np.array(system.ic))  # numba compiles here
    span, ic = (0.0, times[-1]), np.array(system.ic)
    first = times[:POINTS]
    exact = solve_ivp(field, (0.0, first[-1]), ic, method="DOP853", rtol=1e-13, atol=1e-13, t_eval=first, max_step=system.period / 200).y
    error = lambda states: float((np.abs(states[:, :POINTS] - exact) / exact.std(1, keepdims=True)).max())
    row = {"flow": name, "compiled by dysts": bool(compiled), "compile [s]": compiling, "ours [ms]": 1e3 * ours_seconds / count,
           "ours error": error(ours.states[0])}
    for method in ("LSODA", "DOP853"):
        solution, spent = seconds(lambda: solve_ivp(field, span, ic, method=method, rtol=1e-9, atol=1e-9, t_eval=times))
        row |= {f"{method} [ms]": 1e3 * spent, f"{method} error": error(solution.y)}
    # dysts chooses its own times; the error is that of its tolerance, and is not measured here
    _, spent = seconds(lambda: flow.make_trajectory(LENGTH, pts_per_period=POINTS, postprocess=False))
    row["dysts [ms]"] = 1e3 * spent
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--flows", default=",".join(FLOWS))
    parser.add_argument("--trajectories", type=int, default=64)
    parser.add_argument("--json")
    arguments = parser.parse_args()
    names = catalogue() if arguments.flows == "all" else arguments.flows.split(",")
    rows = [measure(name, arguments.trajectories) for name in names]
    table = Table("flow", "compile [s]", "ours [ms]", "error", "LSODA 1e-9 [ms]", "error", "DOP853 1e-9 [ms]", "error", "dysts [ms]",
                  "dysts / ours", "LSODA / ours", "DOP853 / ours")
    for row in rows:
        ratios = [row[f"{side} [ms]"] / row["ours [ms]"] for side in ("dysts", "LSODA", "DOP853")]
        table.add_row(row["flow"] + ("" if row["compiled by dysts"] else " *"), f"{row['compile [s]']:.2f}", f"{row['ours [ms]']:.3f}",
                      f"{row['ours error']:.0e}", f"{row['LSODA [ms]']:.0f}", f"{row['LSODA error']:.0e}", f"{row['DOP853 [ms]']:.0f}",
                      f"{row['DOP853 error']:.0e}", f"{row['dysts [ms]']:.0f}", *(f"{ratio:,.0f}" for ratio in ratios))
    Console(width=150).print(table)
    medians = {side: float(np.median([row[f"{side} [ms]"] / row["ours [ms]"] for row in rows])) for side in ("dysts", "LSODA", "DOP853")}
    print(f"median over {len(rows)} flows: {medians['dysts']:,.0f} times as many trajectories a second as dysts, "
          f"{medians['LSODA']:,.0f} as LSODA, {medians['DOP853']:,.0f} as DOP853"
          + ("" if all(row["compiled by dysts"] for row in rows) else "   (* right-hand side not compiled by dysts)"))
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump({"rows": rows, "medians": medians}, file, indent=1)


if __name__ == "__main__":
    main()
