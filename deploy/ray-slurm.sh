#!/bin/bash
# A batch on Slurm: a Ray node on each machine of the allocation, the command on the first, and all ended with it.
#
#   sbatch --nodes=4 deploy/ray-slurm.sh plan.jsonl out
#
# PLAN, OUT and the photos lie on a file system that all machines see. Given again, it goes on where it was.
#SBATCH --job-name=tenth-batch
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --time=24:00:00
#SBATCH --requeue
set -euo pipefail
plan=$(realpath "$1") out=$(realpath -m "$2")
export RAY_USAGE_STATS_ENABLED=0 TENTH_DATA_DIR="${TENTH_DATA_DIR:-$out.data}"
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
srun ray symmetric-run --address "$head:6379" --min-nodes "$SLURM_JOB_NUM_NODES" --num-cpus "$SLURM_CPUS_ON_NODE" -- \
    tenth batch "$plan" -o "$out" --ray auto
