"""Tests pass wherever they are run: in a used clone, with variables of schedulers, proxies, accounts and terminals."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.conftest import ROOT

# One of each kind: what they read from the environment differs.
TESTS = """
    attention/test_command.py::test_without_a_checkpoint_only_the_base_model_is_measured
    attention/test_command.py::test_the_page_and_the_plot_are_logged_to_wandb
    cli/test_job.py::test_a_random_seed_is_drawn_once_for_all_ranks
    cli/test_job.py::test_lightning_does_not_requeue_a_job_nor_load_what_it_left
    data/files/test_sources.py::test_a_hub_id_that_cannot_be_loaded_gives_a_one_sentence_error
    data/files/test_sources.py::test_an_unchanged_file_is_read_from_the_cache_and_an_edited_file_is_not
    evaluation/test_terminal.py::test_main_metrics_differences_and_the_path_of_the_report_are_printed
    export/test_push.py::test_without_a_token_the_files_are_listed_and_nothing_is_uploaded
    preview/test_command.py::test_the_same_flags_give_the_same_files
    serving/test_server.py::test_only_the_page_and_its_api_are_answered
    test_traffic.py
    test_documents.py
    test_fit.py::test_only_fit_logs
    test_launch_scripts.py::test_srun_starts_the_command_with_the_flags_of_sbatch
    test_messages.py::test_rank_zero_is_known_before_lightning_assigns_ranks
    training/progress/test_bar.py::test_a_terminal_gets_the_bar_and_results_stay_on_standard_output
    training/test_wandb_logger.py::test_without_a_key_or_a_network_wandb_is_found_unreachable_within_seconds
""".split()

# What the README's commands leave in the folder in which they run.
LEFT = "attention preview evaluation exported checkpoints/cpu wandb/run-1 lightning_logs articles.jsonl/batches".split()

VARIABLES = """
    CUDA_DEVICE_ORDER=x DEBUG=1 GRADIO_SERVER_PORT=1 LIGHTNING_LOGS=x MPLBACKEND=TkAgg NCCL_DEBUG=INFO PL_GLOBAL_SEED=7
    HF_DATASETS_CACHE=/proc/none HF_ENDPOINT=http://127.0.0.1:9 HF_HOME=/proc/none HF_TOKEN=hf_x HF_HUB_OFFLINE=0
    TRANSFORMERS_CACHE=/proc/none TRANSFORMERS_VERBOSITY=debug
    WANDB_API_KEY=0000000000000000000000000000000000000000 WANDB_DISABLED=true WANDB_ENTITY=x WANDB_MODE=online
    WANDB_DIR=/proc/none WANDB_PROJECT=x WANDB_RUN_ID=x WANDB_SERVICE=x
    SLURM_JOB_ID=7 SLURM_JOB_NAME=x SLURM_JOB_NUM_NODES=2 SLURM_LOCALID=1 SLURM_NNODES=2 SLURM_NODEID=1 SLURM_NTASKS=4
    SLURM_NTASKS_PER_NODE=2 SLURM_PROCID=3 SLURM_RESTART_COUNT=1 SLURM_STEP_ID=0
    GROUP_RANK=1 LOCAL_RANK=1 LOCAL_WORLD_SIZE=2 MASTER_ADDR=192.0.2.1 MASTER_PORT=1 NODE_RANK=1 RANK=3 WORLD_SIZE=4
    TORCHELASTIC_RUN_ID=x TORCHELASTIC_RESTART_COUNT=1 OMP_NUM_THREADS=7 OMP_WAIT_POLICY=ACTIVE
    HTTP_PROXY=http://127.0.0.1:9 HTTPS_PROXY=http://127.0.0.1:9 http_proxy=http://127.0.0.1:9 https_proxy=http://127.0.0.1:9
    COLUMNS=40 FORCE_COLOR=1 LANG=tr_TR.UTF-8 LC_ALL=C LINES=5 NO_COLOR=1 TERM=dumb TZ=Asia/Tokyo
    PYTHONHASHSEED=1 PYTHONIOENCODING=ascii PYTHONUNBUFFERED=1 PYTHONWARNINGS=default TOKENIZERS_PARALLELISM=true
""".split()


def test_tests_of_every_kind_pass_in_a_hostile_environment(tmp_path, request):
    clone, programs = tmp_path / "used clone", tmp_path / "bin"
    temporary = Path(tempfile.mkdtemp(prefix="temporäre Dateien "))  # a socket's path has at most 107 bytes
    request.addfinalizer(
        lambda: shutil.rmtree(temporary, ignore_errors=True)
    )  # processes that end delete files in it, too
    for folder in (programs, *(clone / name for name in LEFT)):
        folder.mkdir(parents=True)
        (folder / "of another program").touch()
    for name in ("srun", "scontrol"):
        (programs / name).write_text("#!/bin/sh\nexit 1\n")
        (programs / name).chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "ONION_TESTS_"))}
    environment = kept | dict(one.split("=", 1) for one in VARIABLES)
    environment |= {"HOME": "/proc/none", "PATH": f"{programs}{os.pathsep}{kept['PATH']}", "TMPDIR": str(temporary)}
    tests = [str(ROOT / "tests" / one) for one in TESTS]
    line = [sys.executable, "-m", "pytest", "-m", "", "-rs", "-p", "no:cacheprovider", *tests]  # one is marked fault
    with (tmp_path / "log").open("w") as log:
        done = subprocess.run(
            line, cwd=clone, env=environment, umask=0o077, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False
        )
    printed = (tmp_path / "log").read_text(encoding="utf-8", errors="replace")
    assert done.returncode == 0, printed
    [summary] = [line for line in printed.splitlines() if re.search(r"\d+ passed", line)]  # warnings may follow it
    assert int(re.search(r"(\d+) passed", summary)[1]) > len(TESTS)
    assert "skipped" not in summary
    assert [file.name for file in temporary.iterdir() if file.name.startswith("onion-tests-")] == []
