"""What `python -m onion_lightning` sets before torch is loaded."""

import gc

import pytest


@pytest.mark.parametrize(
    ("variables", "found"),
    [
        ({}, "OMP_WAIT_POLICY = 'PASSIVE'"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, "OMP_WAIT_POLICY = 'ACTIVE'"),
        ({"GOMP_SPINCOUNT": "7"}, "GOMP_SPINCOUNT = '7'"),
    ],
)
def test_openmp_sees_that_idle_threads_sleep_unless_the_user_has_chosen(shell, monkeypatch, variables, found):
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"):
        monkeypatch.delenv(name, raising=False)
    done = shell(["--version"], OMP_DISPLAY_ENV="verbose", **variables)
    assert found in done.stderr


def test_garbage_is_collected_again_when_a_command_runs(run):
    gc.disable()
    try:
        run("validate")
        assert gc.isenabled()
    finally:
        gc.unfreeze()
        gc.enable()
