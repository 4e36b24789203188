"""MOSS-Audio-Tokenizer: the codec between waveforms and the codes that speech models write.

codec = MossAudioTokenizer.from_pretrained(directory)
codes = codec.encode(samples).codes            # int32 (Q, B, F)
audio = codec.decode(codes).audio              # float32 (B, C, S)
"""

from typing import TYPE_CHECKING, Any

from moss_tts.codec.config import CodecConfig

if TYPE_CHECKING:
    from moss_tts.codec.model import DecodedAudio, EncodedAudio, MossAudioTokenizer
    from moss_tts.codec.streaming import StreamingDecoder, StreamingEncoder
    from moss_tts.codec.weights import upstream_shapes

__all__ = [
    "CodecConfig",
    "DecodedAudio",
    "EncodedAudio",
    "MossAudioTokenizer",
    "StreamingDecoder",
    "StreamingEncoder",
    "upstream_shapes",
]

_HOMES = {
    "DecodedAudio": "model",
    "EncodedAudio": "model",
    "MossAudioTokenizer": "model",
    "StreamingDecoder": "streaming",
    "StreamingEncoder": "streaming",
    "upstream_shapes": "weights",
}


def __getattr__(name: str) -> Any:
    """Import the network on first use: what reads configs only should not wait for it."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"moss_tts.codec.{_HOMES[name]}"), name)
