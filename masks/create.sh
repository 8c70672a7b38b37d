#!/bin/sh
# Pseudo masks for the training list: bash masks/create.sh ROOT DATASET [experiment=NAME] [key=value ...]
project=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd) || exit 2
. "$project/util/python.sh"
run_python -m masks.create "$@"
