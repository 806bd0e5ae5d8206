"""Exports a checkpoint as GGUF with the real converter of llama.cpp, serves it with the real `llama-server`, and verifies it.

    python tests/benchmarks/llama_cpp.py --llama_cpp llama.cpp --config configs/cpu.yaml --ckpt_path last
    python tests/benchmarks/llama_cpp.py --llama_cpp llama.cpp --config configs/cpu.yaml --ckpt_path last \
        --types f32 q8_0 q4_k_m lora --more --count 3 --model.max_new_tokens 60

`--llama_cpp` is the folder of its source code, such as vendor/llama.cpp in the sdist of `llama-cpp-python`. Build it with
`cmake -B build && cmake --build build --target llama-server llama-quantize`. The type `lora` converts base model and adapters
apart, in f32, with convert_lora_to_gguf.py. What follows `--more` is passed to `verify`.
"""

import argparse
import contextlib
import json
import shlex
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ONION = [sys.executable, "-m", "onion_lightning"]
TITLES = (
    "weights",
    "prompts",
    "articles",
    "log p, mean",
    "largest",
    "loss",
    "greedy articles",
    "read by transformers",
    "seconds",
)


def main() -> None:
    args = read_arguments()
    print(f"| {' | '.join(TITLES)} |\n|{' --- |' * len(TITLES)}", flush=True)
    for kind in args.types:
        folder = args.folder / kind
        export(args, kind, folder)
        began = time.perf_counter()
        with serving(args, kind, folder) as url:
            line = ["verify", *common(args), "--path", str(folder), "--url", url, *args.more]
            status = subprocess.run([*ONION, *line], check=False).returncode
        forms = json.loads((folder / "verify.json").read_text(encoding="utf-8"))["forms"]
        print(row(kind, forms, time.perf_counter() - began), flush=True)
        if status:
            print(f"verify: exit status {status}", file=sys.stderr)


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llama_cpp", type=Path, required=True, help="folder of llama.cpp's source code")
    parser.add_argument("--server", help="command of another server than build/bin/llama-server there")
    parser.add_argument("--config", default="configs/cpu.yaml", help="of the checkpoint")
    parser.add_argument("--ckpt_path", required=True, help="the checkpoint")
    parser.add_argument("--types", nargs="+", default=["f32", "q8_0"], help="types of weights, or lora")
    parser.add_argument("--folder", type=Path, default=Path("llama_cpp_exports"), help="gets an export for each type")
    parser.add_argument("--more", nargs=argparse.REMAINDER, default=[], help="flags of verify")
    return parser.parse_args()


def common(args: argparse.Namespace) -> list[str]:
    return ["--config", args.config, "--ckpt_path", args.ckpt_path]


def export(args: argparse.Namespace, kind: str, folder: Path) -> None:
    line = [*ONION, "export", *common(args), "--output", str(folder), "--overwrite", "true"]
    if kind != "lora":
        line += ["--merge", "true", "--gguf", kind, "--llama_cpp", str(args.llama_cpp)]
        subprocess.run(line, check=True)
        return
    subprocess.run(line, check=True)
    base = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))["base_model_name_or_path"]
    script, files = args.llama_cpp / "convert_hf_to_gguf.py", ["--outfile", folder / "model.gguf"]
    subprocess.run([sys.executable, script, base, "--outtype", "f32", *files], check=True)
    script, files = args.llama_cpp / "convert_lora_to_gguf.py", ["--outfile", folder / "adapters.gguf"]
    subprocess.run([sys.executable, script, folder, "--base", base, "--outtype", "f32", *files], check=True)


@contextlib.contextmanager
def serving(args: argparse.Namespace, kind: str, folder: Path) -> Iterator[str]:
    """Start the server on a free port, wait until the model is loaded, and yield its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = shlex.split(args.server or str(args.llama_cpp / "build" / "bin" / "llama-server"))
    command += ["--model", str(folder / "model.gguf"), "--port", port]
    command += ["--lora", str(folder / "adapters.gguf")] if kind == "lora" else []
    with (folder / "server.log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as server:
        try:
            url = f"http://127.0.0.1:{port}"
            while not healthy(url):
                if server.poll() is not None:
                    sys.exit(f"{shlex.join(command)}: exit status {server.returncode}; see {log.name}.")
                time.sleep(1)
            yield url
        finally:
            server.terminate()


def healthy(url: str) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/health", timeout=60) as answer:
        return bool(answer.status == 200)
    return False


def row(kind: str, forms: list[dict[str, Any]], seconds: float) -> str:
    """Return a line of the table: the last form is the server."""
    server, count = forms[-1], len(forms[-1]["diverges"])
    read = next((form["mean"] for form in forms if form["form"] == "model.gguf"), None)
    equal = [server["same_prompts"], server["same_articles"], server["diverges"].count(None)]
    ids, texts, greedy = (f"{same} of {count}" for same in equal)
    figures = [server["mean"], server["largest"], (server["loss"] or {}).get("nats_per_token"), read]
    mean, largest, loss, read = ("?" if figure is None else f"{figure:.2g}" for figure in figures)
    return f"| {kind} | {ids} | {texts} | {mean} | {largest} | {loss} | {greedy} | {read} | {seconds:.0f} |"


if __name__ == "__main__":
    main()
