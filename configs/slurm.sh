#!/usr/bin/env bash
# sbatch configs/slurm.sh
#
# SLURM, two nodes with eight GPUs of 24 GB each: Llama-2 7B as in ddp8.yaml. Flags after the script's name are passed on.
# Effective batch: 64 rows per optimizer step, 4 on each of 16 GPUs; with --data.global_batch_size 128, 8 on each.
#
# Change: the nodes and GPUs (--ntasks-per-node is the number of GPUs of a node), the time limit, and your cluster's
# --account and --partition. Start it in a folder that all nodes share, with the environment that pip installed into active.
# Before the time limit, SIGUSR1 saves the step and requeues the job, which resumes by itself, as often as needed.
#
# Tried with SLURM 22.05, two nodes on one machine, with gloo on CPUs; --gpus-per-node was not.
#SBATCH --job-name=onion
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=4
#SBATCH --mem=96G
#SBATCH --time=04:00:00
#SBATCH --signal=SIGUSR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=onion-%j.log

# exec: otherwise SIGTERM ends this script and srun before the ranks have printed how they ended. srun does not pass on
# --cpus-per-task by itself. A rank that ends first must not end rank 0 while it saves and requeues.
export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK
exec srun --kill-on-bad-exit=0 --open-mode=append python -m onion_lightning fit --config configs/ddp8.yaml "$@"
