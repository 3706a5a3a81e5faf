"""Chronos on the data of chronos-dysts-nano, each model with the same processor time: seven trainings in runs/families.

    nice -n 10 python tools/nano_families.py --minutes 13        # after discover and generate of the recipe nano; an hour and a half of one core
    python tools/nano_results.py --others bolt-tuned=runs/families/bolt-tuned/checkpoint-… …   # the command that the first prints at its end

The bases of three families that come with the package, fine-tuned, the same geometries from random weights, and chronos-dysts-nano itself (which ships after more minutes), with the augmentations, the averaged weights and the course of the learning rate of the recipe `nano`,
whose step does not depend on where a run ends. What a process and its restarts have used of a core is counted in `seconds.json` beside the run, validation and loading included; at the budget the run is stopped, and the
checkpoint with the best loss on the validation families counts. Run again it goes on, also with more minutes.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import yaml

from chronos_dysts import configs
from chronos_dysts.store import write_json

ROOT = Path(__file__).resolve().parent.parent

BASES = {"bolt": ("chronos-bolt", 256, 500), "2": ("chronos-2", 64, 500), "t5": ("chronos-t5", 32, 100)}  # family, what is in a batch, steps between validations
MODELS = [*(f"{base}-{start}" for start in ("tuned", "random") for base in BASES), "nano"]


def command(name, data_dir, output_dir):
    recipe = yaml.safe_load((Path(configs.__file__).parent / "recipes" / "nano" / "train.yaml").read_text())
    if name == "nano": return recipe | {"data_dir": data_dir, "output_dir": output_dir, "run_name": name}
    base, start = name.rsplit("-", 1)
    family, batch, every = BASES[base]
    model = {"model_id": f"chronos-dysts-generic-{base}"} if start == "tuned" else {"family": family, "size": "nano"}
    own = {"data_dir": data_dir, "output_dir": output_dir, "run_name": name, "augment": recipe["augment"], "average": recipe["average"], "validation": {"every": every, "windows": 64, "samples": 4},
           "train": {"max_steps": 1_000_000, "save_steps": every, "log_steps": 50, "save_total_limit": 1000, "per_device_train_batch_size": batch}
           | {key: recipe["train"][key] for key in ("lr_scheduler_type", "warmup_steps", "weight_decay")}}
    return model | own


def used(run):
    path = run / "seconds.json"
    return json.loads(path.read_text())["seconds"] if path.exists() else 0.0


def best(run):
    """The checkpoint with the best validation loss."""
    last = max(run.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    return run / Path(json.loads((last / "trainer_state.json").read_text())["best_model_checkpoint"]).name


def train(name, minutes, data_dir, output_dir, scratch):
    """Train until the budget is used; what an interrupted call has used counts."""
    run = Path(output_dir) / name
    before = used(run)
    if before >= 60 * minutes: return
    folder = scratch / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "train.yaml").write_text(yaml.safe_dump(command(name, str(data_dir), str(output_dir))))
    process = psutil.Popen([sys.executable, str(ROOT / "scripts" / "train.py"), "--config-dir", str(folder)])
    seconds = before
    try:
        while process.poll() is None:
            time.sleep(1)
            try: seconds = before + sum(process.cpu_times()[:2])
            except psutil.NoSuchProcess: break
            if run.exists(): write_json({"seconds": round(seconds, 1)}, run / "seconds.json")
            if seconds >= 60 * minutes:
                process.send_signal(signal.SIGTERM)
                process.wait()
    finally:
        if process.poll() is None: process.send_signal(signal.SIGTERM)
    if seconds < 60 * minutes: raise RuntimeError(f"{name} ended after {seconds:.0f} s of the processor with status {process.returncode}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=13.0, help="of one core, for each model")
    parser.add_argument("--only", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--data-dir", type=Path, default=Path("corpora/nano"))
    parser.add_argument("--output-dir", type=Path, default=Path("runs/families"))
    args = parser.parse_args()
    os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")
    for name in args.only: train(name, args.minutes, args.data_dir, args.output_dir, args.output_dir / "configurations")
    print("python tools/nano_results.py --others", *(f"{name}={best(args.output_dir / name)}" for name in args.only))


if __name__ == "__main__":
    main()
