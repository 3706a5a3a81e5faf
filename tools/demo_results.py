"""What the front page shows, from a finished run of the demo: its numbers and a picture of its forecasts.

    chronos-dysts demo
    python tools/demo_results.py            # reads demo/, writes nbs/results/demo.json and nbs/images/forecasts.png

The systems in the picture are the best, the worst and those at equal distances between them by the error after training,
and of each its median window: nothing is picked by eye.
"""

import argparse
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import yaml
from matplotlib.figure import Figure

from chronos_dysts import models, plots
from chronos_dysts.baselines import ContextParroting
from chronos_dysts.evaluation import EvaluationConfig, choose_examples, compare, environment, read_rows
from chronos_dysts.store import open_store, read_manifest, write_atomically, write_json

ROOT = Path(__file__).resolve().parent.parent
SHOWN = {"after": "after training", "parroting": "context parroting"}


def numbers(demo: Path, config: dict) -> dict:
    """The summary table of the demo, and what is needed to make it again."""
    summary = pd.read_csv(demo / "evaluation" / "summary.csv")
    manifest, made = read_manifest(demo / "data"), models.load_made(demo / "runs" / "after" / "final")
    paired = compare(read_rows(demo / "evaluation" / "rows.parquet"))
    paired = paired[paired["forecaster"] == "after"]
    columns = ["metric", "horizon", "forecaster", "median", "low", "high"]
    return {
        "summary": summary[columns].round(4).to_dict("records"),
        "after against parroting": paired[["metric", "horizon", "wins", "n_systems", "verdict"]].to_dict("records"),
        "train_systems": len(made["systems"]), "test_systems": int(summary["n_systems"].max()),
        "windows": int(summary["n_windows"].max()),
        "test_families": len({family for name in manifest["split"]["test"] for family in manifest["families"][name]}),
        "context_length": config["context_length"], "prediction_length": config["prediction_length"], "seed": config["seed"],
        "points_per_period": manifest["config"]["points_per_period"], "steps": made["steps"], "family": made.get("family"),
        **environment()}


def picture(demo: Path, config: EvaluationConfig) -> Figure:
    """Forecasts of four systems that were set aside: the first coordinate of the median window of each."""
    trajectories = open_store(demo / "data" / "test")
    forecasters = {"after": models.load(demo / "runs" / "after" / "final", name="after"), "parroting": ContextParroting()}
    examples = choose_examples(forecasters, trajectories, read_rows(demo / "evaluation" / "rows.parquet"), config.protocol,
                               focus="after", metric=config.protocol.metrics[0], n_systems=4)
    examples = [example for example in examples if example.rank == "median"]
    with mpl.rc_context(plots.STYLE):
        figure = Figure(figsize=(9, 4.4), layout="constrained", facecolor="white")
        looks = plots.palette(forecasters)
        for ax, example in zip(figure.subplots(2, 2).ravel(), examples):
            shown = example.context.shape[1]
            step = example.dt / example.period
            past, future = np.arange(-shown, 0) * step, np.arange(example.truth.shape[1]) * step
            ax.plot(past, example.context[0, -shown:], color="0.35", lw=1)
            ax.plot(future, example.truth[0], color="0.35", lw=1, label="truth")
            for name, forecast in example.forecasts.items():
                line, = ax.plot(future, forecast.median[0, 0], lw=1.4, color=looks[name]["color"], linestyle=looks[name]["linestyle"],
                                label=SHOWN[name])
                if not forecast.is_point:
                    ax.fill_between(future, forecast.quantiles[0, 0, :, 0], forecast.quantiles[0, 0, :, -1], color=line.get_color(),
                                    alpha=0.2, lw=0, label="10–90 %")
            ax.axvline(0, color="0.7", lw=0.8)
            ax.set_title(example.system, fontsize=10, loc="left")
            ax.set_yticks([])
        for ax in figure.axes[2:]:
            ax.set_xlabel("time (dominant periods; the forecast begins at 0)")
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper right", ncols=4, frameon=False)
    return figure


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("demo", nargs="?", type=Path, default=Path("demo"), help="output_dir of the demo")
    demo = parser.parse_args().demo
    config = yaml.safe_load((demo / "evaluation" / "config.yaml").read_text())
    write_json(numbers(demo, config), ROOT / "nbs" / "results" / "demo.json")
    figure = picture(demo, EvaluationConfig.from_mapping(config))
    write_atomically(ROOT / "nbs" / "images" / "forecasts.png",
                     lambda path: figure.savefig(path, dpi=110, format="png", metadata={"Software": None}))
    print("wrote nbs/results/demo.json and nbs/images/forecasts.png; now: make notebooks ARGS=index")


if __name__ == "__main__":
    main()
