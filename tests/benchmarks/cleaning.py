"""Measures how well each cleaning rule finds what it is for, on a made corpus with known dirt.

    python tests/benchmarks/cleaning.py
    python tests/benchmarks/cleaning.py --rows 20000

Articles are random words of the sample corpus. To most of them, one kind of dirt is added; some get what merely looks like
it. A rule is right about a row if it was applied, was to be applied, and left the clean text (or dropped the row); changes
count in kept rows. Prints precision and recall of each rule; the exit status is 1 if one is below 0.98, or if a row of the
sample corpus changes.
"""

import argparse
import csv
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import datasets

from onion_lightning.data.cleaning.rows import CHANGES
from onion_lightning.data.cleaning.settings import Cleaning, Filters
from onion_lightning.data.cleaning.table import column_values
from onion_lightning.data.corpus import examine
from onion_lightning.data.files.sources import SAMPLE

LEAST = 0.98
FOREIGN = {
    "de": "der Hund|die Katze|das Ei|ein Richter|der alte Bürgermeister;sagte|aß|verlor|fand|wählte;gestern|am Dienstag|"
    "ohne Eile|wieder einmal;den Schlüssel|seine Brille|nichts davon|das letzte Brot",
    "fr": "le chien|la vieille dame|un juge|le maire|cet œuf;a perdu|a mangé|n’a pas vu|cherchait;hier soir|mardi dernier|"
    "sans raison|encore une fois;la clé|ses lunettes|le dernier pain|une réponse",
    "es": "el perro|la abuela|un juez|el alcalde|ese huevo;perdió|comió|no vio|buscaba;ayer por la tarde|el martes|"
    "sin prisa|otra vez;la llave|sus gafas|el último pan|una respuesta",
}


class Row(NamedTuple):
    """A row of the made corpus, and what is to become of it.

    Attributes:
        headline: as it is read.
        article: as it is read.
        rule: that is to be applied: a change or a drop reason; "" for none.
        clean: headline and article afterwards; None if the row is to be dropped.
    """

    headline: str
    article: str
    rule: str
    clean: tuple[str, str] | None


class Maker:
    """Makes rows from random words."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        with SAMPLE.open(newline="", encoding="utf-8") as stream:
            text = " ".join(row["Content"] for row in csv.DictReader(stream))
        self.words = sorted({word.strip('“”‘’".,;:!?—()[]').lower() for word in text.split() if word.isascii()} - {""})
        self.accented = "café Bürger déjà naïve señor façade œuvre Ærø “quoted” it’s Zoë São".split()

    def sentence(self, count: int | None = None) -> str:
        return " ".join(self.draw.choices(self.words, k=count or self.draw.randrange(8, 16))).capitalize() + "."

    def headline(self) -> str:
        return " ".join(self.draw.choices(self.words, k=self.draw.randrange(5, 9))).title()

    def paragraphs(self) -> list[str]:
        return [" ".join(self.sentence() for _ in range(3)) for _ in range(self.draw.randrange(2, 5))]

    def pair(self) -> tuple[str, list[str]]:
        return self.headline(), self.paragraphs()

    # One method for each rule. The rules are the names of the methods.

    def encoding(self) -> Row:
        headline, lines = self.pair()
        text = "\n".join(lines) + "\n" + " ".join(self.draw.choices(self.accented, k=12))
        wrong = self.draw.choice(["latin-1", "mac_roman"])
        return Row(headline, text.encode().decode(wrong), "encoding", (headline, text))

    def html_tags(self) -> Row:
        headline, lines = self.pair()
        tags = self.draw.choice(['<p class="x">{}</p>', "<div>{}</div>", "{}<br><br>", "<p><b>{}</b></p>"])
        return Row(headline, "".join(map(tags.format, lines)), "html_tags", (headline, "\n\n".join(lines)))

    def markdown(self) -> Row:
        """Markdown at the start of a paragraph, in a heading, a quotation, an image, a footnote or the headline."""
        headline, lines = self.pair()
        title, clean, text = headline, "\n\n".join(lines), "\n\n".join(lines)
        first, _, rest = lines[0].partition(" ")
        number, heading = self.draw.randrange(99), self.headline()
        mark = self.draw.choice(["**", "*", "_", "__", "***", "`", "~~"])
        match self.draw.randrange(9):
            case 0:
                text = f"[{first}](https://example.com/{number}) {rest}" + text[len(lines[0]) :]
            case 1:
                text = f"{mark}{first}{mark} {rest}" + text[len(lines[0]) :]
            case 2:
                text = f"{mark}{lines[0]}{mark}" + text[len(lines[0]) :]
            case 3:
                text, clean = f"{text}\n\n## {heading}\n\n{rest}", f"{text}\n\n{heading}\n\n{rest}"
            case 4:
                text = f"{text}\n\n> {lines[0]}\n>\n> {lines[1]}\n\n{rest}"
                clean = f"{clean}\n\n{lines[0]}\n\n{lines[1]}\n\n{rest}"
            case 5:
                text = f"![{first}](images/{number}.jpg)\n\n{text}\n\n![{first}](/{number}.png)"
            case 6:
                text = f"[{first}][{number}] {rest}{text[len(lines[0]) :]}\n\n[{number}]: https://example.com/{number}"
            case 7:
                title = self.draw.choice(["# {}", "**{}**", "*{}*"]).format(headline)
            case 8:
                text, clean = f"```\n{rest}\n```\n\n{text}", f"{rest}\n\n{text}"
        return Row(title, text, "markdown", (headline, clean))

    def garbled(self) -> Row:
        thai = "".join(self.draw.choices("กขคงจฉชญดตถทธนบปผฝพฟภมยรลวศษสหฬอฮะาิีึืุู", k=200))
        wrong = "".join(bytes([byte]).decode("cp874", "ignore") or chr(byte) for byte in thai.encode())
        return Row(self.headline(), wrong, "garbled", None)

    def repeated_headline(self) -> Row:
        headline, lines = self.pair()
        words = headline.split()
        repeat = self.draw.choice(
            [
                headline + "\n",
                headline.upper() + "!\n",
                " ".join(words[:3]) + "\n" + " ".join(words[3:]) + "\n",
                headline + ": ",
            ]
        )
        return Row(headline, repeat + "\n".join(lines), "repeated_headline", (headline, "\n".join(lines)))

    def only_headline(self) -> Row:
        headline = self.headline()
        return Row(
            headline,
            self.draw.choice([headline, headline.lower() + ".", headline.replace(" ", "\n", 1)]),
            "only_headline",
            None,
        )

    def truncated(self) -> Row:
        headline, lines = self.pair()
        text = "\n".join(lines)
        cut = text[: -self.draw.randrange(5, 20)]
        end = self.draw.choice(
            [
                f"{cut}… [+{self.draw.randrange(9999)} chars]",
                f"{cut} [...]",
                f"{text} Read the full story",
                f"{text}\nContinue reading",
            ]
        )
        return Row(headline, end, "truncated", None)

    def boilerplate(self) -> Row:
        headline, lines = self.pair()
        dirt = self.draw.choice(
            [
                f"{self.draw.randrange(99)} SHARES Facebook Twitter",
                "By Our Own Correspondent",
                f"Read more: {self.headline()}",
                "We value your privacy, and so do our partners.",
                f"Authors: {self.headline()}",
                "Listen to our podcast, out every Monday",
            ]
        )
        at = self.draw.randrange(1, len(lines) + 1)
        return Row(headline, "\n".join([*lines[:at], dirt, *lines[at:]]), "boilerplate", (headline, "\n".join(lines)))

    def site_name(self) -> Row:
        headline, lines = self.pair()
        name = self.draw.choice([" - The Bugle", " | Egg Daily", " – Local News"])
        return Row(headline + name, "\n".join(lines), "site_name", (headline, "\n".join(lines)))

    def dateline(self) -> Row:
        headline, lines = self.pair()
        city = self.draw.choice(["LOS ANGELES", "TOLEDO, OH", "WASHINGTON", "ST. PAUL, MN"])
        lines[0] = f"Early {lines[0].lower()}"
        text = "\n".join(lines)
        return Row(headline, city + text, "dateline", (headline, f"{city}—{text}"))

    def too_short(self) -> Row:
        headline = self.headline()
        text = self.draw.choice(
            [self.sentence(10), "".join(self.draw.choices("鸡蛋今天赢了选举狗说", k=15)), "ไข่ชนะวันนี้" * 3]
        )
        return Row(headline, text, "too_short", None)

    def other_language(self) -> Row:
        parts = [part.split("|") for part in self.draw.choice(list(FOREIGN.values())).split(";")]
        text = " ".join(" ".join(map(self.draw.choice, parts)).capitalize() + "." for _ in range(8))
        return Row(self.headline(), text, "other_language", None)

    def clean(self) -> Row:
        """A row to which no rule applies, though some look as if one did."""
        headline, lines = self.pair()
        first = lines[0]
        lines[0] = self.draw.choice(
            [
                first,
                f"“{first}”",
                f"{headline} of his life, he says",
                f"I <3 {first}",
                f"NASA {first}",
                f"US CEOs {first}",
                f"{first} [sic] (more or less)",
                "".join(self.draw.choices("鸡蛋今天赢了选举狗说", k=30)),
                f"{first} [one](two) 3 < 4 > 2",
                f"Déjà vu: “{first}”—it’s señor Ærø",
                f"{headline.split()[0]}: {first}",
                f"sh*t, f*ck and b**ch {first}",
                f"*_* {first} -_- -_- ¯\\_(ツ)_/¯",
                f"# of eggs: 2 * 3 * 4 #egg_{headline.split()[0]}_ @egg_man_",
                f"> {first}\n{self.sentence()}",
                f"On May 3, 2024, {self.headline()} wrote:\n> {first}\n\n{self.sentence()}",
                f"{self.draw.randrange(1, 30)}. MAY, TOLEDO—{first}",
                f"``{first}'' he said. ``{self.sentence()}''",
                f"{first}\n* * *\n{self.sentence()}",
                f"{first} {self.sentence(5)[:-1]}*\n*{self.sentence(4)}",
            ]
        )
        lines.append(
            self.draw.choice(
                [
                    self.sentence(),
                    f"He read the full story to {self.sentence(4)}",
                    "“No…”",
                    f"{self.sentence(3)[:-1]}: {self.sentence(5)}",
                ]
            )
        )
        return Row(headline, "\n".join(lines), "", (headline, "\n".join(lines)))

    def near_duplicates(self) -> Iterator[Row]:
        """Two rows, of which the shorter is to be dropped, and one that shares only a paragraph with them."""
        headline, lines = self.pair()
        lines += self.paragraphs() + self.paragraphs()
        text = "\n".join(lines)
        shorter = text.replace(lines[-1], lines[-1].rsplit(" ", self.draw.randrange(2, 6))[0] + ".")
        yield Row(headline, text, "", (headline, text))
        yield Row(self.headline(), shorter, "near_duplicate", None)
        other = "\n".join([lines[0], *self.paragraphs(), *self.paragraphs()])
        title = self.headline()
        yield Row(title, other, "", (title, other))


RULES = "encoding html_tags markdown repeated_headline boilerplate site_name dateline".split()
REASONS = "garbled only_headline truncated too_short other_language near_duplicate".split()


def make(count: int) -> list[Row]:
    maker = Maker(0)
    makers: list[Callable[[], Row]] = [
        getattr(maker, name) for name in (*RULES, *REASONS[:-1], "clean", "clean", "clean", "clean")
    ]
    rows: list[Row] = []
    while len(rows) < count:
        rows += [one() for one in makers]
        rows += maker.near_duplicates()
    maker.draw.shuffle(rows)
    return rows


def judge(rows: list[Row]) -> dict[str, tuple[float, float]]:
    """Return precision and recall of each rule."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.csv"
        with file.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow(["Title", "Content"])
            writer.writerows(row[:2] for row in rows)
        datasets.config.HF_DATASETS_CACHE = Path(folder)
        found = examine([str(file)], (None, None), Cleaning(), Filters(language="auto"))
        clean, kept = found.judged.clean, found.judged.dropped_for("")
        texts = list(zip(clean["headline"], clean["article"], strict=True))
        changes = column_values(clean, "changes")
    judged = {}
    for name in (*RULES, *REASONS):
        bit = list(CHANGES).index(name) if name in CHANGES else None
        applied = (found.judged.dropped_for(name) if bit is None else kept & (changes >> bit & 1 == 1)).tolist()
        right = [
            yes and row.rule == name and row.clean in (None, text)
            for yes, row, text in zip(applied, rows, texts, strict=True)
        ]
        for at, (yes, row) in enumerate(zip(applied, rows, strict=True)):
            if (yes or row.rule == name) and not right[at]:
                print(
                    f"{name}: {'wrong' if yes else 'missed'}: {row!r:.300} became {texts[at]!r:.300}", file=sys.stderr
                )
        judged[name] = sum(right) / max(sum(applied), 1), sum(right) / sum(row.rule == name for row in rows)
    return judged


def sample_changes() -> int:
    """Return the number of rows of the sample corpus that are changed or dropped."""
    found = examine(["sample"], (None, None), Cleaning(), Filters(language="auto"))
    raw, clean = found.raw, found.judged.clean
    same = [a == b for name in ("headline", "article") for a, b in zip(raw[name], clean[name], strict=True)]
    return same.count(False) + int((~found.judged.dropped_for("")).sum())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=5000, help="size of the made corpus")
    args = parser.parse_args()
    datasets.disable_progress_bars()
    changed = sample_changes()
    print("| rule | precision | recall | |\n| --- | ---: | ---: | --- |")
    missed = changed > 0
    for name, figures in judge(make(args.rows)).items():
        met = min(figures) >= LEAST
        missed |= not met
        print(f"| `{name}` | {figures[0]:.3f} | {figures[1]:.3f} | {'met' if met else '**missed**'} |")
    print(f"\nSample corpus: {changed} rows changed or dropped.")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
