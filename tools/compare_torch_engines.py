"""Our batched DOP853 against torchode on the same equations: seconds and errors, to nbs/results/torch_engines.json.

    pip install torchode    # not needed by the package
    python tools/compare_torch_engines.py

One thread, tolerance 1e-9, one period in 101 points, parameters 1 % off; the error is the largest against the Taylor engine at 1e-12, in
standard deviations. torchode's own dense output and step control, its Dopri5 and its Tsit5; the better of three runs.
"""

import json
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
import torchode

from chronos_dysts.engines import runge_kutta
from chronos_dysts.integration import integrate_ensemble
from chronos_dysts.systems import SMOOTH_FUNCTIONS, get_system, perturb_parameters

TARGET = Path(__file__).resolve().parent.parent / "nbs" / "results" / "torch_engines.json"
FLOWS = ("Lorenz", "Rossler", "Aizawa", "HyperLorenz", "DoublePendulum", "CellCycle")


def best(function):
    spent = []
    for _ in range(3):
        began = time.perf_counter()
        result = function()
        spent.append(time.perf_counter() - began)
    return result, min(spent)


def torchode_run(system, method, x, p, times):
    field = system.field({name: getattr(torch, name) for name in SMOOTH_FUNCTIONS})
    columns = torch.tensor(p.copy()).unbind(0)

    def rhs(t, y):
        return torch.stack([value if isinstance(value, torch.Tensor) else torch.full_like(t, value) for value in field(y.unbind(1), t, columns)], 1)

    term = torchode.ODETerm(rhs)
    solver = torchode.AutoDiffAdjoint(method(term=term), torchode.IntegralController(atol=1e-9, rtol=1e-9, term=term))
    problem = torchode.InitialValueProblem(y0=torch.tensor(x.T.copy()), t_eval=torch.tensor(times).expand(x.shape[1], -1).contiguous())
    with torch.no_grad():
        return solver.solve(problem).ys.permute(0, 2, 1).numpy()


def main():
    torch.set_num_threads(1)
    rows = []
    for name in FLOWS:
        system = get_system(name)
        times = system.period / 100 * np.arange(101)
        for lanes in (64, 1024):
            sets = perturb_parameters(system, np.random.default_rng(0), 0.01, lanes)
            x = np.repeat(np.array(system.ic)[:, None], lanes, 1)
            exact = integrate_ensemble(system, sets, length=101).states
            runs = {"ours": lambda: runge_kutta.integrate(system, x, sets.T, 0.0, times, 1e-9, 100_000)[0]}
            runs |= {f"torchode {method.__name__}": lambda method=method: torchode_run(system, method, x, sets.T, times)
                     for method in (torchode.Dopri5, torchode.Tsit5)}
            for engine, run in runs.items():
                states, seconds = best(run)
                error = float((np.abs(states - exact) / np.array(system.scale)[:, None]).max())
                rows.append({"flow": name, "lanes": lanes, "engine": engine, "seconds": round(seconds, 4), "error": float(f"{error:.1e}")})
                print(rows[-1])
    cpu = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "unknown")
    setting = {"processor": f"{cpu}, one thread", "torch": torch.__version__, "torchode": version("torchode"), "tolerance": 1e-9, "seed": 0}
    TARGET.write_text(json.dumps({"setting": setting, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
