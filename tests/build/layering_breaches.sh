#!/usr/bin/env bash
# What scripts/check_layering must refuse: a tree with one breach of each kind, and the lines that it says of them.
# usage: layering_breaches.sh SOURCE_TREE
set -euo pipefail
tree=$(mktemp -d)
trap 'rm -r "$tree"' EXIT

# plant FILE INCLUDE: a file with that one line.
plant() { mkdir -p "$tree/$(dirname "$1")"; echo "#include $2" >"$tree/$1"; }
plant trainer/step/worker.cpp '"trainer/run/trainer.h"'
plant trainer/run/trainer.cpp '"trainer/commands/commands.h"'
plant trainer/commands/plan.cpp '"trainer/run/run_lock.h"'
plant trainer/model/block.cpp '"trainer/config/run_config.h"'
plant kernels/gemm.cpp '"parallel/mesh.h"'
plant kernels/norm.cpp '"kernels/moe/routing.h"'
plant trainer/loose.cpp '"kernels/gemm.h"'
plant parallel/mesh.cpp '<mpi.h>'
plant trainer/config/reader.h '<yaml-cpp/yaml.h>'  # its own room: no breach
plant trainer/run/trainer.h '"trainer/step/worker.h"'  # downwards: no breach

expected="kernels/gemm.cpp:1: kernels must not include parallel/mesh.h
kernels/norm.cpp:1: kernels must not include kernels/moe/routing.h
parallel/mesh.cpp:1: mpi.h belongs to parallel/mpi
trainer/commands/plan.cpp:1: trainer/commands/plan.cpp must not include trainer/run/run_lock.h
trainer/loose.cpp:1: lies in no room
trainer/model/block.cpp:1: trainer/model must not include trainer/config/run_config.h
trainer/run/trainer.cpp:1: trainer/run must not include trainer/commands/commands.h
trainer/step/worker.cpp:1: trainer/step must not include trainer/run/trainer.h"
said=$("$1/scripts/check_layering" "$tree") && { echo "eight breaches passed"; exit 1; }
diff <(echo "$expected") <(echo "$said") || exit 1
echo "layering_breaches: all eight are refused"
