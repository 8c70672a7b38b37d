# Sourced by the commands' scripts, which set `project` to the project's folder first.
# shellcheck shell=sh disable=SC2154

# run_python ARGUMENTS...: become the project's Python. Modules come from the project, never from the working directory.
run_python() {
    python=$project/.venv/bin/python
    [ -x "$python" ] || python=python3
    if ! "$python" -c 'import importlib.util as u, sys; sys.exit(u.find_spec("torch") is None)' 2>/dev/null; then
        echo "error: $python has no torch: run bash $project/install.sh" >&2
        exit 2
    fi
    export PYTHONSAFEPATH=1 PYTHONPATH="$project${PYTHONPATH:+:$PYTHONPATH}"
    exec "$python" "$@"
}
