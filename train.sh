#!/bin/sh
# Meta-training, supervised or not: bash train.sh DATASET EXPERIMENT [key=value ...]
project=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd) || exit 2
. "$project/util/python.sh"
run_python "$project/train.py" "$@"
