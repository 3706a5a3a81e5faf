"""How long a picture takes to follow a slider: from the callback to the new image, and to the verdict.

    python benchmarks/explorer.py [--flows 12] [--seed 0] [--output nbs/results/explorer.json]

For each of some flows of the catalogue (always Lorenz; the others drawn with the seed) every slider is moved to a few places, as a hand would: small steps. Beside it what a figure made anew
each time would take (`plots.plot_portrait` to PNG), interleaved, for the ratio. The aim is a median below 150 ms on two cores.
"""

import argparse
import os
import platform
import time
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from chronos_dysts import explorer, plots
from chronos_dysts.generation import processor
from chronos_dysts.store import write_json
from chronos_dysts.systems import catalogue


def milliseconds(values):
    return f"{1e3 * np.median(values):5.0f} (90 %: {1e3 * np.quantile(values, 0.9):4.0f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flows", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="a JSON file for the numbers")
    args = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; Python {platform.python_version()}; seed {args.seed}; milliseconds: median (90th percentile)")
    rng = np.random.default_rng(args.seed)
    names = ["Lorenz", *rng.choice([n for n in catalogue() if n != "Lorenz"], args.flows - 1, replace=False)]
    app, pictures, verdicts, anew, turns, heavy = explorer.SystemExplorer("Lorenz"), [], [], [], [], []
    for name in names:
        app.choose(str(name))
        here, judged, made = [], [], []
        for slider in list(app.sliders.values())[:3]:
            middle = slider.value
            for share in (0.02, 0.04, 0.06, 0.04):
                begin, shown = time.perf_counter(), len(app.seconds)
                slider.value = middle + share * (slider.max - slider.min)
                judged.append(time.perf_counter() - begin)
                here += list(app.seconds)[shown:]
            begin = time.perf_counter()
            app._compute()
            plots.plot_portrait(app.trajectory, points_per_period=100)._repr_png_()
            made.append(time.perf_counter() - begin)
        if not app.sliders:
            continue
        for angle in range(-60, 0, 12):
            app.azimuth.value = angle
        turns += list(app.seconds)[-5:]
        print(f"{name:24} {app.periods:3} periods{' (heavy)' if app.heavy else '        '}  picture {milliseconds(here)}  with verdict {milliseconds(judged)}  anew {milliseconds(made)}  ratio {np.median(made) / np.median(here):.1f}", flush=True)
        pictures, verdicts, anew = pictures + here, verdicts + judged, anew + made
        heavy.append(app.heavy)
    print(f"all {len(names)} flows ({sum(heavy)} heavy): picture {milliseconds(pictures)}, with verdict {milliseconds(verdicts)}, figure anew {milliseconds(anew)}, "
          f"ratio {np.median(anew) / np.median(pictures):.1f}, turning {milliseconds(turns)}")

    def share(values):
        return {"median": round(1e3 * float(np.median(values)), 1), "q90": round(1e3 * float(np.quantile(values, 0.9)), 1), "n": len(values)}

    measured = {"picture": share(pictures), "with verdict": share(verdicts), "figure made anew": share(anew), "turning": share(turns)}
    app = explorer.AugmentationExplorer("Lorenz")
    for name in explorer._KNOBS:
        app.augment(name)
        for seed in range(5):
            app.draw_again.value = seed + 1
    measured["an augmentation"] = share(list(app.seconds))
    print(f"augmentations: draw {milliseconds(list(app.seconds))}")
    app = explorer.ForecastExplorer("Lorenz", ["parroting"])
    app.seconds.clear()
    for start in range(0, 3000, 100):
        app.position.value = start + 1
    print(f"forecasts by parroting, 512 steps of context: {milliseconds(list(app.seconds))}")

    measured["a forecast by parroting"] = share(list(app.seconds))
    if args.output:
        setting = {"hardware": f"{processor()}, {os.cpu_count()} cores", "load": round(os.getloadavg()[0], 1), "flows": [str(n) for n in names], "seed": args.seed,
                   "versions": {"python": platform.python_version(), **{n: version(n) for n in ("heyoka", "matplotlib", "numpy", "pillow")}}}
        write_json({"setting": setting, "milliseconds": measured}, args.output)


if __name__ == "__main__":
    main()
