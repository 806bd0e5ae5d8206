"""Shows on the demo that `fit` on preference pairs raises what was preferred, and what it costs on real articles.

    python tests/benchmarks/preferences.py --folder /var/tmp/preferences
    python tests/benchmarks/preferences.py --folder /tmp/p --checkpoint checkpoints/cpu/last.ckpt --pairs 40 --candidates 2

The preference is made: of two candidates for a headline, the one that names a day of the week earlier wins. Candidates for
training headlines are written by the demo itself, after `fit --config configs/cpu.yaml` (unless --checkpoint is given).

Prints a Markdown table: on held-out headlines, the share of candidates that name a day among their first words, before and
after, and the difference; the share of comparisons that the new model wins against the old one, candidate by candidate with
the same seed; both with 95% intervals (bootstrap over headlines); and the validation loss of real articles. Whether an
article is funnier is for voters, and not shown.
"""

import argparse
import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from contenders import machine

from onion_lightning.data.corpus import split_of
from onion_lightning.data.prompt import format_prompt
from onion_lightning.model.decoding import Decoding
from onion_lightning.model.module import OnionModule
from onion_lightning.model.writing.best_of import write_articles

ROOT = Path(__file__).parent.parent.parent
SAMPLE = ROOT / "onion_lightning" / "data" / "sample" / "onion_sample.csv"
DAY = re.compile(r"\b(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day\b")
NEVER = 10_000  # words before a day that is not named
EARLY = 25  # words
BATCH = 32


def command(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "onion_lightning", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(done.stderr)
    return done.stdout


def words_before_day(article: str) -> int:
    """Return how many words precede the first day of the week."""
    found = DAY.search(article)
    return len(article[: found.start()].split()) if found else NEVER


def write(checkpoint: Path, headlines: list[str], candidates: int, tokens: int, seed: int) -> list[list[str]]:
    """Return candidates for each headline."""
    onion = OnionModule.load_from_checkpoint(checkpoint)
    decoding = Decoding(max_new_tokens=tokens, temperature=0.8, candidates=candidates)
    size, found = max(1, BATCH // candidates), []
    for at in range(0, len(headlines), size):
        some = headlines[at : at + size]
        written = write_articles(onion.language_model, onion.tokenizer, some, decoding, seed=seed + at)
        found += [[article.text for article in articles] for articles in written]
        print(f"{len(found)} of {len(headlines)} headlines", file=sys.stderr)
    return found


def make_pairs(checkpoint: Path, headlines: list[str], count: int, tokens: int) -> list[dict[str, str]]:
    """Return pairs of two candidates each that name a day at different places; several rounds, if one is not enough."""
    pairs: list[dict[str, str]] = []
    for round_ in range(8):
        for headline, (one, other) in zip(
            headlines, write(checkpoint, headlines, 2, tokens, seed=1000 * (round_ + 1)), strict=True
        ):
            first, second = sorted((one, other), key=words_before_day)
            if words_before_day(first) < words_before_day(second) and len(pairs) < count:
                pairs.append({"prompt": format_prompt(headline), "chosen": first, "rejected": second})
        if len(pairs) == count:
            return pairs
    sys.exit(f"Only {len(pairs)} of {count} pairs differ.")


def validation_loss(checkpoint: Path) -> float:
    printed = command(
        "validate", "--config", "configs/cpu.yaml", "--ckpt_path", str(checkpoint), "--trainer.logger", "false"
    )
    return float(re.search(r"val/loss\D+([\d.]+)", printed)[1])


def bootstrap(values: np.ndarray, rounds: int = 10_000) -> str:
    """Return the mean over headlines, (headlines,), with its 95% interval."""
    drawn = np.random.default_rng(0).choice(values, (rounds, len(values))).mean(axis=1)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return f"{values.mean():.2f} ({low:.2f} to {high:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="for checkpoints, the export and the pairs")
    parser.add_argument("--checkpoint", type=Path, help="of the demo on articles; by default, it is trained")
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--candidates", type=int, default=8, help="for each held-out headline")
    parser.add_argument("--tokens", type=int, default=60, help="of each article, at most")
    parser.add_argument(
        "--flags", nargs="*", default=[], help="more flags of fit on the pairs, without dashes: NAME VALUE"
    )
    args = parser.parse_args()
    torch.manual_seed(0)
    folder, before = args.folder.resolve(), args.checkpoint
    folder.mkdir(parents=True, exist_ok=True)
    if before is None:
        before = folder / "cpu" / "last.ckpt"
        quiet = ("--trainer.logger", "false", "--samples.count", "0")
        command("fit", "--config", "configs/cpu.yaml", "--checkpoint.dirpath", str(before.parent), *quiet)
    before = before.resolve()
    with SAMPLE.open(newline="", encoding="utf-8") as stream:
        headlines = [row["Title"] for row in csv.DictReader(stream)]
    split = {headline: split_of(headline, 0.1, 0.1) for headline in headlines}
    pairs = make_pairs(before, [one for one in headlines if split[one] == "train"], args.pairs, args.tokens)
    (folder / "pairs.jsonl").write_text("".join(json.dumps(pair, ensure_ascii=False) + "\n" for pair in pairs))
    export = (
        "export",
        "--config",
        "configs/cpu.yaml",
        "--ckpt_path",
        str(before),
        "--output",
        str(folder / "exported"),
    )
    command(*export, "--overwrite", "true", "--trainer.logger", "false")
    more = [f"--{word}" if at % 2 == 0 else word for at, word in enumerate(args.flags)]
    votes = ("fit", "--config", "configs/votes.yaml", "--data.pairs", str(folder / "pairs.jsonl"))
    command(
        *votes, "--model.adapter", str(folder / "exported"), "--checkpoint.dirpath", str(folder / "votes"),
        "--trainer.logger", "false", "--samples.count", "0", *more,
    )  # fmt: skip
    after = folder / "votes" / "last.ckpt"
    held_out = [one for one in headlines if split[one] != "train"]
    words = np.array(
        [
            [
                [words_before_day(article) for article in row]
                for row in write(one, held_out, args.candidates, args.tokens, 7)
            ]
            for one in (before, after)
        ]
    )  # (before and after, headlines, candidates)
    early = (words < EARLY).mean(axis=2)
    decided, wins = (words[0] != words[1]).sum(axis=1), (words[1] < words[0]).sum(axis=1)
    shares = (wins / np.maximum(decided, 1))[decided > 0]
    losses = [validation_loss(one) for one in (before, after)]
    print(f"{machine()}; {len(pairs)} pairs, {len(held_out)} held-out headlines, {args.candidates} candidates each\n")
    print("| | before | after | difference |\n| --- | ---: | ---: | ---: |")
    means = " | ".join(f"{value:.2f}" for value in early.mean(axis=1))
    print(f"| candidates that name a day in their first {EARLY} words | {means} | {bootstrap(early[1] - early[0])} |")
    print(f"| share of comparisons with the same seed that the new candidate wins | | {bootstrap(shares)} | |")
    print(
        f"| validation loss of real articles | {losses[0]:.4f} | {losses[1]:.4f} | {losses[1] / losses[0] - 1:+.1%} |"
    )


if __name__ == "__main__":
    main()
