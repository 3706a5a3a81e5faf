"""What the models at hand foresee, copy and attend to, and how their errors grow: the runs behind nbs/82_tokens.ipynb and nbs/83_error_growth.ipynb.

    nice -n 10 python tools/inside_study.py                          # all models; tools/forgetting.py has fine-tuned those of runs/inside
    nice -n 10 python tools/inside_study.py chronos-dysts-nano       # one, whose numbers take the place of those that were there; minutes on one core
    nice -n 10 python tools/inside_study.py chronos-dysts-nano --only tokens

Writes nbs/results/tokens.json and error_growth.json.
"""

import argparse
import json
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np
import pandas as pd
import torch
from forgetting import corpus
from rich.console import Console

from chronos_dysts import models
from chronos_dysts.baselines import ContextParroting
from chronos_dysts.evaluation import environment
from chronos_dysts.integration import integrate_ensemble
from chronos_dysts.lyapunov import reference_exponents
from chronos_dysts.probing.common import families_of, family_groups, random_twin
from chronos_dysts.probing.error_growth import Integrator, bit_scaling, context_scaling, fit_slope, forecast_errors, precision_limits, scaling_slope, twins, window_ends
from chronos_dysts.probing.tokens import entropy_correlation, run_tokens
from chronos_dysts.protocols import TrajectorySpec
from chronos_dysts.store import write_json
from chronos_dysts.systems import get_system

RESULTS = Path(__file__).resolve().parent.parent / "nbs" / "results"
MODELS = {  # by the name that they have in the tables
    "t5, base": "chronos-dysts-generic-t5", "t5, fine-tuned": "runs/inside/t5-plain-0/final", "bolt, base": "chronos-dysts-generic-bolt", "bolt, fine-tuned": "runs/inside/bolt-plain-0/final",
    "chronos-2, fine-tuned": "runs/inside/2-plain-0/final", "chronos-dysts-nano": "chronos-dysts-nano", "chronos-dysts-nano, untrained": "runs/inside/untrained"}
IN_TOKENS = [name for name in MODELS if name != "bolt, base"]
IN_ERROR_GROWTH = [name for name in MODELS if not name.startswith("t5") and not name.endswith("untrained")]
FLOWS, N_ICS, N_WINDOWS, LONGEST, HORIZON, BITS, SEED = ("Lorenz", "Rossler", "HyperRossler"), 8, 12, 16384, 30, (2, 3, 4, 5, 6, 8, 10, 12, 14), 7


def foreseen(name, folder, data, console):
    """What `probe tokens` finds of one model, on one trajectory of each flow that was set aside; and the flows."""
    where = folder / name.replace(", ", "-")
    if name.endswith(", untrained"): models.save(random_twin(models.load(name.removesuffix(", untrained"))).model, MODELS[name], overwrite=True)
    shutil.rmtree(where, ignore_errors=True)
    found = run_tokens(dict(model_id=MODELS[name], data_dir=str(data), output_dir=str(where), n_trajectories=1, n_windows=12, prediction_length=16, n_samples=4, context_length=None if "t5" in name else 256), console)
    rows = pd.read_parquet(where / "windows.parquet")
    entropy = rows.groupby(["trajectory", "window"])[["entropy", "expansion"]].mean().dropna().groupby("trajectory").rank(pct=True)
    told = {"summary": found["summary"], "pit": np.histogram(rows.pit, 20, (0, 1), density=True)[0].round(3).tolist(), "calibration": round(found["calibration_error"], 4),
            "entropy": entropy.groupby(pd.cut(entropy.expansion, np.linspace(0, 1, 9)), observed=True).mean().round(4).to_dict("list"),
            "correlation": entropy_correlation(rows, family_groups(families_of(rows.system.unique()))), "overlap": rows[["overlap", "overlap_chance", "overlap_of_truth", "overlap_of_truth_chance"]].mean().round(4).to_dict()}
    if (where / "heads.parquet").exists():
        told |= {"heads": pd.read_parquet(where / "heads.parquet").round(4).to_dict("list"), "ablation": pd.read_parquet(where / "ablation.parquet").groupby("ablated")[["error", "overlap"]].mean().round(4).to_dict("index")}
    return told, sorted(rows.system.unique())


def log_mean(errors): return np.log(errors).mean((0, 1)).round(4).tolist()


def of_flow(flow, trajectories, parrot):
    """What is told of a flow without any model."""
    reference, dt = reference_exponents(flow.name), trajectories[0].dt
    told = {"exponent": reference.exponents[0], "dimension": reference.kaplan_yorke_dimension}
    told["twins"] = [float(x) for x in vars(twins(flow).rate()).values()][:3]
    told["lost"] = {label: round(float(np.median(s.horizon()) * s.exponent), 2) for label, s in precision_limits(flow, n_pairs=32).items()}
    lengths = 2 ** np.arange(7, int(np.log2(LONGEST)) + 1)
    near = context_scaling(parrot, trajectories, lengths, HORIZON, N_WINDOWS, spacing=HORIZON)
    slope = scaling_slope(near, lengths - HORIZON)
    told |= {"lengths": lengths.tolist(), "parroting": log_mean(near), "slope": [slope.value, slope.low, slope.high]}
    told |= {"bits": BITS, "equations": log_mean(bit_scaling(Integrator(flow, dt), trajectories, BITS, LONGEST, HORIZON, N_WINDOWS)),
             "parroting by bits": {str(length): log_mean(bit_scaling(parrot, trajectories, BITS, length, HORIZON, N_WINDOWS)) for length in (512, 4096, 16384)}}
    parrots = np.log(np.concatenate([forecast_errors(parrot, t.target, window_ends(t.length, LONGEST, 2 * HORIZON, N_WINDOWS), LONGEST, 2 * HORIZON) for t in trajectories]))
    on = parrots.mean(0) < np.log(0.3)
    told |= {"growth": parrots.mean(0).round(4).tolist(), "growth rate": [float(x) for x in vars(fit_slope(dt * np.arange(1, 2 * HORIZON + 1)[on], parrots[:, on], np.repeat(np.arange(N_ICS), N_WINDOWS))).values()][:3]}
    told["careless"] = {}
    for tolerance in (1e-9, 1e-6, 1e-3):
        made = integrate_ensemble(flow, ics=np.stack([t.ic for t in trajectories]), length=LONGEST + HORIZON * N_WINDOWS, dt=dt, tolerance=tolerance).states
        told["careless"][f"{tolerance:.0e}"] = log_mean(context_scaling(parrot, [replace(t, target=x) for t, x in zip(trajectories, made)], (4096,), HORIZON, N_WINDOWS, spacing=HORIZON))[0]
    told["models"] = {"parroting, 256 points": {"errors": log_mean(context_scaling(parrot, trajectories, (64, 128, 256), HORIZON, N_WINDOWS, spacing=HORIZON)), "growth": np.log(np.concatenate([forecast_errors(parrot, t.target, window_ends(t.length, LONGEST, 2 * HORIZON, N_WINDOWS), 256, 2 * HORIZON) for t in trajectories])).mean(0).round(4).tolist()}}
    return told


def of_model(model_id, trajectories):
    """What is told of a model on the trajectories of a flow."""
    forecaster = models.load(model_id)
    reads = 2 ** np.arange(5 if forecaster.context_length < 512 else 7, int(np.log2(forecaster.context_length)) + 1)
    errors = context_scaling(forecaster, trajectories, reads, HORIZON, N_WINDOWS, spacing=HORIZON)
    slope = scaling_slope(errors, reads)
    growth = np.concatenate([forecast_errors(forecaster, t.target, window_ends(t.length, LONGEST, 2 * HORIZON, N_WINDOWS), reads[-1], 2 * HORIZON) for t in trajectories])
    return {"lengths": reads.tolist(), "errors": log_mean(errors), "slope": [slope.value, slope.low, slope.high], "bits": log_mean(bit_scaling(forecaster, trajectories, BITS, reads[-1], HORIZON, N_WINDOWS)), "growth": np.log(growth).mean(0).round(4).tolist()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", help=f"of {'; '.join(MODELS)}; none: all, and what is told without a model")
    parser.add_argument("--only", choices=("tokens", "error_growth"))
    parser.add_argument("--corpus", type=Path, default=Path("corpora/inside"))
    parser.add_argument("--folder", type=Path, default=Path("runs/inside/tokens"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    console, asked = Console(force_terminal=False, soft_wrap=True), args.models or list(MODELS)
    for name in asked:
        if name not in MODELS:
            parser.error(f"{name!r} is none of {', '.join(map(repr, MODELS))}")
    stored = {part: json.loads((RESULTS / f"{part}.json").read_text()) if (RESULTS / f"{part}.json").exists() else {} for part in ("tokens", "error_growth")}
    if args.only != "error_growth":
        corpus(args.corpus, console)
        study = {"runs": stored["tokens"].get("runs", {})}
        for name in asked:
            if name in IN_TOKENS:
                began = time.process_time()
                study["runs"][name], systems = foreseen(name, args.folder, args.corpus, Console(quiet=True))
                write_json({"runs": study["runs"], "systems": systems, **environment()}, RESULTS / "tokens.json")
                console.print(f"tokens of {name}: {time.process_time() - began:.0f} s", highlight=False)
    if args.only != "tokens":
        flows = stored["error_growth"].get("flows", {})
        for name in FLOWS:
            began, flow = time.process_time(), get_system(name)
            trajectories = TrajectorySpec((name,), n_ics=N_ICS, length=LONGEST + HORIZON * N_WINDOWS, points_per_lyapunov_time=30, seed=SEED).make(name)
            if not args.models or name not in flows:
                flows[name] = of_flow(flow, trajectories, ContextParroting(motif_length=1, exclude=HORIZON))
            for label in asked:
                if label in IN_ERROR_GROWTH:
                    flows[name]["models"][label] = of_model(MODELS[label], trajectories)
            write_json({"flows": flows, "trajectories": N_ICS, "windows": N_WINDOWS, "seed": SEED, **environment()}, RESULTS / "error_growth.json")
            console.print(f"error growth on {name}: {time.process_time() - began:.0f} s", highlight=False)


if __name__ == "__main__":
    main()
