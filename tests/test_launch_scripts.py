"""The scripts that start a run on several machines. What they call is replaced by a program that prints its words."""

import contextlib
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml
from torch.distributed.run import get_args_parser

from onion_lightning.cli.onion_cli import OnionCLI
from onion_lightning.cli.signals import StopSignals
from tests.conftest import ROOT
from tests.test_documents import section

CONFIGS = ROOT / "configs"
SCRIPTS = [CONFIGS / "slurm.sh", CONFIGS / "torchrun.sh"]
CLUSTER = sorted((CONFIGS / "cluster").glob("*.yaml"))
KUBEFLOW = {"PET_MASTER_ADDR": "onion-node-0-0.onion", "PET_MASTER_PORT": "29500", "PET_NNODES": "2"}
SKYPILOT = {"SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2", "SKYPILOT_NUM_NODES": "2", "SKYPILOT_NUM_GPUS_PER_NODE": "8"}


@pytest.fixture
def called(tmp_path):
    """Returns a function that runs a line of shell in the repository, and returns the words of the program that it calls."""
    for name in ("srun", "torchrun"):
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\nprintf "%s\\n" {name} "$@"\n')
        program.chmod(0o755)

    def words(line: str, **variables: str) -> list[str]:
        environment = os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"} | variables
        done = subprocess.run(
            ["bash", "-c", line], capture_output=True, text=True, cwd=ROOT, env=environment, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    return words


def assert_parsed(words: list[str]) -> None:
    """Assert that the command's parser accepts the words after `-m onion_lightning`, in the repository."""

    class Parse(OnionCLI):
        def before_instantiate_classes(self):
            raise KeyboardInterrupt

    with contextlib.chdir(ROOT), StopSignals() as signals, pytest.raises(KeyboardInterrupt):
        Parse(words[words.index("onion_lightning") + 1 :], signals)


def options(script: Path) -> dict[str, str]:
    """Return the options in the lines of a script that start with #SBATCH."""
    lines = re.findall(r"^#SBATCH --(.*)$", script.read_text(), re.MULTILINE)
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda file: file.name)
def test_every_script_is_valid_shell_and_opens_with_its_line(script):
    subprocess.run(["bash", "-n", script], check=True)
    start = {"slurm.sh": "sbatch configs/slurm.sh", "torchrun.sh": "bash configs/torchrun.sh HOST 2"}[script.name]
    assert script.read_text().startswith(f"#!/usr/bin/env bash\n# {start}\n")


@pytest.mark.parametrize("script", [*SCRIPTS, *CLUSTER], ids=lambda file: file.name)
def test_every_script_states_hardware_effective_batch_what_to_change_and_what_was_tried(script):
    text = script.read_text()
    for words in ("eight GPUs of 24 GB", "\n# Effective batch: 64 rows", "\n# Change: ", "ried"):
        assert words in text, words


def test_torchrun_gets_the_same_words_on_each_machine(called):
    words = called("bash configs/torchrun.sh n1 2 --data.path 'my file.csv'")
    assert words == called("bash configs/torchrun.sh n1:29500 2 --data.path 'my file.csv'", GPUS="8")
    assert words[0] == "torchrun"
    assert words[-2:] == ["--data.path", "my file.csv"]
    assert_parsed(words)
    found = get_args_parser().parse_args(words[1:])
    assert (found.nnodes, found.nproc_per_node, found.max_restarts) == ("2", "8", 3)
    assert (found.rdzv_backend, found.rdzv_endpoint) == ("c10d", "n1:29500")
    assert found.training_script_args[-4:-2] == ["--ckpt_path", "last"]


def test_torchrun_without_the_number_of_machines_is_refused():
    done = subprocess.run(["bash", SCRIPTS[1], "n1"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "usage: bash configs/torchrun.sh HOST MACHINES [flags]\n"


def test_srun_starts_the_command_with_the_flags_of_sbatch(called):
    words = called("bash configs/slurm.sh --trainer.max_epochs 1", SLURM_CPUS_PER_TASK="4")
    assert words[0] == "srun"
    assert words[-2:] == ["--trainer.max_epochs", "1"]
    assert_parsed(words)


def test_the_job_of_slurm_is_requeued_before_its_time_limit_and_keeps_its_log():
    found = options(SCRIPTS[0])
    assert found["requeue"] == ""
    assert found["signal"] == "SIGUSR1@120"
    assert found["open-mode"] == "append"
    devices = yaml.safe_load((CONFIGS / "ddp8.yaml").read_text())["trainer"]["devices"]
    assert found["nodes"] == "2"
    assert found["ntasks-per-node"] == found["gpus-per-node"] == str(devices)


def test_kubeflow_and_skypilot_run_the_line_of_torchrun(called):
    job = yaml.safe_load((CONFIGS / "cluster" / "kubeflow.yaml").read_text())
    task = yaml.safe_load((CONFIGS / "cluster" / "skypilot.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("trainer.kubeflow.org/v1alpha1", "TrainJob")
    trainer = job["spec"]["trainer"]
    assert trainer["command"] == ["bash", "-c"]
    in_pod = called(trainer["args"][0], **KUBEFLOW)
    on_node = called(task["run"], **SKYPILOT)
    assert in_pod[-2:] == ["--checkpoint.dirpath", "/runs/ddp8"]
    for words, host in ((in_pod[:-2], "onion-node-0-0.onion"), (on_node, "10.0.0.1")):
        assert words == called(f"bash configs/torchrun.sh {host}:29500 2")
        assert_parsed(words)
    assert (trainer["numNodes"], trainer["numProcPerNode"]) == (
        2,
        trainer["resourcesPerNode"]["limits"]["nvidia.com/gpu"],
    )
    assert (task["num_nodes"], task["resources"]["accelerators"].partition(":")[2]) == (2, "8")


def test_the_mounted_volumes_of_kubeflow_exist():
    job = yaml.safe_load((CONFIGS / "cluster" / "kubeflow.yaml").read_text())
    [patch] = job["spec"]["runtimePatches"]
    [node] = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    pod = node["template"]["spec"]["template"]["spec"]
    mounted = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    assert set(mounted) == {volume["name"] for volume in pod["volumes"]}
    assert job["spec"]["trainer"]["args"][0].endswith(f" --checkpoint.dirpath {mounted['runs']}/ddp8")


def test_every_line_of_the_table_from_a_laptop_to_a_scheduler_runs_a_file_that_exists(called):
    rows = re.findall(r"^\|.*\| `(.*?)` \|$", section("README.md", "From a laptop to several machines"), re.MULTILINE)
    lines = [shlex.split(row) for row in rows]
    assert [words[0] for words in lines] == ["python", "python", "torchrun", "bash", "sbatch"]
    for words in lines[:3]:
        assert_parsed(words)
    for words in lines[3:]:
        assert (ROOT / words[1]).is_file()
