"""``python -m onion_lightning fit|validate|test|predict --config configs/cpu.yaml``."""

import sys

from onion_lightning.cli import main

if __name__ == "__main__":
    sys.exit(main())
