"""A Chronos model, trained on trajectories: `python scripts/train.py key=value …` is `chronos-dysts train key=value …`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a checkout works without installation

from chronos_dysts.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
