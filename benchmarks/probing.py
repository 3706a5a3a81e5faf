"""What it costs to keep the states of a model beside reading the windows: the stream of embeddings against the bare encoder, in one run, window for window.

    python benchmarks/probing.py            # seconds to minutes, one thread
"""

import argparse
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
from chronos_dysts.forecasting import Standardiser
from chronos_dysts.probing import embeddings
from chronos_dysts.store import Trajectory

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


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--windows", type=int, help="of each model; default: 10,000 of the smallest, fewer of the others")
    parser.add_argument("--only", help="the model with this in its name")
    parser.add_argument("--rounds", type=int, default=10, help="parts in which the two take turns")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    cases = [("Bolt nano", models.load("chronos-dysts-generic-bolt"), 10_000), ("Chronos-2 nano", models.load("chronos-dysts-generic-2"), 2000),
             ("Bolt tiny", models.forecaster(models.build("chronos-bolt", "tiny"), "tiny"), 1000), ("T5 nano", models.load("chronos-dysts-generic-t5"), 1000)]
    print(f"{'':16} windows   stream / bare encoder (CPU time, median of rounds)   windows/s   grown by, MiB")
    for name, forecaster, count in cases:
        if args.only and args.only not in name:
            continue
        length = min(CONTEXT, forecaster.context_length)
        count = max(1, (args.windows or count) // args.rounds)
        series = [Trajectory(rng.normal(size=(1, count + length - 1)).cumsum(1).astype(np.float32), f"{k}", "walk", {}, np.zeros(1), 1.0, 1.0, 0) for k in range(args.rounds)]
        ratios, seconds, before = [], 0.0, None
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
                if k == 1:
                    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        print(f"{name:16} {count * args.rounds:7} {statistics.median(ratios):8.3f} ({min(ratios):.2f} to {max(ratios):.2f}) {count * args.rounds / seconds:38.0f} {grown:14.1f}", flush=True)
    print(f"load {os.getloadavg()[0]:.1f}, one thread")


if __name__ == "__main__":
    main()
