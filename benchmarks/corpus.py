"""What a corpus costs: `python benchmarks/corpus.py [output.json]`.

1. All flows of which at least 10 % of the perturbed parameter sets pass, 64 trajectories of 1,024 points each, validated by the default battery and
   written, with a warm compile cache, on two cores. The yields are found before, from 8 parameter sets of each flow, or 64 where these leave a doubt.
2. A corpus of 20,000 parameter sets x 16 initial conditions x 4,096 points, extrapolated from some 1 % of it, two sets of every flow; with half and with all of that sample, to
   show that the memory at its peak does not grow with the size.
3. The same number of trajectories by `make_trajectory` of dysts, extrapolated from a few flows.
"""

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

SEED, WORKERS, LEAST_YIELD = 11, 2, 0.1
BIG = {"n_ics": 16, "length": 4096, "points_per_period": 80.0, "split": "train", "seed": SEED, "workers": WORKERS, "pack": True}


def measure(config):
    """Generate in a process of its own: seconds, bytes, memory at its peak, and a report of each system."""
    from rich.console import Console

    from chronos_dysts.generation import generate

    began, cpu = time.perf_counter(), time.process_time()
    reports = generate(config, Console(quiet=True))
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    stored = sum(path.stat().st_size for path in Path(config["data_dir"]).rglob("*") if path.is_file())
    return {"seconds": seconds, "cpu_seconds": cpu, "bytes": stored, "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "trajectories": sum(report.trajectories for report in reports), "tried": sum(report.tried for report in reports),
            "systems": {report.name: [report.trajectories, report.tried] for report in reports}}


def apart(config):
    """`measure` in a fresh interpreter."""
    with tempfile.TemporaryDirectory() as folder:
        config = {**config, "data_dir": f"{folder}/data"}
        code = f"import json, sys; sys.path[:0] = {sys.path[:2]!r}; from corpus import measure; print(json.dumps(measure({config!r})))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parent)
        return json.loads(done.stdout.splitlines()[-1])


def dysts_seconds(names):
    """Seconds of one `make_trajectory` of 1,024 points at default settings, for each flow."""
    import dysts.flows

    took = {}
    for name in names:
        flow = getattr(dysts.flows, name)()
        began = time.perf_counter()
        flow.make_trajectory(1024, pts_per_period=100)
        took[name] = time.perf_counter() - began
    return took


def main(output=None):
    from chronos_dysts.generation import processor
    from chronos_dysts.systems import catalogue

    small = {"n_params": 64, "n_ics": 1, "length": 1024, "split": "train", "seed": SEED, "workers": WORKERS}
    survey = apart({**small, "n_params": 8, "tries_per_params": 10, "systems": list(catalogue())})  # fills the compile cache, and finds the yields
    yields = {name: made / tried for name, (made, tried) in survey["systems"].items() if tried}
    doubtful = [name for name, share in yields.items() if LEAST_YIELD / 2 <= share < 2 * LEAST_YIELD]
    yields |= {name: made / tried for name, (made, tried) in apart({**small, "systems": doubtful})["systems"].items()} if doubtful else {}
    names = sorted(name for name, share in yields.items() if share >= LEAST_YIELD)
    all_flows = apart({**small, "systems": names})
    print(f"{len(names)} flows: {all_flows['seconds']:.1f} s, {all_flows['cpu_seconds']:.0f} CPU s", file=sys.stderr, flush=True)
    half, whole = (apart({**BIG, "systems": names, "n_params": count}) for count in (1, 2))
    by_dysts = dysts_seconds(("Lorenz", "Rossler", "Thomas", "Halvorsen"))
    factor = 20_000 * 16 / whole["trajectories"]
    for run in (survey, half, whole):
        del run["systems"]
    result = {
        "hardware": {"processor": processor(), "cores": os.cpu_count()}, "seed": SEED, "workers": WORKERS,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in ("dysts", "heyoka", "numpy", "pyarrow")}},
        "survey": survey, "all_flows": {"flows": len(names), "least_yield": LEAST_YIELD, **all_flows},
        "sample": {"systems": names, "half": half, "whole": whole},
        "corpus": {"parameter_sets": 20_000, "n_ics": 16, "length": 4096, "hours": whole["seconds"] * factor / 3600, "gigabytes": whole["bytes"] * factor / 1e9,
                   "peak_mib": whole["peak_mib"]},
        "dysts": {"seconds": by_dysts, "ratio": statistics.median(by_dysts.values()) * all_flows["trajectories"] / all_flows["cpu_seconds"]}}
    text = json.dumps(result, indent=1)
    print(text)
    if output:
        Path(output).write_text(text + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
