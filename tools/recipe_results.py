"""What the data set of a recipe came to, and a digest of all its bytes.

    chronos-dysts generate experiment=panda-like
    python tools/recipe_results.py corpora/panda-like nbs/results/panda_like.json --cpu-seconds 3166

By side, and by founders and kinds of coupling: systems, those that have all the trajectories that were asked for, trajectories, and the parameter sets that were tried and what they were rejected as.
Every file is read and compared with its record. The digest is the SHA-256 of the lines "digest  file" of all files of trajectories, sorted by file: a second run has it too, on the same type of processor.
"""

import argparse
import hashlib
from collections import Counter
from pathlib import Path

from chronos_dysts.skew import KINDS
from chronos_dysts.store import read_manifest, read_record, samples_of, verify, write_json


def sort_of(name: str) -> str:
    """The kind of a pair, by its name; or that it is a founder."""
    return next((kind for kind in KINDS if "_drives_" in name and name.endswith(f"_{kind}")), "founder")


def results(data_dir: Path, cpu_seconds: float | None) -> dict:
    """The report of a data set, finished or not."""
    manifest, wanted = read_manifest(data_dir), {}
    of_side, of_sort, short = {}, {}, Counter()
    lines, size, finished = [], 0, 0
    each = manifest["config"]["n_params"] * manifest["config"]["n_ics"]
    for side, names in manifest["split"].items():
        for name in names:
            wanted[name] = side
            path = data_dir / "systems" / f"{name}.json"
            if not path.exists():
                continue
            record = read_record(path)
            finished += 1
            made = sum(len(samples_of(file)) for file in record["files"])
            row = Counter(systems=1, complete=int(made == each), without=int(made == 0), wanted=each, trajectories=made, tried=record["tried"])
            row.update({f"rejected: {reason}": count for reason, count in record["rejected"].items()})
            for table, key in ((of_side, side), (of_sort, sort_of(name))):
                table.setdefault(key, Counter()).update(row)
            if record["status"] != "complete":
                short[record["status"].split(":")[0].replace(name, "it")] += 1
            lines += [f"{digest}  {file}\n" for file, digest in record["files"].items()]
            size += sum((data_dir / file).stat().st_size for file in record["files"])
    problems = verify(data_dir) if finished == len(wanted) else [f"{len(wanted) - finished} systems of {len(wanted)} are not finished"]
    return {"data_dir": str(data_dir.name), "config": manifest["config"], "processor": manifest["processor"], "versions": manifest["versions"], "systems": len(wanted), "finished": finished, "cpu_seconds": cpu_seconds,
            "bytes": size, "files": len(lines), "digest": hashlib.sha256("".join(sorted(lines, key=lambda line: line.split("  ", 1)[1])).encode()).hexdigest(), "problems": problems,
            "sides": {key: dict(row) for key, row in of_side.items()}, "sorts": {key: dict(row) for key, row in sorted(of_sort.items())}, "fell_short": dict(short.most_common())}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("output", nargs="?")
    parser.add_argument("--cpu-seconds", type=float, help="what it took, as measured when it was made")
    arguments = parser.parse_args()
    found = results(arguments.data_dir, arguments.cpu_seconds)
    for side, row in {**found["sides"], **found["sorts"]}.items():
        print(f"{side}: {row['systems']} systems, {row['complete']} complete, {row['without']} without any; {row['trajectories']} of {row['wanted']} trajectories; {row['tried']} parameter sets tried; "
              + ", ".join(f"{count} {reason.split(': ', 1)[1]}" for reason, count in sorted(row.items()) if reason.startswith("rejected")))
    print(f"{found['finished']} of {found['systems']} systems, {found['bytes'] / 1e9:.2f} GB in {found['files']} files, digest {found['digest']}; {found['problems'] or 'all files as their records say'}")
    if arguments.output:
        write_json(found, arguments.output)


if __name__ == "__main__":
    main()
