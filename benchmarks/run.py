"""How fast the stages are on this machine: median of some repetitions after a first, untimed call.

    python benchmarks/run.py [NAME …] [--repeat 5] [--json FILE]
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

BENCHMARKS = {}


def benchmark(unit):
    """Register a function that prepares, and returns (a function to time, the amount of `unit` that it does)."""

    def register(function):
        BENCHMARKS[function.__name__] = (function, unit)
        return function

    return register


def trajectories(count, length, points_per_period=30, name="Lorenz"):
    """`count` trajectories of one flow, (count, dim, length), from perturbed initial states."""
    from chronos_dysts.integration import integrate_ensemble
    from chronos_dysts.systems import get_system

    system = get_system(name)
    ics = np.asarray(system.ic) * (1 + 0.01 * np.random.default_rng(0).normal(size=(count, system.dim)))
    return integrate_ensemble(system, ics=ics, length=length, points_per_period=points_per_period, transient=5).states


@benchmark("imports")
def bare_import():
    """`import chronos_dysts` in a new interpreter, the interpreter's own start included."""
    return lambda: subprocess.run([sys.executable, "-c", "import chronos_dysts"], check=True), 1


@benchmark("points")
def integration():
    """64 trajectories of Lorenz, 1,024 points at 100 a period, at the default tolerance."""
    from chronos_dysts.integration import integrate_ensemble
    from chronos_dysts.systems import get_system

    system = get_system("Lorenz")
    ics = np.asarray(system.ic) * (1 + 0.01 * np.random.default_rng(0).normal(size=(64, system.dim)))
    return lambda: integrate_ensemble(system, ics=ics, length=1024), 64 * 1024


@benchmark("trajectories")
def generation():
    """A data set of 3 flows with 8 parameter sets each: drawn, integrated, checked and written."""
    from chronos_dysts.generation import generate

    console = Console(quiet=True)

    def make():
        with tempfile.TemporaryDirectory() as folder:
            config = {"data_dir": folder + "/data", "split": "train", "systems": ["Lorenz", "Rossler", "Halvorsen"]}
            generate(config | {"n_params": 8, "length": 1024, "seed": 0}, console=console)

    return make, 24


@benchmark("points")
def reading():
    """A folder of 64 files opened and read through."""
    from chronos_dysts.store import Trajectory, open_store, write_trajectory

    folder = tempfile.TemporaryDirectory()
    states = trajectories(64, 1024).astype(np.float32)
    for i, target in enumerate(states):
        made = Trajectory(
            target, f"Lorenz/{i}", "Lorenz", {}, target[:, 0].astype(float), dt=0.01, period=1.5, seed=0
        )
        write_trajectory(made, Path(folder.name) / "train" / "Lorenz" / f"{i}_T-1024.arrow")

    def read(keep=folder):
        store = open_store(Path(keep.name) / "train")
        return sum(float(store[i].target.sum()) for i in range(len(store)))

    return read, 64 * 1024


@benchmark("values")
def tokenizing():
    """Contexts of 512 values to tokens, on the CPU."""
    import torch

    from chronos_dysts.tokenizers import MeanScaleBins

    tokenizer = MeanScaleBins()
    context = torch.from_numpy(trajectories(128, 512).reshape(-1, 512)).float()
    return lambda: tokenizer.encode_context(context), context.numel()


@benchmark("windows")
def parroting():
    """Context parroting: context 512, 64 steps ahead, three coordinates."""
    from chronos_dysts.baselines import ContextParroting

    context = trajectories(64, 512)
    forecaster = ContextParroting()
    return lambda: forecaster.forecast(context, 64), len(context)


def measure(name, repeat):
    prepare, unit = BENCHMARKS[name]
    work, amount = prepare()
    work()
    seconds = []
    for _ in range(repeat):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    middle = statistics.median(seconds)
    return {"name": name, "seconds": middle, "spread": max(seconds) - min(seconds), "rate": amount / middle, "unit": unit}


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; none: all")
    parser.add_argument("--repeat", type=int, default=5, help="timed calls of each")
    parser.add_argument("--json", type=Path, help="write the measurements to this file too")
    args = parser.parse_args(argv)
    unknown = [name for name in args.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"there is no benchmark {unknown[0]!r}; there are {', '.join(BENCHMARKS)}")
    table = Table("benchmark", "what", title=f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    for column in ("seconds", "max − min", "per second"):
        table.add_column(column, justify="right")
    results = []
    for name in args.names or BENCHMARKS:
        result = measure(name, args.repeat)
        results.append(result)
        rate = f"{result['rate']:,.3g}" if result["rate"] < 100 else f"{result['rate']:,.0f}"
        what = (BENCHMARKS[name][0].__doc__ or "").strip()
        table.add_row(name, what, f"{result['seconds']:.3f}", f"{result['spread']:.3f}", f"{rate} {result['unit']}")
    Console().print(table)
    if args.json:
        temporary = args.json.with_name(args.json.name + ".tmp")
        temporary.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        os.replace(temporary, args.json)


if __name__ == "__main__":
    main()
