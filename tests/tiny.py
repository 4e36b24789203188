"""A tokenizer for the tiny checkpoints, built in code: no package, no network."""

from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from tokenizer import write_tokenizer_config

UNKNOWN = "<unk>"
NAMES = {
    "pad_token_id": "<|endoftext|>",
    "im_start_token_id": "<|im_start|>",
    "im_end_token_id": "<|im_end|>",
    "audio_start_token_id": "<|audio_start|>",
    "audio_end_token_id": "<|audio_end|>",
    "audio_user_slot_token_id": "<|audio_user_slot|>",
    "audio_assistant_gen_slot_token_id": "<|audio_assistant_gen_slot|>",
    "audio_assistant_delay_slot_token_id": "<|audio_assistant_delay_slot|>",
}


def write_tiny_tokenizer(directory: Path, config) -> Path:
    """Write the tokenizer of a tiny config: one token per byte, the config's control ids, nothing merged.

    A vocabulary below 257 has no room for every byte: line break and printable ASCII come first, then as many
    others as fit, and the rest become <unk>.
    """
    control = {getattr(config, key): name for key, name in NAMES.items() if hasattr(config, key)}
    free = [id_ for id_ in range(config.vocab_size) if id_ not in control]
    vocabulary = dict(zip([UNKNOWN, *_byte_tokens()], free, strict=False))
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary | _named(control), merges=[], unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in control.values()])
    tokenizer.save(str(directory / "tokenizer.json"))
    write_tokenizer_config(directory)
    return directory


def _named(control):
    return {name: id_ for id_, name in control.items()}


def _byte_tokens() -> list[str]:
    """Byte-level spellings, the bytes of plain English first."""
    first = [10, *range(32, 127)]
    rest = [byte for byte in range(256) if byte not in first]
    return [_spelling(byte) for byte in first + rest]


def _spelling(byte: int) -> str:
    """GPT-2's printable stand-in for a byte."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    if byte in printable:
        return chr(byte)
    return chr(256 + [other for other in range(256) if other not in printable].index(byte))
