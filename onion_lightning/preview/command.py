"""The `preview` command: shows what training would see, and writes preview.html and preview.json."""

from onion_lightning.data.module import OnionDataModule
from onion_lightning.errors import check_range
from onion_lightning.model.module import OnionModule
from onion_lightning.output_folder import check_folder, write_folder
from onion_lightning.preview.page import render_page
from onion_lightning.preview.result import MARK, gather_preview
from onion_lightning.preview.terminal import show_preview
from onion_lightning.training.session import Session

__all__ = ["run_preview"]

PAGE, DATA = FILES = ("preview.html", "preview.json")
MAX_ROWS = 100


def run_preview(
    session: Session,
    model: OnionModule,
    datamodule: OnionDataModule,
    ckpt_path: str | None = None,
    rows: int = 8,
    output: str = "preview",
    overwrite: bool = False,
) -> None:
    """Show training rows as the loss sees them, what cleaning changed, and what was dropped. Loads no weights.

    Args:
        session: not used.
        model: not used, except for its base model.
        datamodule: the corpus and the flags that determine its rows.
        ckpt_path: checkpoint that fit would resume from: a file, last or best; only its settings are used.
        rows: number of training rows to show, from 1 to 100.
        output: folder for preview.html and preview.json.
        overwrite: also replace files in the output folder that preview has not written.
    """
    check_range("--rows", rows, 1 <= rows <= MAX_ROWS, f"from 1 to {MAX_ROWS}")
    folder = check_folder(output, FILES, overwrite, mark=MARK)
    preview = gather_preview(datamodule, rows)
    write_folder(folder, {PAGE: render_page(preview), DATA: preview.to_json()})
    show_preview(preview, folder / PAGE)
