"""The names that checkpoints are given by: directories, hub ids, addresses; and those that OpenMOSS publishes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from moss_tts.adapters import CONFIG
from moss_tts.errors import ConfigError, shown

# The form of hub ids: anything else is a path, and the hub is not asked for it.
HUB_ID = re.compile(r"(?!.*(?:--|\.\.))\w[\w.-]*(?<![.-])/\w[\w.-]*(?<![.-])", re.ASCII)
# A folder of a repository on the hub. People name theirs after feelings and voices, with blanks and signs.
HUB_FOLDER = re.compile(r"(?![.\s])[^/\\\x00-\x1f\x7f]+(?<!\s)")
ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
HUB_ADDRESS = re.compile(
    rf"(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/({HUB_ID.pattern})(?=[/?#]|$)", re.ASCII | re.IGNORECASE
)
PUBLISHER = "OpenMOSS-Team"
# Where a codec may lie beside the weights of its model.
CODEC_DIRECTORIES = ("audio_tokenizer", "moss_audio_tokenizer", "codec")
# The file that describes a model of several parts, each in a folder of its own, these folders, and the kinds that run
# here.
PIPELINE_INDEX = "model_index.json"
PIPELINE_FOLDERS = ("transformer", "text_encoder", "tokenizer", "vae", "scheduler", "mlx")
PIPELINES = ("MossSoundEffectPipeline",)
# Files that hold a model's vocabulary; the first that exists is used.
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model")


@dataclass(frozen=True)
class HubName:
    """A repository of the hub, or a folder in one.

    Attributes:
        id: the hub id of the repository.
        folder: a path in it; "" is the repository itself.
    """

    id: str
    folder: str

    @staticmethod
    def of(name: str) -> HubName:
        """What "ORG/REPO" or "ORG/REPO/FOLDER" means."""
        parts = name.split("/")
        return HubName("/".join(parts[:2]), "/".join(parts[2:]))

    def path(self, file: str) -> str:
        """The path in the repository of a file that is named relative to the folder."""
        return f"{self.folder}/{file}" if self.folder else file


def is_hub_name(name: str) -> bool:
    """Whether a name has the form "ORG/REPO" or "ORG/REPO/FOLDER"; any other is an address or a path."""
    if HUB_ADDRESS.match(name):
        return False
    folders = name.split("/")[2:]
    return bool(HUB_ID.fullmatch(HubName.of(name).id)) and all(map(HUB_FOLDER.fullmatch, folders))


@dataclass(frozen=True)
class Published:
    """A repository of OpenMOSS on the hub.

    Attributes:
        name: its name there, after "OpenMOSS-Team/".
        kind: "speech model", "sound model" or "codec".
    """

    name: str
    kind: str = "speech model"

    @property
    def is_codec(self) -> bool:
        """Whether it is a codec and not a model."""
        return self.kind == "codec"

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
    Published("MOSS-Audio-Tokenizer", kind="codec"),
    Published("MOSS-Audio-Tokenizer-v2", kind="codec"),
    Published("MOSS-Audio-Tokenizer-Nano", kind="codec"),
    Published("MOSS-TTS-Realtime"),
    Published("MOSS-SoundEffect-v2.0", kind="sound model"),
)


def is_pipeline(directory: Path) -> bool:
    """Whether a directory holds a model of several parts, and not one with a config.json of its own."""
    return (directory / PIPELINE_INDEX).is_file() and not (directory / "config.json").is_file()


def refuse_pipeline(directory: Path) -> None:
    """Refuse a directory that holds a model of several parts where a speech model or a codec is needed.

    Raises:
        ConfigError: it does.
    """
    if is_pipeline(directory):
        raise ConfigError(f"{directory} is a sound model, and this takes speech models alone; use `moss-tts sound`.")


def refuse_adapter(directory: Path) -> None:
    """Refuse a directory that holds a LoRA adapter where a model is needed.

    Raises:
        ConfigError: it does.
    """
    if (directory / CONFIG).is_file() and not (directory / "config.json").is_file():
        raise ConfigError(no_model(str(directory), str(directory)))


def no_model(what: str, adapter: str) -> str:
    """What to do with a directory or a repository that holds adapters, such as this one."""
    return (
        f"{what} is a LoRA adapter, or several, and no model. Name the model that it was trained on with --model, and "
        f"the adapter with --lora NAME={adapter}."
    )


def check_pipeline(raw: Mapping[str, object]) -> None:
    """Refuse a model_index.json of another kind of model.

    Raises:
        ConfigError: it is one.
    """
    if (kind := raw.get("_class_name")) not in PIPELINES:
        raise ConfigError(f"{PIPELINE_INDEX} describes {shown(kind)}; supported: {', '.join(map(repr, PIPELINES))}.")


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
    if name.endswith("/") and is_hub_name(bare := name.rstrip("/")):
        return f"there is no directory {name!r}; a hub id has no / at its end: if you mean the hub, give {bare!r}."
    if "/" not in name and (meant := suggestion(name)):
        return (
            f"there is no directory {name!r} here; the checkpoint on the hub has the id {meant.id!r}: give that, or "
            f"fetch it first with `moss-tts download {meant.id}`."
        )
    return f"{name!r} is neither a directory nor a hub id such as 'OpenMOSS-Team/MOSS-TTS'."
