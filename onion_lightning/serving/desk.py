"""What the page does when a button is pressed, without the page: write, compare, pair, vote, look inside."""

import html
import itertools
import random
import uuid
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from onion_lightning.attention.page import render_iframe
from onion_lightning.attention.phrase_attention import attend
from onion_lightning.data.prompt import format_prompt
from onion_lightning.errors import OnionError
from onion_lightning.model.articles.record import Article
from onion_lightning.model.decoding import Decoding
from onion_lightning.serving.author import Author, Request
from onion_lightning.serving.sessions import RateLimit, Sessions
from onion_lightning.serving.training_rows import TrainingRows
from onion_lightning.serving.votes import Pair, Tally, Votes

__all__ = ["Desk", "describe_tally", "name_of"]

NAMES = {"base": "Base model", "few_shot": "Few-shot", "tuned": "Fine-tuned"}
VOTES_PER_MINUTE = 30
MOST_PENDING = 10_000
LONGEST_TEXT = 20_000  # characters to look inside of


@dataclass(frozen=True)
class Desk:
    """The functions behind the page.

    Attributes:
        author: writes.
        rows: what is known about the corpus.
        votes: the votes.
        model_name: base model and checkpoint, as stored with each vote.
        sessions: the open tabs.
        limit: how often a tab may vote.
        pending: the pairs that may be voted on, by id.
    """

    author: Author
    rows: TrainingRows
    votes: Votes
    model_name: str
    sessions: Sessions = field(default_factory=Sessions)
    limit: RateLimit = field(default_factory=lambda: RateLimit(VOTES_PER_MINUTE, 60))
    pending: OrderedDict[str, Pair] = field(default_factory=OrderedDict)

    @property
    def description(self) -> str:
        """The models, as shown on the page."""
        return "; ".join([self.model_name, *(f"{name}: {other.path}" for name, other in self.author.others.items())])

    def write(self, session: str, headline: str, decoding: Decoding, seed: int) -> Iterator[tuple[list[str], str]]:
        """Yield the candidates as far as they are written, and a line about each at the end."""
        request = Request(headline, decoding, seed)
        with self.sessions.request(session) as stop:
            for draft in self.author.write(request, stop):
                complete = draft.articles is not None and not stop.is_set()
                yield draft.texts, self.describe(draft.articles or []) if complete else ""

    def compare(self, session: str, headline: str, decoding: Decoding, seed: int) -> Iterator[dict[str, str]]:
        """Yield the articles of all systems as far as they are written, one system after the other.

        Few-shot examples may leave no room for an article of this length; its place then says so.
        """
        done: dict[str, str] = {}
        with self.sessions.request(session) as stop:
            for system in self.author.systems:
                request = Request(headline, single(decoding, system), seed, system)
                if system == "few_shot" and (problem := self.author.few_shot_problem(request)):
                    done[system] = f"({problem})"
                    continue
                for draft in self.author.write(request, stop):
                    yield done | {system: draft.texts[0]}
                    done[system] = draft.texts[0]
            yield done

    def pair(self, session: str, headline: str, decoding: Decoding) -> Iterator[tuple[str, str, str]]:
        """Yield the articles of two systems, in random order, and at the end the id of the pair, to vote on."""
        # The dial is for writing: a vote on "fine-tuned" must mean the same model always.
        plain = replace(decoding, candidates=1, adapter_strength=1.0)
        chance = random.SystemRandom()
        seed = chance.randrange(2**31)
        few_shot = self.author.few_shot_problem(Request(headline, plain, seed, "few_shot"))
        systems = chance.sample([name for name in self.author.systems if name != "few_shot" or few_shot is None], 2)
        texts = ["", ""]
        with self.sessions.request(session) as stop:
            for side, system in enumerate(systems):
                for draft in self.author.write(Request(headline, plain, seed, system), stop):
                    texts[side] = draft.texts[0]
                    yield texts[0], texts[1], ""
            if not stop.is_set():
                first, second = systems
                used = f"{plain.max_new_tokens} tokens, temperature {plain.temperature:g}, top-p {plain.top_p:g}, seed {seed}"
                line, both = " ".join(headline.split()), (texts[0], texts[1])
                pair = Pair(uuid.uuid4().hex, line, (first, second), both, self.identity(first, second), used)
                self.pending[pair.id] = pair
                while len(self.pending) > MOST_PENDING:
                    self.pending.popitem(last=False)
                yield texts[0], texts[1], pair.id

    def vote(self, session: str, pair_id: str, choice: str) -> str:
        """Store a vote, and return who wrote what.

        Raises:
            OnionError: there is nothing to vote on, or the tab has voted too often.
        """
        pair = self.pending.get(pair_id)
        if pair is None:
            raise OnionError("There is nothing to vote on; write two articles first.")
        self.limit.use(session)
        counted = self.votes.add(pair, choice)
        left, right = map(name_of, pair.systems)
        return f"Left: {left}. Right: {right}." + ("" if counted else " This pair had been voted on before.")

    def tallies(self) -> list[str]:
        return [describe_tally(tally) for tally in self.votes.tallies(self.identity)]

    def identity(self, *systems: str) -> str:
        """Return what identifies the models behind two systems: a vote on other ones is not counted with those on these."""
        others = {name: self.author.others[name].identity for name in sorted(systems) if name in self.author.others}
        return "; ".join([self.model_name, *(f"{name}: {found}" for name, found in others.items())])

    def look(self, session: str, headline: str, article: str, query: str, key: str) -> str:
        """Return the page of `attend` in a sandboxed frame.

        Args:
            session: id of the tab.
            headline: that the article was written for; empty if the text is not an article.
            article: text that contains the phrases.
            query: the phrase that attends.
            key: the phrase that is attended to; the headline by default.

        Raises:
            OnionError: a phrase is missing or does not occur.
        """
        if not article.strip() or not query.strip():
            raise OnionError("Select a phrase of an article first.")
        if len(article) > LONGEST_TEXT:
            raise OnionError(f"The text has {len(article)} characters; shorten it to {LONGEST_TEXT} or fewer.")
        line = " ".join(headline.split())
        key = key.strip() or line
        if not key:
            raise OnionError("Give an earlier phrase, which the selected one may attend to.")
        model, prompt = self.author.model, format_prompt(line) if line else ""
        with self.author.turn, self.sessions.request(session):
            assert model.model is not None
            result = attend(model.model, model.tokenizer, article, query.strip(), key, prompt)
        return render_iframe(result)

    def describe(self, articles: list[Article]) -> str:
        """Return lines of HTML about finished articles: their length, and what they copy."""
        lines = []
        for number, article in enumerate(articles, 1):
            name = f"Article {number}: " if len(articles) > 1 else ""
            end = "ended by itself" if article.finish_reason == "eos" else "stopped at the length limit"
            lines.append(f"<p>{name}{article.tokens} tokens, {end}.</p>")
            if run := self.rows.copied(article.text):
                lines.append(
                    f'<p class="copied">{name}{run.words} words in a row are those of a training article,'
                    f" “{html.escape(run.headline)}”. Press “Write another” for a new one.</p>"
                )
        return "".join(lines)


def name_of(system: str) -> str:
    """Return the name of a system on the page; that of another model is the one it was given."""
    return NAMES.get(system, system)


def single(decoding: Decoding, system: str) -> Decoding:
    """Return the decoding of one article of a system; only tuned ones have adapters whose strength can be set."""
    strength = 1.0 if system in ("base", "few_shot") else decoding.adapter_strength
    return replace(decoding, candidates=1, adapter_strength=strength)


def describe_tally(tally: Tally) -> str:
    """Return a tally in words."""
    first, second = map(name_of, tally.systems)
    wins, losses = tally.wins
    names = itertools.chain(
        (f"{first} {wins}", f"{second} {losses}"), [f"ties {tally.ties}", f"neither {tally.neither}"]
    )
    words = ", ".join(names)
    if tally.share is None or tally.interval is None:
        return f"{first} or {second}: {words}."
    low, high = tally.interval
    return f"{first} or {second}: {words}. {first} is preferred in {tally.share:.0%} (95% interval {low:.0%} to {high:.0%})."
