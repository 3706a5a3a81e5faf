"""What it costs to keep the states of a model beside reading the windows: the stream of embeddings against the bare encoder, in one run, window for window.

    python benchmarks/probing.py                                # some ten minutes, one thread
    python benchmarks/probing.py --only "Bolt nano"             # seconds
    python benchmarks/probing.py --json nbs/results/probing_speed.json   # what nbs/benchmarks.ipynb shows

The two take turns, round by round; what is compared is the processor time of the same windows in the same round. Then one pass streams the windows of all rounds: what it needs beyond the peak of the rounds is memory that grows with their number.
"""

import argparse
import json
import os
import resource
import statistics
import tempfile
import time
from pathlib import Path

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np
import torch

from chronos_dysts import models
from chronos_dysts.evaluation import environment
from chronos_dysts.forecasting import Standardiser
from chronos_dysts.probing import embeddings
from chronos_dysts.store import Trajectory, write_json

CONTEXT = 512  # steps, or as many as the model reads


def bare(forecaster, batches):
    """The encoder alone, on tensors that are there: the least that reading the windows can cost."""
    bins = models.MeanScaleBins.from_config(forecaster.model.config.chronos_config) if forecaster.family == "chronos-t5" else None
    with torch.no_grad():
        for rows in batches:
            if bins is not None:
                forecaster.model.encoder(input_ids=rows)
            elif forecaster.family == "chronos-bolt":
                forecaster.model.encode(context=rows)
            else:
                forecaster.model.encode(context=rows, group_ids=torch.arange(len(rows)))


def prepared(forecaster, windows):
    """The windows as the encoder takes them, standardised and, for a T5, tokenised."""
    tokens = windows.context_length // (1 if forecaster.family == "chronos-t5" else 16)
    found = []
    for rows in windows.batches(0, len(windows), max(1, embeddings._TOKENS // tokens)):
        x = windows.values(rows)
        x = torch.from_numpy(Standardiser.of(x).apply(x).astype(np.float32)[:, 0])
        if forecaster.family == "chronos-t5":
            x = models.MeanScaleBins.from_config(forecaster.model.config.chronos_config).encode_context(x)[0]
        found.append(x)
    return found


def peak():
    """The most memory that the process has had so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--windows", type=int, help="of each model; default: 10,000 of the smallest, fewer of the others")
    parser.add_argument("--only", help="the model with this in its name")
    parser.add_argument("--rounds", type=int, default=10, help="parts in which the two take turns")
    parser.add_argument("--json", type=Path, help="a file for the numbers; models that are not measured now stay in it")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    cases = [("Bolt nano", models.load("chronos-dysts-generic-bolt"), 10_000), ("Chronos-2 nano", models.load("chronos-dysts-generic-2"), 2000),
             ("Bolt tiny", models.forecaster(models.build("chronos-bolt", "tiny"), "tiny"), 10_000), ("Chronos-2 tiny", models.forecaster(models.build("chronos-2", "tiny"), "tiny"), 10_000), ("T5 nano", models.load("chronos-dysts-generic-t5"), 1000)]
    print(f"{'':16} windows   stream / bare encoder (CPU time, median of rounds)   windows/s   peak, MiB   grown by, MiB")
    made = json.loads(args.json.read_text())["models"] if args.json and args.json.exists() else {}
    for name, forecaster, count in cases:
        if args.only and args.only not in name:
            continue
        length = min(CONTEXT, forecaster.context_length)
        count = max(1, (args.windows or count) // args.rounds)
        series = [Trajectory(rng.normal(size=(1, count + length - 1)).cumsum(1).astype(np.float32), f"{k}", "walk", {}, np.zeros(1), 1.0, 1.0, 0) for k in range(args.rounds)]
        ratios, seconds = [], 0.0
        with tempfile.TemporaryDirectory() as folder:
            for k, one in enumerate(series):
                windows = embeddings.spread_windows([one], length, count)
                batches = prepared(forecaster, windows)
                if k == 0:
                    bare(forecaster, batches[:2])  # warm
                spent = {}
                for which in ("bare", "stream") if k % 2 else ("stream", "bare"):
                    start = time.process_time()
                    bare(forecaster, batches) if which == "bare" else embeddings.stream_states(forecaster, windows, Path(folder) / str(k))
                    spent[which] = time.process_time() - start
                ratios.append(spent["stream"] / spent["bare"])
                seconds += spent["stream"]
            before, told = peak(), []
            windows = embeddings.spread_windows(series, length, count)
            embeddings.stream_states(forecaster, windows, Path(folder) / "all", progress=told.append)
            states = sum(file.stat().st_size for file in (Path(folder) / "all").rglob("*.arrow")) / 2**20
        rate = count * args.rounds / seconds
        made[name] = {"windows": len(windows), "context_length": length, "weights": sum(p.numel() for p in forecaster.model.parameters()), "ratios": [round(r, 4) for r in ratios], "windows per second": round(rate), "told of progress": len(told),
                      "peak MiB": round(peak()), "grown MiB": round(peak() - before, 1), "states MiB": round(states, 1), "load": round(os.getloadavg()[0], 1)}
        print(f"{name:16} {len(windows):7} {statistics.median(ratios):8.3f} ({min(ratios):.2f} to {max(ratios):.2f}) {rate:38.0f} {peak():11.0f} {peak() - before:15.1f}", flush=True)
        if args.json:
            write_json({"models": made, **environment()}, args.json)
    print(f"load {os.getloadavg()[0]:.1f}, one thread")


if __name__ == "__main__":
    main()
