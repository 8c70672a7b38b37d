#!/bin/sh
# Build this folder's native operator, C++ for the CPU (util/native.py says how).
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
project=$(CDPATH='' cd -- "$here/../.." && pwd)
# shellcheck source=util/python.sh
. "$project/util/python.sh"
run_python -m util.native "$here"
