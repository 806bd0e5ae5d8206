"""Running out of memory is one sentence, with what helps and was not done yet."""

import pytest
import torch

from onion_lightning.planning.out_of_memory import explain_out_of_memory, wider_shard
from tests.conftest import ranks

RUN_OUT = "--trainer.callbacks+=tests.stopper.RunOut"


def run_out(on: str, rank: int = 0) -> tuple[str, ...]:
    return (RUN_OUT, f"--trainer.callbacks.on={on}", f"--trainer.callbacks.rank={rank}")


def test_a_gpu_that_runs_out_names_the_flags_that_help_cheapest_first(refused):
    sentence = refused("fit", *run_out("gpu"))
    assert sentence == (
        "error: --data.batch_size 4: the GPU ran out of memory when it needed 2.50 GiB more; give --data.batch_size 2, which"
        " does not change the effective batch; or --model.gradient_checkpointing true, which takes about a third more time;"
        " or --model.load_in nf4, which rounds the weights more coarsely; or --data.max_length below 200, which cuts long"
        " articles."
    )


def test_the_allocator_of_the_cpu_is_recognized(refused):
    assert "--data.batch_size 4: this machine ran out of memory" in refused("fit", *run_out("cpu"))


def test_what_is_done_already_is_not_advised(refused):
    words = ("--data.batch_size", "1", "--model.gradient_checkpointing", "true", "--model.load_in", "nf4")
    assert refused("fit", *words, *run_out("gpu")).endswith(
        "; give --data.max_length below 200, which cuts long articles."
    )


def test_predict_names_its_own_flags(refused):
    sentence = refused("predict", "--data.headlines", '["A"]', "--model.candidates", "3", *run_out("gpu"))
    assert "--data.batch_size 2; or fewer --model.candidates; or --model.load_in nf4" in sentence
    sentence = refused("predict", "--data.headlines", '["A"]', "--model.best_of", "3", *run_out("gpu"))
    assert "--data.batch_size 2; or a smaller --model.best_of; or --model.load_in nf4" in sentence
    assert sentence.endswith("or --model.max_new_tokens below 12.")


def test_attend_is_advised_a_shorter_text():
    options = {"model": {"load_in": "none", "candidates": 1, "best_of": 1}, "data": {"batch_size": 4}}
    error = explain_out_of_memory("attend", options, torch.OutOfMemoryError("CUDA out of memory."))
    assert str(error).endswith(
        "; give --model.load_in int8 or nf4, which rounds the weights more coarsely; or a shorter --text."
    )


def test_a_rank_that_runs_out_alone_is_heard(shell, flags, tmp_path):
    done = shell(flags("fit", *ranks(2), *run_out("gpu", rank=1)))
    assert done.returncode != 0
    assert "the GPU ran out of memory on rank 1 when it needed 2.50 GiB more" in done.stderr
    assert "--model.shard" not in done.stderr  # activations take more than the layers


def test_spreading_the_weights_is_advised_before_rounding_them_where_it_would_help():
    options = {"model": {"load_in": "none", "candidates": 1, "best_of": 1}, "data": {"batch_size": 1}}
    error = explain_out_of_memory("attend", options, torch.OutOfMemoryError("CUDA out of memory."), shard="all")
    assert "give --model.shard all, which spreads the frozen weights over more ranks; or --model.load_in" in str(error)


@pytest.mark.parametrize(
    ("shard", "ranks", "nodes", "wider"),
    [
        (False, 1, 1, False),
        (False, 8, 1, True),
        (False, 16, 2, True),
        (False, 2, 2, "all"),
        (True, 8, 1, False),
        ("node", 16, 2, "all"),
        ("all", 16, 2, False),
    ],
)
def test_more_ranks_share_weights_within_a_machine_first(shard, ranks, nodes, wider):
    assert wider_shard(shard, ranks, nodes) == wider


def test_other_errors_are_not_taken_for_it(flags):
    from onion_lightning.cli.main import main

    with pytest.raises(ZeroDivisionError):
        main(flags("fit", "--trainer.callbacks+=tests.stopper.CrashAt", "--trainer.callbacks.step=0"))
