"""Uploads an export to the Hugging Face Hub, or lists what would be uploaded where there is no token."""

from collections.abc import Collection
from pathlib import Path

import huggingface_hub
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.utils import validate_repo_id

from onion_lightning.errors import OnionError, UsageError, shorten
from onion_lightning.messages import tell

__all__ = ["check_repository", "exported_files", "push_folder"]


def check_repository(name: str) -> None:
    """Refuse a value of `--push` that is not the name of a repository.

    Raises:
        UsageError: it is none.
    """
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise UsageError(f"--push {name}: is not the name of a repository; give USER/NAME.") from error
    if name.count("/") != 1:
        raise UsageError(f"--push {name}: the owner is missing; give USER/NAME.")


def exported_files(folder: Path, names: Collection[str]) -> list[Path]:
    """Return the files of an export, sorted, without others in its folder."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    return sorted(file for file in files if file.relative_to(folder).parts[0] in names)


def push_folder(folder: Path, repository: str, names: Collection[str]) -> None:
    """Upload the files of an export to a repository, which is created as a private one if it does not exist.

    Args:
        folder: the exported folder.
        repository: USER/NAME.
        names: the files and folders of an export.

    Raises:
        OnionError: the Hub cannot be reached, or refuses.
    """
    files, target = exported_files(folder, names), f"{huggingface_hub.constants.ENDPOINT}/{repository}"
    if huggingface_hub.get_token() is None:
        for file in files:
            tell(f"  {file.stat().st_size:>14,} bytes  {file.relative_to(folder).as_posix()}")
        tell(f"Not uploaded, because there is no token (hf auth login, or HF_TOKEN): {len(files)} files for {target}.")
        return
    api = huggingface_hub.HfApi()
    try:
        api.create_repo(repository, private=True, exist_ok=True)
        api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            allow_patterns=[file.relative_to(folder).as_posix() for file in files],
            commit_message="Upload adapters with onion_lightning",
        )
    except (HfHubHTTPError, OSError, ValueError) as error:  # ValueError: the Hub refuses the model card
        raise OnionError(
            f"--push {repository}: could not be uploaded ({shorten(error)}); {folder} is complete, so try again with hf"
            f" upload {repository} {folder}."
        ) from error
    tell(f"Uploaded {len(files)} files to {target} (a new repository is private).")
