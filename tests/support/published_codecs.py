"""config.json of the published codecs."""

from __future__ import annotations

from typing import Any

from support.codec_tiny import config_json, patch, transformer


def big(inputs: int, width: int, outputs: int, layers: int, **options: Any) -> dict[str, Any]:
    options = {"num_heads": width // 64, "dim_feedforward": 4 * width, **options}
    return transformer(inputs, width, outputs, layers, **options)


QUANTIZER = {
    "quantizer_type": "rlfq",
    "input_dim": 768,
    "rvq_dim": 512,
    "output_dim": 768,
    "num_quantizers": 32,
    "codebook_size": 1024,
    "codebook_dim": 8,
}


def published_v1() -> dict[str, Any]:
    """config.json of MOSS-Audio-Tokenizer."""
    encoder = [
        *(patch(240), big(240, 768, 384, 12)),
        *(patch(2), big(768, 768, 384, 12)),
        *(patch(2), big(768, 768, 640, 12)),
        *(patch(2), big(1280, 1280, 768, 32)),
    ]
    decoder = [
        *(big(768, 1280, 1280, 32), patch(2)),
        *(big(640, 768, 768, 12), patch(2)),
        *(big(384, 768, 768, 12), patch(2)),
        *(big(384, 768, 240, 12), patch(240)),
    ]
    return config_json(
        encoder,
        decoder,
        width=768,
        sampling_rate=24000,
        downsample_rate=1920,
        causal_transformer_context_duration=10,
        quantizer_kwargs=QUANTIZER,
        version=None,
        architectures=["MossAudioTokenizerModel"],
        dtype="float32",
    )


def published_v2() -> dict[str, Any]:
    """config.json of MOSS-Audio-Tokenizer-v2."""
    encoder = [patch(240), big(240, 768, 384, 12, context_duration=1.0)]
    for seconds in (2.0, 4.0, 8.0):
        encoder += [patch(2), big(768, 768, 384, 12, context_duration=seconds)]
    encoder += [patch(2), big(768, 768, 640, 12, context_duration=10.0)]
    encoder += [patch(2), big(1280, 1280, 768, 32, context_duration=10.0)]
    decoder = [big(768, 1280, 1280, 32, context_duration=10.0), patch(2)]
    decoder += [big(640, 768, 768, 12, context_duration=10.0), patch(2)]
    for seconds in (8.0, 4.0, 2.0):
        decoder += [big(384, 768, 768, 12, context_duration=seconds), patch(2)]
    decoder += [big(384, 768, 240, 12, context_duration=1.0), patch(240)]
    return config_json(
        encoder,
        decoder,
        width=768,
        sampling_rate=48000,
        downsample_rate=3840,
        causal_transformer_context_duration=10.0,
        number_channels=2,
        enable_channel_interleave=True,
        attention_implementation="sdpa",
        compute_dtype="bf16",
        codec_weight_dtype="fp32",
        quantizer_kwargs=QUANTIZER,
    )


def published_nano() -> dict[str, Any]:
    """config.json of MOSS-Audio-Tokenizer-Nano, with the keys that nothing reads."""
    sizes = {"num_heads": 4, "dim_feedforward": 1024}
    encoder = [patch(240), transformer(240, 256, 384, 4, context_duration=4.0, **sizes)]
    encoder += [patch(2), transformer(768, 256, 384, 2, context_duration=6.0, **sizes)]
    encoder += [patch(2), transformer(768, 256, 384, 2, context_duration=8.0, **sizes)]
    encoder += [patch(2), transformer(768, 256, 192, 4, context_duration=10.0, **sizes), patch(4)]
    decoder = [patch(4), transformer(192, 256, 768, 4, context_duration=10.0, **sizes)]
    decoder += [patch(2), transformer(384, 256, 768, 2, context_duration=8.0, **sizes)]
    decoder += [patch(2), transformer(384, 256, 768, 2, context_duration=6.0, **sizes)]
    decoder += [patch(2), transformer(384, 256, 240, 4, context_duration=4.0, **sizes), patch(240)]
    training = {"codebook_loss_weight": 1.0, "commitment_loss_weight": 0.25, "quantizer_dropout": 1.0}
    return published_v2() | {
        "encoder_kwargs": encoder,
        "decoder_kwargs": decoder,
        "compute_dtype": "fp32",
        "quantizer_kwargs": QUANTIZER | training | {"num_quantizers": 16},
        "code_dim": 768,
        "reversed_decoder_kwargs": encoder,
    }
