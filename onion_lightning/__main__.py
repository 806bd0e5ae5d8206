"""Entry point of `python -m onion_lightning` and `onion-lightning`."""

import logging
import sys


def run() -> int:
    # On a CPU with bfloat16, bitsandbytes recommends a package that speeds up 4 bit whenever it is imported.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    from onion_lightning.cli.main import main

    return main()


if __name__ == "__main__":
    sys.exit(run())
