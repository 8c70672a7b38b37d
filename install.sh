#!/bin/sh
# Make .venv and install what the project needs: bash install.sh [--python PATH]
# Safe to run again: if nothing has changed it only prints the summary.
set -eu
project=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
venv=$project/.venv
stamp=$venv/.installed

main() {
    read_options "$@"
    cd "$project"
    if ! installed; then
        make_venv
        install_packages
        import_modules || fail "the packages do not import: remove $venv and run bash install.sh again"
        fingerprint >"$stamp"
    fi
    # In parallel. Everything works without the native operators, only slower: a failed build is reported, not fatal.
    sh model/ops/make.sh &
    sh model/clusterutils/make.sh &
    sh masks/superpixels/make.sh &
    wait
    "$venv/bin/python" -m util.environment
}

read_options() {
    chosen=
    while [ $# -gt 0 ]; do
        case $1 in
            --python) [ $# -gt 1 ] || fail "--python needs the path of an interpreter"; chosen=$2; shift 2 ;;
            --python=*) chosen=${1#--python=}; shift ;;
            *) fail "unknown option '$1'; usage: bash install.sh [--python PATH]" ;;
        esac
    done
    case $chosen in
        /* | '') ;;
        */*) chosen=$PWD/$chosen ;;
    esac
}

fail() {
    echo "error: $1" >&2
    exit 2
}

modules='cv2 huggingface_hub numpy psutil pycocotools pydantic safetensors scipy skimage sklearn starlette tensorboardX timm torch torchvision tqdm uvicorn yaml'

# True when .venv holds what pyproject.toml lists. Importing all of it would take longer than everything else.
installed() {
    [ -z "$chosen" ] || same_python || return 1
    [ -f "$stamp" ] && usable "$venv/bin/python" && [ "$(fingerprint)" = "$(cat "$stamp")" ] || return 1
    found='import importlib.util as u, sys; sys.exit(not all(map(u.find_spec, sys.argv[1:])))'
    # shellcheck disable=SC2086
    "$venv/bin/python" -c "$found" $modules
}

import_modules() {
    # shellcheck disable=SC2086
    "$venv/bin/python" -c 'import sys; list(map(__import__, sys.argv[1:]))' $modules
}

# Identifies the list of packages that was installed.
fingerprint() {
    digest='import hashlib, pathlib; print(hashlib.sha256(pathlib.Path("pyproject.toml").read_bytes()).hexdigest())'
    "$venv/bin/python" -c "$digest"
}

# True when .venv was made from the interpreter that --python names.
same_python() {
    [ "$(identity "$chosen")" = "$(identity "$venv/bin/python")" ]
}

identity() {
    "$1" -c 'import sys; print(sys.base_prefix, sys.version)' 2>/dev/null
}

make_venv() {
    if usable "$venv/bin/python" && { [ -z "$chosen" ] || same_python; }; then return; fi
    find_python
    echo "making $venv with $("$python" --version)"
    if command -v uv >/dev/null; then
        uv venv --quiet --clear --python "$python" "$venv" || fail "uv could not make $venv (see above)"
    else
        "$python" -m venv --clear "$venv" || fail "$python could not make $venv: install its venv module, or uv"
    fi
}

# Set `python` to the interpreter to use.
find_python() {
    if [ -n "$chosen" ]; then
        python=$chosen
        usable "$python" || fail "$chosen is not a Python 3.10 or later"
        return
    fi
    for python in python3 python python3.13 python3.12 python3.11 python3.10; do
        if usable "$python"; then return; fi
    done
    fail "no Python 3.10 or later found: install one, or name one with bash install.sh --python PATH"
}

usable() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1
}

install_packages() {
    echo "installing the packages of pyproject.toml (minutes the first time)"
    if command -v uv >/dev/null; then
        uv pip install --quiet --python "$venv/bin/python" -r pyproject.toml --extra dev && return
    else
        pip_install && return
    fi
    fail "the packages could not be installed (see above): fix that and run bash install.sh again"
}

# pip reads a folder's dependencies only by building it; a copy keeps the build's files out of the project.
pip_install() {
    "$venv/bin/python" -m ensurepip >/dev/null 2>&1 # uv makes environments without pip
    copy=$(mktemp -d)
    cp pyproject.toml "$copy"
    "$venv/bin/python" -m pip install --quiet "${copy}[dev]"
    status=$?
    rm -rf "$copy"
    return $status
}

main "$@"
