"""The models that come with the package, as `experiment=generic` makes them: chronos_dysts/data/models.

    nice -n 10 python tools/generic_base.py             # what is missing, half an hour on one core; killed at any moment, it goes on
    nice -n 10 python tools/generic_base.py chronos-2   # of this family only

Each is trained by `chronos-dysts train experiment=generic family=…` with the settings below, in runs/, and copied. A table of its errors on series of the same kinds that it has not seen
goes to nbs/results/generic_base.json.
"""

import argparse
import os
import platform
import shutil
from pathlib import Path

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np
import torch
from omegaconf import OmegaConf

from chronos_dysts import models
from chronos_dysts.baselines import get_baseline
from chronos_dysts.cli import compose
from chronos_dysts.generation import processor
from chronos_dysts.generic import SYNTHETIC, synthetic_series
from chronos_dysts.store import write_json
from chronos_dysts.training import train

ROOT = Path(__file__).resolve().parent.parent
PLACE = ROOT / "chronos_dysts" / "data" / "models"
SETTINGS = {"chronos-bolt": [], "chronos-2": [], "chronos-t5": ["n_tokens=1024", "context_length=128", "train.max_steps=1800", "train.save_steps=200"]}
NAMES = {"chronos-bolt": "chronos-dysts-generic-bolt", "chronos-2": "chronos-dysts-generic-2", "chronos-t5": "chronos-dysts-generic-t5"}
HELD_OUT = 99  # seed of the series that errors are measured on


def make(family: str, runs: Path) -> Path:
    """The model of a family, trained or as it lies there."""
    place = PLACE / NAMES[family]
    if not (place / "config.json").exists():
        config = compose("train", ["experiment=generic", f"family={family}", f"run_name=generic-{family}", f"output_dir={runs}", *SETTINGS[family]])
        result = train(OmegaConf.to_container(config, resolve=True))
        shutil.copytree(result.directory, place, ignore=shutil.ignore_patterns("train.yaml"))
    return place


def errors(forecasters: dict, context: int = 256, horizon: int = 64) -> dict:
    """Mean absolute error in standard deviations of the context, by family of series and forecaster, over 50 series that nobody has seen."""
    table = {}
    for kind in SYNTHETIC:
        x = np.stack([series.target[:, -context - horizon:] for series in synthetic_series(50, 1024, HELD_OUT, (kind,))]).astype(float)
        past, future = x[..., :context], x[..., context:]
        scale = past.std(-1, keepdims=True)
        table[kind] = {name: round(float((np.abs(forecaster(past) - future) / scale).mean()), 3) for name, forecaster in forecasters.items()}
    return table


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("families", nargs="*", help=f"of {', '.join(NAMES)}; none: all")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    for family in args.families or NAMES:
        make(family, args.runs)
    there = {name: models.load(name) for name in models.bundled()}
    forecasters = {"mean": lambda past: np.repeat(past.mean(-1, keepdims=True), 64, -1)}
    forecasters |= {name: lambda past, f=get_baseline(name): f.forecast(past, 64).median for name in ("persistence", "parroting")}
    forecasters |= {name: lambda past, f=f: f.forecast(past, 64).median for name, f in there.items()}
    sizes = {name: sum(file.stat().st_size for file in path.iterdir()) for name, path in models.bundled().items()}
    write_json({"errors": errors(forecasters), "bytes": sizes, "steps": {name: f.made["steps"] for name, f in there.items()}, "processor": processor(),
                "python": platform.python_version(), "versions": models.versions(), "seed": HELD_OUT}, ROOT / "nbs" / "results" / "generic_base.json")
    print(f"{len(there)} models, {sum(sizes.values()) / 2**20:.2f} MiB")


if __name__ == "__main__":
    main()
