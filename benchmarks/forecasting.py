"""Rollouts of 512 steps against the packaged pipelines of chronos-forecasting, in the same run, float32, one thread.

    python benchmarks/forecasting.py [--steps 512] [--windows 6] [--sizes nano tiny] [--train 400] [--store]

Speed depends on the geometry and not on the weights, so models are built with random ones; contexts are windows of Lorenz, 512 points of three
coordinates, and every coordinate is a series. Each line is the median of `--repeat` interleaved measurements.

* T5: the packaged pipeline feeds the median of twenty samples back after every 64 steps; so does ours (`rollout="median"`), and their
  samples come from the same distribution. Beside it the cost of real sample paths, each with its own past, and of a greedy one.
* Bolt and Chronos-2: the packaged heuristic with nine quantiles as paths, through the pipeline and through ours (equal output), and the cheaper
  rollout that feeds the median back. What the cheaper one loses in skill is measured with nano models that are trained here for `--train` steps
  on five flows, and forecast windows of five others: enough to tell rollouts apart, not to be good.

`--store` puts what was measured into nbs/results/forecasting.json, which nbs/45_forecasting.ipynb shows: beside what other runs put there for other families and sizes.
"""

import argparse
import json
import logging
import os
import time
import warnings
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from chronos_dysts import metrics, models
from chronos_dysts.baselines import ContextParroting
from chronos_dysts.evaluation import environment
from chronos_dysts.forecasting import LEVELS, Standardiser
from chronos_dysts.integration import integrate_ensemble, sample_initial_conditions
from chronos_dysts.store import write_json
from chronos_dysts.systems import get_system

PATH = Path(__file__).resolve().parent.parent / "nbs" / "results" / "forecasting.json"
TRAINED, TESTED = ("Lorenz", "Chen", "Halvorsen", "Thomas", "SprottB"), ("Rossler", "SprottF", "QiChen", "Rucklidge", "Aizawa")


def windows(name, count, length, seed=0):
    """Standardised windows of a flow at 50 points a period, (count, dim, length)."""
    rng = np.random.default_rng([seed, *name.encode()])
    system = get_system(name)
    x = integrate_ensemble(system, ics=sample_initial_conditions(system, rng, count), length=length, points_per_period=50).states
    return Standardiser.of(x[..., :512]).apply(x)


def interleaved(functions, repeat):
    """Median seconds of each, measured in turns: of the processor, so that what else runs on the machine counts little."""
    times = {name: [] for name in functions}
    for _ in range(repeat):
        for name, function in functions.items():
            began = time.process_time()
            function()
            times[name].append(time.process_time() - began)
    return {name: float(np.median(values)) for name, values in times.items()}


def packaged(model, context, steps):
    rows = torch.from_numpy(context.astype(np.float32))
    if model.family != "chronos-2":
        rows = rows.reshape(-1, rows.shape[-1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.pipeline.predict_quantiles(rows, prediction_length=steps, quantile_levels=list(LEVELS))[0]


def speed(family, size, context, steps, repeat, rollouts=None):
    """Windows a second of the packaged pipeline and of each of our rollouts: all, or the packaged algorithm and those named."""
    module = models.build(family, size, context_length=512, prediction_length=64)
    same, *others = ("median", "samples", "greedy") if family == "chronos-t5" else ("quantiles", "median", "samples")
    ours = {how: models.forecaster(module, how, standardise=False, rollout=how) for how in (same, *(how for how in others if rollouts is None or how in rollouts))}
    main = next(iter(ours))
    functions = {"packaged": lambda: packaged(ours[main], context, steps), **{how: (lambda f=f: f.forecast(context, steps)) for how, f in ours.items()}}
    if family != "chronos-t5":
        theirs = packaged(ours[main], context, steps)
        theirs = (torch.stack(theirs) if isinstance(theirs, list) else theirs).numpy().reshape(*context.shape[:2], steps, len(LEVELS))
        assert np.allclose(ours["quantiles"].forecast(context, steps).quantiles, theirs, rtol=1e-2, atol=1e-2), "outputs differ"
    seconds = interleaved(functions, repeat)
    for name, value in seconds.items():
        words = "" if name == "packaged" else f"  {seconds['packaged'] / value:5.2f} times as fast as packaged"
        print(f"{family:13} {size:6} {name:10} {len(context) / value:8.2f} windows/s{words}", flush=True)
    return {name: len(context) / value for name, value in seconds.items()}, seconds["packaged"] / seconds[main]


def train(family, steps):
    """A nano model after so many steps of AdamW on windows of `TRAINED`."""
    model = models.build(family, "nano", context_length=512, prediction_length=64)
    data = np.stack([windows(name, 40, 2048) for name in TRAINED]).reshape(-1, 3, 2048).astype(np.float32)
    rng = np.random.default_rng(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    model.train()
    for _ in range(steps):
        rows, starts = rng.integers(0, len(data), 10), rng.integers(0, 2048 - 576, 10)
        batch = torch.from_numpy(np.concatenate([data[r, :, s : s + 576] for r, s in zip(rows, starts)]))
        if family == "chronos-bolt":
            loss = model(context=batch[:, :512], target=batch[:, 512:]).loss
        else:
            loss = model(context=batch[:, :512], future_target=batch[:, 512:], group_ids=torch.arange(10).repeat_interleave(3), num_output_patches=4).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return model.eval(), loss.item()


def skill(model, steps):
    """MAE and quantile loss of rollouts of a trained model on held-out flows."""
    data = [windows(name, 8, 512 + steps, seed=1) for name in TESTED]
    forecasters = {how: models.forecaster(model, how, rollout=how) for how in ("quantiles", "median", "samples")} | {"parroting": ContextParroting()}
    table = {}
    for name, forecaster in forecasters.items():
        scores = []
        for x in data:
            forecast, truth = forecaster.forecast(x[..., :512], steps), x[..., 512:]
            inside = metrics.coverage(truth, forecast.quantiles[..., 0], forecast.quantiles[..., -1])
            scores.append([metrics.mae(truth, forecast.median).mean(), metrics.quantile_loss(truth, forecast.quantiles, forecast.levels).mean(), inside.mean(), metrics.mae(truth[..., :64], forecast.median[..., :64]).mean()])
        mae, crps, covered, near = np.median(scores, axis=0)
        table[name] = {"mae": round(mae, 4), "quantile_loss": round(crps, 4), "coverage80": None if forecast.is_point else round(covered, 3), "mae_first_64": round(near, 4)}
        print(f"  {name:10} MAE {mae:.3f}, quantile loss {crps:.3f}, 80 % interval covers {covered:.2f}; MAE over the first 64 steps {near:.3f} (standard deviations, median over flows)")
    return table


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=512)
    parser.add_argument("--windows", type=int, default=6)
    parser.add_argument("--families", nargs="+", default=list(models.FAMILIES))
    parser.add_argument("--sizes", nargs="+", default=["nano"])
    parser.add_argument("--rollouts", nargs="*", help="which rollouts beside the packaged algorithm; without it all")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--train", type=int, default=400, help="steps of training before skill is measured; 0: no skill")
    parser.add_argument("--store", action="store_true", help="keep the numbers in nbs/results/forecasting.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    context = windows("Lorenz", args.windows, 512)
    kept = json.loads(PATH.read_text()) if PATH.exists() else {"speed": {}, "skill": {}}
    print(f"{args.windows} windows of 3 × 512, {args.steps} steps ahead, one thread; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    goals = {"chronos-t5": "at least 3", "chronos-bolt": "not below 1", "chronos-2": "not below 1"}
    for size in args.sizes:
        for family in args.families:
            per_second, ratio = speed(family, size, context, args.steps, args.repeat, args.rollouts)
            print(f"{family:13} {size:6} same algorithm: {ratio:.2f} times as fast as packaged; the goal is {goals[family]}")
            kept["speed"][f"{family} {size}"] = {"windows_per_second": {name: round(value, 4) for name, value in per_second.items()}, "windows": args.windows, "steps": args.steps, "repeat": args.repeat, "load": round(os.getloadavg()[0], 1)}
    for family in ("chronos-bolt", "chronos-2") if args.train else ():
        if family not in args.families:
            continue
        model, loss = train(family, args.train)
        print(f"skill of the rollouts of a nano {family} after {args.train} steps (loss {loss:.2f}) on {', '.join(TESTED)}, {args.steps} steps ahead:", flush=True)
        kept["skill"][family] = {"rollouts": skill(model, args.steps), "training_steps": args.train, "trained_on": TRAINED, "tested_on": TESTED, "steps": args.steps}
    if args.store:
        made = environment()
        write_json(kept | {key: made[key] for key in ("hardware", "python", "versions")}, PATH)


if __name__ == "__main__":
    main()
