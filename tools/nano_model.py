"""Ship chronos-dysts-nano: a checkpoint of `chronos-dysts train experiment=nano` into chronos_dysts/data/models, with its card.

    python tools/nano_model.py runs/nano/checkpoint-300     # weights, configuration and card
    python tools/nano_model.py                              # the card alone, from nbs/results/nano*.json as they are now

The weights are as trained (averaged weights, float32); the context that it reads is set to 2,048 steps: the experts take any, the transformer reads the last 512.
"""

import argparse
import json
from pathlib import Path

from chronos_dysts import models
from chronos_dysts.architecture import LONGEST
from chronos_dysts.generation import processor
from chronos_dysts.store import write_atomically
from chronos_dysts.systems import catalogue

ROOT = Path(__file__).resolve().parent.parent
NAME, PLACE = "chronos-dysts-nano", ROOT / "chronos_dysts" / "data" / "models" / "chronos-dysts-nano"


def ship(checkpoint, seconds):
    model, made = models.load_model(checkpoint), models.load_made(checkpoint)
    models.set_lengths(model, LONGEST, models.lengths(model)[1])
    made = {key: value for key, value in made.items() if key not in ("sha256", "versions", "family")}
    models.save(model, PLACE, made | {"context_length": LONGEST, "trained_with_context_length": made["context_length"], "processor": processor(), "processor_seconds": seconds}, overwrite=True)


def interval(line): return f"{line['median']:.3g} [{line['low']:.3g}, {line['high']:.3g}]"


def results():
    """The tables of the card."""
    path = ROOT / "nbs" / "results" / "nano.json"
    if not path.exists(): return ["Not evaluated yet."]
    found = json.loads(path.read_text())
    text = [f"All on the twenty flows of `panda20`, which neither it nor any relative of theirs was trained or chosen on; medians over flows with 95 % bootstrap intervals over flows. Made by `python tools/nano_results.py` ({found['processor']}), the same for everybody.", ""]
    of = lambda part, metric, horizon=None: {line["forecaster"]: line for line in found[part]["summary"] if line["metric"] == metric and horizon in (None, line["horizon"])}
    names = {"nano": "chronos-dysts-nano", "nano, greedy": "chronos-dysts-nano, greedy", "experts, untrained": "its experts, untrained", "parroting": "context parroting", "another trajectory": "another trajectory of the flow (floor)"}
    rows = [("sMAPE, 0–100, 128 steps", of("windows", "smape100", 128)), ("sMAPE, 0–100, 512 steps", of("windows", "smape100", 512)), ("MAE, 128 steps", of("windows", "mae", 128)), ("valid prediction time, Lyapunov times", of("windows", "vpt_lyapunov")),
            ("coverage of the 80 % interval, 128 steps", of("windows", "coverage80", 128))]
    columns = ("nano", "experts, untrained", "parroting")
    text += [f"Protocol `panda20`, context {found['context']}:", "", "| | " + " | ".join(names[c] for c in columns) + " |", "|---|" + "---|" * len(columns)]
    text += [f"| {label} | " + " | ".join("–" if c == "parroting" and "coverage" in label else interval(lines[c]) for c in columns) + " |" for label, lines in rows]
    text += ["", f"Panda (21 million weights) reports 27.6 for sMAPE at 128 steps, on test trajectories of its own that are mostly skew products and are not published.", ""]
    text += ["The same windows seen with white noise (sMAPE, 0–100, 128 steps, against the truth without noise):", "", "| noise, standard deviations | " + " | ".join(names[c] for c in columns) + " |", "|---|" + "---|" * len(columns)]
    text += [f"| {scale} | " + " | ".join(interval(of("noise", "smape100")[f"{c} at {scale}"]) for c in columns) + " |" for scale in found["noise"]["scales"]]
    text.append("")
    columns = ("nano", "nano, greedy", "experts, untrained", "parroting", "another trajectory")
    text += [f"Free runs of {found['rollouts']['steps']:,} steps:", "", "| | " + " | ".join(names[c] for c in columns) + " |", "|---|" + "---|" * len(columns)]
    text += [f"| {label} | " + " | ".join(interval(of("rollouts", metric)[c]) for c in columns) + " |" for label, metric in (("D_stsp, nats", "d_stsp"), ("D_H", "d_h"))]
    text += ["", "The published series of dysts (sMAPE, 0–200):", "", "| | systems | chronos-dysts-nano | its experts, untrained | context parroting | NBEATS, published |", "|---|---|---|---|---|---|"]
    for series, part in found["published"].items():
        lines = {line["forecaster"]: line for line in part["table"]}
        text.append(f"| {series} | {part['systems']} | " + " | ".join(interval(lines[c]) for c in ("nano", "experts, untrained", "parroting", "NBEATSModel (published)")) + " |")
    speed = ROOT / "nbs" / "results" / "nano_speed.json"
    if speed.exists():
        s = json.loads(speed.read_text())
        text += ["", f"A median forecast of {s['steps']} steps of {s['windows']} windows of {s['channels']} channels and {s['context']} points takes {s['milliseconds_per_window']['chronos-dysts-nano']:.1f} ms a window on one core ({s['processor']}); "
                 + ", ".join(f"{name} {value / s['milliseconds_per_window']['chronos-dysts-nano']:.1f} times as long" for name, value in s["milliseconds_per_window"].items() if name != "chronos-dysts-nano") + "."]
    return text


def card():
    made = models.load_made(PLACE)
    flows = [name for name in made["systems"] if name in catalogue()]
    scores = (made.get("validation") or {}).get("scores") or {}
    text = ["---", "library_name: chronos-dysts", "pipeline_tag: time-series-forecasting", "license: apache-2.0", "tags: [time-series, forecasting, dynamical-systems, chaos]", "---", "", f"# {NAME}", "",
            "A small probabilistic forecaster for flows, joint over channels: experts that learn from the context alone (analogues as in context parroting, regressed maps as in next-generation reservoirs), and a transformer of "
            f"{models.load_model(PLACE).num_parameters() / 1e6:.2f} million weights over patches of time and channels that weighs and corrects them. Part of the package chronos-dysts:", "",
            "```python", "from chronos_dysts.models import load", f'forecast = load("{NAME}").forecast(context, 512)  # context (batch, channel, time), up to 2,048 steps and 16 channels', "```", "",
            "## How it was made", "",
            f"From random weights, by `chronos-dysts discover`, `generate` and `train`, each with `experiment=nano`, from which the checkpoint after {made['steps']} steps was the best: steps of {made['train']['per_device_train_batch_size']} windows of {made['trained_with_context_length']} points, or of fewer, and the {made['prediction_length']} that follow; "
            f"{made['batches'] * made['train']['per_device_train_batch_size']:,} windows in all, which come again. {round(made['processor_seconds'] / 60)} minutes of one core ({made['processor']}), seed {made['seed']}.", "",
            f"* Data: {made['data']['trajectories']:,} trajectories of {len(made['systems'])} systems ({len(flows)} flows of the dysts catalogue with perturbed parameters and {len(made['systems']) - len(flows)} systems bred from them), 10 to 120 points a period; "
            "six in ten windows augmented: observation noise of 1 or 5 %, one or two coordinates alone, random affine mixtures into up to 10 channels, missing values.",
            f"* Split: that of `panda20`. Its twenty flows and their families are not in the data, nor are the validation flows and theirs, by which the number of steps was chosen"
            + (f" (loss {scores['loss']:.3f}, sMAPE {scores['smape100']:.1f} of 100, valid for {scores['vpt']:.0f} of 256 steps)" if scores else "") + ".",
            f"* Trained on: {', '.join(flows)}, and on {len(made['systems']) - len(flows):,} bred systems, which `config.json` names.", "", "## What it can", "", *results(), "", "## Limits", "",
            "* It is made for trajectories of deterministic systems. On trends, seasons and noise it has learnt nothing; for those take a Chronos model.",
            "* The regressed maps are products of coordinates: flows with polynomial equations, seen without noise in all their coordinates, are where it is best. With a few per cent of observation noise, or few points a period, its forecasts are those of its analogues.",
            "* By the validation families it stopped improving after some hundred steps: what there is to learn about these experts, half a million weights learn soon. The numbers say what it gained over its untrained experts, and where that is nothing.",
            "* Beyond 256 steps it goes on from its own median, which comes to rest where nothing can be told any more; `rollout=\"greedy\"` follows one expert instead, and `rollout=\"samples\"` draws paths.",
            "* At most 2,048 steps and 16 channels; a context that has missing values is taken by `predict_quantiles` and by the model, not by `forecast`.", ""]
    write_atomically(PLACE / "README.md", lambda path: path.write_text("\n".join(text)))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", nargs="?", type=Path)
    parser.add_argument("--seconds", type=float, default=0.0, help="processor time that training took")
    args = parser.parse_args()
    if args.checkpoint: ship(args.checkpoint, args.seconds)
    card()
    print(f"{PLACE}: {sum(path.stat().st_size for path in PLACE.iterdir()) / 2**20:.2f} MiB")


if __name__ == "__main__":
    main()
