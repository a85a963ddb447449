#!/usr/bin/env bash
# The job files of configs/slurm on a real SLURM: two nodes, started here on one machine for as long as this takes.
# Needs root and Debian's slurm-wlm and munge; says so and ends well where they are missing.
#   tests/slurm/run.sh        MMOOD and PYTHON name the commands; by default those of .venv
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
ROOT=$(cd "$HERE/../.." && pwd)
JOBS=$ROOT/configs/slurm
export MMOOD=${MMOOD:-$ROOT/.venv/bin/mmood}
PYTHON=${PYTHON:-$ROOT/.venv/bin/python}
. "$HERE/cluster.sh"

lacks=$(cluster_lacks)
if [ -n "$lacks" ]; then
  echo "slurm: skipped, $lacks."
  exit 0
fi

WORK=$(mktemp -d)
trap 'stop_cluster; rm -rf "$WORK"' EXIT
start_cluster || { echo "slurm: the two nodes did not come up." >&2; exit 1; }
sinfo

# Both nodes are this machine, and their names are no host names.
export MASTER_ADDR=127.0.0.1 GLOO_SOCKET_IFNAME=lo OMP_NUM_THREADS=1 MMOOD_CACHE=$WORK/cache
mkdir "$WORK/world"
"$PYTHON" "$HERE/world.py" "$WORK/world"
cd "$WORK/world"
TWO_NODES=(--parsable --nodes=2 --ntasks-per-node=1 --gres=gpu:1 --cpus-per-task=1)

fail() {
  echo "slurm: $1" >&2
  tail -n 40 slurm-*.out "$WORK/log/slurmctld.log" >&2
  exit 1
}

# wait_for SECONDS WHAT COMMAND...
wait_for() {
  local end=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" 2>/dev/null; do
    [ $SECONDS -lt $end ] || fail "waited in vain for $what"
    sleep 0.05
  done
}

gone() { [ -z "$(squeue --noheader --jobs="$1" --format=%T 2>/dev/null)" ]; }
lines() { grep --count "$2" "slurm-$1.out" || true; }
has_files() { compgen -G "$1" > /dev/null; }
said_times() { [ "$(lines "$1" "$2")" -ge "$3" ]; }
newer() { [ "$1" -nt "$2" ]; }
say() { echo "== [$SECONDS s] $1"; }

say "fit on two nodes, not interrupted; beside it the same, asked to make room by SIGUSR1, then requeued by force"
whole=$(sbatch "${TWO_NODES[@]}" "$JOBS/fit.sbatch" --config align.yaml --name whole)
cut=$(sbatch "${TWO_NODES[@]}" "$JOBS/fit.sbatch" --config align.yaml --name cut)
saved=runs/cut/job_$cut/checkpoints
wait_for 240 "the first epoch" test -e "$saved/last.ckpt"
scancel --signal=USR1 "$cut"
wait_for 240 "the second turn" said_times "$cut" "Restored all states" 1
wait_for 240 "an epoch of the second turn" newer "$saved/last.ckpt" "$saved/requeue.ckpt"
scontrol requeue "$cut"
wait_for 240 "the third turn" said_times "$cut" "Restored all states" 2
wait_for 240 "the end" gone "$cut"
wait_for 240 "the end" gone "$whole"
grep --extended-regexp "^mmood:|exit code|Restored|DUE TO JOB REQUEUE" "slurm-$cut.out"
[ "$(lines "$cut" "max_epochs=6. reached")" = 1 ] || fail "the interrupted job did not end"
"$PYTHON" "$HERE/same.py" weights "runs/whole/job_$whole/checkpoints" "$saved" || fail "other weights"

say "test on two nodes, and in one process"
found=$(sbatch --wait "${TWO_NODES[@]}" "$JOBS/test.sbatch" --ckpt_path "$saved/last.ckpt" --name two) || fail "test failed"
"$MMOOD" test --ckpt_path "$saved/last.ckpt" --run_dir runs/one --trainer.accelerator cpu > one.out 2>&1 || { cat one.out; fail "test failed"; }
"$PYTHON" "$HERE/same.py" results "runs/two/job_$found" runs/one || fail "other numbers"

say "embed on two nodes, asked to make room; and in one process"
stores=$WORK/stores
many=(--config align.yaml --data.ood "{far: [many]}" --sets many --chunk 1 --data.batch_size 1 --quiet --data.features)
embed=$(sbatch "${TWO_NODES[@]}" "$JOBS/embed.sbatch" "${many[@]}" "$stores/two")
wait_for 240 "a chunk of a store" has_files "$stores/two/*/parts/*.safetensors"
scancel --signal=USR1 "$embed"
wait_for 240 "the second turn" said_times "$embed" "All distributed processes registered" 2
echo "on disk: $(find "$stores/two" -name "*.safetensors" | wc -l) of 400 parts"
wait_for 240 "the end" gone "$embed"
grep --extended-regexp "^mmood:|exit code|images, fp32" "slurm-$embed.out"
"$MMOOD" embed "${many[@]}" "$stores/one" --trainer.accelerator cpu > one.out 2>&1 || { cat one.out; fail "embed failed"; }
"$PYTHON" "$HERE/same.py" stores "$stores/two" "$stores/one" || fail "other features"
say "slurm: all as it should be"
