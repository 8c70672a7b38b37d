# Sourced by the commands' scripts, which set `project` to the project's folder first.
# shellcheck shell=sh disable=SC2154

# run_python ARGUMENTS...: become the project's Python. Modules come from the project, never from the working directory.
run_python() {
    python=$project/.venv/bin/python
    [ -x "$python" ] || python=$(command -v python3) || {
        echo "error: no Python here: run bash $project/install.sh" >&2
        exit 2
    }
    export PYTHONSAFEPATH=1 PYTHONPATH="$project${PYTHONPATH:+:$PYTHONPATH}"
    exec "$python" "$project/util/launch.py" "$@"
}
