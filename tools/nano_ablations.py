"""What each part of the architecture is worth: nbs/results/nano_ablations.json.

    python tools/nano_ablations.py    # after chronos-dysts discover and generate, both experiment=nano; a minute on a GPU
    python tools/nano_ablations.py --windows 40 --batches 30 --epochs 3 --judged 160 --seeds 2    # what one core can do in some minutes

Models that lack one part each, trained from the same random weights on the same windows in the same order for as many steps, and judged on windows of the validation families of `panda20`, which none of them has seen. What the experts
say about a window is made once for all of them. Differences to the whole model are paired by window, with an interval from a bootstrap over windows; the seeds of the weights are averaged and shown.
"""

import argparse
import os
import platform
import time
from pathlib import Path

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np
import torch
from omegaconf import OmegaConf

from chronos_dysts import models
from chronos_dysts.architecture import LEVELS
from chronos_dysts.cli import compose
from chronos_dysts.generation import processor
from chronos_dysts.metrics import smape100
from chronos_dysts.models import model_inputs
from chronos_dysts.store import open_store, write_json
from chronos_dysts.training import TrainConfig
from chronos_dysts.windows import StoreSource

ROOT = Path(__file__).resolve().parent.parent
VARIANTS = {
    "whole": {},
    "without analogues": {"experts": ["maps"]},
    "without maps": {"experts": ["analogues"]},
    "without channel attention": {"channel_attention": False},
    "without patch features": {"patch_features": False},
    "without the transformer": {"num_layers": 0},
}
CONTEXT, HORIZON = 512, 128
LEARNING_RATE = 3e-3


def build(variant, seed):
    return models.build("chronos-dysts", {"size": "nano"} | VARIANTS[variant], context_length=CONTEXT, prediction_length=HORIZON, seed=seed)


def opinions(source, count, device):
    """The arguments of a model for so many batches, with what the experts say to them."""
    listener, found = build("whole", 0).to(device).train(), []
    for step in range(count):
        there = {name: x.to(device) for name, x in model_inputs(listener, source.batch(step)).items()}
        found.append(there | {"opinions": listener.listen(there["context"], there["group_ids"], there["future_target"])})
    return found


def train(variant, seed, data, epochs):
    model = build(variant, seed).to(data[0]["context"].device).train()
    optimiser, step = torch.optim.AdamW(model.parameters(), LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.01), 0
    total = epochs * len(data)
    for _ in range(epochs):
        for arguments in data:
            for group in optimiser.param_groups: group["lr"] = LEARNING_RATE * min(1, (step + 1) / 10) * 0.5 * (1 + np.cos(np.pi * step / total))
            model(**arguments).loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            optimiser.zero_grad()
            step += 1
    return model


@torch.no_grad()
def judge(model, data):
    """Loss and sMAPE (0–100) of each window."""
    rows = []
    model.train()  # the same crops as in training
    for arguments in data:
        quantiles, group, target = (x.cpu() for x in (model(**arguments).quantile_preds, arguments["group_ids"], arguments["future_target"]))
        levels = torch.tensor(LEVELS)[:, None]
        miss = target[:, None] - quantiles
        pinball = 2 * torch.maximum(levels * miss, (levels - 1) * miss).nan_to_num(0).mean((1, 2))
        smape = torch.from_numpy(smape100(target[:, None].double().numpy(), quantiles[:, [LEVELS.index(0.5)]].double().numpy())).mean(-1)
        count = torch.bincount(group)
        rows.append(torch.stack([torch.zeros(len(count), dtype=torch.float64).index_add_(0, group, x.double()) / count for x in (pinball, smape)], -1))
    return torch.cat(rows).numpy()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, default=Path("corpora/nano"))
    for name, default in (("windows", 1024), ("batches", 24), ("epochs", 12), ("judged", 2048), ("seeds", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--output", type=Path, default=ROOT / "nbs" / "results" / "nano_ablations.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    began = time.perf_counter()
    recipe = TrainConfig.from_mapping(OmegaConf.to_container(compose("train", ["experiment=nano"]), resolve=True))
    data = opinions(StoreSource(open_store(args.data_dir / "train"), CONTEXT, HORIZON, args.windows, seed=1, channels="joint", augmentation=recipe.augmentation()), args.batches, args.device)
    judged = opinions(StoreSource(open_store(args.data_dir / "validation"), CONTEXT, HORIZON, args.windows, seed=2, channels="joint"), args.judged // args.windows, args.device)
    print(f"{args.batches * args.windows} windows to learn from and {args.judged} to judge by, {time.perf_counter() - began:.0f} s", flush=True)
    scores, seconds = {}, {}
    scores["untrained"] = np.stack([judge(build("whole", 0).to(args.device), judged)] * args.seeds)
    for variant in VARIANTS:
        start = time.perf_counter()
        scores[variant] = np.stack([judge(train(variant, seed, data, args.epochs), judged) for seed in range(args.seeds)])
        seconds[variant] = round((time.perf_counter() - start) / args.seeds, 1)
        print(f"{variant}: loss {scores[variant][..., 0].mean():.4f}, sMAPE {scores[variant][..., 1].mean():.2f}, {seconds[variant]} s a seed", flush=True)
    rng, rows = np.random.default_rng(0), []
    resamples = rng.integers(0, args.judged, (2000, args.judged))
    for variant, found in scores.items():
        row = {"variant": variant, "weights": build(variant if variant in VARIANTS else "whole", 0).num_parameters(), "seconds": seconds.get(variant, 0)}
        for k, name in enumerate(("loss", "smape100")):
            difference = (found - scores["whole"])[..., k].mean(0)
            low, high = np.quantile(difference[resamples].mean(1), (0.025, 0.975))
            row |= {name: round(float(found[..., k].mean()), 4), f"{name}_seeds": [round(float(v), 4) for v in found[..., k].mean(1)], f"{name}_difference": round(float(difference.mean()), 4), f"{name}_low": round(float(low), 4), f"{name}_high": round(float(high), 4)}
        rows.append(row)
    write_json({"rows": rows, "context": CONTEXT, "horizon": HORIZON, "windows": args.batches * args.windows, "epochs": args.epochs, "steps": args.batches * args.epochs, "judged": args.judged, "seeds": args.seeds, "learning_rate": LEARNING_RATE,
                "seconds": round(time.perf_counter() - began), "processor": torch.cuda.get_device_name() if args.device == "cuda" else processor(), "python": platform.python_version(), "versions": models.versions()}, args.output)


if __name__ == "__main__":
    main()
