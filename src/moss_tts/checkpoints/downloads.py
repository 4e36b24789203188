"""What has to be fetched for a checkpoint to speak, looked at before anything large is fetched."""

from __future__ import annotations

from moss_tts.checkpoints.hub import Listing, listing
from moss_tts.checkpoints.names import CODEC_DIRECTORIES, HUB_ID, PIPELINE_INDEX, check_pipeline
from moss_tts.checkpoints.outline import read_config
from moss_tts.codec.config import MODEL_TYPES, CodecConfig
from moss_tts.config import MossConfig, parse_config
from moss_tts.errors import ConfigError
from moss_tts.strict import Raw


def runnable(name: str, revision: str | None = None, token: str | None = None) -> tuple[Listing, MossConfig | None]:
    """What the hub has of a checkpoint that this package runs, and its config; None if it is no speech model's.

    Raises:
        ConfigError: it is something else.
        HubError: the hub does not say.
    """
    listed = listing(name, revision, token)
    raw = read_config(listed, token)
    try:
        if listed.description == PIPELINE_INDEX:
            check_pipeline(raw)
            return listed, None
        return listed, None if is_codec(raw) else parse_config(raw)
    except ConfigError as error:
        raise ConfigError(f"{name} does not run here: {error}") from error


def is_codec(raw: Raw) -> bool:
    """Whether a config.json is a codec's, and not a speech model's.

    Raises:
        ConfigError: it is neither's.
    """
    if raw.get("model_type") not in MODEL_TYPES:
        parse_config(raw)
        return False
    CodecConfig.from_dict(raw)
    return True


def needed(name: str, revision: str | None = None, token: str | None = None) -> tuple[Listing, ...]:
    """The repositories of a checkpoint: its own, and its codec's where that is another one.

    Raises:
        ConfigError: it is nothing that runs here.
        HubError: the hub does not say.
    """
    listed, config = runnable(name, revision, token)
    codec = None if config is None else codec_elsewhere(listed, config)
    return (listed,) if codec is None else (listed, runnable(codec, token=token)[0])


def codec_elsewhere(listed: Listing, config: MossConfig) -> str | None:
    """The hub id of a codec that is neither fused with the weights nor beside them."""
    beside = tuple(f"{name}/" for name in CODEC_DIRECTORIES)
    if config.codec_config is not None or any(file.path.startswith(beside) for file in listed.files):
        return None
    return config.codec_name if HUB_ID.fullmatch(config.codec_name) else None
