"""A small corpus with every kind of dirt, and its preview with the tiny tokenizer."""

from pathlib import Path

import pytest

from onion_lightning.data.module import OnionDataModule
from onion_lightning.preview.result import Preview, gather_preview
from tests.data.conftest import write_csv
from tests.tiny import sample_rows

SCRIPT = "<script>document.title = 'broken'</script>"
DIRTY = "Area Egg \u200bDenies Everything"
EGG = "🥚"
MAX_LENGTH = 240
TRUNCATED = "Cut Off By An Aggregator"


def make_rows() -> list[tuple[str, ...]]:
    """24 short articles, one with markup, one that cleaning changes, and rows to drop."""
    texts = [
        (row["Title"], " ".join(row["Content"].split()[: 25 + 3 * at])) for at, row in enumerate(sample_rows()[:24])
    ]
    rows = [(f"{title} {SCRIPT}" if at == 3 else title, f"{text} {SCRIPT}") for at, (title, text) in enumerate(texts)]
    rows.append((DIRTY, f"It\u200b was an\u00a0egg.\r\n{texts[9][1]} Again {EGG}"))
    rows.append((TRUNCATED, f"{' '.join(texts[4][1].split()[:22])} and then... [+2101 chars]"))
    rows += [(f"Once More: {title}", f"{text} {SCRIPT} Again.") for title, text in texts[20:]]
    rows += [(f"Brief {at}", f"Too short {at}.") for at in range(5)]
    rows += [("No Article", ""), ("", texts[0][1]), ("Spoiled", "a", "b", "c")]
    return [(row[0], "t", *row[1:]) for row in rows]


@pytest.fixture(scope="session")
def dirty_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_csv(tmp_path_factory.mktemp("dirty") / "dirty.csv", make_rows())


@pytest.fixture
def data(tiny_base: Path, dirty_file: Path) -> OnionDataModule:
    """The data module of a corpus some of whose rows are cut."""
    sizes = {
        "max_length": MAX_LENGTH,
        "batch_size": 3,
        "global_batch_size": 8,
        "val_fraction": 0.2,
        "test_fraction": 0.2,
    }
    return OnionDataModule(path=str(dirty_file), base_model=str(tiny_base), seed=1, **sizes)


@pytest.fixture
def preview(data: OnionDataModule) -> Preview:
    return gather_preview(data, 100)
