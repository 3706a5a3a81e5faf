"""Training windows from stored trajectories: ours against the public Chronos loader's way, in the same process, one thread.

    python benchmarks/windows.py [--trajectories 64] [--length 4096] [--context 512] [--horizon 64] [--seconds 5]

Both sides read the same trajectories from Arrow files (ours one file a trajectory, the public way one file with all of them, which suits it best) and make tokenised windows of one coordinate each; a window is one coordinate's context and target. The public way, written from the
documentation of GluonTS and the public training script of Chronos: `FileDataset` → a transformation of each entry → `InstanceSplitter` → tokens of each window by the packaged tokenizer.
It is measured without an augmentation and with an affine one per entry; ours with none and with the three that the package has, on every window. Void where the public way without
an augmentation does not reach 1,000 windows a second. Rates are per second of processor time, so that a busy machine disturbs them less.
"""

import argparse
import itertools
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from chronos import ChronosConfig
from gluonts.dataset.common import FileDataset
from gluonts.itertools import Cyclic, Map
from gluonts.transform import ExpectedNumInstanceSampler, InstanceSplitter

from chronos_dysts.augmentations import RandomAffineTransform, RandomConvexCombinationTransform, RandomProjectedSkewTransform
from chronos_dysts.models import build
from chronos_dysts.store import Trajectory, open_store, write_trajectory
from chronos_dysts.training import model_inputs
from chronos_dysts.windows import StoreSource


def write_store(folder: Path, n: int, length: int) -> None:
    "Trajectories of three coordinates: sums of incommensurate sines, of `n // 4` made-up systems."
    made = []
    for i in range(n):
        rng = np.random.default_rng(i)
        t, w = np.arange(length), rng.uniform(0.02, 0.2, (3, 3, 1))
        target = np.sin(w * t + rng.uniform(0, 6, (3, 3, 1))).sum(1).astype(np.float32)
        made.append(Trajectory(target, f"s{i // 4}/{i % 4}", f"s{i // 4}", {}, np.zeros(3), 0.1, 1.0, 0))
        write_trajectory(made[-1], folder / "files" / f"s{i // 4}" / f"{i % 4}_T-{length}.arrow")
    write_trajectory(made, folder / "shard.arrow")


def public(folder: Path, context: int, horizon: int, augment: bool):
    "The public way: one tokenised window of one coordinate at a time, without end."
    config = build("chronos-t5", "nano", context_length=context, prediction_length=horizon).config.chronos_config
    tokenizer = ChronosConfig(**config).create_tokenizer()
    rng = np.random.default_rng(0)

    def preprocess(entry: dict) -> dict:
        target = entry["target"]
        if augment: target = rng.standard_normal((len(target), len(target))).astype(np.float32) @ target
        return {"start": entry["start"], "target": target[rng.integers(len(target))]}

    dataset = Cyclic(Map(preprocess, FileDataset(folder / "shard.arrow", freq="h", one_dim_target=False)))
    splitter = InstanceSplitter(target_field="target", is_pad_field="is_pad", start_field="start", forecast_start_field="forecast_start",
                                instance_sampler=ExpectedNumInstanceSampler(num_instances=1.0, min_instances=1, min_past=context, min_future=horizon),
                                past_length=context, future_length=horizon, dummy_value=np.nan)
    for entry in splitter.apply(dataset, is_train=True):
        past, future = torch.tensor(entry["past_target"]).unsqueeze(0), torch.tensor(entry["future_target"]).unsqueeze(0)
        tokens, mask, scale = tokenizer.context_input_transform(past)
        labels, labels_mask = tokenizer.label_input_transform(future, scale)
        labels[labels_mask == 0] = -100
        yield {"input_ids": tokens.squeeze(0), "attention_mask": mask.squeeze(0), "labels": labels.squeeze(0)}


def ours(folder: Path, context: int, horizon: int, augmentations: list, channels: str):
    "Our way: tokenised batches; yields the number of windows of one coordinate in each."
    model = build("chronos-t5", "nano", context_length=context, prediction_length=horizon)
    source = StoreSource(open_store(folder / "files"), context, horizon, 256, augmentations=augmentations, probability=1.0, channels=channels)
    for step in itertools.count():
        yield len(model_inputs(model, source.batch(step))["labels"])


def rate(stream, seconds: float, count=lambda item: 1) -> float:
    "Windows per second of processor time, of an endless stream, after a start."
    next(stream)
    began, n = time.process_time(), 0
    while time.process_time() - began < seconds: n += count(next(stream))
    return n / (time.process_time() - began)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("trajectories", 64), ("length", 4096), ("context", 512), ("horizon", 64)): parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    args = parser.parse_args()
    torch.set_num_threads(1)
    three = [RandomAffineTransform(), RandomConvexCombinationTransform(), RandomProjectedSkewTransform()]
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        write_store(folder, args.trajectories, args.length)
        began = time.perf_counter()
        StoreSource(open_store(folder / "files"), args.context, args.horizon, 256).batch(0)
        first = time.perf_counter() - began
        reference = {augment: rate(public(folder, args.context, args.horizon, augment), args.seconds) for augment in (False, True)}
        print(f"{args.trajectories} trajectories of {args.length} points, context {args.context}, horizon {args.horizon}, one thread; ours: the first batch after {first:.2f} s")
        print(f"{'windows of one coordinate a second, tokenised':56}{'plain':>10}{'augmented':>12}")
        print(f"{'public way':56}{reference[False]:10.0f}{reference[True]:12.0f}")
        for channels, text in (("one", "ours, one coordinate of each window"), ("joint", "ours, all coordinates of each window")):
            rates = {bool(a): rate(ours(folder, args.context, args.horizon, a, channels), args.seconds, lambda n: n) for a in ([], three)}
            print(f"{text:56}{rates[False]:10.0f}{rates[True]:12.0f}    {rates[False] / reference[False]:.0f} and {rates[True] / reference[True]:.0f} times the public way")
        if reference[False] < 1000: raise SystemExit("void: the public way without an augmentation did not reach 1,000 windows a second")


if __name__ == "__main__":
    main()
