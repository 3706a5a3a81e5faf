"""The published test series with the default baselines, beside the published scores: nbs/results/benchmark.json, which nbs/72_benchmark.ipynb shows.

    python benchmarks/published.py    # fetches the wheel dysts==0.1 with pip where it is not in the cache; a minute on one core
"""

import argparse
import tempfile
import time
from pathlib import Path

from rich.console import Console

from chronos_dysts.benchmark import BenchmarkConfig, run_benchmark
from chronos_dysts.evaluation import environment
from chronos_dysts.protocols import PUBLISHED_SERIES
from chronos_dysts.store import write_json

PATH = Path(__file__).resolve().parent.parent / "nbs" / "results" / "benchmark.json"


def main():
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    tables = {}
    for series in PUBLISHED_SERIES:
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            table = run_benchmark(BenchmarkConfig(series=series, output_dir=f"{folder}/{series}", n_examples=0), Console(quiet=True))
        tables[series] = table.round(4).astype(object).where(table.notna(), None).to_dict("records")
        print(f"{series}: {time.perf_counter() - began:.0f} s")
        print(table.head(8).round(1).to_string(index=False))
    made = environment()
    value = {"tables": tables, "seed": 0, "versions": {name: made["versions"][name] for name in ("dysts", "numpy", "scipy")}, "python": made["python"]}
    write_json(value, PATH)


if __name__ == "__main__":
    main()
