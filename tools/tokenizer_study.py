"""Does another code forecast better than uniform bins? The same small T5, the same windows, the same compute; only the tokenizer differs.

    nice -n 10 python tools/tokenizer_study.py            # about ten minutes of one core; killed at any moment, it goes on

Every arm starts from the T5 that comes with the package, which has learnt generic series only, is given its tokenizer (`models.set_tokenizer`) and is trained on the flows of the default split's training side, then judged on the flows of its validation and test sides, whose families it has not seen; nothing is chosen by them. Arms differ in the tokenizer
and in the number of steps, which is such that each has the same number of floating point operations (as torch counts them for a step, forward and backward, attention and head included). Every arm draws from its whole distribution: no `top_k`.
Beside the scores of `Protocol` each model gets the mean log density that it gives to what came, in units of the context's deviation: log p(bin) - log(width of the bin), which codes of different bins share.
With `--random` the arms start from random weights and have as many operations as 300 steps: too few to leave the plateau of knowing the marginal distribution.
Writes nbs/results/tokenizers.json, run by run.

    python tools/tokenizer_study.py --size tiny --workers 4 --makers 1        # on a GPU, minutes

trains the published geometry tiny instead, from random weights (with the initialisation of the house size, made for short training, and without dropout), for as many operations as 1,000 steps of 256 windows; there the two-level code is trained for as many steps
as the reference too, and the bins of Chronos also with as many tokens as published. Several runs share a GPU in processes of their own. Writes nbs/results/tokenizers_tiny.json.
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
from torch.nn.attention import SDPBackend, sdpa_kernel
from rich.console import Console
from side_by_side import side_by_side
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

RESULTS = Path(__file__).resolve().parent.parent / "nbs" / "results"
CONTEXT, HORIZON = 64, 32
SIZES = {  # rows of a batch; steps of the arm that the others are measured by, from the base and from random weights; trajectories of a system; the model
    "nano": dict(rows=32, steps=200, random_steps=300, trajectories=3, model="nano"),
    "tiny": dict(rows=256, steps=None, random_steps=1000, trajectories=8, model={"size": "tiny", "initializer_factor": 0.25, "dropout_rate": 0.0})}
BASE = "chronos-dysts-generic-t5"
ARMS = {  # tokenizer, size of the vocabulary
    "mean-scale ±15, 514": ("mean-scale", 514),  # the bins of Chronos with as many tokens as the others
    "standardised ±5, 514": ("standardised", 514),
    "quantile, 514": ("quantile", 514),
    "two-level, 2 · 256": ("two-level", 514),
    "mean-scale ±15, 1024": ("mean-scale", 1024)}  # as the base has learnt it: more weights
TINY_ARMS = {arm: code for arm, code in ARMS.items() if arm != "mean-scale ±15, 1024"} | {"two-level, 2 · 256, equal steps": ("two-level", 514), "mean-scale ±15, 4096": ("mean-scale", 4096)}
REFERENCE = "mean-scale ±15, 514"
SEEDS = (0, 1, 2)
PROTOCOL = Protocol(context_length=CONTEXT, prediction_length=HORIZON, horizons=(8, 32), n_windows=3, metrics=("smape100", "mae", "vpt_periods", "wql"), seed=0)
SAMPLES = 8
FAR = 100.0  # deviations
JUDGED, AT_ONCE = 1024, 256  # windows whose density is taken


def widths(code: Tokenizer, scale: torch.Tensor) -> torch.Tensor:
    """The widths of the bins in deviations of a context that is standardised, (rows, bin): they meet half-way between the centers, and the outermost reach to `FAR`, for what lies beyond the limits is written with them. Of two levels a bin is a pair."""
    unit = scale[:, None] if scale.ndim == 1 else scale[:, 1:]
    if code.tokens_per_step == 2:
        edges = torch.linspace(code.low_limit, code.high_limit, code.size**2 + 1, device=unit.device)[1:-1]
    else:
        edges = ((code.centers[1:] + code.centers[:-1]) / 2).to(unit.device)
    edges = edges * unit
    return torch.cat([edges[:, :1] + FAR, edges.diff(), FAR - edges[:, -1:]], 1)


def device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


@torch.no_grad()
def log_density(model, source, trajectories, batches: int) -> tuple[dict[str, float], float]:
    """Mean over a window of the log density (nats a step, in deviations of the context) of what came given all before; of each system the mean; and the share of targets in the outermost bins."""
    code, found, outside = tokenizer_of(model.config.chronos_config), {}, []
    for step in range(batches):
        batch = {name: x.to(model.device) for name, x in source.batch(step).items()}
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


def flops(kind: str, n_tokens: int, size) -> int:
    """Floating point operations of a row in a step: forward and backward."""
    model = models.build("chronos-t5", size, context_length=CONTEXT, prediction_length=HORIZON, n_tokens=n_tokens, tokenizer=kind)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model(**model_inputs(model, {"context": torch.randn(1, CONTEXT), "target": torch.randn(1, HORIZON)})).loss.backward()
    return counter.get_total_flops()


def scores(forecaster, trajectories) -> dict[str, list[float]]:
    """Means over the windows of each system, the systems by name; keys are metric@horizon."""
    rows = evaluate({"it": forecaster}, trajectories, PROTOCOL, batch_size=256 if device() == "cuda" else 32)
    means = rows.groupby(["metric", "horizon", "system"])["value"].mean()
    return {f"{metric}@{horizon}": [round(value, 4) for value in part.droplevel([0, 1]).sort_index()] for (metric, horizon), part in means.groupby(level=[0, 1])}


def console() -> Console:
    return Console(force_terminal=False, soft_wrap=True)


def judged(name: str, held_out: Path) -> dict:
    """Scores of a baseline, or of the base."""
    forecaster = models.load(BASE, n_samples=SAMPLES) if name == "base" else get_baseline(name)
    return {"scores": scores(forecaster, open_store(held_out))}


def trained(name: str, code: tuple[str, int], settings: dict, held_out: Path) -> dict:
    """A run, and what its model is worth."""
    torch.set_num_threads(1)
    began, clock = time.process_time(), time.perf_counter()
    result = train(settings, console())
    model = models.load_model(result.directory).eval().to(device())
    model.config.chronos_config["top_k"] = 0
    run = {"steps": settings["train"]["max_steps"], "weights": model.num_parameters(), "losses": result.losses}
    if result.samples_per_second:
        run |= {"seconds": round(time.process_time() - began, 1), "by_the_clock": round(time.perf_counter() - clock, 1), "samples_per_second": round(result.samples_per_second), "waited": round(result.waited, 4)}
    store = open_store(held_out)
    found = scores(models.forecaster(model, name, n_samples=SAMPLES), store)
    source = StoreSource(store, context_length=CONTEXT, prediction_length=HORIZON, batch_size=AT_ONCE, seed=7, channels="one", uniform="systems")
    run["log_density"], run["outside"] = log_density(model, source, store, JUDGED // AT_ONCE)
    return {"run": run, "scores": found}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=list(SIZES), default="nano")
    parser.add_argument("--corpora", type=Path, help="by default corpora/tokenizers, for tiny corpora/tokenizers-tiny")
    parser.add_argument("--as-they-are", action="store_true", help="take the corpora that lie there, and generate nothing")
    parser.add_argument("--runs", type=Path, default=Path("runs/tokenizers"))
    parser.add_argument("--results", type=Path)
    parser.add_argument("--arms", nargs="*")
    parser.add_argument("--random", action="store_true", help="start from random weights; tiny always does")
    parser.add_argument("--seeds", nargs="*", type=int, default=list(SEEDS))
    parser.add_argument("--steps", type=int, help="of the reference")
    parser.add_argument("--rows", type=int, help="windows of a batch")
    parser.add_argument("--workers", type=int, default=1, help="runs at a time")
    parser.add_argument("--makers", type=int, default=0, help="processes that make the batches of a run")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="after so many no run is begun")
    args = parser.parse_args()
    torch.set_num_threads(1)
    clock, say, split, size = time.perf_counter(), console(), split_systems(), SIZES[args.size]
    tiny, random = args.size == "tiny", args.random or args.size == "tiny"
    arms, rows, steps = TINY_ARMS if tiny else ARMS, args.rows or size["rows"], args.steps or size["random_steps" if random else "steps"]
    results = args.results or RESULTS / ("tokenizers_tiny.json" if tiny else "tokenizers.json")
    corpora = args.corpora or Path("corpora/tokenizers-tiny" if tiny else "corpora/tokenizers")
    if not args.as_they_are:
        for side, systems in {"train": affordable(split.train), "held-out": affordable([*split.validation, *split.test])}.items():
            generate(dict(data_dir=str(corpora / side), split=side, systems=list(systems), n_params=size["trajectories"] if side == "train" else 2, length=1024, points_per_period=100, workers=1, seed=0, pack=tiny), say)
    held_out = corpora / "held-out" / "held-out"
    done = json.loads(results.read_text()) if results.exists() else {"runs": {}, "scores": {}}
    done |= {"systems": {"train": sorted({t.system for t in open_store(corpora / "train" / "train")}), "held-out": sorted({t.system for t in open_store(held_out)})}, "reference": REFERENCE, "rows": rows, "windows": JUDGED,
             "protocol": {"context_length": CONTEXT, "prediction_length": HORIZON, "n_windows": PROTOCOL.n_windows, "samples": SAMPLES, "seed": PROTOCOL.seed},
             "device": torch.cuda.get_device_name() if device() == "cuda" else "no GPU", "size": args.size, "precision": "bf16" if device() == "cuda" else "fp32"}
    counted = {arm: flops(*arms[arm], size["model"]) for arm in arms}
    jobs: dict[str, tuple] = {name: (judged, name, held_out) for name in ("persistence", "mean", "parroting", *([] if tiny else ["base"])) if name not in done["scores"]}
    for seed in args.seeds:
        for arm in args.arms or arms:
            name, (kind, n_tokens) = f"{'random: ' if random and not tiny else ''}{arm}/{seed}", arms[arm]
            if name in done["runs"] and "outside" in done["runs"][name]:
                continue
            mine = steps if arm.endswith("equal steps") else round(steps * counted[REFERENCE] / counted[arm])
            start = dict(family="chronos-t5", size=size["model"]) if random else dict(model_id=BASE)
            makers = {"dataloader_num_workers": args.makers} if args.makers else {}
            jobs[name] = (trained, name, arms[arm], start | dict(
                n_tokens=n_tokens, tokenizer=kind, data_dir=str(corpora / "train"), output_dir=str(args.runs), run_name=f"{args.size + '-' if tiny else ''}{'random' if random else 'base'}-{kind}-{n_tokens}-{mine}-{seed}", seed=seed, context_length=CONTEXT, prediction_length=HORIZON,
                average=0.98, validation=dict(every=0), train=dict(max_steps=mine, save_steps=100_000, logging_steps=50, per_device_train_batch_size=rows, bf16=device() == "cuda", **makers)), held_out)
            done["runs"].setdefault(name, {})["gflop_a_step"] = round(counted[arm] * rows / 1e9, 3)
    for name, answer in side_by_side(jobs, args.workers, args.seconds):
        if answer is None:
            say.print(f"{name}: no time left", highlight=False)
            continue
        done["scores"][name] = answer["scores"]
        if "run" in answer:
            done["runs"][name] |= answer["run"]
            say.print(f"{name}: {np.mean(list(answer['run']['log_density'].values())):.3f} nats, sMAPE {np.mean(answer['scores']['smape100@32']):.1f}, loss {answer['run']['losses'][-1][1]:.3f}, {time.perf_counter() - clock:.0f} s since the start", highlight=False)
        write_json(done | {"runs": {name: run for name, run in done["runs"].items() if "outside" in run}} | environment(), results)


if __name__ == "__main__":
    main()
