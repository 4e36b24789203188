"""config.json of a MOSS-TTS checkpoint, parsed strictly into frozen values.

`parse_config` tells the architectures apart and returns the config class of one of them; everything that
differs between architectures hangs on that class, so no other code asks which one it is.

Sizes and special ids come from the file. A key that is neither used nor known to be harmless is an error:
an option that upstream adds later must not be dropped in silence.
"""

from __future__ import annotations

from moss_tts.config.common import ID_DEFAULTS, DecoderSizes, MossConfig, SlotConfig
from moss_tts.config.delay import DelayConfig
from moss_tts.config.gpt2 import GPT2Config
from moss_tts.config.local import LocalConfig
from moss_tts.config.local_v1_5 import LocalV15Config
from moss_tts.config.nano import NanoConfig
from moss_tts.config.qwen3 import BackboneConfig
from moss_tts.config.realtime import RealtimeConfig
from moss_tts.config.tied_heads import TiedHeadsConfig
from moss_tts.errors import ConfigError, shown
from moss_tts.strict import Raw

__all__ = [
    "ID_DEFAULTS",
    "BackboneConfig",
    "DecoderSizes",
    "DelayConfig",
    "GPT2Config",
    "LocalConfig",
    "LocalV15Config",
    "MossConfig",
    "NanoConfig",
    "RealtimeConfig",
    "SlotConfig",
    "TiedHeadsConfig",
    "config_class",
    "parse_config",
]


def parse_config(raw: Raw) -> MossConfig:
    """The config class of the checkpoint that `raw` (its config.json) describes.

    Raises:
        ConfigError: not a MOSS-TTS checkpoint, an unsupported member of the family, or inconsistent values.
    """
    return config_class(raw).from_dict(raw)


def config_class(raw: Raw) -> type[MossConfig]:
    """Tell the architectures apart.

    Upstream uses model_type "moss_tts_delay" for Delay and for Local v1.0: only the latter has
    `local_num_layers`.
    """
    kind = raw.get("model_type")
    if kind == "moss_tts_delay":
        return DelayConfig if raw.get("local_num_layers") is None else LocalConfig
    if kind == "moss_tts_nano":
        return NanoConfig
    if kind == "moss_tts_realtime" or (kind is None and "rvq" in (raw.get("local_config") or {})):
        return RealtimeConfig
    if kind == "moss_tts_local" or "gpt2_config" in raw:
        return LocalV15Config
    if kind == "moss-audio-tokenizer":
        raise ConfigError("this is the codec (MOSS-Audio-Tokenizer), not a speech model; give the model's directory.")
    raise ConfigError(
        f"config.json has model_type {shown(kind)}; supported: 'moss_tts_delay' (MOSS-TTS, TTSD, VoiceGenerator, "
        "SoundEffect and Local v1.0), 'moss_tts_local' (Local v1.5), 'moss_tts_nano' (Nano), "
        "'moss_tts_realtime' (Realtime)."
    )
