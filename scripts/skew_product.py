"""Trajectories of pairs of flows: `python scripts/skew_product.py key=value …` is `chronos-dysts generate skew.n_pairs=10 key=value …`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a checkout works without installation

from chronos_dysts.cli import main

if __name__ == "__main__":
    sys.exit(main(["generate", "skew.n_pairs=10", *sys.argv[1:]]))
