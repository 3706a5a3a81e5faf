"""Trajectories a second: ours against dysts' own `make_trajectory` and against scipy on a compiled right-hand side.

    python benchmarks/generation.py [--flows Lorenz,Rossler,…] [--trajectories 64] [--json FILE] [--without-dysts]

One process, one core. A trajectory is 1,024 points, 100 a period, from the reference state at parameters 1 % off. All flows by
default: that takes about half an hour, nearly all of it dysts, which is measured on one trajectory a flow; with --json what is in
the file already is not measured again. Each side is judged by its largest error over the first period against scipy's DOP853 at
1e-13, in standard deviations of the coordinate. scipy gets the right-hand side from our trace, compiled by numba, for every flow,
and a tolerance of 1e-9, at which its error is larger than ours. Compiling, ours and numba's, is reported apart. Then: two threads
against one, and the torch engine at 1e-9, on a GPU where there is one.
"""

import argparse
import json
import os
import platform
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import ast
import math

import numba
import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.integrate import solve_ivp
from stopwatch import seconds

from chronos_dysts.integration import has_heyoka, integrate_ensemble
from chronos_dysts.systems import catalogue, get_system, perturb_parameters, stream_key

LENGTH, POINTS, SEED = 1024, 100, 0
LONGEST = 60  # seconds for one trajectory of scipy; what takes longer is not repeated


def compiled_field(system):
    """f(t, x, p) of the system's own equations, compiled by numba."""
    slots = {name: f"x[{i}]" for i, name in enumerate(system.variables)}
    slots |= {name: f"p[{i}]" for i, name in enumerate(system.parameter_names)}

    class Slots(ast.NodeTransformer):
        def visit_Name(self, node):
            return ast.parse(slots[node.id], mode="eval").body if node.id in slots else node

        def visit_Subscript(self, node):
            name = ast.unparse(node).replace(" ", "").replace("(", "").replace(")", "")
            return ast.parse(slots[name], mode="eval").body

    def text(expression):
        return ast.unparse(Slots().visit(ast.parse(expression, mode="eval")))

    lines = [f"    {name} = {text(expression)}" for name, expression in system.definitions]
    lines += [f"    out[{i}] = {text(expression)}" for i, expression in enumerate(system.equations)]
    code = "\n".join(["def field(t, x, p):", f"    out = np.empty({system.dim})", *lines, "    return out"])
    functions = {name: getattr(math, name) for name in ("sin", "cos", "tan", "sinh", "cosh", "tanh", "exp", "log", "sqrt")}
    functions |= {"sign": np.sign, "step": numba.njit(lambda u: 1.0 if u > 0 else 0.0), "np": np, "abs": abs, "min": min, "max": max}
    exec(code, functions)
    return numba.njit(functions["field"])


def error_of(states, exact):
    return float((np.abs(states[:, :POINTS] - exact) / (exact.std(1, keepdims=True) + 1e-300)).max())


def measure(name, count, with_dysts):
    system = get_system(name)
    sets = perturb_parameters(system, np.random.default_rng([SEED, stream_key(name)]), 0.01, count)
    times = system.period / POINTS * np.arange(LENGTH)
    compiling = seconds(lambda: integrate_ensemble(system, sets[:8], length=2), 1)
    ours = integrate_ensemble(system, sets, length=LENGTH)
    row = {"flow": name, "compile [s]": compiling, "ours [ms]": 1e3 / count * seconds(lambda: integrate_ensemble(system, sets, length=LENGTH), 3)}
    first = int(np.argmax(ours.ok))  # a set that keeps its attractor
    began, field, p, ic = time.perf_counter(), compiled_field(system), sets[first], np.array(system.ic)
    np.testing.assert_allclose(field(0.1, ic, p), system.with_params(p).vector_field(ic, 0.1), rtol=1e-9, atol=1e-12)
    row["numba compile [s]"] = time.perf_counter() - began
    rhs = lambda t, x: field(t, x, p)
    scale = np.array(system.scale or np.ones(system.dim))
    exact = solve_ivp(rhs, (0.0, times[POINTS - 1]), ic, method="DOP853", rtol=1e-13, atol=1e-13 * scale, t_eval=times[:POINTS],
                      max_step=system.period / 200).y
    row["ours error"] = error_of(ours.states[first], exact)
    for method in ("LSODA", "DOP853"):
        began = time.perf_counter()
        solution = solve_ivp(rhs, (0.0, times[-1]), ic, method=method, rtol=1e-9, atol=1e-9, t_eval=times)
        spent = time.perf_counter() - began
        if spent < LONGEST / 60:
            spent = seconds(lambda: solve_ivp(rhs, (0.0, times[-1]), ic, method=method, rtol=1e-9, atol=1e-9, t_eval=times), 2)
        row |= {f"{method} [ms]": 1e3 * spent, f"{method} error": error_of(solution.y, exact) if solution.y.shape[1] >= POINTS else None}
    if with_dysts:
        import dysts.flows
        flow = getattr(dysts.flows, name)()
        values = system.with_params(p).params
        flow.params = {key: np.array(value) if np.ndim(value) else value for key, value in values.items()}
        flow.__dict__.update(flow.params)
        flow.param_list = [flow.params[key] for key in sorted(flow.params)]
        flow.rhs(ic, 0.0)  # numba compiles here
        # dysts chooses its own times; the error is that of its tolerance, and is not measured here
        row["dysts [ms]"] = 1e3 * seconds(lambda: flow.make_trajectory(LENGTH, pts_per_period=POINTS, postprocess=False), 1)
    return row


def two_threads(names, count=512):
    """How many times faster two threads do the same calls than one, for each flow."""
    ratios = {}
    for name in names:
        system = get_system(name)
        sets = perturb_parameters(system, np.random.default_rng([SEED, stream_key(name)]), 0.01, count)
        halves = [sets[:count // 2], sets[count // 2:]]
        job = lambda part: integrate_ensemble(system, part, length=LENGTH, transient=20).outcome
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(job, [half[:8] for half in halves] * 4))  # each thread compiles its own
            ratios[name] = seconds(lambda: [job(half) for half in halves], 3) / seconds(lambda: list(pool.map(job, halves)), 3)
    return ratios


def torch_rates(names, count):
    """Trajectories a second of the torch engine at 1e-9, {flow: rate}, and the device."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    rates = {}
    for name in names:
        system = get_system(name)
        wide = count or (100_000 if device == "cuda" else 1024)
        sets = perturb_parameters(system, np.random.default_rng([SEED, stream_key(name)]), 0.01, wide)
        job = lambda: integrate_ensemble(system, sets, length=LENGTH, tolerance=1e-9, engine="torch", device=device)
        if device == "cuda":
            integrate_ensemble(system, sets[:64], length=8, tolerance=1e-9, engine="torch", device=device)
        rates[name] = wide / seconds(job, 1)
    name = torch.cuda.get_device_name() if device == "cuda" else processor()
    return {"device": name, "lanes": count or (100_000 if device == "cuda" else 1024), "rates": rates}


def processor():
    info = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    return f"{names[0] if names else platform.processor() or platform.machine()}, {os.cpu_count()} cores"


def write(path, result):
    temporary = Path(f"{path}.part")
    temporary.write_text(json.dumps(result, indent=1) + "\n")
    temporary.replace(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--flows", default="all")
    parser.add_argument("--trajectories", type=int, default=64)
    parser.add_argument("--json")
    parser.add_argument("--without-dysts", action="store_true", help="leave out dysts, which takes most of the time")
    parser.add_argument("--lanes", type=int, default=0, help="trajectories of the torch engine at once")
    arguments = parser.parse_args()
    if not has_heyoka():
        sys.exit("this measures heyoka, which is not installed (pip install heyoka)")
    if hasattr(os, "sched_setaffinity"):
        cores = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(cores)})
    names = catalogue() if arguments.flows == "all" else arguments.flows.split(",")
    setting = {"length": LENGTH, "points_per_period": POINTS, "trajectories": arguments.trajectories, "seed": SEED, "processor": processor(),
               "versions": {package: version(package) for package in ("heyoka", "dysts", "scipy", "numba", "numpy", "torch")} | {
                   "python": platform.python_version()}}
    result = {"setting": setting, "rows": []}
    if arguments.json and Path(arguments.json).exists():
        result = json.loads(Path(arguments.json).read_text())
        if result["setting"] != setting:
            sys.exit(f"{arguments.json} was measured under another setting: {result['setting']}")
    done = {row["flow"]: row for row in result["rows"]}
    for name in names:
        if name not in done or not arguments.without_dysts and "dysts [ms]" not in done[name]:
            done[name] = measure(name, arguments.trajectories, not arguments.without_dysts)
            result["rows"] = list(done.values())
            if arguments.json:
                write(arguments.json, result)
            print(f"{len(done)}/{len(names)} {name}", file=sys.stderr, flush=True)
    rows = [done[name] for name in names]
    table = Table("flow", "compile [s]", "ours [ms]", "error", "LSODA [ms]", "error", "DOP853 [ms]", "error", "dysts [ms]", "dysts / ours",
                  "best of scipy / ours", title="1,024 points, ours at 1e-12, scipy at 1e-9")
    for row in rows:
        row["dysts / ours"] = row["dysts [ms]"] / row["ours [ms]"] if "dysts [ms]" in row else math.nan
        row["scipy / ours"] = min(row["LSODA [ms]"], row["DOP853 [ms]"]) / row["ours [ms]"]
        errors = [f"{row[f'{side} error']:.0e}" if row[f"{side} error"] is not None else "failed" for side in ("ours", "LSODA", "DOP853")]
        table.add_row(row["flow"], f"{row['compile [s]']:.2f}", f"{row['ours [ms]']:.3f}", errors[0], f"{row['LSODA [ms]']:.0f}", errors[1],
                      f"{row['DOP853 [ms]']:.0f}", errors[2], f"{row.get('dysts [ms]', math.nan):.0f}", f"{row['dysts / ours']:,.0f}",
                      f"{row['scipy / ours']:,.0f}")
    Console(width=150).print(table)
    result["medians"] = {key: float(np.median([row[key] for row in rows])) for key in ("ours [ms]", "dysts / ours", "scipy / ours", "compile [s]",
                                                                                       "numba compile [s]")}
    smaller = [row["ours error"] <= min(e for e in (row["LSODA error"], row["DOP853 error"]) if e is not None) for row in rows]
    result["medians"]["our error is the smallest in"] = float(np.mean(smaller))
    print(f"median over {len(rows)} flows: {result['medians']['ours [ms]']:.3f} ms a trajectory; {result['medians']['dysts / ours']:,.0f} times "
          f"as many a second as dysts, {result['medians']['scipy / ours']:,.0f} times the better of LSODA and DOP853; our error is the "
          f"smallest for {np.sum(smaller)} of {len(rows)}; compiling takes {result['medians']['compile [s]']:.2f} s")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    few = [name for name in ("Lorenz", "Rossler", "Chua", "DoublePendulum", "HyperLorenz") if name in catalogue()]
    if len(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count())) > 1:
        result["two threads"] = two_threads(few)
        print("two threads / one:", ", ".join(f"{name} {ratio:.2f}" for name, ratio in result["two threads"].items()))
    result["torch"] = torch_rates(few, arguments.lanes)
    print(f"torch at 1e-9 on {result['torch']['device']}, {result['torch']['lanes']:,} at once, trajectories a second:",
          ", ".join(f"{name} {rate:,.0f}" for name, rate in result["torch"]["rates"].items()))
    if arguments.json:
        write(arguments.json, result)


if __name__ == "__main__":
    main()
