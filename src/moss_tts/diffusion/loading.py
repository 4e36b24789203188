"""A sound model's directory becomes its parts in memory: config, text encoder, transformer, decoder.

The directory is upstream's, a conversion of mlx-community's with files in mlx/, or one that this package converted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import mlx.core as mx
import mlx.nn as nn

from moss_tts.checkpoints.loading import quantize
from moss_tts.checkpoints.names import PIPELINE_INDEX
from moss_tts.checkpoints.number_types import compute_dtype, stored_dtype
from moss_tts.checkpoints.tokenizer import load_tokenizer
from moss_tts.device.memory import cache_limit, release_memory
from moss_tts.diffusion.config import (
    AutoencoderConfig,
    PipelineConfig,
    SoundConfig,
    TransformerConfig,
    text_encoder_config,
)
from moss_tts.diffusion.decoder import SoundDecoder
from moss_tts.diffusion.text_encoder import LAYOUT, TextEncoder
from moss_tts.diffusion.transformer import DiffusionTransformer
from moss_tts.diffusion.weights import (
    DECODER_PARTS,
    TransformerNames,
    in_blocks,
    load_decoder,
    transformer_weights,
)
from moss_tts.errors import CheckpointError
from moss_tts.prompts.messages import PromptEncoder
from moss_tts.weights.layout import (
    first_names,
    load_strict,
    read_files,
    read_json,
    read_leaves,
    read_safetensors,
    read_weights,
)
from moss_tts.weights.pickled import pickled_model
from moss_tts.weights.stored import StoredTensor

N = TypeVar("N", bound=nn.Module)

SAFETENSORS = "*.safetensors"
# The parts, as people call them, by their folders.
PARTS = {"transformer": "transformer", "text_encoder": "text encoder", "tokenizer": "tokenizer", "vae": "autoencoder"}
CONVERTED_TRANSFORMER, CONVERTED_AUTOENCODER = "mlx/dit*.safetensors", "mlx/vae.safetensors"


@dataclass(frozen=True)
class SoundFiles:
    """The files of a sound model, and its config.

    Attributes:
        directory: where they are.
        config: the config of all parts.
        transformer: files of the transformer's weights.
        autoencoder: the file of the autoencoder's weights.
    """

    directory: Path
    config: SoundConfig
    transformer: tuple[Path, ...]
    autoencoder: Path

    @staticmethod
    def find(directory: Path) -> SoundFiles:
        """The files of a directory; no weight is read.

        Raises:
            CheckpointError: a part is missing or broken.
            ConfigError: it is another pipeline, or its parts do not fit each other.
        """
        pipeline = PipelineConfig.from_dict(read_json(directory / PIPELINE_INDEX))
        if missing := [f"{name}/ ({what})" for name, what in PARTS.items() if not (directory / name).is_dir()]:
            raise CheckpointError(f"{directory} lacks {first_names(missing)}; copy the whole model there.")
        converted = sorted(directory.glob(CONVERTED_TRANSFORMER))
        transformer = converted or sorted((directory / "transformer").glob(SAFETENSORS))
        if not transformer:
            raise CheckpointError(f"{directory}/transformer holds no {SAFETENSORS}.")
        autoencoder = _autoencoder_file(directory)
        config = SoundConfig(
            pipeline,
            TransformerConfig.from_dict(read_json(directory / "transformer/config.json")),
            text_encoder_config(read_json(directory / "text_encoder/config.json")),
            _autoencoder_config(autoencoder, directory / "vae/config.json"),
        )
        return SoundFiles(directory, config, tuple(transformer), autoencoder)

    def transformer_weights(self) -> dict[str, mx.array]:
        """The transformer's tensors by the names in its files; values are read when they are evaluated."""
        return read_files(self.transformer)

    def autoencoder_weights(self) -> dict[str, mx.array]:
        """The tensors of the autoencoder's decoder; of a pickled file no others are read."""
        if self.autoencoder.suffix == ".pth":
            stored, _ = _pickled(self.autoencoder)
            return {name: tensor.whole() for name, tensor in stored.items() if name.startswith(DECODER_PARTS)}
        return read_safetensors(self.autoencoder)

    def load_transformer(self, dtype: mx.Dtype) -> DiffusionTransformer:
        """The transformer, with blocks that compute in `dtype`.

        Raises:
            CheckpointError: weights are missing, surplus or of another shape.
        """
        return _settled(self.unread_transformer(dtype))

    def unread_transformer(self, dtype: mx.Dtype) -> DiffusionTransformer:
        """The same, but values are read when they are evaluated.

        Raises:
            CheckpointError: see `load_transformer`.
        """
        weights = self.transformer_weights()
        names = TransformerNames.found_in(weights)
        named = {
            name: weight.astype(dtype if in_blocks(name) else mx.float32) if _is_floating(weight) else weight
            for name, weight in transformer_weights(weights, names).items()
        }
        network = DiffusionTransformer(self.config.transformer)
        if (block := self.config.pipeline.quantization) is not None:
            quantize(network, block, lambda path, _: f"{path}.scales" in named)
        _explained(self.directory / "transformer", lambda: load_strict(network, named, names))
        return network

    def load_decoder(self) -> SoundDecoder:
        """The decoder of the autoencoder.

        Raises:
            CheckpointError: weights are missing, surplus or of another shape.
        """
        decoder = SoundDecoder(self.config.autoencoder)
        weights = self.autoencoder_weights()
        _explained(self.autoencoder, lambda: load_decoder(decoder, weights, self.autoencoder.parent.name == "mlx"))
        weights.clear()
        return _settled(decoder)

    def load_text_encoder(self, dtype: str | None) -> TextEncoder:
        """The text encoder.

        Raises:
            CheckpointError: weights are missing, surplus or of another shape.
        """
        return _settled(self.unread_text_encoder(dtype))

    def unread_text_encoder(self, dtype: str | None) -> TextEncoder:
        """The same, but values are read when they are evaluated.

        Raises:
            CheckpointError: see `load_text_encoder`.
        """
        directory = self.directory / "text_encoder"
        weights = read_weights(directory)
        chosen = compute_dtype(dtype, stored_dtype(weights))
        named = LAYOUT.sanitize({name: weight.astype(chosen) for name, weight in weights.items()}, 0)
        encoder = TextEncoder(self.config.text_encoder)
        _explained(directory, lambda: load_strict(encoder, named, LAYOUT))
        return encoder

    def load_prompt_encoder(self) -> PromptEncoder:
        """The tokenizer.

        Raises:
            CheckpointError: it is missing or broken, or has more tokens than the text encoder.
        """
        encoder = PromptEncoder.of(load_tokenizer(self.directory / "tokenizer"))
        if encoder.vocabulary_size > self.config.text_encoder.vocab_size:
            raise CheckpointError(
                f"the tokenizer in {self.directory} has {encoder.vocabulary_size} tokens, but the text encoder knows "
                f"{self.config.text_encoder.vocab_size}."
            )
        return encoder


def transformer_dtype(asked: str | None) -> mx.Dtype:
    """The type that the transformer's blocks compute in: as asked, else float32 on a CPU and bfloat16 on a GPU.

    Raises:
        RequestError: asked for a type that cannot be computed in.
    """
    return compute_dtype(asked, mx.bfloat16)


def _autoencoder_file(directory: Path) -> Path:
    for pattern in (CONVERTED_AUTOENCODER, f"vae/{SAFETENSORS}", "vae/*.pth"):
        if files := sorted(directory.glob(pattern)):
            if len(files) > 1:
                raise CheckpointError(f"{directory} has several autoencoders, {first_names([p.name for p in files])}.")
            return files[0]
    raise CheckpointError(f"{directory}/vae holds neither {SAFETENSORS} nor *.pth.")


def _autoencoder_config(file: Path, config: Path) -> AutoencoderConfig:
    """The settings of an autoencoder, from its own file if that is pickled."""
    if file.suffix == ".pth":
        return AutoencoderConfig.from_dict(_pickled(file)[1], f"the settings in {file.name}")
    return AutoencoderConfig.from_dict(read_json(config), "vae/config.json")


def _pickled(file: Path) -> tuple[dict[str, StoredTensor], Mapping[str, object]]:
    tensors, metadata = pickled_model(file, "state_dict", "metadata")
    settings = metadata.get("kwargs")
    if not isinstance(settings, Mapping):
        raise CheckpointError(f"{file} has no settings of an autoencoder (kwargs in its metadata).")
    return tensors, settings


def _explained(where: Path, load: Callable[[], None]) -> None:
    try:
        load()
    except CheckpointError as error:
        raise CheckpointError(f"{where}: {error}") from error


def _is_floating(weight: mx.array) -> bool:
    return bool(mx.issubdtype(weight.dtype, mx.floating))


def _settled(network: N) -> N:
    """The network with its weights in memory, read layer by layer."""
    with cache_limit(0):
        read_leaves(network)
        mx.eval(network.parameters())
    network.eval()
    return network


class EncoderOnDemand:
    """The text encoder, in memory only while texts are encoded: it is larger than the rest.

    Args:
        files: where it is.
        dtype: the type to compute in, or None to choose.
    """

    def __init__(self, files: SoundFiles, dtype: str | None) -> None:
        self._files, self._dtype = files, dtype
        self._encoder: TextEncoder | None = None

    def __call__(self, ids: list[int]) -> mx.array:
        """Ids of n tokens -> hidden states float32 (n, D), computed; without tokens (0, D)."""
        if not ids:
            return mx.zeros((0, self._files.config.text_encoder.hidden_size))
        if self._encoder is None:
            self._encoder = self._files.load_text_encoder(self._dtype)
        with cache_limit():
            hidden = self._encoder(ids).astype(mx.float32)
            mx.eval(hidden)
        return hidden

    @property
    def in_memory(self) -> bool:
        """Whether it is there now."""
        return self._encoder is not None

    def release(self) -> None:
        """Give its memory back."""
        if self.in_memory:
            self._encoder = None
            release_memory()
