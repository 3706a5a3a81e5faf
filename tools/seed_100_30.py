"""The first version's experiment, and whether fine-tuning helps at all: three arms, three seeds, three families, judged on 30 flows that were set aside with their families.

    nice -n 10 python tools/seed_100_30.py            # twenty minutes on one core; killed at any moment, it goes on
    nice -n 10 python tools/seed_100_30.py --models chronos-dysts-generic-bolt
    python tools/seed_100_30.py --alike --workers 4 --makers 1        # on a GPU, minutes
    python tools/seed_100_30.py --alike --arms defaults               # nothing but the defaults of chronos-dysts train: the T5 four minutes a run, the others one or less

The data are those of `chronos-dysts generate experiment=seed-100-30`, the runs those of `chronos-dysts train experiment=seed-100-30` with what `ARMS` and `SETTINGS` say. The "before" are the models that come with the package, which have learnt
generic series only. Writes nbs/results/seed_100_30.json, run by run: of each forecaster, system, metric and horizon the mean over the windows, and of each run what it was made on.
On the CPU the T5 has a sixth of the steps of the others and half the context. With --alike all families have the same recipe, and with --steps more of it; that goes to nbs/results/seed_100_30_alike.json.
There the arm `defaults` is the bare command, `chronos-dysts train model_id=… data_dir=…`: all that is in the training set, and no setting of the experiment.
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
from side_by_side import side_by_side

from chronos_dysts import models
from chronos_dysts.baselines import get_baseline
from chronos_dysts.cli import compose
from chronos_dysts.evaluation import Protocol, environment, evaluate
from chronos_dysts.generation import generate
from chronos_dysts.generic import synthetic_series
from chronos_dysts.store import Trajectory, open_store, write_json
from chronos_dysts.training import train

RESULTS = Path(__file__).resolve().parent.parent / "nbs" / "results"
SEEDS = (0, 1, 2)
TRANSFORMS = "augment.transforms=[RandomAffineTransform,RandomConvexCombinationTransform,RandomTakensEmbedding]"
ARMS = {"plain": [], "augmented": [TRANSFORMS], "skew": [TRANSFORMS], "longer": ["train.max_steps=400", "train.save_steps=100", "validation.every=100"]}  # longer: plain, for the T5, which has had a sixth of the steps of the others
ALIKE = ("plain", "augmented", "skew", "defaults")  # the arms of --alike
SETTINGS = {
    "chronos-dysts-generic-bolt": [],
    "chronos-dysts-generic-2": ["train.per_device_train_batch_size=16"],  # windows of about three coordinates
    "chronos-dysts-generic-t5": ["context_length=128", "train.max_steps=100", "train.save_steps=50", "train.log_steps=25", "validation.every=25", "validation.windows=16", "validation.samples=4"]}
PROTOCOL = Protocol(context_length=256, prediction_length=64, horizons=(16, 64), n_windows=2, metrics=("smape100", "mae", "vpt_periods", "wql"), seed=0)
SAMPLES = 8  # paths of a T5
BASELINES = ("persistence", "mean", "parroting")


def device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def where() -> str:
    """What a run is made on: a study may be begun on one machine and finished on another."""
    return f"{torch.cuda.get_device_name() if device() == 'cuda' else environment()['hardware']}, torch {torch.__version__}"


def composed(command: str, *overrides: str, experiment: bool = True) -> dict:
    return OmegaConf.to_container(compose(command, [*(["experiment=seed-100-30"] if experiment else []), *overrides]), resolve=True)


def scores(forecaster, trajectories) -> dict[str, list[float]]:
    """Means over the windows of each system, the systems by name; keys are metric@horizon."""
    rows = evaluate({"it": forecaster}, trajectories, PROTOCOL, batch_size=256 if device() == "cuda" else 32)
    means = rows.groupby(["metric", "horizon", "system"])["value"].mean()
    return {f"{metric}@{horizon}": [round(value, 4) for value in part.droplevel([0, 1]).sort_index()] for (metric, horizon), part in means.groupby(level=[0, 1])}


def generic(count: int = 8) -> list[Trajectory]:
    """Generic series that no model has seen, as trajectories: what may be forgotten."""
    made = synthetic_series(count, 1024, seed=99)
    return [Trajectory(item.target, item.item_id, item.system, {}, item.target[:, 0].astype(float), 1.0, 1.0, 0) for item in made]


def test_set(corpora: Path) -> list[Trajectory]:
    return [t for t in open_store(corpora / "test") if "_drives_" not in t.system]


def judged(model_id: str, corpora: Path) -> dict:
    """Scores of a baseline or a model on the flows that were set aside, and on generic series."""
    torch.set_num_threads(1)
    began = time.process_time()
    forecaster = get_baseline(model_id) if model_id in BASELINES else models.load(model_id, device(), n_samples=SAMPLES)
    return {"scores": scores(forecaster, test_set(corpora)), "forgetting": scores(forecaster, generic()), "judged_in": round(time.process_time() - began, 1), "on": where()}


def trained(settings: dict, corpora: Path) -> dict:
    """A run, and the scores of its model."""
    torch.set_num_threads(1)
    began, clock = time.process_time(), time.perf_counter()
    result = train(settings, Console(force_terminal=False, soft_wrap=True))
    run = {"seconds": round(time.process_time() - began, 1), "by_the_clock": round(time.perf_counter() - clock, 1), "steps": result.steps, "of": result.made["train"]["max_steps"], "losses": result.losses, "validation": list(result.validation)}
    return {"run": run} | judged(str(result.directory), corpora)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpora", type=Path, default=Path("corpora/seed-100-30"))
    parser.add_argument("--as-they-are", action="store_true", help="take the corpora that lie there, and generate nothing")
    parser.add_argument("--runs", type=Path, default=Path("runs/seed-100-30"))
    parser.add_argument("--results", type=Path)
    parser.add_argument("--models", nargs="*", default=list(SETTINGS), help=f"of {', '.join(SETTINGS)}")
    parser.add_argument("--arms", nargs="*", help=f"of {', '.join(ARMS)}; with --alike of {', '.join(ALIKE)}")
    parser.add_argument("--seeds", nargs="*", type=int, default=list(SEEDS))
    parser.add_argument("--alike", action="store_true", help="the same recipe for all families")
    parser.add_argument("--steps", type=int, help="with --alike: other than the recipe's")
    parser.add_argument("--workers", type=int, default=1, help="runs at a time")
    parser.add_argument("--makers", type=int, default=0, help="processes that make the batches of a run")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="after so many no run is begun")
    args = parser.parse_args()
    if args.steps and not args.alike:
        parser.error("--steps goes with --alike")
    known = tuple(ARMS) if not args.alike else ALIKE[:-1] if args.steps else ALIKE
    if wrong := set(args.arms or ()) - set(known):
        parser.error(f"there is no arm {', '.join(sorted(wrong))}; there are {', '.join(known)}")
    torch.set_num_threads(1)
    console, clock, results = Console(force_terminal=False, soft_wrap=True), time.perf_counter(), args.results or RESULTS / ("seed_100_30_alike.json" if args.alike else "seed_100_30.json")
    if not args.as_they_are:
        generate(composed("generate", f"data_dir={args.corpora}"), console)
    trained_on = sorted(set(open_store(args.corpora / "train").systems))
    flows = [name for name in trained_on if "_drives_" not in name]
    test = test_set(args.corpora)
    done = json.loads(results.read_text()) if results.exists() else {"runs": {}, "scores": {}, "forgetting": {}}
    record = {"flows": flows, "pairs": sorted(set(trained_on) - set(flows)), "test": sorted({t.system for t in test}), "generic": sorted({t.system for t in generic()}), "trajectories": {"train": len(open_store(args.corpora / "train")), "test": len(test)},
              "protocol": {"context_length": PROTOCOL.context_length, "prediction_length": PROTOCOL.prediction_length, "n_windows": PROTOCOL.n_windows, "samples": SAMPLES, "seed": PROTOCOL.seed}}
    jobs: dict[str, tuple] = {name: (judged, name, args.corpora) for name in BASELINES if name not in done["runs"]}
    for seed in args.seeds:
        for base in args.models:
            short = base.rpartition("-")[2]
            if short not in done["runs"]:
                jobs[short] = judged, base, args.corpora
            for arm in args.arms or known:
                name = f"{short}-{arm}{f'@{args.steps}' if args.steps else ''}-{seed}"
                if name in done["runs"] or (arm == "longer" and short != "t5"):
                    continue
                run = f"model_id={base}", f"data_dir={args.corpora}", f"output_dir={args.runs}", f"run_name={name.replace('@', '-of-')}", f"seed={seed}"
                if arm == "defaults":
                    jobs[name] = trained, composed("train", *run, experiment=False), args.corpora
                    continue
                own = SETTINGS[base] if not args.alike or short != "t5" else ["validation.samples=4"]
                if args.steps:
                    own = [*own, f"train.max_steps={args.steps}", f"train.save_steps={args.steps}"]
                if args.makers:
                    own = [*own, f"train.dataloader_num_workers={args.makers}"]
                chosen = [] if arm == "skew" else ["systems=[" + ",".join(flows) + "]"]
                jobs[name] = trained, composed("train", *run, *own, *ARMS[arm], *chosen), args.corpora
    for name, answer in side_by_side(jobs, args.workers, args.seconds):
        if answer is None:
            console.print(f"{name}: no time left", highlight=False)
            continue
        done["runs"][name] = answer.get("run", {}) | {key: answer[key] for key in ("judged_in", "on")}
        done["scores"][name], done["forgetting"][name] = answer["scores"], answer["forgetting"]
        write_json(done | record | environment(), results)
        console.print(f"{name}: sMAPE {sum(answer['scores']['smape100@64']) / len(answer['scores']['smape100@64']):.1f}, {time.perf_counter() - clock:.0f} s since the start", highlight=False)


if __name__ == "__main__":
    main()
