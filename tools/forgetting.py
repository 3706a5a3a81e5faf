"""What fine-tuning on chaos costs elsewhere, and what the remedies save: the runs behind nbs/84_forgetting.ipynb, and the fine-tuned models that 82_tokens and 83_error_growth look into.

    nice -n 10 python tools/forgetting.py            # half an hour on one core; killed at any moment, it goes on

Generates a small corpus of flows with families set aside, fine-tunes the models that come with the package in several ways, measures each on the suite of `chronos_dysts.probing.forgetting` and on the flows that were set aside, and writes
nbs/results/forgetting.json, run by run.
"""

import argparse
import hashlib
import json
import os
import time
from dataclasses import replace
from pathlib import Path

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import pandas as pd
import torch
from rich.console import Console

from chronos_dysts import models
from chronos_dysts.evaluation import environment
from chronos_dysts.fresh import affordable
from chronos_dysts.generation import generate
from chronos_dysts.probing.common import families_of
from chronos_dysts.probing.forgetting import PROTOCOL, chaos_gain, chaos_scores, forgetting, interpolated, measure, ratios, suite
from chronos_dysts.store import open_store, read_manifest, write_atomically, write_json
from chronos_dysts.systems import catalogue
from chronos_dysts.training import train

RESULTS = Path(__file__).resolve().parent.parent / "nbs" / "results" / "forgetting.json"
CORPUS = dict(n_params=3, length=1024, points_per_period=30, test_fraction=0.3, validation_fraction=0.0, judged_at=None, pack=True, workers=1)  # judged as it is stored: what is recorded was made so
COMMON = dict(train=dict(max_steps=400, save_steps=400, logging_steps=100), validation=dict(every=0))
MODELS = {  # what differs from the common settings, for each base
    "chronos-dysts-generic-bolt": dict(context_length=256, prediction_length=64),
    "chronos-dysts-generic-2": dict(context_length=256, prediction_length=64, train=dict(per_device_train_batch_size=16)),
    "chronos-dysts-generic-t5": dict(context_length=128, prediction_length=64)}
ARMS = {"plain": {}, "replay-0.1": dict(generic=0.1), "replay-0.25": dict(generic=0.25), "replay-0.5": dict(generic=0.5), "lora-2": dict(lora={"rank": 2}), "lora-8": dict(lora={"rank": 8}),
        "l2_sp-0.01": dict(l2_sp=0.01), "l2_sp-0.1": dict(l2_sp=0.1), "l2_sp-1": dict(l2_sp=1.0)}
SAMPLES = 8  # paths of a T5
SHARES = (0.25, 0.5, 0.75)  # of a fine-tuned model in its mean with the base
PROTOCOL_OF = {"chronos-t5": replace(PROTOCOL, context_length=128, n_windows=2)}
THRICE = ("plain", "replay-0.1", "replay-0.25", "lora-8", "l2_sp-0.1")  # with three seeds
SEEDS = {("chronos-dysts-generic-bolt", arm): (0, 1, 2) if arm in THRICE else (0,) for arm in ARMS} | {(base, arm): (0, 1, 2) for base, arms in (("chronos-dysts-generic-2", ("plain", "replay-0.1", "replay-0.25", "lora-8")), ("chronos-dysts-generic-t5", ("plain", "replay-0.1", "replay-0.25"))) for arm in arms}


def corpus(folder, console):
    """Half of the flows that can be made for little, three parameter sets each, families set aside; as it is where it has been made."""
    generate(CORPUS | dict(data_dir=str(folder), systems=[name for name in catalogue() if name in affordable(catalogue())][::2]), console)


def runs():
    """(name, base, arm, seed) of all runs, the most wanted first."""
    found = [(f"{base.rpartition('-')[2]}-{arm}-{seed}", base, arm, seed) for (base, arm), seeds in SEEDS.items() for seed in seeds]
    return sorted(found, key=lambda run: (run[1].endswith("t5"), run[2] not in ("plain", "replay-0.1"), len(SEEDS[run[1], run[2]]) == 1, run[1].endswith("-2"), run[3], run[2] != "plain"))  # a T5 takes four times as long as a Bolt


def scored(name, forecaster, datasets, flows, kept):
    """Rows of the suite and of the flows; kept, so that a killed run goes on."""
    paths = [kept / f"{name}-{part}.parquet" for part in ("suite", "flows")]
    if not all(path.exists() for path in paths):
        for path, frame in zip(paths, (measure(forecaster, datasets, 256), chaos_scores(forecaster, flows, PROTOCOL_OF.get(forecaster.family, PROTOCOL)))):
            write_atomically(path, lambda temporary: frame.to_parquet(temporary, index=False))
    return [pd.read_parquet(path) for path in paths]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=[base.rpartition("-")[2] for base in MODELS], help="runs of one base")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS), help="runs trained in these ways")
    parser.add_argument("--missing", action="store_true", help="no runs whose scores are recorded, unless a mean over seeds needs their rows and --runs has them no more")
    parser.add_argument("--means", action="store_true", help="train nothing, and tell the means of the runs that there are")
    parser.add_argument("--corpus", type=Path, default=Path("corpora/inside"))
    parser.add_argument("--runs", type=Path, default=Path("runs/inside"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    console = Console(force_terminal=False, soft_wrap=True)
    corpus(args.corpus, console)
    split, datasets, flows = read_manifest(args.corpus)["split"], suite(), list(open_store(args.corpus / "test"))
    families = families_of(split["test"], args.corpus)
    digest = hashlib.sha256(b"".join(t.target.tobytes() for part in ("train", "test") for t in open_store(args.corpus / part))).hexdigest()[:12]
    record = {"train": split["train"], "test": split["test"], "corpus": digest, "trajectories": {"train": len(open_store(args.corpus / "train")), "test": len(flows)}, "datasets": len(datasets), "samples": SAMPLES, "common": COMMON, "models": MODELS, "arms": ARMS, "runs": {}, "scores": {}, "datasets_of": {}, "means": {}}
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if all(known.get(key) == json.loads(json.dumps(record[key])) for key in ("train", "test", "corpus", "common", "models", "arms", "samples")):  # what was made alike stays until it is made again
        names = {name for name, *_ in runs()}
        for key in ("runs", "scores", "datasets_of"): record[key] |= {name: value for name, value in known[key].items() if name.partition("-mean-")[0] in names}
        record["means"] |= known.get("means", {})

    def told(before, chaos_before, rows, chaos):
        gains = {f"{metric}@{horizon}": [round(x, 4) for x in chaos_gain(chaos_before, chaos, families, metric, horizon)] for metric in ("mae", "smape100") for horizon in (16, 64)}
        return {"gain": gains, "loss": {f"{row.group}/{row.score}": [round(x, 4) for x in (row.ratio, row.low, row.high)] for row in forgetting(before, rows).itertuples()}}

    def add(name, base, model):
        forecaster = models.forecaster(model, name, n_samples=SAMPLES)
        rows, chaos = scored(name, forecaster, datasets, flows, args.runs)
        before, chaos_before = scored(base.rpartition("-")[2], models.load(base, n_samples=SAMPLES), datasets, flows, args.runs)
        record["scores"][name] = told(before, chaos_before, rows, chaos)
        if "-plain-" in name and "mean" not in name: record["datasets_of"][name] = {row.dataset: [round(row.mase_before, 3), round(row.mase_ratio, 3), round(row.wql_ratio, 3)] for row in ratios(before, rows).itertuples()}
        write_json(record | environment(), RESULTS)

    def means():
        "The errors of each way to train, in the mean over its seeds: after over before, and over those of plain training on the same windows."
        for base in MODELS:
            short, plain = base.rpartition("-")[2], None
            if args.only not in (None, short): continue
            def kept(names): return all((args.runs / f"{name}-flows.parquet").exists() for name in (short, *names))
            for (_, arm), seeds in ((key, seeds) for key, seeds in SEEDS.items() if key[0] == base):
                for suffix in ("", *(f"-mean-{share}" for share in SHARES)):
                    names = {seed: f"{short}-{arm}-{seed}{suffix}" for seed in seeds}
                    names = {seed: name for seed, name in names.items() if name in record["scores"]}  # those that are done
                    if names and kept(names.values()):
                        (before, chaos_before), *after = (scored(name, None, datasets, flows, args.runs) for name in (short, *names.values()))
                        rows = before.assign(**{column: sum(x[column] for x, _ in after) / len(names) for column in ("mase", "loss")})
                        chaos = chaos_before.assign(value=sum(x["value"] for _, x in after) / len(names))
                        found = told(before, chaos_before, rows, chaos)
                        if plain is None: plain = (rows, chaos) if (arm, suffix) == ("plain", "") else None
                        else:
                            over = told(*plain, rows, chaos)
                            found["over plain"] = {"gain": over["gain"]["mae@64"], "loss": over["loss"]["all/mase"]}
                    elif len(names) == 1: [found] = (record["scores"][name] for name in names.values())
                    else: continue
                    record["means"][f"{short}-{arm}{suffix}"] = found | {"seeds": list(names)}
        write_json(record | environment(), RESULTS)

    for name, base, arm, seed in runs():
        if args.means or args.only not in (None, base.rpartition("-")[2]) or arm not in args.arms: continue
        if args.missing and name in record["runs"] and (len(SEEDS[base, arm]) == 1 or (args.runs / f"{name}-flows.parquet").exists()): continue
        began = time.process_time()
        changes = {key: value for key, value in (MODELS[base] | ARMS[arm]).items() if key != "train"}
        result = train(COMMON | changes | dict(model_id=base, data_dir=str(args.corpus), output_dir=str(args.runs), run_name=name, seed=seed, train=COMMON["train"] | MODELS[base].get("train", {})), console)
        model = models.load_model(result.directory)
        record["runs"][name] = {"loss": result.losses[-1][1]}
        add(name, base, model)
        if arm in ("plain", "replay-0.1", "replay-0.25"):
            for share in SHARES:
                add(f"{name}-mean-{share}", base, interpolated(models.load_model(base), model, share))
        console.print(f"{name}: {time.process_time() - began:.0f} s", highlight=False)
    means()


if __name__ == "__main__":
    main()
