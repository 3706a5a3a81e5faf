"""Is what an archive holds chaotic again? `python tools/confirm_archive.py ARCHIVE [output.json] [--tolerance 1e-12]`.

A random sample of the entries is measured anew: another `--tolerance` than that of the search, another initial state (its own moved by a thousandth, and 50 periods on), 300 periods. Confirmed is what has
a largest exponent above two of its standard errors.
"""

import argparse
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np  # noqa: E402

from chronos_dysts.discovery import read_archive  # noqa: E402
from chronos_dysts.generation import processor  # noqa: E402
from chronos_dysts.integration import integrate_ensemble  # noqa: E402
from chronos_dysts.lyapunov import lyapunov_spectrum  # noqa: E402
from chronos_dysts.store import write_json  # noqa: E402

SAMPLE, SEED, PERIODS = 200, 0, 300


def confirm(entry, rng, tolerance):
    """The exponent again, its standard error, and that of the archive, per period."""
    system = entry.system
    ic = np.array(system.ic) + 1e-3 * np.array(system.scale) * rng.normal(size=system.dim)
    start = integrate_ensemble(system, ics=ic[None], length=1, transient=50, tolerance=tolerance)
    if not start.ok[0]:
        return {"name": entry.name, "confirmed": False, "why": "diverged"}
    again = lyapunov_spectrum(system, ics=start.last_states, periods=PERIODS, directions=1, tolerance=tolerance)
    value, error = again.exponents[0, 0], again.standard_errors[0, 0]
    return {"name": entry.name, "confirmed": bool(value > 2 * error), "archive": entry.exponents[0] * system.period, "again": value * system.period,
            "error": error * system.period, "archive_error": entry.standard_error * system.period}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("archive")
    parser.add_argument("output", nargs="?")
    parser.add_argument("--tolerance", type=float, default=1e-12)
    arguments = parser.parse_args()
    entries, rng = read_archive(arguments.archive), np.random.default_rng(SEED)
    sample = [entries[k] for k in sorted(rng.choice(len(entries), min(SAMPLE, len(entries)), replace=False))]
    rows = []
    for k, entry in enumerate(sample):
        rows.append(confirm(entry, rng, arguments.tolerance))
        if (k + 1) % 20 == 0:
            print(f"{k + 1}/{len(sample)}: {np.mean([row['confirmed'] for row in rows]):.1%}", file=sys.stderr, flush=True)
    result = {"of": len(entries), "sample": len(rows), "seed": SEED, "tolerance": arguments.tolerance, "periods": PERIODS, "processor": processor(),
              "confirmed": float(np.mean([row["confirmed"] for row in rows])), "not_confirmed": [row for row in rows if not row["confirmed"]],
              "rows": [{key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()} for row in rows]}
    print(f"{result['confirmed']:.1%} of {len(rows)} systems of {len(entries)} are confirmed")
    if arguments.output:
        write_json(json.loads(json.dumps(result).replace("NaN", "null")), arguments.output)


if __name__ == "__main__":
    main()
