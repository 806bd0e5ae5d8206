"""Writes articles for twelve headlines, and puts them side by side: the first candidate, and the best of eight.

    python tests/benchmarks/best_of.py --config configs/cpu.yaml --ckpt_path last
    python tests/benchmarks/best_of.py --config configs/cpu.yaml --ckpt_path last --ckpt_path checkpoints/votes/last.ckpt

The flags are those of `predict`. Each checkpoint after the first gets a column with its first candidate. The headlines were
written for this project, for no model in particular. The table on standard output is what `predict` wrote, unedited.
"""

import json
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

HEADLINES = (
    "Area Man Declares War On Tuesday",
    "Library Asks Patrons To Return The Silence They Borrowed",
    "Local Weather Apologizes For Last Week",
    "Town Council Votes To Postpone Gravity Until Spring",
    "Report: Most Meetings Could Have Been A Nap",
    "Dog Elected Mayor Refuses To Release Treats Records",
    "Scientists Confirm Moon Is Just Shy",
    "Nation's Grandmothers Announce Strategic Cookie Reserve",
    "Man Reads Terms And Conditions, Weeps",
    "Airline Introduces Fee For Looking Out Window",
    "New Study Finds Studies",
    "High School Reunion Attended Only By Rumors",
)
BEST = ("--model.best_of", "8", "--articles.keep_all", "true")


def predict(words: list[str], *more: str) -> list[dict]:
    """Return the records of a `predict`."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "articles.jsonl"
        line = ["predict", *words, "--data.headlines", json.dumps(HEADLINES), "--articles.path", str(file), *more]
        subprocess.run([sys.executable, "-m", "onion_lightning", *line], check=True)
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def cell(record: dict) -> str:
    """Return an article as a cell of a table in Markdown."""
    ending = "" if record["finish_reason"] == "eos" else " […]"
    score = f" ({record['score']:.2f})" if "score" in record else ""
    return " ".join(record["article"].replace("|", "\\|").split()) + ending + score


def main() -> None:
    words = sys.argv[1:]
    checkpoints = [value for flag, value in pairwise(words) if flag == "--ckpt_path"]
    for checkpoint in checkpoints:
        at = words.index(checkpoint)
        del words[at - 1 : at + 1]
    everything = predict([*words, "--ckpt_path", checkpoints[0]], *BEST)
    first = {record["index"]: record for record in everything if record["candidate"] == 0}
    best = {record["index"]: record for record in everything if record["rank"] == 1}
    columns = {"first candidate": first, "best of eight": best}
    for checkpoint in checkpoints[1:]:
        written = predict([*words, "--ckpt_path", checkpoint], "--model.candidates", "8")
        columns[f"first candidate of {checkpoint}"] = {one["index"]: one for one in written if one["candidate"] == 0}
    print("| headline |", " | ".join(columns), "|")
    print("| --- |", " | ".join(["---"] * len(columns)), "|")
    for index, headline in enumerate(HEADLINES):
        print(f"| {headline} |", " | ".join(cell(column[index]) for column in columns.values()), "|")


if __name__ == "__main__":
    main()
