"""Accepted systems a minute: `python benchmarks/discovery.py [--systems 96] [--from ARCHIVE] [output.json]`.

The search of `chronos-dysts discover` at its defaults, in processes of their own with an empty compile cache: everything counts, compilation, rejected attempts and the
description of the founders. Parameter variants of one vector field are counted apart. With one and two threads, and with one and two Dask workers. The extrapolation to 20,000 takes
the founders, who come once, out of the rate, and uses the CPU time of the run as well as its wall time: on a loaded machine they differ, and the load is printed.

With `--from`, what a search costs that has come far: copies of an archive (a folder of `chronos-dysts discover`), cut off after so many systems, go on for `--systems` more, one thread, with an empty
compile cache, `--repeats` times by turns. The results go to "from" of output.json, beside what is there. CPU seconds: other work on the machine makes them longer, by up to two where cores
share their units, and the load is told. The hours for 20,000 integrate the cost of a system, at the largest of these archives, over the part that a fuller archive refuses as known.
"""

import argparse
import json
import os
import platform
import resource
import shutil
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


def isolated(call):
    """The value of a call of this module, in a fresh interpreter with an empty compile cache."""
    with tempfile.TemporaryDirectory() as folder:
        code = (f"import json, sys; sys.path[:0] = {sys.path[:2]!r}\nimport discovery as benchmark\n"
                f"if __name__ == '__main__': print(json.dumps(benchmark.{call}))")
        Path(folder, "run.py").write_text(code)
        done = subprocess.run([sys.executable, f"{folder}/run.py"], capture_output=True, text=True, env={**os.environ, "XDG_CACHE_HOME": folder,
                              "PYTHONPATH": f"{Path(__file__).parent}:{Path(__file__).resolve().parent.parent}"})
        if done.returncode:
            sys.exit(done.stderr)
        return json.loads(done.stdout.splitlines()[-1])


def apart(config):
    """`measure` by itself."""
    with tempfile.TemporaryDirectory() as folder:
        return isolated(f"measure({({**config, 'output_dir': f'{folder}/found'})!r})")


def cut(archive, size, folder, changes):
    """A copy of an archive as it was after the round that brought it to `size` systems, and how many it has; `changes` of its configuration."""
    from chronos_dysts.discovery import MANIFEST, read_record, write_record

    (folder / "rounds").mkdir(parents=True)
    known = 0
    for number, path in enumerate(sorted((archive / "rounds").glob("*.json"))):
        if number and known >= size:
            break
        known += len(read_record(path)["entries"]) if number else 0
        shutil.copy(path, folder / "rounds")
    manifest = read_record(archive / MANIFEST)
    manifest.pop("sha256", None)
    write_record(manifest | {"config": manifest["config"] | changes}, folder / MANIFEST)
    return known


def go_on(archive, size, systems, changes):
    """A copy of an archive of `size` systems goes on for `systems` more: CPU seconds from the first attempt to the end of the last round, and what was found."""
    from collections import Counter

    import yaml
    from rich.console import Console

    from chronos_dysts import discovery

    with tempfile.TemporaryDirectory() as there:
        folder = Path(there) / "found"
        known = cut(Path(archive), size, folder, changes)
        config = yaml.safe_load((Path(archive) / "config.yaml").read_text()) | changes | {"output_dir": str(folder), "n_systems": known + systems, "scheduler": None, "workers": 1}
        began, marks, counts, fields, replay, record = [], [], Counter(), set(), discovery._replay, discovery.write_record

        def replayed(*arguments):
            there = replay(*arguments)
            if not there and not began:
                began.append(cpu_seconds())
            return there

        def watched(value, path):
            if "round" in value:
                marks.append((cpu_seconds(), len(value["entries"])))
                counts.update(value["counts"])
                fields.update(discovery.Entry.from_json(line).field for line in value["entries"])
            return record(value, path)
        discovery._replay, discovery.write_record = replayed, watched
        discovery.discover(config, Console(quiet=True))
    return {"size": known, "found": sum(found for _, found in marks), "fields": len(fields), "rounds": len(marks), "cpu_seconds": marks[-1][0] - began[0],
            "counts": dict(counts), "load": os.getloadavg()[0]}


def refused(archive, novelty, sizes):
    """The share of what is new in its field that an archive of so many systems refuses as known, for each of `sizes`, from the neighbours in one that is there.

    The distance of the nearest of n falls as n^(-1/d): d from archives of a tenth and of all; so what is nearer than `novelty` among many is what is nearer than a larger radius among these.
    """
    import numpy as np

    from chronos_dysts.discovery import distances, read_archive

    entries = read_archive(archive)
    field, apart = np.array([entry.field for entry in entries]), distances(*[np.array([entry.descriptors for entry in entries])] * 2)
    apart[field[:, None] == field] = np.inf
    nearest, count, rng = apart.min(1), len(entries), np.random.default_rng(SEED)
    fewer = np.median([apart[:, rng.choice(count, count // 10, replace=False)].min(1) for _ in range(20)])
    dimension = np.log(10) / np.log(fewer / np.median(nearest))
    return float(dimension), [float((nearest < novelty * (size / count) ** (1 / dimension)).mean()) for size in sizes]


def far(arguments):
    """What `--from` measures."""
    import numpy as np
    import yaml

    sizes, archive = [int(size) for size in arguments.at.split(",")], Path(arguments.archive).resolve()
    budgets = {"none" if budget == "0" else budget: int(budget) or None for budget in arguments.most_steps.split(",")}
    rows = []
    for repeat in range(arguments.repeats):
        for size in sizes:
            for name, budget in budgets.items():
                row = isolated(f"go_on({str(archive)!r}, {size}, {arguments.systems}, {{'most_steps': {budget!r}}})") | {"most_steps": budget, "repeat": repeat}
                rows.append(row)
                print(f"from {row['size']}, most_steps {name}: {row['found']} systems of {row['fields']} fields in {row['cpu_seconds']:.0f} CPU s, "
                      f"{60 * row['found'] / row['cpu_seconds']:.0f} a core-minute at load {row['load']:.1f}", flush=True)
    novelty = yaml.safe_load((archive / "config.yaml").read_text())["novelty"]
    grid = np.arange(0, WANTED + 1, 500)
    dimension, known = refused(archive, novelty, grid)
    summary = {"rows": rows, "dimension": dimension, "refused_at": {str(size): share for size, share in zip(grid[::10].tolist(), known[::10])}, "rates": {}, "hours_for_20000_two_cores": {}}
    for name, budget in budgets.items():
        mine = [row for row in rows if row["most_steps"] == budget]
        of = {size: [row for row in mine if abs(row["size"] - size) < 40] for size in sizes}
        summary["rates"][name] = {str(size): 60 * sum(row["found"] for row in some) / sum(row["cpu_seconds"] for row in some) for size, some in of.items()}
        each = 60 / summary["rates"][name][str(sizes[-1])] * (1 - np.interp(sizes[-1], grid, known)) / (1 - np.array(known))
        summary["hours_for_20000_two_cores"][name] = float(np.trapezoid(each, grid) / 2 / 3600)
        print(f"most_steps {name}: " + ", ".join(f"{rate:.0f} a core-minute from {size}" for size, rate in summary["rates"][name].items())
              + f"; 20,000 in {summary['hours_for_20000_two_cores'][name]:.1f} hours of two cores")
    return summary


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", nargs="?")
    parser.add_argument("--systems", type=int, default=96)
    parser.add_argument("--founders", default="", help="comma-separated names: a smaller search")
    parser.add_argument("--without-dask", action="store_true")
    parser.add_argument("--from", dest="archive", help="a folder that chronos-dysts discover made: how fast copies of it go on")
    parser.add_argument("--at", default="0,500,1000", help="from so many systems")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--most-steps", default="1000", help="with this budget of steps a period, or several by turns; 0: none")
    arguments = parser.parse_args()
    from chronos_dysts.generation import processor

    if arguments.archive:
        found = {"hardware": {"processor": processor(), "cores": os.cpu_count()}, "systems": arguments.systems} | far(arguments)
        if arguments.output:
            path = Path(arguments.output)
            path.write_text(json.dumps((json.loads(path.read_text()) if path.exists() else {}) | {"from": found}, indent=1) + "\n")
        return

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
