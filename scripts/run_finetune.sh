#!/usr/bin/env bash
# Fine-tunes a published Chronos model on the trajectories in data/, with a log at Weights & Biases.
# What is given here has the last word:  scripts/run_finetune.sh model_id=amazon/chronos-bolt-small wandb.log=False
# PYTHON=… picks an interpreter; otherwise an active environment, or the one that `make` has made.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if [[ -z ${PYTHON:-} ]]; then
  PYTHON=python
  if [[ -z ${VIRTUAL_ENV:-}${CONDA_PREFIX:-} && -x $root/.venv/bin/python ]]; then PYTHON=$root/.venv/bin/python; fi
fi
exec "$PYTHON" "$root/scripts/train.py" \
  model_id=amazon/chronos-t5-small run_name=finetune_1 \
  wandb.log=True train.max_steps=1000 train.save_steps=1000 train.log_steps=50 "$@"
