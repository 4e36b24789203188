"""Putting a directory on the Hugging Face hub. The user has agreed before this is called."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.utils import disable_progress_bars

from moss_tts.checkpoints.hub_failures import hub_door
from moss_tts.checkpoints.names import HUB_ID
from moss_tts.errors import RequestError


def check_repo(repo: str) -> None:
    """Refuse a name that is not a hub id.

    Raises:
        RequestError: it is not one.
    """
    if not HUB_ID.fullmatch(repo):
        raise RequestError(f"upload_repo must be a hub id such as 'me/MOSS-TTS-4bit', got {repo!r}.")


def upload(directory: Path, repo: str) -> str:
    """Upload all files of a directory into a model repository, made if need be, public by default.

    Returns:
        Its address.

    Raises:
        HubError: the hub does not take it; the directory stays.
    """
    api = HfApi()
    with hub_door(repo, f"did not get {directory}, which is complete here"), disable_progress_bars():
        url = api.create_repo(repo, repo_type="model", exist_ok=True)
        api.upload_folder(folder_path=directory, repo_id=repo, repo_type="model", commit_message="Upload by moss-tts")
    return str(url)
