"""The names that checkpoints are given by: directories, hub ids, addresses; and those that OpenMOSS publishes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

# The form of hub ids: anything else is a path, and the hub is not asked for it.
HUB_ID = re.compile(r"(?!.*(?:--|\.\.))\w[\w.-]*(?<![.-])/\w[\w.-]*(?<![.-])", re.ASCII)
ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
HUB_ADDRESS = re.compile(
    rf"(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/({HUB_ID.pattern})(?=[/?#]|$)", re.ASCII | re.IGNORECASE
)
PUBLISHER = "OpenMOSS-Team"
# Where a codec may lie beside the weights of its model.
CODEC_DIRECTORIES = ("audio_tokenizer", "moss_audio_tokenizer", "codec")
# Files that hold a model's vocabulary; the first that exists is used.
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model")


@dataclass(frozen=True)
class Published:
    """A repository of OpenMOSS on the hub.

    Attributes:
        name: its name there, after "OpenMOSS-Team/".
        is_codec: whether it is a codec and not a speech model.
        runs: whether this package runs it.
    """

    name: str
    is_codec: bool = False
    runs: bool = True

    @property
    def id(self) -> str:
        """Its hub id."""
        return f"{PUBLISHER}/{self.name}"


PUBLISHED = (
    Published("MOSS-TTS"),
    Published("MOSS-TTS-v1.5"),
    Published("MOSS-TTSD-v1.0"),
    Published("MOSS-VoiceGenerator"),
    Published("MOSS-SoundEffect"),
    Published("MOSS-TTS-Local-Transformer"),
    Published("MOSS-TTS-Local-Transformer-v1.5"),
    Published("MOSS-TTS-Nano-100M"),
    Published("MOSS-Audio-Tokenizer", is_codec=True),
    Published("MOSS-Audio-Tokenizer-v2", is_codec=True),
    Published("MOSS-Audio-Tokenizer-Nano", is_codec=True),
    Published("MOSS-TTS-Realtime", runs=False),
    Published("MOSS-SoundEffect-v2.0", runs=False),
)


def suggestion(name: str) -> Published | None:
    """The published repository that a name such as "moss-ttsd" means; None if there is none, or it is its id."""
    known = {published.name.lower(): published for published in PUBLISHED}
    wanted = name.rstrip("/").rpartition("/")[2].lower().replace("_", "-")
    begun = [full for full in known if len(wanted) > len("moss-") and full.startswith(wanted)]
    # The shortest of those that begin so is the name itself, where there is one of it.
    found = sorted(begun, key=len) or get_close_matches(wanted, known, n=1, cutoff=0.9)
    return known[found[0]] if found and known[found[0]].id != name else None


def no_checkpoint(name: str, path: Path) -> str:
    """A sentence on a name that is not a checkpoint: what it is, and what to give instead."""
    if path.is_file():
        inside = (path.parent / "config.json").is_file()
        return (
            f"{name!r} is a file; a checkpoint is the directory that holds config.json and the weights"
            f"{f': give {str(path.parent)!r}' if inside else ''}."
        )
    if on_hub := HUB_ADDRESS.match(name):
        return f"{name!r} is an address; on the hub that checkpoint has the id {on_hub[1]!r}: give that."
    if ADDRESS.match(name):
        return (
            f"{name!r} is an address, and checkpoints are not read from addresses; download it, and give the directory."
        )
    if name.endswith("/") and HUB_ID.fullmatch(bare := name.rstrip("/")):
        return f"there is no directory {name!r}; a hub id has no / at its end: if you mean the hub, give {bare!r}."
    if "/" not in name and (meant := suggestion(name)):
        return (
            f"there is no directory {name!r} here; the checkpoint on the hub has the id {meant.id!r}"
            f"{'' if meant.runs else ', but this release does not run it'}: give that, or fetch it first with "
            f"`moss-tts download {meant.id}`."
        )
    return f"{name!r} is neither a directory nor a hub id such as 'OpenMOSS-Team/MOSS-TTS'."
