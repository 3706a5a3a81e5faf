"""What chronos-dysts-nano can, on flows that it never saw: nbs/results/nano.json.

    nice -n 10 python tools/nano_results.py                    # the model that ships; some minutes on one core
    nice -n 10 python tools/nano_results.py --model runs/nano/final --side validation   # while choosing: the validation families instead

One run on the twenty flows of `panda20`: windows of its protocol (errors at horizons of 64 … 512 steps, valid prediction time in Lyapunov times), the same windows seen with noise, contexts of 128 to 2,048 steps, rollouts of 4,096 steps (D_stsp and D_H, beside the floor of another trajectory of the
same flow), and the published test series of dysts beside the published NBEATS. Parts that a call does not ask for stay as they are, as long as the model is the same. Medians over systems with bootstrap intervals, and paired comparisons with parroting on the same windows.
"""

import argparse
import hashlib
import json
import os
import platform
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np
import pandas as pd
import torch

from chronos_dysts import metrics, models
from chronos_dysts.baselines import get_baseline
from chronos_dysts.benchmark import benchmark_table, published_rows
from chronos_dysts.evaluation import Protocol, compare, evaluate, summarise
from chronos_dysts.generation import processor
from chronos_dysts.protocols import PROTOCOLS, PUBLISHED_SERIES, TrajectorySpec, published_trajectories
from chronos_dysts.store import write_json
from chronos_dysts.systems import PANDA20, split_systems

ROOT = Path(__file__).resolve().parent.parent
METRICS = ("smape100", "mae", "wql", "coverage80", "vpt_lyapunov", "vpt_periods")
HORIZONS = (64, 128, 256, 512)
ROLLOUT, ROLLOUT_SEED = 4096, 7
NOISE = (0.001, 0.01, 0.05)  # standard deviations
CONTEXTS = (128, 256, 512, 1024, 2048)
PANDA = 27.6  # median sMAPE100 at horizon 128 as published, on test trajectories of its own


def lines(table):
    return [{key: (None if isinstance(value, float) and not np.isfinite(value) else round(value, 4) if isinstance(value, float) else value) for key, value in line.items()} for line in table.to_dict("records")]


def windows(forecasters, systems, folder, context):
    """Rows of the panda20 protocol."""
    spec = replace(PROTOCOLS["panda20"].spec, systems=tuple(systems))
    protocol = Protocol.named("panda20", metrics=METRICS, horizons=HORIZONS, context_length=context)
    return evaluate(forecasters, spec.store(folder / "panda20"), protocol, keep=None)


def longer(forecasters, systems, folder, context):
    """Rows of windows at 128 steps whose contexts are shorter or longer than the protocol's."""
    trajectories = TrajectorySpec(tuple(systems), n_ics=1, length=4096, points_per_period=102.4, seed=ROLLOUT_SEED).store(folder / "long")
    protocol = Protocol(context_length=context, prediction_length=128, horizons=(128,), n_windows=10, metrics=("smape100", "coverage80"))
    return evaluate(forecasters, trajectories, protocol)


def families(forecasters, systems, folder, context):
    """Rows of the protocol's windows up to 128 steps, for models that take long."""
    spec = replace(PROTOCOLS["panda20"].spec, systems=tuple(systems))
    protocol = Protocol.named("panda20", metrics=("smape100", "mae", "wql"), horizons=(64, 128), prediction_length=128, context_length=context)
    return evaluate(forecasters, spec.store(folder / "panda20"), protocol)


class Noisy:
    """A forecaster that sees contexts with white noise, the same for all."""

    def __init__(self, forecaster, scale):
        self.forecaster, self.scale, self.name = forecaster, scale, f"{forecaster.name} at {scale}"

    def forecast(self, context, prediction_length):
        context = np.asarray(context, float)
        rng = np.random.default_rng(np.frombuffer(hashlib.blake2b(context.tobytes(), digest_size=16).digest(), np.uint32))
        return self.forecaster.forecast(context + self.scale * context.std(-1, keepdims=True) * rng.standard_normal(context.shape), prediction_length)


def noise(forecasters, systems, folder, context):
    """Rows of the same windows at 128 steps, seen with noise; the truth is without."""
    spec = replace(PROTOCOLS["panda20"].spec, systems=tuple(systems))
    protocol = Protocol(context_length=context, prediction_length=128, horizons=(128,), n_windows=20, metrics=("smape100",))
    return evaluate({f"{name} at {scale}": Noisy(forecaster, scale) for scale in NOISE for name, forecaster in forecasters.items()}, spec.store(folder / "panda20"), protocol)


def rollouts(forecasters, systems, folder, context):
    """Rows of free runs, and the floor: another trajectory of the same flow."""
    trajectories = TrajectorySpec(tuple(systems), n_ics=2, length=context + ROLLOUT, points_per_period=102.4, seed=ROLLOUT_SEED).store(folder / "rollouts")
    protocol = Protocol(context_length=context, prediction_length=ROLLOUT, horizons=(ROLLOUT,), n_windows=1, metrics=("d_stsp", "d_h"))
    rows = evaluate(forecasters, trajectories, protocol, batch_size=16)
    floor = []
    for name in systems:
        a, b = (t.target.astype(float) for t in trajectories if t.system == name)
        for k, (x, y) in enumerate(((a, b), (b, a))):
            mean, scale = x[:, :context].mean(-1, keepdims=True), x[:, :context].std(-1, keepdims=True)
            truth, other = (((z[:, context:] - mean) / scale)[None] for z in (x, y))
            for metric, f in (("d_stsp", metrics.state_space_divergence), ("d_h", metrics.spectral_hellinger_distance)):
                floor.append(("another trajectory", name, f"{name}/{k}", 0, ROLLOUT, metric, float(f(truth, other)[0])))
    return pd.concat([rows, pd.DataFrame(floor, columns=rows.columns)], ignore_index=True)


def published(forecasters, systems):
    """The table of each published series, on these systems."""
    tables = {}
    for series in PUBLISHED_SERIES:
        wanted = [t for t in published_trajectories(series) if t.system in set(systems)]
        rows = pd.concat([evaluate(forecasters, wanted, Protocol.named(series)), published_rows(series).query("system in @systems")], ignore_index=True)
        table = benchmark_table(rows)
        tables[series] = {"systems": len(wanted), "table": lines(table[table.forecaster.isin([*forecasters, "NBEATSModel (published)", "NHiTSModel (published)"])])}
    return tables


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="chronos-dysts-nano")
    parser.add_argument("--side", choices=("test", "validation"), default="test")
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--data-dir", type=Path, default=Path("corpora/panda20"))
    parser.add_argument("--parts", nargs="*", default=["windows", "contexts", "noise", "rollouts", "published"])
    parser.add_argument("--others", nargs="*", default=[], help="name=checkpoint of further models, on the windows up to 128 steps")
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    systems = PANDA20 if args.side == "test" else split_systems(scheme="panda20").validation
    model = models.load_model(args.model)
    untrained = models.build("chronos-dysts", {"num_layers": 0}, context_length=models.lengths(model)[0], prediction_length=models.lengths(model)[1])
    ours = {"nano": models.forecaster(model, "nano")}
    simple = {"experts, untrained": models.forecaster(untrained, "experts"), "parroting": get_baseline("parroting")}
    output = args.output or (ROOT / "nbs" / "results" / "nano.json" if args.side == "test" else None)
    kept = json.loads(output.read_text()) if output and output.exists() else {}
    steps = models.load_made(args.model).get("steps")
    if kept.get("steps") != steps: kept = {}
    began, result = time.process_time(), kept | {"model": args.model, "steps": steps, "side": args.side, "systems": list(systems), "context": args.context, "published_panda": PANDA}
    if "windows" in args.parts:
        rows = windows(ours | simple, systems, args.data_dir, args.context)
        result["windows"] = {"per_trajectory": 20, "summary": lines(summarise(rows)), "against_parroting": lines(compare(rows)),
                             "per_system": lines(rows[(rows.metric == "smape100") & (rows.horizon == 128)].groupby(["system", "forecaster"], sort=False)["value"].mean().unstack().reset_index())}
    if "contexts" in args.parts:
        result["contexts"] = {"lengths": CONTEXTS, "summary": {str(length): lines(summarise(longer(ours | simple, systems, args.data_dir, length))) for length in CONTEXTS}}
    if "noise" in args.parts:
        rows = noise(ours | simple, systems, args.data_dir, args.context)
        result["noise"] = {"scales": NOISE, "summary": lines(summarise(rows))}
    if "rollouts" in args.parts:
        rows = rollouts(ours | {"nano, greedy": models.forecaster(model, "greedy", rollout="greedy")} | simple, systems, args.data_dir, args.context)
        result["rollouts"] = {"steps": ROLLOUT, "seed": ROLLOUT_SEED, "trajectories": 2, "summary": lines(summarise(rows)), "against_parroting": lines(compare(rows))}
    if "published" in args.parts: result["published"] = published(ours | simple, list(systems))
    if args.parts: result["seconds"] = round(time.process_time() - began)
    if args.others:
        others = {name: models.load(path, name=name) for name, path in (other.split("=") for other in args.others)}
        began = time.process_time()
        rows = families(ours | simple | others, systems, args.data_dir, args.context)
        record = lambda made: {key: made.get(key) for key in ("model_id", "size", "steps", "context_length", "prediction_length", "validation")} | {"batch": made["train"]["per_device_train_batch_size"]}
        spent = lambda path: json.loads((Path(path).parent / "seconds.json").read_text())["seconds"]  # of one core, as tools/nano_families.py writes it
        result["families"] = {"summary": lines(summarise(rows)), "against_parroting": lines(compare(rows)), "processor": processor(), "seconds": round(time.process_time() - began),
                              "made": {name: record(model.made) | {"weights": model.model.num_parameters(), "processor_seconds": spent(path)} for (name, path), model in zip((other.split("=") for other in args.others), others.values())}}
    result |= {"processor": processor(), "python": platform.python_version(), "versions": models.versions() | {"dysts": version("dysts")}}
    if output: write_json(result, output)
    for part in ("windows", "noise", "rollouts"):
        for line in result.get(part, {}).get("summary", []):
            print(part, *(line[key] for key in ("metric", "horizon", "forecaster", "median", "low", "high")))
    for series, found in result.get("published", {}).items():
        for line in found["table"]: print(series, line["forecaster"], line["median"], line["low"], line["high"])
    print(result["seconds"], "s of the processor, of families", result.get("families", {}).get("seconds", 0))


if __name__ == "__main__":
    main()
