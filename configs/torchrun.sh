#!/usr/bin/env bash
# bash configs/torchrun.sh HOST 2
#
# Machines without a scheduler, with eight GPUs of 24 GB each: Llama-2 7B as in ddp8.yaml. Run the same line on each machine:
# HOST is the name or address of one of them, and 2 is their number. Further flags are passed on.
# Effective batch: 64 rows per optimizer step, 4 on each of 16 GPUs; with --data.global_batch_size 128, 8 on each.
#
# Change: GPUS=4 before the line for another number of GPUs, HOST:PORT for another port. HOST must accept connections to
# port 29500 from the other machines. gloo and NCCL choose ports of their own, so between the machines no port may be closed;
# where they have several networks, set GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME to the interface of the fast one.
# If a rank dies, torchrun starts all of them again, at most three times, and the run resumes from last.ckpt.
#
# Tried with two agents on one machine, with gloo on CPUs; NCCL was not.
set -euo pipefail
[ $# -ge 2 ] || { echo "usage: bash configs/torchrun.sh HOST MACHINES [flags]" >&2; exit 2; }
host=$1 machines=$2
[[ $host =~ :[0-9]+$ ]] || host=$host:29500
exec torchrun --nnodes="$machines" --nproc_per_node="${GPUS:-8}" --rdzv_backend=c10d --rdzv_endpoint="$host" \
  --max_restarts=3 -m onion_lightning fit --config configs/ddp8.yaml --ckpt_path last "${@:3}"
