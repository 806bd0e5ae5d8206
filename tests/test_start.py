"""What `python -m onion_lightning` sets before torch is loaded."""

import gc
import os
import subprocess
import sys

import pytest

from onion_lightning.__main__ import WAITING

PRINT_WHEN_TORCH_IS_IMPORTED = """if True:
    import os, sys
    from onion_lightning.__main__ import WAITING

    class Watch:
        def find_spec(self, name, *more):
            if name == "torch":
                print({name: os.environ[name] for name in WAITING if name in os.environ})
                sys.exit()

    sys.meta_path.insert(0, Watch())
    from onion_lightning.__main__ import run
    run()
"""


@pytest.mark.parametrize(
    ("variables", "found"),
    [
        ({}, {"GOMP_SPINCOUNT": "6000", "KMP_BLOCKTIME": "1"}),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, {"OMP_WAIT_POLICY": "ACTIVE"}),
        ({"GOMP_SPINCOUNT": "1000"}, {"GOMP_SPINCOUNT": "1000"}),
        ({"KMP_BLOCKTIME": "200"}, {"KMP_BLOCKTIME": "200"}),
    ],
)
def test_before_torch_is_loaded_idle_threads_are_set_to_sleep_early_unless_the_user_has_chosen(variables, found):
    environment = {name: value for name, value in os.environ.items() if name not in WAITING} | variables
    command = [sys.executable, "-c", PRINT_WHEN_TORCH_IS_IMPORTED]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == repr(found)


def test_garbage_is_collected_again_when_a_command_runs(run):
    gc.disable()
    try:
        run("validate")
        assert gc.isenabled()
    finally:
        gc.unfreeze()
        gc.enable()
