"""Values of the right kind and of a size that can be meant; how they are read out of a config.json.

`where` names the file or block in messages. What reads out of a config raises ConfigError, which says what is wrong.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import inf
from numbers import Integral, Real
from typing import Any, TypeVar

from moss_tts.errors import ConfigError, shown

Raw = Mapping[str, Any]
T = TypeVar("T")

# What transformers writes into every config, in its current and older releases, and what only training uses.
HARMLESS_KEYS = frozenset(
    """
    _attn_implementation _attn_implementation_autoset _from_model_config _name_or_path architectures auto_map
    attn_implementation add_cross_attention attention_dropout attn_pdrop bad_words_ids begin_suppress_tokens
    bos_token_id chunk_size_feed_forward cross_attention_hidden_size decoder_start_token_id
    diversity_penalty do_sample dtype early_stopping embd_pdrop encoder_no_repeat_ngram_size eos_token_id
    exponential_decay_length_penalty finetuning_task forced_bos_token_id forced_eos_token_id id2label
    initializer_range is_decoder is_encoder_decoder keys_to_ignore_at_inference label2id length_penalty
    max_length max_position_embeddings max_window_layers min_length model_type n_ctx n_positions
    no_repeat_ngram_size num_beam_groups num_beams num_return_sequences output_attentions
    output_hidden_states output_scores prefix problem_type pruned_heads remove_invalid_values
    reorder_and_upcast_attn repetition_penalty resid_pdrop return_dict return_dict_in_generate
    scale_attn_by_inverse_layer_idx scale_attn_weights sep_token_id summary_activation summary_first_dropout
    summary_proj_to_labels summary_type summary_use_proj suppress_tokens task_specific_params temperature
    tf_legacy_loss tie_encoder_decoder tie_word_embeddings tokenizer_class top_k top_p torch_dtype torchscript
    transformers_version typical_p use_bfloat16 use_cache version
    """.split()
)

# Bounds that no sensible value comes near. Integers fit into 32 bits, and products of two numbers into float32.
MOST_INTEGER = 2**30
MOST_NUMBER, LEAST_NUMBER = 1e9, 1e-12
# What `is_number` wants, in words.
NUMBERS = f"0, or a number of {LEAST_NUMBER:g} to {MOST_NUMBER:g} of either sign"

# Limits of a config.json: of widths, vocabularies and rates; of layers and codebooks; of nested objects.
MOST_SIZE = 2**24
MOST_COUNT = 512
MOST_DEPTH = 32


def is_integer(value: object, least: int = 0, most: float = MOST_INTEGER) -> bool:
    """Whether a value is an integer of least..most; True and False are none."""
    return isinstance(value, Integral) and not isinstance(value, bool) and least <= int(value) <= most


def is_number(value: object) -> bool:
    """Whether a value is 0 or a number of LEAST_NUMBER..MOST_NUMBER, or as far below 0; True and False are none."""
    if not isinstance(value, Real) or isinstance(value, bool):
        return False
    try:
        size = abs(float(value))
    except OverflowError:
        return False
    return size == 0 or LEAST_NUMBER <= size <= MOST_NUMBER


def parse_json(content: bytes) -> Any:
    """JSON as its standard has it: each key once, no NaN, UTF-8, and not nested deeper than anything here is.

    Raises:
        ValueError: it is not; says what is wrong.
    """
    try:
        value = json.loads(
            content.decode("utf-8-sig"), object_pairs_hook=_object_with_each_key_once, parse_constant=_no_number
        )
    except RecursionError as error:
        raise ValueError(f"it is nested deeper than {MOST_DEPTH} levels") from error
    _check_depth(value, MOST_DEPTH)
    return value


def _object_with_each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name, value in pairs:
        if name in made:
            raise ValueError(f"the key {shown(name)} is there twice")
        made[name] = value
    return made


def check_keys_once(content: str | bytes) -> None:
    """Refuse JSON in which an object has a key twice, of which most readers keep the last.

    Raises:
        ValueError: it has one; says which.
    """
    json.loads(content, object_pairs_hook=_object_with_each_key_once)


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _check_depth(value: Any, most: int) -> None:
    if isinstance(value, dict | list):
        if not most:
            raise ValueError(f"it is nested deeper than {MOST_DEPTH} levels")
        for inner in value.values() if isinstance(value, dict) else value:
            _check_depth(inner, most - 1)


def reject_unknown(raw: Raw, known: frozenset[str], where: str) -> None:
    """Refuse keys that are neither known nor harmless, naming them."""
    unknown = sorted(set(raw) - known - HARMLESS_KEYS)
    if unknown:
        raise ConfigError(f"{where} has unknown keys: {', '.join(unknown)}. Known: {', '.join(sorted(known))}.")


def integer(raw: Raw, key: str, where: str, default: int | None = None, least: int = 0, most: int = MOST_SIZE) -> int:
    """An integer of least..most; the default where the key is absent or null."""
    value = raw.get(key)
    value = default if value is None else value
    if not is_integer(value, least, inf):
        raise ConfigError(f"{where}: {key} must be an integer of at least {least}, got {shown(value)}.")
    if not is_integer(value, least, most):
        raise ConfigError(f"{where}: {key} must be at most {most}, got {shown(value)}.")
    return int(value)  # type: ignore[arg-type]


def count(raw: Raw, key: str, where: str, default: int | None = None) -> int:
    """A number of things that are built one by one, such as layers and codebooks: at least 1."""
    return integer(raw, key, where, default, least=1, most=MOST_COUNT)


def number(raw: Raw, key: str, where: str, default: float, most: float = MOST_NUMBER) -> float:
    """A number above 0, up to `most`."""
    value = raw.get(key, default)
    if not is_number(value) or not 0 < value <= most:
        raise ConfigError(f"{where}: {key} must be a number in {LEAST_NUMBER:g}..{most:g}, got {shown(value)}.")
    return float(value)


def mapping(raw: Raw, key: str, where: str) -> Raw:
    """An object."""
    value = raw.get(key)
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where}: {key} must be an object, got {shown(value)}.")
    return value


def optional(raw: Raw, key: str, kind: type[T], words: str, where: str) -> T | None:
    """A value of a kind, described by `words`, or None."""
    value = raw.get(key)
    if value is not None and not isinstance(value, kind):
        raise ConfigError(f"{where}: {key} must be {words}, got {shown(value)}.")
    return value


def demand(raw: Raw, key: str, allowed: tuple[Any, ...], where: str) -> None:
    """Refuse a value other than those allowed; an absent key is fine."""
    if key in raw and raw[key] not in allowed:
        raise ConfigError(
            f"{where}: {key} = {shown(raw[key])} is not supported; allowed: {', '.join(map(repr, allowed))}."
        )
