"""Training windows: ours against the public Chronos loader's way, on one core; then fresh trajectories a second, and how long a model waits for them.

    python benchmarks/windows.py [--trajectories 64] [--length 4096] [--context 512] [--horizon 64] [--seconds 5] [--many 10000] [--parts store,first,online,waiting] [--json FILE]

store    Windows of stored trajectories. Both sides read the same ones from Arrow files (ours one file a trajectory, the public way one file with all of them, which suits it best) and make standardised, tokenised
         windows; a window is one coordinate's context and target. The public way, written from the documentation of GluonTS and the public training script of Chronos: `FileDataset` → a transformation of each entry →
         `InstanceSplitter` → tokens of each window by the packaged tokenizer. It is measured without an augmentation and with an affine one per entry; ours with none and with a mixture of affine maps,
         convex combinations and projected skew sums on every window. The sides take turns, five times; a ratio is the median over the turns. Void where the public way without an augmentation does not
         reach 1,000 windows a second.
first    Seconds to the first batch, imports apart, from a folder of --many trajectories in a file each, in a process of its own.
online   Certified fresh trajectories a second of `OnlineSource` on one core, over all training flows that are affordable, after a unit of each that compiles it.
waiting  The share of its time that a model trained on the CPU waits for an `OnlineSource` with one worker, after the first batch: the published size tiny, and the house size nano, whose steps are so cheap that it
         uses as many trajectories as a core can make. Needs two cores.

Rates are per second of processor time, so that a busy machine disturbs them less; waiting is by the clock.
"""

import argparse
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np
import torch
from chronos import ChronosConfig
from gluonts.dataset.common import FileDataset
from gluonts.itertools import Cyclic, Map
from gluonts.transform import ExpectedNumInstanceSampler, InstanceSplitter

from chronos_dysts.augmentations import Mixture, RandomAffineTransform, RandomConvexCombinationTransform, RandomProjectedSkewTransform
from chronos_dysts.fresh import UNIT, affordable
from chronos_dysts.models import build, model_inputs
from chronos_dysts.store import Trajectory, open_store, write_trajectory
from chronos_dysts.systems import split_systems
from chronos_dysts.windows import OnlineSource, StoreSource

BATCH = 32


def write_store(folder: Path, n: int, length: int) -> None:
    """Trajectories of three coordinates: sums of incommensurate sines, of `n // 4` made-up systems."""
    made = []
    for i in range(n):
        rng = np.random.default_rng(i)
        t, w = np.arange(length), rng.uniform(0.02, 0.2, (3, 3, 1))
        target = np.sin(w * t + rng.uniform(0, 6, (3, 3, 1))).sum(1).astype(np.float32)
        made.append(Trajectory(target, f"s{i // 4}/{i % 4}", f"s{i // 4}", {}, np.zeros(3), 0.1, 1.0, 0))
        write_trajectory(made[-1], folder / "files" / f"s{i // 4}" / f"{i % 4}_T-{length}.arrow")
    write_trajectory(made, folder / "shard.arrow")


def public(folder: Path, context: int, horizon: int, augment: bool):
    """The public way: one tokenised window of one coordinate at a time, without end."""
    config = build("chronos-t5", "nano", context_length=context, prediction_length=horizon).config.chronos_config
    tokenizer = ChronosConfig(**config).create_tokenizer()
    rng = np.random.default_rng(0)

    def preprocess(entry: dict) -> dict:
        target = entry["target"]
        if augment:
            target = rng.standard_normal((len(target), len(target))).astype(np.float32) @ target
        return {"start": entry["start"], "target": target[rng.integers(len(target))]}

    dataset = Cyclic(Map(preprocess, FileDataset(folder / "shard.arrow", freq="h", one_dim_target=False)))
    splitter = InstanceSplitter(
        target_field="target", is_pad_field="is_pad", start_field="start", forecast_start_field="forecast_start",
        instance_sampler=ExpectedNumInstanceSampler(num_instances=1.0, min_instances=1, min_past=context, min_future=horizon),
        past_length=context, future_length=horizon, dummy_value=np.nan)
    for entry in splitter.apply(dataset, is_train=True):
        past, future = torch.tensor(entry["past_target"]).unsqueeze(0), torch.tensor(entry["future_target"]).unsqueeze(0)
        tokens, mask, scale = tokenizer.context_input_transform(past)
        labels, labels_mask = tokenizer.label_input_transform(future, scale)
        labels[labels_mask == 0] = -100
        yield {"input_ids": tokens.squeeze(0), "attention_mask": mask.squeeze(0), "labels": labels.squeeze(0)}


def ours(folder: Path, context: int, horizon: int, augmentation, channels: str):
    """Our way: tokenised batches; yields the number of windows of one coordinate in each."""
    model = build("chronos-t5", "nano", context_length=context, prediction_length=horizon)
    source = StoreSource(open_store(folder / "files"), context, horizon, BATCH, augmentation=augmentation, channels=channels)
    for step in itertools.count():
        yield len(model_inputs(model, source.batch(step))["labels"])


def rate(stream, seconds: float, count=lambda item: 1) -> float:
    """Windows per second of processor time, of an endless stream."""
    next(stream)
    began, n = time.process_time(), 0
    while time.process_time() - began < seconds:
        n += count(next(stream))
    return n / (time.process_time() - began)


def store_part(args) -> dict:
    mixture = Mixture([RandomAffineTransform(), RandomConvexCombinationTransform(), RandomProjectedSkewTransform()])
    sides = {("one", "plain"): None, ("one", "augmented"): mixture, ("joint", "plain"): None, ("joint", "augmented"): mixture}
    rates: dict[tuple, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        write_store(folder, args.trajectories, args.length)
        streams = {("public", kind): (public(folder, args.context, args.horizon, kind == "augmented"), lambda item: 1) for kind in ("plain", "augmented")}
        streams |= {key: (ours(folder, args.context, args.horizon, augmentation, key[0]), lambda n: n) for key, augmentation in sides.items()}
        for _ in range(5):
            for key, (stream, count) in streams.items():
                rates.setdefault(key, []).append(rate(stream, args.seconds / 5, count))
    print(f"{args.trajectories} trajectories of {args.length} points, context {args.context}, horizon {args.horizon}, batches of {BATCH}, one thread; median of five turns, least and most in brackets")
    print(f"{'windows of one coordinate a second, tokenised':46}{'plain':>10}{'augmented':>12}")
    found = {}
    for side, text in (("public", "public way"), ("one", "ours, one coordinate of each window"), ("joint", "ours, all coordinates of each window")):
        line = f"{text:46}"
        for kind, width in (("plain", 10), ("augmented", 12)):
            found[f"{side}, {kind}"] = statistics.median(rates[side, kind])
            line += f"{found[f'{side}, {kind}']:{width},.0f}"
        if side != "public":
            for kind in ("plain", "augmented"):
                ratios = sorted(a / b for a, b in zip(rates[side, kind], rates["public", kind]))
                found[f"{side}, {kind}, ratio"] = ratios[2]
                line += f"   {kind} {ratios[2]:.0f} [{ratios[0]:.0f}, {ratios[-1]:.0f}] times the public way"
        print(line)
    if found["public, plain"] < 1000:
        raise SystemExit(f"void: the public way without an augmentation reached {found['public, plain']:.0f} windows a second, not 1,000")
    return found


def first_part(args) -> dict:
    code = """
import sys, time
from chronos_dysts.store import open_store
from chronos_dysts.windows import StoreSource
began, busy = time.perf_counter(), time.process_time()
StoreSource(open_store(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), 32).batch(0)
print(time.perf_counter() - began, time.process_time() - busy)"""
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        target = np.random.default_rng(0).standard_normal((3, args.length)).cumsum(1).astype(np.float32)
        for i in range(args.many):
            item = Trajectory(target, f"s{i // 100}/{i % 100}", f"s{i // 100}", {}, np.zeros(3), 0.1, 1.0, 0)
            write_trajectory(item, folder / f"s{i // 100}" / f"{i % 100}_T-{args.length}.arrow")
        command = [sys.executable, "-c", code, str(folder), str(args.context), str(args.horizon)]
        runs = [subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() for _ in range(3)]
    clock, processor = (statistics.median(float(run[i]) for run in runs) for i in (0, 1))
    print(f"the first batch of {args.many:,} trajectories in a file each, imports apart: {processor:.2f} s of processor time, {clock:.2f} s by the clock (median of three processes; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores)")
    return {"seconds": clock, "processor seconds": processor}


def online_part(args) -> dict:
    split = split_systems()
    systems = affordable(split.train)
    recipe = OnlineSource(systems, args.context, args.horizon, BATCH, held_out=split.test).fresh.recipe
    began = time.process_time()
    for text in recipe.systems:  # compile every flow, and find its attractor
        replace(recipe, systems=(text,), shares=(1.0,)).unit(0)
    cold = len(systems) * UNIT / (time.process_time() - began)
    number, rates, seen = 0, [], set()
    for _ in range(5):
        began, made = time.process_time(), 0
        while time.process_time() - began < 2 * args.seconds:
            unit = recipe.unit(number)
            made, number, seen = made + len(unit), number + 1, seen | {item.system for item in unit}
        rates.append(made / (time.process_time() - began))
    print(f"fresh trajectories of {args.context + args.horizon} points, each certified, drawn from {len(systems)} flows (of {len(split.train)} to train on, {len(seen)} seen here): {statistics.median(rates):,.0f} a second and core "
          f"[{min(rates):,.0f}, {max(rates):,.0f}]; {cold:,.0f} while the flows are compiled")
    return {"rate": statistics.median(rates), "cold": cold, "flows": len(systems)}


def waiting_part(args) -> dict:
    return {size: waiting(size, steps, args) for size, steps in (("nano", args.steps), ("tiny", max(20, args.steps // 5)))}


def waiting(size: str, steps: int, args) -> dict:
    model = build("chronos-bolt", size, context_length=args.context, prediction_length=args.horizon)
    optimiser = torch.optim.AdamW(model.parameters(), 1e-3)
    source = OnlineSource(affordable(split_systems().train), args.context, args.horizon, BATCH, workers=1)
    began = time.perf_counter()
    source.batch(0)
    first = time.perf_counter() - began
    waits, began = [], time.perf_counter()
    for step in range(steps):
        asked = time.perf_counter()
        inputs = model_inputs(model, source.batch(step))
        waits.append(time.perf_counter() - asked)
        model(**inputs).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    seconds = time.perf_counter() - began
    share = sum(waits) / seconds
    source.close()
    print(f"a chronos-bolt {size} ({model.num_parameters() / 1e6:.2f} M weights), {steps} steps of {BATCH} in {seconds:.0f} s ({steps * BATCH / seconds:.0f} windows/s), one worker: waits {share:.1%} of the time after the first batch, "
          f"which took {first:.1f} s")
    return {"weights": model.num_parameters(), "share": share, "first": first, "windows per second": steps * BATCH / seconds}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("trajectories", 64), ("length", 4096), ("context", 512), ("horizon", 64), ("many", 10_000), ("steps", 300)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--parts", default="store,first,online,waiting")
    parser.add_argument("--json", type=Path, help="write the measurements to this file too")
    args = parser.parse_args()
    torch.set_num_threads(1)
    parts = {"store": store_part, "first": first_part, "online": online_part, "waiting": waiting_part}
    found = {"versions": {name: version(name) for name in ("torch", "gluonts", "chronos-forecasting", "heyoka")}, "machine": platform.machine(), "cores": os.cpu_count()}
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}, " + ", ".join(f"{name} {v}" for name, v in found["versions"].items()))
    for name in args.parts.split(","):
        if name not in parts:
            parser.error(f"there is no part {name!r}; there are {', '.join(parts)}")
        found[name] = parts[name](args)
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
