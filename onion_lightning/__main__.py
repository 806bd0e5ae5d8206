"""``python -m onion_lightning fit|validate|test|predict|evaluate|attend --config configs/cpu.yaml``."""

import logging
import sys


def run() -> int:
    # On a CPU with bfloat16, bitsandbytes warns at import of a package that makes 4 bit faster there; the demo is in 8 bit.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    from onion_lightning.cli.main import main

    return main()


if __name__ == "__main__":
    sys.exit(run())
