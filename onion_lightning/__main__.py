"""Entry point of `python -m onion_lightning` and `onion-lightning`."""

import gc
import logging
import os
import sys

from onion_lightning import __version__

WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def run() -> int:
    if sys.argv[1:2] == ["--version"]:
        print(f"onion-lightning {__version__}")  # noqa: T201 # at once: the parser imports torch
        return 0
    share_cores()
    # On a CPU with bfloat16, bitsandbytes recommends a package that speeds up 4 bit whenever it is imported.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    # Imports create a million objects that stay, and looking for garbage among them takes a fifth of the time. `OnionCLI`
    # enables it again when all is imported.
    gc.disable()
    from onion_lightning.cli.main import main

    gc.freeze()  # the collection at exit, too, would take a second
    return main()


def share_cores() -> None:
    """Have idle threads of OpenMP sleep early, unless the user has chosen. OpenMP reads this when torch is loaded.

    By default they spin 300,000 times (libgomp) or for 200 ms (libomp), and two commands on the same cores then run many
    times slower. If they slept at once, a lone command would wait for them in each layer.
    """
    if not any(name in os.environ for name in WAITING):
        os.environ |= {"GOMP_SPINCOUNT": "6000", "KMP_BLOCKTIME": "1"}


if __name__ == "__main__":
    sys.exit(run())
