#!/bin/sh
# A page on which photographs are segmented: bash web.sh [--checkpoint RUN | --method nearest] [--port N]
project=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd) || exit 2
. "$project/util/python.sh"
run_python -m web "$@"
