"""Decisions of several ranks, and how the loss of one is explained."""

import socket

import pytest

from onion_lightning.errors import OnionError
from onion_lightning.ranks import agree, connected, explain_lost_rank, gather, on_rank_zero, share, together
from tests.several import on_ranks

HOST = socket.gethostname()


def raised(block):
    try:
        return block()
    except (OnionError, ZeroDivisionError) as error:
        return [type(error).__name__, str(error)]


def fail_on(ranks, rank, error):
    with together():
        if rank in ranks:
            raise error
    return "passed"


def refuse():
    raise OnionError("--x 1: is bad.")


def decisions(rank):
    return {
        "gather": gather(rank * 10),
        "share": [share(f"of {rank}"), share(f"of {rank}", 1)],
        "none": raised(lambda: fail_on([], rank, None)),
        "one": raised(lambda: fail_on([1], rank, OnionError("--y 2: is bad."))),
        "other": raised(lambda: fail_on([0], rank, ZeroDivisionError("by zero"))),
        "both": raised(lambda: fail_on([0, 1], rank, OnionError(f"--z {rank}: is bad."))),
        "zero": [on_rank_zero(lambda: f"decided on {rank}"), raised(lambda: on_rank_zero(refuse))],
        "after": gather("in step"),
    }


def test_ranks_decide_together_and_an_error_of_one_is_an_error_of_all():
    first, second = on_ranks(decisions)
    for found in (first, second):
        assert found["gather"] == [0, 10]
        assert found["share"] == ["of 0", "of 1"]
        assert found["none"] == "passed"
        assert found["zero"] == ["decided on 0", ["OnionError", "--x 1: is bad."]]
        assert found["after"] == ["in step", "in step"]
    assert first["one"] == ["OnionError", f"rank 1 on {HOST}: --y 2: is bad."]
    assert second["one"] == ["OnionError", "--y 2: is bad."]
    assert first["other"] == ["ZeroDivisionError", "by zero"]
    assert second["other"] == ["OnionError", f"rank 0 on {HOST}: ZeroDivisionError: by zero"]
    assert [found["both"][1] for found in (first, second)] == ["--z 0: is bad.", "--z 1: is bad."]


def test_a_single_process_decides_alone():
    assert not connected()
    assert (gather(3), share(3), on_rank_zero(lambda: 3)) == ([3], 3, 3)
    with pytest.raises(ZeroDivisionError), together():
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("message", "explained"),
    [
        (
            "[gloo/transport/tcp/pair.cc:534] Connection closed by peer [10.0.0.2]:33718. This may indicate",
            "the connection to a rank on n2 was closed: its process has ended",
        ),
        ("Connection closed by peer [10.0.0.9]:33718", "the connection to another rank was closed"),
        ("NCCL error: remote process exited or there was a network error", "the connection to another rank was closed"),
        (
            "Timed out waiting 15000ms for recv operation to complete",
            "another rank did not answer within the time limit",
        ),
        ("mat1 and mat2 shapes cannot be multiplied (4x2 and 3x1)", None),
    ],
)
def test_the_loss_of_a_rank_is_explained_and_other_errors_are_not(message, explained):
    found = explain_lost_rank(RuntimeError(message), {"10.0.0.1": "n1", "10.0.0.2": "n2"})
    assert (found is None) if explained is None else found.startswith(explained)
    assert explain_lost_rank(ValueError(message), {}) is None


def compare(rank):
    def found(own, remedy="give all ranks the same value"):
        try:
            return agree(own, remedy)
        except OnionError as error:
            return str(error)

    return [
        found({"--a": "1", "--b": "2"}),
        found({"--a": "1", "--b": str(rank)}),
        found({"--a": str(rank), "--b": str(rank), "--c": "3"}, "use the same"),
        found({"--a": "1"} if rank else {}),
    ]


def test_the_first_difference_is_named_with_ranks_machines_and_both_values():
    first, second, third = on_ranks(compare, world=3)
    assert first == second == third
    places = [f"rank {rank} on {HOST}" for rank in range(2)]
    assert first == [
        None,
        f"--b: is 0 for {places[0]}, but 1 for {places[1]}; give all ranks the same value.",
        f"--a: is 0 for {places[0]}, but 1 for {places[1]} (1 more differ); use the same.",
        f"--a: is None for {places[0]}, but 1 for {places[1]}; give all ranks the same value.",
    ]
