"""Gives the tests the same environment everywhere: `isolate` removes what a shell, a scheduler or a launcher has set.

What is kept finds programs and libraries, or reaches the package index, from which the demo model is downloaded.
"""

import os
import re
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
KEPT = re.compile(
    r"PATH|PYTHONPATH|LD_\w+|VIRTUAL_ENV|HOME|USER|LOGNAME|TMPDIR|TEMP|TMP|SYSTEMROOT|CI"
    r"|(PYTEST|CONDA|COV|CUDA|NVIDIA|NCCL|XDG|ONION|PIP|SSL|REQUESTS)_\w+|(https?|all|no)_proxy",
    re.IGNORECASE,
)
FOLDER = "ONION_TESTS_FOLDER"  # of the whole session: workers of pytest-xdist inherit it


def isolate() -> tempfile.TemporaryDirectory[str] | None:
    """Set the variables of this process and its children. Called before the imports of libraries, which read them.

    Returns:
        The folder of the session, in the process that has made it, which deletes it at exit.
    """
    for name in [name for name in os.environ if not KEPT.fullmatch(name)]:
        del os.environ[name]
    made = None if FOLDER in os.environ else tempfile.TemporaryDirectory(prefix="onion-tests-")
    if made:
        os.environ[FOLDER] = made.name
    own = Path(os.environ[FOLDER], os.environ.get("PYTEST_XDIST_WORKER", "main"))
    os.environ |= {
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": "1",  # processes of several tests share the cores
        "TOKENIZERS_PARALLELISM": "false",  # some tests fork
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(own / "hf"),
        "NETRC": str(own / "netrc"),  # without an account of W&B
        "WANDB_CONFIG_DIR": str(own / "wandb"),
        "WANDB_DIR": str(own),  # not the working directory, where W&B makes a folder besides that of the logger
    }
    for name in ("no_proxy", "NO_PROXY"):
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), "localhost", "127.0.0.1"]))
    os.umask(0o022)
    return made
