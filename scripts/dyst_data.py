"""Trajectories of chaotic flows: `python scripts/dyst_data.py key=value …` is `chronos-dysts generate key=value …`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a checkout works without installation

from chronos_dysts.cli import main

if __name__ == "__main__":
    sys.exit(main(["generate", *sys.argv[1:]]))
