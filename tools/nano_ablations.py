"""What each part of the architecture is worth: nbs/results/nano_ablations.json.

    nice -n 10 python tools/nano_ablations.py      # after chronos-dysts discover and generate, both experiment=nano; some minutes on one core

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
from chronos_dysts.architecture import LEVELS, DystsModel
from chronos_dysts.cli import compose
from chronos_dysts.generation import processor
from chronos_dysts.metrics import smape100
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
CONTEXT, HORIZON, WINDOWS, BATCHES, EPOCHS, JUDGED = 512, 128, 40, 30, 3, 160
LEARNING_RATE = 3e-3


def build(variant, seed):
    return models.build("chronos-dysts", {"size": "nano"} | VARIANTS[variant], context_length=CONTEXT, prediction_length=HORIZON, seed=seed)


def opinions(source, count):
    """Batches, and what the experts say about them."""
    found, asked = [], []
    listener = build("whole", 0).train()
    consult = DystsModel._consult
    listener._consult = lambda *args: asked.append(consult(listener, *args)) or asked[-1]
    for step in range(count):
        batch = source.batch(step)
        batch["context"] = batch["context"].contiguous()
        with torch.no_grad(): listener(batch["context"], batch["group_ids"], batch["target"])
        found.append((batch, asked.pop()))
    return found


def answer(model, batch, said):
    model._consult = lambda *args: said
    return model(batch["context"], batch["group_ids"], batch["target"])


def train(variant, seed, data):
    model = build(variant, seed).train()
    optimiser, step = torch.optim.AdamW(model.parameters(), LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.01), 0
    total = EPOCHS * len(data)
    for _ in range(EPOCHS):
        for batch, said in data:
            for group in optimiser.param_groups: group["lr"] = LEARNING_RATE * min(1, (step + 1) / 10) * 0.5 * (1 + np.cos(np.pi * step / total))
            answer(model, batch, said).loss.backward()
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
    for batch, said in data:
        out = answer(model, batch, said)
        group, target = batch["group_ids"], batch["target"]
        quantiles, levels = out.quantile_preds, torch.tensor(LEVELS)[:, None]
        miss = target[:, None] - quantiles
        pinball = 2 * torch.maximum(levels * miss, (levels - 1) * miss).nan_to_num(0).mean((1, 2))
        smape = torch.from_numpy(smape100(target[:, None].double().numpy(), quantiles[:, [LEVELS.index(0.5)]].double().numpy())).mean(-1)
        count = torch.bincount(group)
        rows.append(torch.stack([torch.zeros(len(count), dtype=torch.float64).index_add_(0, group, x.double()) / count for x in (pinball, smape)], -1))
    return torch.cat(rows).numpy()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, default=Path("corpora/nano"))
    parser.add_argument("--seeds", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(1)
    began = time.process_time()
    recipe = TrainConfig.from_mapping(OmegaConf.to_container(compose("train", ["experiment=nano"]), resolve=True))
    data = opinions(StoreSource(open_store(args.data_dir / "train"), CONTEXT, HORIZON, WINDOWS, seed=1, channels="joint", augmentation=recipe.augmentation()), BATCHES)
    judged = opinions(StoreSource(open_store(args.data_dir / "validation"), CONTEXT, HORIZON, WINDOWS, seed=2, channels="joint"), JUDGED // WINDOWS)
    print(f"{BATCHES * WINDOWS} windows to learn from and {JUDGED} to judge by, {time.process_time() - began:.0f} s of the processor", flush=True)
    scores, seconds = {}, {}
    scores["untrained"] = np.stack([judge(build("whole", 0), judged)] * args.seeds)
    for variant in VARIANTS:
        start = time.process_time()
        scores[variant] = np.stack([judge(train(variant, seed, data), judged) for seed in range(args.seeds)])
        seconds[variant] = round((time.process_time() - start) / args.seeds, 1)
        print(f"{variant}: loss {scores[variant][..., 0].mean():.4f}, sMAPE {scores[variant][..., 1].mean():.2f}, {seconds[variant]} s a seed", flush=True)
    rng, rows = np.random.default_rng(0), []
    resamples = rng.integers(0, JUDGED, (2000, JUDGED))
    for variant, found in scores.items():
        row = {"variant": variant, "weights": build(variant if variant in VARIANTS else "whole", 0).num_parameters(), "seconds": seconds.get(variant, 0)}
        for k, name in enumerate(("loss", "smape100")):
            difference = (found - scores["whole"])[..., k].mean(0)
            low, high = np.quantile(difference[resamples].mean(1), (0.025, 0.975))
            row |= {name: round(float(found[..., k].mean()), 4), f"{name}_seeds": [round(float(v), 4) for v in found[..., k].mean(1)], f"{name}_difference": round(float(difference.mean()), 4), f"{name}_low": round(float(low), 4), f"{name}_high": round(float(high), 4)}
        rows.append(row)
    write_json({"rows": rows, "context": CONTEXT, "horizon": HORIZON, "windows": BATCHES * WINDOWS, "epochs": EPOCHS, "steps": BATCHES * EPOCHS, "judged": JUDGED, "seeds": args.seeds, "learning_rate": LEARNING_RATE,
                "seconds": round(time.process_time() - began), "processor": processor(), "python": platform.python_version(), "versions": models.versions()}, ROOT / "nbs" / "results" / "nano_ablations.json")


if __name__ == "__main__":
    main()
