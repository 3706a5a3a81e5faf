"""Accepted systems a minute: `python benchmarks/discovery.py [--systems 96] [output.json]`.

The search of `chronos-dysts discover` at its defaults, in processes of their own with an empty compile cache: everything counts, compilation, rejected attempts and the
description of the founders. Parameter variants of one vector field are counted apart. With one and two threads, and with one and two Dask workers. The extrapolation to 20,000 takes
the founders, who come once, out of the rate, and uses the CPU time of the run as well as its wall time: on a loaded machine they differ, and the load is printed.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

SEED, WANTED = 1, 20_000


def cpu_seconds():
    """CPU time of this process and of its children that have ended."""
    return sum(usage.ru_utime + usage.ru_stime for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))


def measure(config):
    """One search: seconds, CPU seconds, those of the founders' round, systems and vector fields, and what was rejected."""
    from collections import Counter

    from rich.console import Console

    from chronos_dysts import discovery

    marks, record = [], discovery.write_record

    def watched(value, path):
        if "round" in value:
            marks.append((time.perf_counter(), cpu_seconds(), len(value["entries"]), value["counts"]))
        return record(value, path)
    discovery.write_record = watched
    began, cpu = time.perf_counter(), cpu_seconds()
    discovery.discover(config, Console(quiet=True))
    entries, counts = [], Counter()
    for path in sorted((Path(config["output_dir"]) / "rounds").glob("*.json"))[1:]:
        value = discovery.read_record(path)
        entries += [discovery.Entry.from_json(line) for line in value["entries"]]
        counts.update(value["counts"])
    end, end_cpu = time.perf_counter(), cpu_seconds()
    return {"seconds": end - began, "cpu_seconds": end_cpu - cpu, "founders_seconds": marks[0][0] - began, "founders_cpu_seconds": marks[0][1] - cpu,
            "found": len(entries), "fields": len({entry.field for entry in entries}), "counts": dict(counts), "load": os.getloadavg()[0]}


def apart(config):
    """`measure` in a fresh interpreter with an empty compile cache."""
    with tempfile.TemporaryDirectory() as folder:
        config = {**config, "output_dir": f"{folder}/found"}
        code = (f"import json, sys; sys.path[:0] = {sys.path[:2]!r}\nfrom discovery import measure\n"
                f"if __name__ == '__main__': print(json.dumps(measure({config!r})))")
        Path(folder, "run.py").write_text(code)
        done = subprocess.run([sys.executable, f"{folder}/run.py"], capture_output=True, text=True, env={**os.environ, "XDG_CACHE_HOME": folder,
                              "PYTHONPATH": f"{Path(__file__).parent}:{Path(__file__).resolve().parent.parent}"})
        if done.returncode:
            sys.exit(done.stderr)
        return json.loads(done.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", nargs="?")
    parser.add_argument("--systems", type=int, default=96)
    parser.add_argument("--founders", default="", help="comma-separated names: a smaller search")
    parser.add_argument("--without-dask", action="store_true")
    arguments = parser.parse_args()
    from chronos_dysts.generation import processor

    base = {"n_systems": arguments.systems, "seed": SEED} | ({"founders": arguments.founders.split(","), "test_fraction": 0.0, "validation_fraction": 0.0} if arguments.founders else {})
    runs = {"1 thread": {"workers": 1}, "2 threads": {"workers": 2}}
    runs |= {} if arguments.without_dask else {"1 Dask worker": {"workers": 1, "scheduler": "local-dask"}, "2 Dask workers": {"workers": 2, "scheduler": "local-dask"}}
    result = {"hardware": {"processor": processor(), "cores": os.cpu_count()}, "seed": SEED, "systems": arguments.systems,
              "versions": {"python": platform.python_version(), **{name: version(name) for name in ("heyoka", "numpy", "dysts", "distributed")}}, "runs": {}}
    for name, changes in runs.items():
        run = result["runs"][name] = apart(base | changes)
        search, cpu = run["seconds"] - run["founders_seconds"], run["cpu_seconds"] - run["founders_cpu_seconds"]
        run["per_minute"], run["fields_per_minute"] = 60 * run["found"] / search, 60 * run["fields"] / search
        run["cpu_seconds_each"] = cpu / run["found"]
        run["hours_for_20000"] = (run["founders_seconds"] + search * WANTED / run["found"]) / 3600
        run["hours_for_20000_two_free_cores"] = (run["founders_cpu_seconds"] + cpu * WANTED / run["found"]) / 2 / 3600
        print(f"{name}: {run['found']} systems of {run['fields']} vector fields in {run['seconds']:.0f} s (founders {run['founders_seconds']:.0f} s, CPU {run['cpu_seconds']:.0f} s), "
              f"{run['per_minute']:.0f} systems and {run['fields_per_minute']:.0f} fields a minute; 20,000 in {run['hours_for_20000']:.1f} hours as measured at load {run['load']:.1f}, "
              f"in {run['hours_for_20000_two_free_cores']:.1f} by CPU time on two cores", flush=True)
    for kind in ("thread", "Dask worker"):
        if f"1 {kind}" in result["runs"]:
            one, two = (result["runs"][name]["per_minute"] for name in (f"1 {kind}", f"2 {kind}s"))
            result[f"speed-up of two {kind}s"] = two / one
            print(f"two {kind}s / one: {two / one:.2f}")
    if arguments.output:
        Path(arguments.output).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
