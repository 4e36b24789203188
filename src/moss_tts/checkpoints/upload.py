"""Putting a directory on the Hugging Face hub. Whoever calls this has been asked."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

from moss_tts.checkpoints.loading import HUB_ID
from moss_tts.errors import CheckpointError, RequestError


def check_repo(repo: str) -> None:
    """Refuse what is no hub id.

    Raises:
        RequestError: it is none.
    """
    if not HUB_ID.fullmatch(repo):
        raise RequestError(f"upload_repo must be a hub id such as 'me/MOSS-TTS-4bit', got {repo!r}.")


def upload(directory: Path, repo: str) -> str:
    """Upload all files of a directory into a model repository, made if need be, public by default.

    Returns:
        Its address.

    Raises:
        CheckpointError: the hub does not take it; the directory stays.
    """
    api = HfApi()
    try:
        url = api.create_repo(repo, repo_type="model", exist_ok=True)
        api.upload_folder(folder_path=directory, repo_id=repo, repo_type="model", commit_message="Upload by moss-tts")
    except (HfHubHTTPError, HFValidationError, LocalTokenNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(f"{directory} is complete, but was not uploaded to {repo}: {reason}") from error
    return str(url)
