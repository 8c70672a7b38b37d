#!/bin/sh
# Meta-test: bash test.sh DATASET EXPERIMENT [--method NAME] [key=value ...]
project=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd) || exit 2
. "$project/util/python.sh"
run_python "$project/test.py" "$@"
