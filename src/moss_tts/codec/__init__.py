"""MOSS-Audio-Tokenizer: the codec between waveforms and the codes that speech models write.

codec = MossAudioTokenizer.from_pretrained(directory)
codes = codec.encode(samples).codes            # int32 (Q, B, F)
audio = codec.decode(codes).audio              # float32 (B, C, S)
"""

from moss_tts.codec.config import CodecConfig
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
