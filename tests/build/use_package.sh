#!/usr/bin/env bash
# Uses what was installed, as somebody who has nothing else: looks at the machine, trains, resumes on two workers, writes.
# usage: use_package.sh [PREFIX]      default: /usr
set -euo pipefail
prefix=${1:-/usr}
PATH=$prefix/bin:$PATH
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

jevons --version
jevons doctor
for i in $(seq 2000); do echo "line $i: the quick brown fox jumps over the lazy dog"; done >book.txt
jevons data prepare book.txt --output book
cat >my.yaml <<'YAML'
model: {vocab_size: 256, num_layers: 2, hidden_size: 32, num_heads: 2, seq_len: 32,
        moe: {num_experts: 4, top_k: 2, expert_hidden_size: 32}}
data: {train: [{path: book}], validation_fraction: 0.05}
optimizer: {lr: 0.01}
schedule: {kind: constant}
train: {steps: 10, global_batch_size: 4, micro_batch_size: 1}
threads: 1
YAML
jevons train my.yaml
jevons-launch -n 2 my.yaml train.steps=20
jevons generate runs/my --prompt "line 7" --max-tokens 20
jevons cost runs/my
jevons plan "$prefix/share/jevons/configs/presets/olmoe-1b-7b.yaml" --world 8 parallel.ep=8 train.global_batch_size=64

page=$prefix/share/man/man1/jevons.1
for section in "jevons data prepare" "jevons train" "jevons config schema" "EXIT STATUS"; do grep -q "^\.S[SH] $section" "$page"; done
grep -q 'so man1/jevons.1' "$prefix/share/man/man1/jevons-launch.1"
test -s "$prefix/share/doc/jevons/copyright"

# completes WORDS... EXPECTED: what follows the last word
. "$prefix/share/bash-completion/completions/jevons"
completes() {
  COMP_WORDS=(jevons "${@:1:$#-1}") COMP_CWORD=$(($# - 1))
  _jevons
  [ "${COMPREPLY[*]}" = "${*: -1}" ] || { echo "use_package: ${COMP_WORDS[*]}: completed to '${COMPREPLY[*]}'"; exit 1; }
}
completes trai train
completes data pre prepare
completes train my.yaml --init --init-from
completes train my.yaml model.num_layer model.num_layers=
echo "use_package: good"
