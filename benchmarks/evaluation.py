"""How long a whole `panda20` evaluation takes, from nothing to the report: nbs/results/evaluation.json, which nbs/70_evaluation.ipynb shows.

    python benchmarks/evaluation.py [--model chronos-dysts-nano] [--windows 20] [--workers 2]    # the goal is 10 minutes on two cores

The package's own model, or with `--model bolt-tiny` a Bolt of that published size with random weights (what it says does not matter here, how long it takes does not depend on it), 512 steps ahead,
beside persistence, mean, drift, seasonal, parroting, AR, DMD and NVAR: 20 windows of each of the 20 systems, all metrics of the protocol, examples, report. What is known of the other model is kept.
Trajectories are made anew. Processor time is of all processes together; what else ran on the machine is told by its load.
"""

import argparse
import json
import os
import resource
import tempfile
import time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pandas as pd
import yaml
from rich.console import Console

from chronos_dysts import evaluation, models
from chronos_dysts.protocols import PROTOCOLS
from chronos_dysts.store import write_json

PATH = Path(__file__).resolve().parent.parent / "nbs" / "results" / "evaluation.json"
BASELINES = ("persistence", "mean", "drift", "seasonal", "parroting", "ar", "dmd", "nvar")


def processor_seconds():
    return sum(used.ru_utime + used.ru_stime for used in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="chronos-dysts-nano")
    parser.add_argument("--windows", type=int, default=20, help="of each system; fewer are not the protocol, and nothing is stored")
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    panda = PROTOCOLS["panda20"]
    PROTOCOLS["panda20"] = replace(panda, settings={**panda.settings, "n_windows": args.windows})
    with tempfile.TemporaryDirectory() as folder:
        model_id = args.model
        if model_id == "bolt-tiny":
            model_id = f"{folder}/bolt-tiny"
            models.save(models.build("chronos-bolt", "tiny", context_length=512, prediction_length=64), model_id, {"systems": []})
        load, wall, used = os.getloadavg()[0], time.perf_counter(), processor_seconds()
        report = evaluation.run_evaluation(dict(named_protocol="panda20", model_id=model_id, baselines=BASELINES, data_dir=f"{folder}/data", output_dir=f"{folder}/evaluation", workers=args.workers), Console(quiet=True))
        wall, load = time.perf_counter() - wall, max(load, os.getloadavg()[0])
        made = yaml.safe_load(report.read_text().split("<pre>")[1].split("</pre>")[0].replace("&#x27;", "'").replace("&quot;", '"'))
        summary = pd.read_csv(report.parent / "summary.csv")
        rows = evaluation.read_rows(report.parent / "rows.parquet")
    from joblib.externals.loky import get_reusable_executor
    get_reusable_executor().shutdown()  # the time of a process that has ended can be asked for
    used = processor_seconds() - used
    windows, systems = len(rows[["trajectory", "window"]].drop_duplicates()), rows["system"].nunique()
    print(f"panda20 with {args.model}: {windows} windows of {systems} systems, {1 + len(BASELINES)} forecasters, {args.workers} workers: {wall:.0f} s, of the processors {used:.0f} s; load up to {load:.1f} on {os.cpu_count()} cores; the goal is 600 s")
    seconds = made["seconds for each forecaster, in this run"]
    print(*(f"  {name:12} {value:6.1f} s" for name, value in seconds.items()), sep="\n")
    at = summary[summary["metric"] == "smape100"].pivot(index="forecaster", columns="horizon", values="median").loc[list(BASELINES)]
    print(at.round(1).to_string())
    if args.windows == 20:
        kept = json.loads(PATH.read_text()) if PATH.exists() else {"models": {}}
        kept["models"][args.model] = {"workers": args.workers, "seconds": round(wall, 1), "processor_seconds": round(used, 1), "load": round(load, 1), "seconds_of": seconds}
        write_json(kept | {"windows": windows, "systems": systems, "median_smape100": {name: {str(h): round(v, 2) for h, v in line.items()} for name, line in at.iterrows()}, **{key: made[key] for key in ("hardware", "python", "versions")}}, PATH)


if __name__ == "__main__":
    main()
