"""Accepted systems a minute: `python benchmarks/discovery.py [--systems 96] [--from ARCHIVE | --search FOLDER] [output.json]`.

The search of `chronos-dysts discover` at its defaults, in processes of their own with an empty compile cache: everything counts, compilation, rejected attempts and the
description of the founders. Parameter variants of one vector field are counted apart. With one and two threads, and with one and two Dask workers. The extrapolation to 20,000 takes
the founders, who come once, out of the rate, and uses the CPU time of the run as well as its wall time: on a loaded machine they differ, and the load is printed.

With `--from`, what a search costs that has come far: copies of an archive (a folder of `chronos-dysts discover`), cut off after so many systems, go on for `--systems` more, one thread, with an empty
compile cache, `--repeats` times and at each `--tolerance` by turns. The results go to "from" of output.json, beside what is there. CPU seconds: other work on the machine makes them longer, by up to two where cores
share their units, and the load is told. What `hours` says of 20,000 is made of the cost and the yield of an attempt of each sort, in all but the smallest of these archives. An archive that
was bred before entries had an extent gets them first, as a search of today would have them.

With `--search`, no extrapolation: a search in a folder, at the defaults with two threads and an empty compile cache, goes on until there are `--systems`, or for `--minutes`; the same command again carries on.
Each round's seconds, CPU seconds and systems are written to a file beside the folder, and what they come to goes to "search" of output.json. What a stop takes of the rounds in hand, two at most, is in no line.

With `--from` and `--workers`, one and two Dask workers go on from the largest of these sizes, by turns: wall time from the end of their first round, as many rounds for both. To "workers" of "from".
"""

import argparse
import atexit
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

SEED, WANTED = 1, 20_000


def cpu_seconds():
    """CPU time of this process and of its children, of those that have ended and of those that work."""
    import psutil

    total = sum(usage.ru_utime + usage.ru_stime for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))
    for child in psutil.Process().children(recursive=True):
        try:
            times = child.cpu_times()
            total += times.user + times.system
        except psutil.NoSuchProcess:  # it has ended in between
            pass
    return total


def measure(config):
    """One search: seconds, CPU seconds, those of the founders' round, systems and vector fields, and what was rejected."""
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


def sort_of(attempt, founders):
    """What an attempt costs and yields depends on whether it varies, pairs founders, or pairs what was bred."""
    if len(attempt.parents) == 1:
        return "mutation"
    return "bred" if not set(attempt.parents) <= founders else "replacement" if attempt.kind == "replacement" else "pair"


def with_extents(archive, folder):
    """A copy of an archive in which every entry of its rounds has its extent."""
    from chronos_dysts.discovery import Entry, _parts, read_record, write_record
    from chronos_dysts.skew import extent

    shutil.copytree(archive, folder)
    for path in sorted((Path(folder) / "rounds").glob("*.json")):
        record = read_record(path)
        if "extents" not in record:
            found = []
            for line in record["entries"]:
                try:
                    found.append(_parts(extent(Entry.from_json(line).system)))
                except ValueError:
                    found.append(None)
            write_record({key: value for key, value in record.items() if key != "sha256"} | {"extents": found}, path)
    return str(folder)


def go_on(archive, size, systems, changes):
    """A copy of an archive of `size` systems goes on for `systems` more: from the first attempt to the end of the last round, and what was found; of each sort of
    attempt how many were drawn, spared as in vain, made, and gave something, their CPU seconds and what was accepted of them (with one thread)."""
    import yaml
    from rich.console import Console

    from chronos_dysts import discovery
    from chronos_dysts.engines import taylor

    with tempfile.TemporaryDirectory() as there:
        folder = Path(there) / "found"
        known = cut(Path(archive), size, folder, {key: value for key, value in changes.items() if key in ("most_steps", "tolerance")})
        config = yaml.safe_load((Path(archive) / "config.yaml").read_text()) | {"scheduler": None, "workers": 1} | changes | {"output_dir": str(folder), "n_systems": known + systems}
        founders = {system.name for system in discovery.DiscoveryConfig.from_mapping(config).chosen_founders()}
        began, marks, counts, fields, sorts, of_number, compiling = [], [], Counter(), set(), {}, {}, [0.0]
        replay, record, try_out, in_vain = discovery._replay, discovery.write_record, discovery.try_out, discovery.Archive.is_in_vain
        compile_flow = taylor._HeyokaIntegrator.__init__

        def compiled(*arguments):
            start = time.thread_time()
            compile_flow(*arguments)
            compiling[0] += time.thread_time() - start

        def note(attempt, **changes):
            of_number[attempt.number] = name = sort_of(attempt, founders)
            for key, value in changes.items():
                sorts.setdefault(name, Counter())[key] += value

        def replayed(*arguments):
            there = replay(*arguments)
            if not there and not began:
                began.append((time.perf_counter(), cpu_seconds()))
            return there

        def watched(value, path):
            if "round" in value:
                marks.append((time.perf_counter(), cpu_seconds(), len(value["entries"])))
                counts.update(value["counts"])
                for entry in map(discovery.Entry.from_json, value["entries"]):
                    fields.add(entry.field)
                    sorts.setdefault(of_number[entry.number], Counter())["accepted"] += 1
            return record(value, path)

        def asked(archive, attempt, parents, count):
            vain = in_vain(archive, attempt, parents, count)
            note(attempt, drawn=1, spared=int(vain))
            return vain

        def timed(attempt, *arguments):
            start = time.thread_time()
            found = try_out(attempt, *arguments)
            seconds = time.thread_time() - start
            note(attempt, made=1, cpu_seconds=seconds, **({"gave": 1, "cpu_seconds_of_those": seconds} if found[0] else {}))
            return found
        discovery._replay, discovery.write_record, discovery.Archive.is_in_vain, taylor._HeyokaIntegrator.__init__ = replayed, watched, asked, compiled
        if not config["scheduler"]:
            discovery.try_out = timed
        discovery.discover(config, Console(quiet=True))
    made = {"size": known, "found": sum(found for *_, found in marks), "fields": len(fields), "rounds": len(marks), "seconds": marks[-1][0] - began[0][0], "cpu_seconds": marks[-1][1] - began[0][1],
            "compile_seconds": compiling[0], "counts": dict(counts), "sorts": {name: dict(values) for name, values in sorted(sorts.items())}, "load": os.getloadavg()[0]}
    made |= {"compile_seconds": None} if config["scheduler"] else {}  # the workers compile
    return made | {"seconds_after_first_round": marks[-1][0] - marks[0][0], "found_after_first_round": sum(found for *_, found in marks[1:])}


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


def opened(archive):
    """An archive with all its rounds, and how many systems it had after each of them."""
    import yaml

    from chronos_dysts.discovery import Archive, DiscoveryConfig, _replay

    config = DiscoveryConfig.from_mapping(yaml.safe_load((Path(archive) / "config.yaml").read_text()))
    full, sizes = Archive(config.chosen_founders(), config), []
    for number, path in enumerate(sorted((Path(archive) / "rounds").glob("*.json"))):
        _replay(path, number, full, Counter())
        sizes.append(len(full))
    return full, sizes


def tried_again(archive, count, changes):
    """Of `count` pairs of founders that gave nothing in a search, how many give something when they are tried again, with other parameters, projections and strengths."""
    from dataclasses import replace

    import numpy as np

    from chronos_dysts.discovery import LAG, ROUND, try_out

    full, sizes = opened(archive)
    names, gave = {system.name for system in full.founders}, {entry.number for entry in full.entries}
    drawn = [full.next_attempt(k, sizes[number - LAG]) for number in range(LAG, len(sizes)) for k in range((number - 1) * ROUND, number * ROUND)]
    failed = [item for item in drawn if sort_of(item[0], names) in ("pair", "replacement") and item[0].number not in gave]
    chosen = np.random.default_rng(SEED).permutation(len(failed))[:count]
    return sum(bool(try_out(replace(attempt, number=attempt.number + 10**6), parents, founders, replace(full.config, **changes))[0]) for attempt, parents, founders in (failed[k] for k in chosen))


def hours(archive, rows, known, grid, again):
    """Hours of two cores for 20,000 systems, and how many attempts are drawn for them.

    Each sort of attempt keeps its share of what is drawn, and the CPU seconds of those that give something and of those that do not; the yield falls. What is found is refused as known in the
    share `known` at the sizes `grid`. Varied parents are taken to give nothing any more. And pairs of founders run out: of F fields a draw finds each with probability 1 / F, and one that has given is
    spared from then on. A field gives with a probability of its own, of a beta distribution with the mean that was measured and such that one that failed gives the next time with probability `again`.
    """
    import numpy as np
    from scipy.stats import beta

    full, _ = opened(archive)
    config, names = full.config, {system.name for system in full.founders}
    draws = Counter(sort_of(full.next_attempt(10**6 + k, len(full))[0], names) for k in range(4000))
    pairs = [(a, b) for a in full.founders for b in full.founders if a.dim + b.dim <= config.max_dim]
    room = {"pair": len(pairs) * len(set(config.kinds) - {"replacement"}), "replacement": sum((a.dim - len(a.unbounded)) * (b.dim - len(b.unbounded)) for a, b in pairs)}
    total = {name: sum((Counter(row["sorts"].get(name, {})) for row in rows), Counter()) for name in draws}
    mean = {name: total[name]["gave"] / total[name]["made"] for name in draws}
    weight = lambda name: 1 / (mean[name] / np.clip(again, 0.01 * mean[name], 0.9 * mean[name]) - 1)  # a + b of the beta distribution, from mean - E[p^2] = (1 - mean) again
    chance = {name: beta.ppf((np.arange(400) + 0.5) / 400, mean[name] * weight(name), (1 - mean[name]) * weight(name)) for name in room}
    aside = (sum(row["cpu_seconds"] for row in rows) - sum(values["cpu_seconds"] for values in total.values())) / sum(values["drawn"] for values in total.values())  # drawing, judging, writing
    drawn, accepted, seconds, step = 0, 0.0, 0.0, 50
    while accepted < WANTED:
        for name, share in draws.items():
            count, values = step * share / sum(draws.values()), total[name]
            left = np.exp(-chance[name] * drawn * share / sum(draws.values()) / room[name]) if name in room else np.ones(1)
            tried = left.mean() if name != "mutation" else 1 - values["spared"] / values["drawn"]
            gives = (chance[name] * left).mean() if name in room else tried * mean[name]
            accepted += count * gives * (1 - np.interp(accepted, grid, known)) * (values["accepted"] / values["gave"] if name != "mutation" else 0.0)
            seconds += count * gives * values["cpu_seconds_of_those"] / values["gave"] + count * (tried - gives) * (values["cpu_seconds"] - values["cpu_seconds_of_those"]) / (values["made"] - values["gave"])
        seconds += step * aside
        drawn += step
    return float(seconds / 2 / 3600), drawn


def prepared(archive):
    """The archive, or a copy of it with the extents that it was bred without."""
    from chronos_dysts.discovery import read_record

    if all("extents" in read_record(path) for path in (archive / "rounds").glob("*.json")):
        return archive
    aside = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, aside, ignore_errors=True)
    folder = Path(aside) / "with_extents"
    print(f"giving the entries of {archive} their extents, in {folder} …", flush=True)
    isolated(f"with_extents({str(archive)!r}, {str(folder)!r})")
    return folder


def far(arguments):
    """What `--from` measures."""
    import numpy as np
    import yaml

    sizes, archive = [int(size) for size in arguments.at.split(",")], prepared(Path(arguments.archive).resolve())
    budget = int(arguments.most_steps) or None
    settings = {tolerance: {"most_steps": budget, "tolerance": float(tolerance)} for tolerance in arguments.tolerance.split(",")}
    rows = []
    for repeat in range(arguments.repeats):
        for size in sizes:
            for name, changes in settings.items():
                row = isolated(f"go_on({str(archive)!r}, {size}, {arguments.systems}, {changes!r})") | changes | {"repeat": repeat}
                rows.append(row)
                print(f"from {row['size']}, tolerance {name}: {row['found']} systems of {row['fields']} fields in {row['cpu_seconds']:.0f} CPU s, "
                      f"{60 * row['found'] / row['cpu_seconds']:.0f} a core-minute at load {row['load']:.1f}", flush=True)
    novelty = yaml.safe_load((archive / "config.yaml").read_text())["novelty"]
    grid = np.arange(0, WANTED + 1, 500)
    dimension, known = refused(archive, novelty, grid)
    again = isolated(f"tried_again({str(archive)!r}, {arguments.again}, {next(iter(settings.values()))!r})")
    print(f"of {arguments.again} pairs that gave nothing {again} give something when they are tried again")
    summary = {"rows": rows, "tried_again": {"attempts": arguments.again, "gave": again}, "dimension": dimension, "refused_at": {str(size): share for size, share in zip(grid[::10].tolist(), known[::10])}, "rates": {}, "hours_for_20000_two_cores": {}, "attempts_for_20000": {}}
    for name, changes in settings.items():
        mine = [row for row in rows if row["tolerance"] == changes["tolerance"]]
        of = {size: [row for row in mine if abs(row["size"] - size) < 40] for size in sizes}
        summary["rates"][name] = {str(size): 60 * sum(row["found"] for row in some) / sum(row["cpu_seconds"] for row in some) for size, some in of.items()}
        late = [row for size in (sizes[1:] or sizes) for row in of[size]]
        summary["hours_for_20000_two_cores"][name], summary["attempts_for_20000"][name] = hours(archive, late, known, grid, again / arguments.again)
        print(f"tolerance {name}: " + ", ".join(f"{rate:.0f} a core-minute from {size}" for size, rate in summary["rates"][name].items())
              + f"; 20,000 in {summary['hours_for_20000_two_cores'][name]:.1f} hours of two cores, {summary['attempts_for_20000'][name]} attempts")
    return summary


def far_workers(arguments):
    """What `--from … --workers` measures."""
    size, archive = int(arguments.at.split(",")[-1]), prepared(Path(arguments.archive).resolve())
    rows = []
    for repeat in range(arguments.repeats):
        for workers in (1, 2) if repeat % 2 == 0 else (2, 1):
            row = isolated(f"go_on({str(archive)!r}, {size}, {arguments.systems}, {{'most_steps': {int(arguments.most_steps) or None!r}, 'tolerance': {float(arguments.tolerance.split(',')[0])!r}, 'scheduler': 'local-dask', 'workers': {workers}}})")
            rows.append(row | {"workers": workers, "repeat": repeat})
            print(f"{workers} Dask worker{'s' * (workers > 1)} from {row['size']}: {row['found_after_first_round']} systems in {row['seconds_after_first_round']:.0f} s after the first round "
                  f"(all: {row['found']} in {row['seconds']:.0f} s, {row['cpu_seconds']:.0f} CPU s) at load {row['load']:.1f}", flush=True)
    seconds = [statistics.median(row["seconds_after_first_round"] for row in rows if row["workers"] == workers) for workers in (1, 2)]
    print(f"two Dask workers / one: {seconds[0] / seconds[1]:.2f}")
    return {"size": rows[0]["size"], "rows": rows, "speed-up of two Dask workers": seconds[0] / seconds[1]}


def searched(folder, systems, log):
    """Go on with a search until there are `systems`; a line of `log` for each round that is made: seconds and CPU seconds since the round before, of the first since the search was resumed."""
    from rich.console import Console

    from chronos_dysts import discovery

    last, replay, record = [], discovery._replay, discovery.write_record

    def replayed(*arguments):
        there = replay(*arguments)
        if not there and not last:
            last[:] = time.perf_counter(), cpu_seconds()
        return there

    def watched(value, path):
        made = record(value, path)
        if "round" in value:
            now = time.perf_counter(), cpu_seconds()
            line = {"round": value["round"], "found": len(value["entries"]), "seconds": now[0] - last[0], "cpu_seconds": now[1] - last[1], "load": os.getloadavg()[0]}
            last[:] = now
            with open(log, "a") as stream:
                stream.write(json.dumps(line) + "\n")
        return made
    discovery._replay, discovery.write_record = replayed, watched
    discovery.discover({"output_dir": folder, "n_systems": systems, "seed": SEED}, Console())


def whole(arguments):
    """What `--search` measures."""
    from chronos_dysts.discovery import Entry, read_record

    folder = Path(arguments.search).resolve()
    log = folder.with_suffix(".jsonl")
    code = f"import sys; sys.path[:0] = {sys.path[:2]!r}\nimport discovery as benchmark\nbenchmark.searched({str(folder)!r}, {arguments.systems}, {str(log)!r})"
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        subprocess.run([sys.executable, "-c", code], timeout=60 * arguments.minutes if arguments.minutes else None, check=True,
                       env={**os.environ, "XDG_CACHE_HOME": str(folder.with_suffix(".cache")), "PYTHONPATH": f"{Path(__file__).parent}:{Path(__file__).resolve().parent.parent}"})
    except subprocess.TimeoutExpired:
        print(f"stopped after {arguments.minutes} minutes")
    rounds = {line["round"]: line for line in map(json.loads, log.read_text().splitlines())}  # what a stop takes, two rounds at most, is in none
    fields, curve, found, wall, cpu, counts = set(), [], 0, 0.0, 0.0, Counter()
    for number in sorted(rounds):
        value = read_record(folder / "rounds" / f"{number:05d}.json")
        wall, cpu = wall + rounds[number]["seconds"], cpu + rounds[number]["cpu_seconds"]
        if not number:
            continue
        found += len(value["entries"])
        counts.update(value["counts"])
        fields |= {Entry.from_json(line).field for line in value["entries"]}
        curve.append((found, len(fields), number, round(wall), round(cpu)))
    shown = [curve[k] for k in sorted({min(range(len(curve)), key=lambda k: abs(curve[k][0] - size)) for size in range(0, found + 501, 500)} | {len(curve) - 1})]
    result = {"seed": SEED, "systems": found, "fields": len(fields), "wall_hours": wall / 3600, "cpu_hours": cpu / 3600, "load": statistics.median(line["load"] for line in rounds.values()),
              "counts": dict(counts), "curve": [dict(zip(("systems", "fields", "rounds", "seconds", "cpu_seconds"), row)) for row in shown]}
    print(f"{found} systems of {len(fields)} fields in {wall / 3600:.2f} hours, {cpu / 3600:.2f} hours of CPU, at a median load of {result['load']:.1f}")
    return result


def kept(path):
    """What the file of results holds; nothing where there is none."""
    return json.loads(Path(path).read_text()) if Path(path).exists() else {}


def keep(path, changes):
    """Put results beside those that the file holds."""
    from chronos_dysts.store import write_atomically

    write_atomically(Path(path), lambda new: new.write_text(json.dumps(kept(path) | changes, indent=1) + "\n"))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", nargs="?")
    parser.add_argument("--systems", type=int, default=96)
    parser.add_argument("--founders", default="", help="comma-separated names: a smaller search")
    parser.add_argument("--without-dask", action="store_true")
    parser.add_argument("--from", dest="archive", help="a folder that chronos-dysts discover made: how fast copies of it go on")
    parser.add_argument("--search", help="a folder: a search of --systems as a user makes it, which the same command carries on")
    parser.add_argument("--minutes", type=float, help="with --search: stop after so many")
    parser.add_argument("--at", default="0,500,1000", help="from so many systems")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--again", type=int, default=40, help="so many pairs that failed are tried again, for the hours")
    parser.add_argument("--workers", action="store_true", help="with --from: one and two Dask workers at the largest size")
    parser.add_argument("--most-steps", default="1000", help="with --from: the budget of steps a period; 0: none")
    parser.add_argument("--tolerance", default="1e-7", help="with --from: of the integrator; several, with commas, by turns")
    arguments = parser.parse_args()
    from chronos_dysts.generation import processor

    if arguments.search:
        found = {"hardware": {"processor": processor(), "cores": os.cpu_count()}, "versions": {name: version(name) for name in ("heyoka", "numpy", "dysts")}} | whole(arguments)
        if arguments.output:
            keep(arguments.output, {"search": found})
        return
    if arguments.archive:
        about = {"hardware": {"processor": processor(), "cores": os.cpu_count()}, "systems": arguments.systems}
        before = kept(arguments.output) if arguments.output else {}
        if arguments.workers:
            found = before.get("from", {}) | {"workers": about | far_workers(arguments)}
        else:
            found = about | far(arguments) | {key: value for key, value in before.get("from", {}).items() if key == "workers"}
        if arguments.output:
            keep(arguments.output, {"from": found})
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
        keep(arguments.output, result)


if __name__ == "__main__":
    main()
