#!/bin/sh
# From nothing to a result in minutes on two CPU cores: bash demo.sh
# Draws a dataset, makes pseudo masks without labels, trains on them, and compares with methods without training.
# Safe to run again: finished steps are not repeated.
set -eu
project=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
cd "$project"
run=exp/shapes/ssl_demo

step() {
    printf '\n== %s\n' "$1"
}

step "1/6 install"
sh install.sh

step "2/6 draw the shapes"
.venv/bin/python -m prepare shapes

step "3/6 make pseudo masks: no label is read"
sh masks/create.sh data shapes experiment=ssl_demo

step "4/6 test without training"
for method in untrained prototype nearest; do
    sh test.sh shapes ssl_demo --method $method
done

step "5/6 unsupervised meta-training"
sh train.sh shapes ssl_demo

step "6/6 test the trained network, on all classes"
sh test.sh shapes ssl_demo

printf '\n'
.venv/bin/python -m engine.report ${run}_untrained ${run}_prototype ${run}_nearest $run
echo "examples of what the trained network does: $project/$run/examples.png"
