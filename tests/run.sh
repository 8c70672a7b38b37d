#!/bin/sh
# Install what is missing and run the tests: bash tests/run.sh [pytest arguments]
# For contributors, under four minutes: bash tests/run.sh -m "not slow"
project=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd) || exit 2
sh "$project/install.sh" || exit $?
cd "$project" || exit 2

# Up to four processes of one thread each, because the tests are many and small.
cores=$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)
export OMP_NUM_THREADS=1
exec .venv/bin/python -m pytest -n "$((cores < 4 ? cores : 4))" --dist worksteal "$@"
