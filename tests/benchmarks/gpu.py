"""Measures training on a GPU: speed and memory in 8, 4 and 16 bit at two lengths, and how both scale over the GPUs here.

    python tests/benchmarks/gpu.py
    python tests/benchmarks/gpu.py --shape smollm2 --rows 4
    python tests/benchmarks/gpu.py --shape tiny --device cpu

Prints two Markdown tables. The weights are random, in the shape of Llama-2 7B by default, and are written once to --folder
(13.5 GB). The first table times a step (forward, backward, optimizer) on rows that are all of one length, in rounds over all
cases, and gives the median of the rounds; with --documented, it times the same step with the model that transformers, peft
and bitsandbytes document, too. The second runs `fit` on 1, 2, 4 and 8 GPUs, as many as there are.
"""

import argparse
import csv
import gc
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, LlamaConfig

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT))

from documented import CPU, documented_model

from onion_lightning.data.collate import Batch
from onion_lightning.model.base_model import LoadIn, best_precision, compute_dtype, has_bfloat16
from onion_lightning.model.module import OnionModule
from onion_lightning.planning.memory import predict_memory
from onion_lightning.planning.training_step import full_batch
from onion_lightning.pretrained.locate import load_config

SIZES = (
    *("vocab_size", "hidden_size", "intermediate_size"),
    *("num_hidden_layers", "num_attention_heads", "num_key_value_heads", "tie_word_embeddings"),
)
SHAPES = {
    "tiny": (600, 64, 128, 2, 4, 4, False),
    "smollm2": (49152, 576, 1536, 30, 9, 3, True),
    "7b": (32000, 4096, 11008, 32, 32, 32, False),
    "13b": (32000, 5120, 13824, 40, 40, 40, False),
}
WARMUP = 2
EMPTY = "–"
BITS: dict[LoadIn, str] = {"int8": "8", "nf4": "4", "none": "16"}


class Case(NamedTuple):
    code: str  # "ours" or "documented"
    load_in: LoadIn
    precision: str
    length: int


class Figures(NamedTuple):
    """What one round measured; memory in GB, 0 on the CPU."""

    tokens_per_second: float
    allocated: float
    reserved: float


# The model


def write_model(shape: str, folder: Path, device: torch.device = CPU) -> None:
    """Save random weights of a shape in float16, with the tests' tokenizer of 600 pieces, unless they are there.

    They are drawn on the device, because a GPU takes a second for what a CPU takes a minute, and a file of 2 GB at a time.
    """
    if (folder / "config.json").exists():
        return
    threads = torch.get_num_threads()
    from tests.tiny import save_tiny_base

    torch.set_num_threads(threads)  # that module sets it to one
    folder.mkdir(parents=True, exist_ok=True)
    save_tiny_base(folder)
    for file in ("model.safetensors", "config.json"):
        (folder / file).unlink()
    say(f"Writing random weights of the shape {shape} to {folder} ...")
    more = {"max_position_embeddings": 4096, "dtype": "float16", "architectures": ["LlamaForCausalLM"]}
    config = LlamaConfig(**dict(zip(SIZES, SHAPES[shape], strict=True)), **more)
    with torch.device("meta"):
        shapes = AutoModelForCausalLM.from_config(config).state_dict()
    if config.tie_word_embeddings:
        del shapes["lm_head.weight"]
    files, weights, number = {}, {}, 1
    for name, shape in shapes.items():
        drawn = torch.randn(shape.shape, dtype=torch.float16, device=device)
        weights[name], files[name] = (
            drawn.mul_(0.02) if drawn.ndim > 1 else drawn.fill_(1),
            f"model-{number:05}.safetensors",
        )
        if sum(one.nbytes for one in weights.values()) > 2e9 or len(files) == len(shapes):
            save_file(weights, folder / files[name])
            weights, number = {}, number + 1
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))
    config.save_pretrained(folder)  # last: the folder is complete


def load(base: Path, case: Case, args: argparse.Namespace) -> torch.nn.Module:
    if case.code == "documented":
        dtype, checkpointing = compute_dtype(case.precision), args.gradient_checkpointing
        model: torch.nn.Module = documented_model(
            str(base), BITS[case.load_in], checkpointing=checkpointing, device=args.device, dtype=dtype
        )
        return model.train()
    made = OnionModule(str(base), case.load_in, gradient_checkpointing=args.gradient_checkpointing, seed=0)
    made.load_base(args.device, case.precision)
    return made


# One GPU


def loss_of(made: torch.nn.Module, batch: Batch, rows: int) -> torch.Tensor:
    """Return the mean loss of a micro-batch; the documented model gets its rows one below the other."""
    if isinstance(made, OnionModule):
        return made.loss_sum(batch) / batch["supervised"]
    ids = batch["input_ids"].reshape(rows, -1)
    loss: torch.Tensor = made(input_ids=ids, labels=ids).loss
    return loss


def training_step(made: torch.nn.Module, precision: str, batch: Batch, rows: int) -> Callable[[], None]:
    """Return a function that trains one step: forward, backward, optimizer, with a gradient scaler in 16-mixed."""
    device, dtype = batch["input_ids"].device.type, compute_dtype(precision)
    optimizer = torch.optim.AdamW([p for p in made.parameters() if p.requires_grad], lr=1e-4)
    scaler = torch.amp.GradScaler(device, enabled=precision == "16-mixed")

    def step() -> None:
        with torch.autocast(device, dtype, enabled=dtype != torch.float32):
            loss = loss_of(made, batch, rows)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()

    return step


def wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure(made: torch.nn.Module, case: Case, rows: int, device: torch.device, steps: int) -> Figures | None:
    """Measure some steps after a warm-up; None if they do not fit into the memory."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    try:
        step = training_step(made, case.precision, full_batch(rows, case.length, device), rows)
        for _ in range(WARMUP):
            step()
        wait_for(device)
        began = time.perf_counter()
        for _ in range(steps):
            step()
        wait_for(device)
    except torch.OutOfMemoryError:
        made.zero_grad()
        return None
    speed = steps * rows * case.length / (time.perf_counter() - began)
    if device.type == "cpu":
        return Figures(speed, 0, 0)
    return Figures(speed, torch.cuda.max_memory_allocated(device) / 1e9, torch.cuda.max_memory_reserved(device) / 1e9)


def measure_all(args: argparse.Namespace, base: Path, cases: list[Case]) -> dict[Case, list[Figures | None]]:
    """Measure each case once a round. The model is loaded again where the weights or the precision differ."""
    found: dict[Case, list[Figures | None]] = {case: [] for case in cases}
    for number in range(args.rounds):
        made, loaded = None, None
        for case in cases:
            if loaded != case[:3]:
                del made
                gc.collect()
                made, loaded = load(base, case, args), case[:3]
            found[case].append(measure(made, case, args.rows, args.device, args.steps))
            say(f"round {number + 1} of {args.rounds}: {' '.join(map(str, case))}: {found[case][-1]}")
    return found


def predicted(args: argparse.Namespace, base: Path, case: Case) -> str:
    """Return the peak of allocated memory that `plan` predicts, in GB; for our code on a GPU."""
    if case.code == "documented" or args.device.type == "cpu":
        return EMPTY
    made = OnionModule(str(base), case.load_in, seed=0)
    plan = predict_memory(
        load_config(str(base)),
        load_in=case.load_in,
        precision=case.precision,
        lora_rank=made.lora_rank,
        target_modules=made.target_modules,
        gradient_checkpointing=args.gradient_checkpointing,
        rows=args.rows,
        length=case.length,
    )
    return gigabytes(plan.total / 1e9)


def first_table(args: argparse.Namespace, base: Path, found: dict[Case, list[Figures | None]]) -> Iterator[str]:
    names = ("card", "torch", "code", "weights", "precision", "tokens per row", "rows")
    yield f"| {' | '.join((*names, 'tokens/s', 'allocated GB', 'predicted GB', 'reserved GB'))} |"
    yield f"| {' | '.join(['---'] * 5 + ['---:'] * 6)} |"
    for case, rounds in found.items():
        figures = [one for one in rounds if one is not None]
        columns = [
            card(args.device),
            torch.__version__,
            case.code,
            case.load_in,
            case.precision,
            f"{case.length:,}",
            str(args.rows),
        ]
        if len(figures) < len(rounds):
            columns += ["out of memory", EMPTY, predicted(args, base, case), EMPTY]
        else:
            columns.append(f"{statistics.median(one.tokens_per_second for one in figures):,.0f}")
            allocated, reserved = (gigabytes(max(values)) for values in list(zip(*figures, strict=True))[1:])
            columns += [allocated, predicted(args, base, case), reserved]
        yield f"| {' | '.join(columns)} |"


# Several GPUs


def write_corpus(file: Path, rows: int, words: int) -> None:
    """Write rows of random words, each longer than the length that `fit` cuts them to."""
    draw = torch.Generator().manual_seed(0)
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["Title", "Content"])
        for number in range(rows):
            letters = torch.randint(97, 123, (words, 5), generator=draw).tolist()
            writer.writerow([f"Headline {number}", " ".join(bytes(word).decode() for word in letters)])


def fit_command(args: argparse.Namespace, base: Path, corpus: Path, run: Path, count: int) -> list[str]:
    flags = {
        "--model.base_model": base,
        "--model.load_in": args.load_in[0],
        "--model.gradient_checkpointing": str(args.gradient_checkpointing).lower(),
        "--data.path": corpus,
        "--data.max_length": args.lengths[0],
        "--data.batch_size": args.rows,
        "--data.global_batch_size": args.rows * count,
        "--checkpoint.dirpath": run,
        "--trainer.accelerator": "cpu" if args.device.type == "cpu" else "gpu",
        "--trainer.devices": count,
        "--trainer.strategy": "ddp" if count > 1 else "auto",
        "--trainer.precision": args.precisions[0],
        "--trainer.max_steps": WARMUP + args.steps * args.rounds,
        "--trainer.limit_val_batches": 0,
        "--trainer.log_every_n_steps": 1,
        "--trainer.logger": "false",
        "--trainer.enable_progress_bar": "false",
    }
    return [sys.executable, "-m", "onion_lightning", "fit", *(str(word) for pair in flags.items() for word in pair)]


def fit(command: list[str], run: Path) -> tuple[float, list[dict[str, str]]]:
    """Run `fit`; return the seconds until its first step was logged, and the rows of metrics.csv."""
    began, log = time.monotonic(), run / "metrics.csv"
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output)
        while process.poll() is None and not log.exists():
            time.sleep(0.1)
        started = time.monotonic() - began
        if process.wait():
            output.seek(0)
            sys.exit(output.read())
    with log.open(newline="") as stream:
        return started, [row for row in csv.DictReader(stream) if row.get("tokens/s")]


def second_table(args: argparse.Namespace, base: Path, folder: Path) -> Iterator[str]:
    yield "| cards | tokens/s | per card | of one card's | reserved GB (rank 0) | seconds to the first step |"
    yield "| ---: | ---: | ---: | ---: | ---: | ---: |"
    corpus, alone = folder / "corpus.csv", 0.0
    counts = [count for count in (1, 2, 4, 8) if count <= args.cards]
    write_corpus(corpus, 2 * args.rows * counts[-1] * (WARMUP + args.steps * args.rounds), args.lengths[0])
    for count in counts:
        say(f"fit on {count} ...")
        started, rows = fit(fit_command(args, base, corpus, folder / f"run{count}", count), folder / f"run{count}")
        speed = statistics.median(float(row["tokens/s"]) for row in rows[WARMUP:])
        alone = alone or speed
        memory = gigabytes(max(float(row.get("gpu/memory_gb") or 0) for row in rows))
        each, share = speed / count, speed / count / alone
        yield f"| {count} | {speed:,.0f} | {each:,.0f} | {share:.0%} | {memory} | {started:.0f} |"


# The command


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def card(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


def gigabytes(value: float) -> str:
    return f"{value:.1f}" if value else EMPTY


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="7b")
    parser.add_argument("--device", type=torch.device, default="cuda")
    parser.add_argument("--load_in", nargs="+", choices=("int8", "nf4", "none"), default=["int8", "nf4", "none"])
    parser.add_argument("--precisions", nargs="+", help="default: all that the device has in hardware")
    parser.add_argument("--lengths", nargs="+", type=int, default=[256, 1024], help="tokens per row")
    parser.add_argument("--rows", type=int, default=8, help="in a micro-batch")
    parser.add_argument("--gradient_checkpointing", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--documented", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=5, help="timed steps in a round")
    parser.add_argument("--cards", type=int, help="most in the second table, 0 for none; default: all, or 2 ranks")
    parser.add_argument("--folder", type=Path, help="where the weights are kept; default: a temporary folder")
    args = parser.parse_args()
    cuda = args.device.type == "cuda"
    if cuda and not torch.cuda.is_available():
        parser.error("no GPU here; --shape tiny --device cpu tries the script")
    if not cuda:  # one thread for each rank: the figures only show that the script works
        torch.set_num_threads(1)
        os.environ["OMP_NUM_THREADS"] = "1"
    args.precisions = args.precisions or precisions(args.device)
    if args.cards is None:
        args.cards = torch.cuda.device_count() if cuda else 2
    return args


def precisions(device: torch.device) -> list[str]:
    if device.type == "cpu":
        return [best_precision(device)]
    return ["bf16-mixed", "16-mixed"] if has_bfloat16(device) else ["16-mixed"]


def main() -> None:
    args = arguments()
    with tempfile.TemporaryDirectory() as temporary:
        base = (args.folder or Path(temporary)) / f"random-{args.shape}"
        write_model(args.shape, base, args.device)
        codes = ("ours", "documented") if args.documented else ("ours",)
        cases = [Case(*case) for case in itertools.product(codes, args.load_in, args.precisions, args.lengths)]
        checkpointing = "with" if args.gradient_checkpointing else "without"
        print(f"Shape {args.shape}, {checkpointing} gradient checkpointing, CUDA {torch.version.cuda}\n")
        print("\n".join(first_table(args, base, measure_all(args, base, cases))))
        if args.cards == 0:
            return
        flags = f"{args.load_in[0]}, {args.precisions[0]}, {args.rows} rows of {args.lengths[0]} tokens on each card"
        print(f"\n`fit` with DDP ({flags})\n")
        print("\n".join(second_table(args, base, Path(temporary))))


if __name__ == "__main__":
    main()
