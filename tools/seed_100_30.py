"""The first version's experiment, and whether fine-tuning helps at all: three arms, three seeds, three families, judged on 30 flows that were set aside with their families.

    nice -n 10 python tools/seed_100_30.py            # twenty minutes on one core; killed at any moment, it goes on
    nice -n 10 python tools/seed_100_30.py --models chronos-dysts-generic-bolt

The data are those of `chronos-dysts generate experiment=seed-100-30`, the runs those of `chronos-dysts train experiment=seed-100-30` with what `ARMS` and `SETTINGS` say. The "before" are the models that come with the package, which have learnt
generic series only. Writes nbs/results/seed_100_30.json, run by run: of each forecaster, system, metric and horizon the mean over the windows.
"""

import argparse
import json
import os
import time
from pathlib import Path

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import torch
from omegaconf import OmegaConf
from rich.console import Console

from chronos_dysts import models
from chronos_dysts.baselines import get_baseline
from chronos_dysts.cli import compose
from chronos_dysts.evaluation import Protocol, environment, evaluate
from chronos_dysts.generation import generate
from chronos_dysts.generic import synthetic_series
from chronos_dysts.store import Trajectory, open_store, write_json
from chronos_dysts.training import train

RESULTS = Path(__file__).resolve().parent.parent / "nbs" / "results" / "seed_100_30.json"
SEEDS = (0, 1, 2)
TRANSFORMS = "augment.transforms=[RandomAffineTransform,RandomConvexCombinationTransform,RandomTakensEmbedding]"
ARMS = {"plain": [], "augmented": [TRANSFORMS], "skew": [TRANSFORMS], "longer": ["train.max_steps=400", "train.save_steps=100", "validation.every=100"]}  # longer: plain, for the T5, which has had a sixth of the steps of the others
SETTINGS = {
    "chronos-dysts-generic-bolt": [],
    "chronos-dysts-generic-2": ["train.per_device_train_batch_size=16"],  # windows of about three coordinates
    "chronos-dysts-generic-t5": ["context_length=128", "train.max_steps=100", "train.save_steps=50", "train.log_steps=25", "validation.every=25", "validation.windows=16", "validation.samples=4"]}
PROTOCOL = Protocol(context_length=256, prediction_length=64, horizons=(16, 64), n_windows=2, metrics=("smape100", "mae", "vpt_periods", "wql"), seed=0)
SAMPLES = 8  # paths of a T5


def composed(command: str, *overrides: str) -> dict:
    return OmegaConf.to_container(compose(command, ["experiment=seed-100-30", *overrides]), resolve=True)


def scores(forecaster, trajectories) -> dict[str, list[float]]:
    """Means over the windows of each system, the systems by name; keys are metric@horizon."""
    rows = evaluate({"it": forecaster}, trajectories, PROTOCOL)
    means = rows.groupby(["metric", "horizon", "system"])["value"].mean()
    return {f"{metric}@{horizon}": [round(value, 4) for value in part.droplevel([0, 1]).sort_index()] for (metric, horizon), part in means.groupby(level=[0, 1])}


def generic(count: int = 8) -> list[Trajectory]:
    """Generic series that no model has seen, as trajectories: what may be forgotten."""
    made = synthetic_series(count, 1024, seed=99)
    return [Trajectory(item.target, item.item_id, item.system, {}, item.target[:, 0].astype(float), 1.0, 1.0, 0) for item in made]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpora", type=Path, default=Path("corpora/seed-100-30"))
    parser.add_argument("--runs", type=Path, default=Path("runs/seed-100-30"))
    parser.add_argument("--models", nargs="*", default=list(SETTINGS), help=f"of {', '.join(SETTINGS)}")
    parser.add_argument("--arms", nargs="*", default=list(ARMS))
    args = parser.parse_args()
    torch.set_num_threads(1)
    console = Console(force_terminal=False, soft_wrap=True)
    generate(composed("generate", f"data_dir={args.corpora}"), console)
    trained = sorted(set(open_store(args.corpora / "train").systems))
    flows = [name for name in trained if "_drives_" not in name]
    test = open_store(args.corpora / "test")
    test = [t for t in test if "_drives_" not in t.system]
    others = generic()
    done = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"runs": {}, "scores": {}, "forgetting": {}}
    record = {"flows": flows, "pairs": sorted(set(trained) - set(flows)), "test": sorted({t.system for t in test}), "generic": sorted({t.system for t in others}), "trajectories": {"train": len(open_store(args.corpora / "train")), "test": len(test)},
              "protocol": {"context_length": PROTOCOL.context_length, "prediction_length": PROTOCOL.prediction_length, "n_windows": PROTOCOL.n_windows, "samples": SAMPLES, "seed": PROTOCOL.seed}}

    def judged(name: str, forecaster) -> None:
        began = time.process_time()
        done["scores"][name] = scores(forecaster, test)
        done["forgetting"][name] = scores(forecaster, others)
        done["runs"].setdefault(name, {})["judged_in"] = round(time.process_time() - began, 1)
        write_json(done | record | environment(), RESULTS)

    for name in ("persistence", "mean", "parroting"):
        if name not in done["runs"]:
            judged(name, get_baseline(name))
    for seed in SEEDS:
        for base in args.models:
            short = base.rpartition("-")[2]
            if short not in done["runs"]:
                judged(short, models.load(base, n_samples=SAMPLES))
            for arm in args.arms:
                name = f"{short}-{arm}-{seed}"
                if name in done["runs"] or (arm == "longer" and short != "t5"):
                    continue
                chosen = [] if arm == "skew" else ["systems=[" + ",".join(flows) + "]"]
                began = time.process_time()
                result = train(composed("train", f"model_id={base}", f"data_dir={args.corpora}", f"output_dir={args.runs}", f"run_name={name}", f"seed={seed}", *SETTINGS[base], *ARMS[arm], *chosen), console)
                done["runs"][name] = {"seconds": round(time.process_time() - began, 1), "steps": result.steps, "of": result.made["train"]["max_steps"], "losses": result.losses, "validation": list(result.validation)}
                judged(name, models.load(result.directory, n_samples=SAMPLES))
                console.print(f"{name} done", highlight=False)


if __name__ == "__main__":
    main()
