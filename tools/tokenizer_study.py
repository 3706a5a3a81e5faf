"""Does another code forecast better than uniform bins? The same small T5, the same windows, the same compute; only the tokenizer differs.

    nice -n 10 python tools/tokenizer_study.py            # about ten minutes of one core; killed at any moment, it goes on

Every arm starts from the T5 that comes with the package, which has learnt generic series only, is given its tokenizer (`models.set_tokenizer`) and is trained on the flows of the default split's training side, then judged on the flows of its validation and test sides, whose families it has not seen; nothing is chosen by them. Arms differ in the tokenizer
and in the number of steps, which is such that each has the same number of floating point operations (as torch counts them for a step, forward and backward, attention and head included). Every arm draws from its whole distribution: no `top_k`.
Beside the scores of `Protocol` each model gets the mean log density that it gives to what came, in units of the context's deviation: log p(bin) - log(width of the bin), which codes of different bins share.
With `--random` the arms start from random weights and have as many operations as 300 steps: too few to leave the plateau of knowing the marginal distribution.
Writes nbs/results/tokenizers.json, run by run.
"""

import argparse
import json
import os
import time
from pathlib import Path

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np
import torch
from rich.console import Console
from torch.utils.flop_counter import FlopCounterMode

from chronos_dysts import models
from chronos_dysts.baselines import get_baseline
from chronos_dysts.evaluation import Protocol, environment, evaluate
from chronos_dysts.fresh import affordable
from chronos_dysts.generation import generate
from chronos_dysts.models import model_inputs
from chronos_dysts.store import open_store, write_json
from chronos_dysts.systems import split_systems
from chronos_dysts.tokenizers import MeanScaleBins, Tokenizer, tokenizer_of
from chronos_dysts.training import train
from chronos_dysts.windows import StoreSource

RESULTS = Path(__file__).resolve().parent.parent / "nbs" / "results" / "tokenizers.json"
CONTEXT, HORIZON, ROWS, STEPS, RANDOM_STEPS = 64, 32, 32, 200, 300  # of the arm that the others are measured by
BASE = "chronos-dysts-generic-t5"
ARMS = {  # tokenizer, size of the vocabulary
    "mean-scale ±15, 514": ("mean-scale", 514),  # the bins of Chronos with as many tokens as the others
    "standardised ±5, 514": ("standardised", 514),
    "quantile, 514": ("quantile", 514),
    "two-level, 2 · 256": ("two-level", 514),
    "mean-scale ±15, 1024": ("mean-scale", 1024)}  # as the base has learnt it: more weights
REFERENCE = "mean-scale ±15, 514"
SEEDS = (0, 1, 2)
PROTOCOL = Protocol(context_length=CONTEXT, prediction_length=HORIZON, horizons=(8, 32), n_windows=3, metrics=("smape100", "mae", "vpt_periods", "wql"), seed=0)
SAMPLES = 8
FAR = 100.0  # deviations


def widths(code: Tokenizer, scale: torch.Tensor) -> torch.Tensor:
    """The widths of the bins in deviations of a context that is standardised, (rows, bin): they meet half-way between the centers, and the outermost reach to `FAR`, for what lies beyond the limits is written with them. Of two levels a bin is a pair."""
    unit = scale[:, None] if scale.ndim == 1 else scale[:, 1:]
    if code.tokens_per_step == 2:
        edges = torch.linspace(code.low_limit, code.high_limit, code.size**2 + 1)[1:-1]
    else:
        edges = (code.centers[1:] + code.centers[:-1]) / 2
    edges = edges * unit
    return torch.cat([edges[:, :1] + FAR, edges.diff(), FAR - edges[:, -1:]], 1)


@torch.no_grad()
def log_density(model, source, trajectories, batches: int) -> tuple[dict[str, float], float]:
    """Mean over a window of the log density (nats a step, in deviations of the context) of what came given all before; of each system the mean; and the share of targets in the outermost bins."""
    code, found, outside = tokenizer_of(model.config.chronos_config), {}, []
    for step in range(batches):
        batch = source.batch(step)
        inputs = model_inputs(model, batch, code)
        labels, each = inputs["labels"][:, :-1], code.tokens_per_step
        logits = model(**inputs).logits[:, :-1].float()
        for place in range(each):  # a forecast is one of the tokens that may stand there
            allowed = code.choices(place)
            logits[:, place::each, :allowed.start], logits[:, place::each, allowed.stop:] = -torch.inf, -torch.inf
        p = logits.log_softmax(-1).gather(-1, labels[..., None])[..., 0]
        p = p.unflatten(1, (-1, each)).sum(-1)
        number = labels - code.n_special_tokens
        if each == 2: number = number[:, ::2] * code.size + number[:, 1::2] - code.size
        elif isinstance(code, MeanScaleBins): number = number - 1  # its first token is never written
        p = p - widths(code, code.scale(batch["context"])).gather(1, number).log()
        outside.append(float(((number == 0) | (number == len(code.centers) ** each - 1)).float().mean()))
        for index, value in zip(batch["trajectory"].tolist(), p.mean(1).tolist()): found.setdefault(trajectories[index].system, []).append(value)
    return {name: round(float(np.mean(values)), 4) for name, values in sorted(found.items())}, round(float(np.mean(outside)), 5)


def flops(kind: str, n_tokens: int) -> int:
    """Floating point operations of a step: forward and backward of a batch."""
    model = models.build("chronos-t5", "nano", context_length=CONTEXT, prediction_length=HORIZON, n_tokens=n_tokens, tokenizer=kind)  # the base is of that size
    with FlopCounterMode(display=False) as counter:
        model(**model_inputs(model, {"context": torch.randn(ROWS, CONTEXT), "target": torch.randn(ROWS, HORIZON)})).loss.backward()
    return counter.get_total_flops()


def scores(forecaster, trajectories) -> dict[str, list[float]]:
    """Means over the windows of each system, the systems by name; keys are metric@horizon."""
    rows = evaluate({"it": forecaster}, trajectories, PROTOCOL)
    means = rows.groupby(["metric", "horizon", "system"])["value"].mean()
    return {f"{metric}@{horizon}": [round(value, 4) for value in part.droplevel([0, 1]).sort_index()] for (metric, horizon), part in means.groupby(level=[0, 1])}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpora", type=Path, default=Path("corpora/tokenizers"))
    parser.add_argument("--runs", type=Path, default=Path("runs/tokenizers"))
    parser.add_argument("--arms", nargs="*", default=list(ARMS))
    parser.add_argument("--random", action="store_true", help="start from random weights")
    parser.add_argument("--seeds", nargs="*", type=int, default=list(SEEDS))
    args = parser.parse_args()
    torch.set_num_threads(1)
    console, split = Console(force_terminal=False, soft_wrap=True), split_systems()
    sides = {"train": affordable(split.train), "held-out": affordable([*split.validation, *split.test])}
    for side, systems in sides.items():
        generate(dict(data_dir=str(args.corpora / side), split=side, systems=list(systems), n_params=3 if side == "train" else 2, length=1024, points_per_period=100, workers=1, seed=0), console)
    held_out = open_store(args.corpora / "held-out" / "held-out")
    judged = StoreSource(held_out, context_length=CONTEXT, prediction_length=HORIZON, batch_size=256, seed=7, channels="one", uniform="systems")
    done = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"runs": {}, "scores": {}}
    done |= {"systems": {"train": list(sides["train"]), "held-out": sorted({t.system for t in held_out})}, "reference": REFERENCE, "rows": ROWS, "windows": 4 * 256,
             "protocol": {"context_length": CONTEXT, "prediction_length": HORIZON, "n_windows": PROTOCOL.n_windows, "samples": SAMPLES, "seed": PROTOCOL.seed}}
    counted = {arm: flops(*ARMS[arm]) for arm in ARMS}
    for name in ("persistence", "mean", "parroting", "base"):
        if name not in done["scores"]:
            done["scores"][name] = scores(models.load(BASE, n_samples=SAMPLES) if name == "base" else get_baseline(name), held_out)
    write_json(done | environment(), RESULTS)
    for seed in args.seeds:
        for arm in args.arms:
            name, (kind, n_tokens) = f"{'random: ' if args.random else ''}{arm}/{seed}", ARMS[arm]
            start = dict(family="chronos-t5", size="nano") if args.random else dict(model_id=BASE)
            if name in done["runs"] and "outside" in done["runs"][name]:
                continue
            steps, began = round((RANDOM_STEPS if args.random else STEPS) * counted[REFERENCE] / counted[arm]), time.process_time()
            result = train(start | dict(n_tokens=n_tokens, tokenizer=kind, data_dir=str(args.corpora / "train"), output_dir=str(args.runs), run_name=f"{'random' if args.random else 'base'}-{kind}-{n_tokens}-{steps}-{seed}", seed=seed, context_length=CONTEXT, prediction_length=HORIZON,
                                        average=0.98, validation=dict(every=0), train=dict(max_steps=steps, save_steps=10_000, logging_steps=50, per_device_train_batch_size=ROWS)), console)
            model = models.load_model(result.directory).eval()
            model.config.chronos_config["top_k"] = 0
            run = done["runs"].setdefault(name, {"steps": steps, "gflop_a_step": round(counted[arm] / 1e9, 3), "weights": model.num_parameters(), "seconds": round(time.process_time() - began, 1) if result.samples_per_second else None, "losses": result.losses})
            if name not in done["scores"]:
                done["scores"][name] = scores(models.forecaster(model, name, n_samples=SAMPLES), held_out)
            run["log_density"], run["outside"] = log_density(model, judged, held_out, 4)
            write_json(done | environment(), RESULTS)
            console.print(f"{name}: {np.mean(list(run['log_density'].values())):.3f} nats, {run['seconds']:.0f} s", highlight=False)


if __name__ == "__main__":
    main()
