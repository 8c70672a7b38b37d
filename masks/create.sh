#!/bin/sh
# bash masks/create.sh ROOT DATASET [key=value ...]: pseudo masks for the train list (see masks/create.py).
project=$(cd "$(dirname "$0")/.." && pwd) || exit 1
python="$project/.venv/bin/python"
[ -x "$python" ] || python=python3
# Safe path: folders of the working directory must not stand in for ours.
export PYTHONPATH="$project${PYTHONPATH:+:$PYTHONPATH}" PYTHONSAFEPATH=1
exec "$python" -m masks.create "$@"
