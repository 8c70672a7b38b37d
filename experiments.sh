#!/bin/sh
# The experiments of the paper as one command: bash experiments.sh DATASET FAMILY [--plan] [key=value ...]
project=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd) || exit 2
. "$project/util/python.sh"
run_python -m commands.experiments "$@"
