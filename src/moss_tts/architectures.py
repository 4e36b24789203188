"""The registry of architectures: what the runtime asks of each, and which class answers for a config.

A new architecture costs a config, a model, a row loop, a frame reader, a packer of prompts, and here a class and one
line in ARCHITECTURES. Nothing else in this package asks which architecture it has.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any, ClassVar, Generic, TypeVar

import mlx.core as mx
import numpy as np
from mlx import nn
from mlx.utils import tree_flatten

from moss_tts.config import (
    DelayConfig,
    LocalConfig,
    LocalV15Config,
    MossConfig,
    NanoConfig,
    RealtimeConfig,
    TiedHeadsConfig,
)
from moss_tts.context.prefixes import PrefixCache
from moss_tts.context.reading import Reading, whole
from moss_tts.delay_model import MossTTSDelayModel
from moss_tts.errors import RequestError
from moss_tts.frames import DelayFrameReader, FrameReader, LocalFrameReader, RealtimeFrameReader
from moss_tts.local_model import MossTTSLocalModel
from moss_tts.local_v1_5_model import MossTTSLocalV15Model, TiedHeadsModel
from moss_tts.nano_model import MossTTSNanoModel
from moss_tts.prompts.packing import DelayPacker, LocalPacker, NanoPacker, PiecewisePacker, PromptPacker
from moss_tts.prompts.turns import RealtimePacker
from moss_tts.realtime.network import MossTTSRealtimeNetwork
from moss_tts.realtime.rows import RealtimeBatch
from moss_tts.rows import DelayBatch, LocalBatch, Prompts, RowBatch, RowRequest, run
from moss_tts.weights.layout import Layout

C = TypeVar("C", bound=MossConfig)
N = TypeVar("N", bound=nn.Module)


class Architecture(Generic[C, N]):
    """One loaded network with its way of making and reading rows.

    Attributes:
        name: the name that people see.
        packer: writes conversations as prompts.
        default_preset: the preset of a checkpoint if its name tells no variant.
        prefixes: keys and values of references, kept for the next request in the same voice.
        protected: parts that are never quantised, beside embeddings and norms.
        first_chunks: frames of the first chunks of a stream, before they are as long as was asked.
        reads_text_beside: whether it reads text while it speaks.
    """

    name: ClassVar[str]
    network_class: ClassVar[type[Any]]
    layout: ClassVar[Layout]
    packer: ClassVar[type[PromptPacker]]
    default_preset: ClassVar[str]
    protected: ClassVar[tuple[str, ...]]
    first_chunks: ClassVar[tuple[int, ...]] = (4,)
    reads_text_beside: ClassVar[bool] = False

    def __init__(self, config: C, network: N) -> None:
        self.config = config
        self.network = network
        self.prefixes = PrefixCache(config.audio_user_slot_token_id)

    def resolve_n_vq(self, requested: int | None) -> int:
        """The number of codebooks to generate: all of them, unless the architecture can stop after fewer.

        Raises:
            RequestError: the architecture cannot generate that number.
        """
        if requested not in (None, self.config.n_vq):
            raise RequestError(f"n_vq_for_inference must be {self.config.n_vq} for {self.name}, got {requested}.")
        return self.config.n_vq

    def room(self, rows: int) -> int | None:  # noqa: ARG002
        """The frames for which there is room behind a prompt of so many rows; None: there is no limit.

        Raises:
            RequestError: there is room for none.
        """
        return None

    def batch(self, prompts: Prompts, requests: Sequence[RowRequest], n_vq: int) -> RowBatch:
        """A batch of requests: their prompts are read, and the first row is next."""
        return whole(self.reading(prompts, requests, n_vq))

    def reading(self, prompts: Prompts, requests: Sequence[RowRequest], n_vq: int) -> Reading[RowBatch]:
        """Read the prompts of requests part by part; the result is a batch that is ready for its first row."""
        raise NotImplementedError

    def reader(self, prompt: np.ndarray, max_frames: int, n_vq: int) -> FrameReader:
        """A reader of the rows of one request, with its prompt (T, 1 + Q)."""
        raise NotImplementedError

    def generate_rows(self, prompt: np.ndarray, request: RowRequest) -> np.ndarray:
        """Rows (N, 1 + Q) after a prompt (T, 1 + Q), until the network ends its speech or the budget is used up."""
        batch = self.batch(Prompts.of(prompt), [request], self.config.n_vq)
        return np.concatenate(list(islice(run(batch), request.max_frames)))

    def teacher_forced_logits(self, prompt: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Logits of each row, given the prompt and the rows before it.

        Args:
            prompt: (T, 1 + Q).
            rows: (N, 1 + Q) that follow it.

        Returns:
            Text (N, V or 2) and audio (N, Q, audio_vocab) logits, float32.
        """
        past = mx.array(np.concatenate([prompt, rows[:-1]])[None])
        text, audio = self._logits(self._hidden(past)[0, len(prompt) - 1 :], mx.array(rows))
        return np.array(text), np.array(audio[..., : self.config.audio_vocab_size])

    def _hidden(self, past: mx.array) -> mx.array:
        """Hidden states (1, T, D) of rows (1, T, 1 + Q)."""
        raise NotImplementedError

    def _logits(self, hidden: mx.array, rows: mx.array) -> tuple[mx.array, mx.array]:
        """Text and audio logits of rows (N, 1 + Q), given the hidden states (N, D) of the rows before them."""
        raise NotImplementedError

    @classmethod
    def closing_tokens(cls, config: C) -> tuple[int, ...]:
        """Text ids that end speech: the network writes one of them."""
        raise NotImplementedError

    def bytes_per_frame(self) -> int:
        """Bytes of weights that one row reads: a matrix once for each product with it, embeddings by the row."""
        raise NotImplementedError

    def _bytes_of(self, *prefixes: str) -> int:
        flat: list[tuple[str, mx.array]] = tree_flatten(self.network.parameters())  # type: ignore[assignment]
        return sum(array.nbytes for name, array in flat if name.startswith(prefixes))

    def _bytes_of_text_row(self) -> int:
        return self._bytes_of("text_embedding.") // self.config.vocab_size


class DelayArchitecture(Architecture[DelayConfig, MossTTSDelayModel]):
    """MossTTSDelay."""

    name = "MOSS-TTS Delay"
    network_class = MossTTSDelayModel
    layout = MossTTSDelayModel.layout
    packer = DelayPacker
    default_preset = "moss_tts"
    protected = ("audio_head",)

    def resolve_n_vq(self, requested: int | None) -> int:
        """Delay models always generate all codebooks: they are trained on the whole delay pattern."""
        if requested is not None:
            raise RequestError(
                f"n_vq_for_inference is for Local v1.0 and Nano; a Delay checkpoint always generates all "
                f"{self.config.n_vq} codebooks. Leave it out."
            )
        return self.config.n_vq

    def reading(self, prompts: Prompts, requests: Sequence[RowRequest], n_vq: int) -> Reading[RowBatch]:  # noqa: ARG002
        """Read prompts; the result is a batch of Delay."""
        return DelayBatch.reading(self.network, self.config, prompts, requests, self.prefixes)

    def reader(self, prompt: np.ndarray, max_frames: int, n_vq: int) -> FrameReader:  # noqa: ARG002
        """Reads delayed rows."""
        return DelayFrameReader(prompt, self.config, max_frames)

    def _hidden(self, past: mx.array) -> mx.array:
        return self.network(past, self.network.backbone.make_cache([0]))

    def _logits(self, hidden: mx.array, rows: mx.array) -> tuple[mx.array, mx.array]:  # noqa: ARG002
        return self.network.text_logits(hidden), self.network.audio_logits(hidden)

    @classmethod
    def closing_tokens(cls, config: DelayConfig) -> tuple[int, ...]:
        """The delay slot, which begins the flush, or audio_end."""
        return (config.audio_assistant_delay_slot_token_id, config.audio_end_token_id)

    def bytes_per_frame(self) -> int:
        """The backbone, the audio head, the two candidates of the text head."""
        return self._bytes_of("backbone.", "audio_head.") + (3 + self.config.n_vq) * self._bytes_of_text_row()


class LocalArchitecture(Architecture[LocalConfig | TiedHeadsConfig, MossTTSLocalModel | TiedHeadsModel]):
    """MossTTSLocal v1.0."""

    name = "MOSS-TTS Local"
    network_class: ClassVar[type[Any]] = MossTTSLocalModel
    layout = MossTTSLocalModel.layout
    packer: ClassVar[type[PromptPacker]] = LocalPacker
    default_preset = "moss_tts_local"
    protected: ClassVar[tuple[str, ...]] = (
        "lm_heads",
        "local_to_speech_embedding_mlps",
        "speech_embedding_to_local_mlp",
    )

    def resolve_n_vq(self, requested: int | None) -> int:
        """Local v1.0 can stop after any number of codebooks."""
        if requested is None:
            return self.config.n_vq
        if not 1 <= requested <= self.config.n_vq:
            raise RequestError(f"n_vq_for_inference must be 1 to {self.config.n_vq} here, got {requested}.")
        return requested

    def reading(self, prompts: Prompts, requests: Sequence[RowRequest], n_vq: int) -> Reading[RowBatch]:
        """Read prompts; the result is a batch of Local."""
        return LocalBatch.reading(self.network, self.config, prompts, requests, n_vq=n_vq, prefixes=self.prefixes)

    def reader(self, prompt: np.ndarray, max_frames: int, n_vq: int) -> FrameReader:
        """Reads rows that are frames."""
        return LocalFrameReader(prompt, self.config, max_frames, n_vq)

    def _hidden(self, past: mx.array) -> mx.array:
        return self.network(past, self.network.backbone.make_cache([0]), self.config.n_vq)

    def _logits(self, hidden: mx.array, rows: mx.array) -> tuple[mx.array, mx.array]:
        return self.network.depth_logits(hidden, rows[:, :-1])

    @classmethod
    def closing_tokens(cls, config: LocalConfig | TiedHeadsConfig) -> tuple[int, ...]:
        """audio_end alone."""
        return (config.audio_end_token_id,)

    def bytes_per_frame(self) -> int:
        """The backbone once; the depth transformer, its adapters and one head for each channel."""
        channels = 1 + self.config.n_vq
        depth = self._bytes_of("local_transformer.", "speech_embedding_to_local_mlp.")
        heads = self._bytes_of("local_to_speech_embedding_mlps.", "layer_norm_before_lm_heads.", "lm_heads.")
        heads -= self._bytes_of("lm_heads.0.")
        return self._bytes_of("backbone.") + channels * depth + heads + 2 * (1 + channels) * self._bytes_of_text_row()


class LocalV15Architecture(LocalArchitecture):
    """MossTTSLocal v1.5."""

    name = "MOSS-TTS Local v1.5"
    network_class: ClassVar[type[Any]] = MossTTSLocalV15Model
    layout = MossTTSLocalV15Model.layout
    packer: ClassVar[type[PromptPacker]] = PiecewisePacker
    default_preset = "moss_tts_local_v1_5"
    protected: ClassVar[tuple[str, ...]] = ("local_text_lm_head",)

    def resolve_n_vq(self, requested: int | None) -> int:
        """Local v1.5 always generates all codebooks: it is trained with a fixed depth."""
        return Architecture.resolve_n_vq(self, requested)

    def bytes_per_frame(self) -> int:
        """The backbone once, the depth decoder for every codebook, and the embeddings as heads."""
        heads = self._bytes_of("local_text_lm_head.", "audio_embedding.")
        depth = self.config.n_vq * self._bytes_of("local_transformer.")
        return self._bytes_of("backbone.") + depth + heads + 2 * (1 + self.config.n_vq) * self._bytes_of_text_row()


class NanoArchitecture(LocalV15Architecture):
    """MossTTSNano."""

    name = "MOSS-TTS Nano"
    network_class = MossTTSNanoModel
    layout = MossTTSNanoModel.layout
    packer = NanoPacker
    default_preset = "nano"
    protected = ()
    # The first frame sounds at once. A chunk may be twice as long as the one before if speech is made in half its time.
    first_chunks = (1, 2, 4)

    def resolve_n_vq(self, requested: int | None) -> int:
        """Nano can stop after any number of codebooks, as Local v1.0 can."""
        return LocalArchitecture.resolve_n_vq(self, requested)


class RealtimeArchitecture(Architecture[RealtimeConfig, MossTTSRealtimeNetwork]):
    """MossTTSRealtime."""

    name = "MOSS-TTS Realtime"
    network_class = MossTTSRealtimeNetwork
    layout = MossTTSRealtimeNetwork.layout
    packer = RealtimePacker
    default_preset = "realtime"
    protected = ("local_lm_heads",)
    first_chunks = (1, 2, 4)
    reads_text_beside = True

    def room(self, rows: int) -> int:
        """Realtime was trained with so many positions, and says nothing meaningful behind them."""
        most = self.config.max_positions
        if rows >= most:
            raise RequestError(
                f"the prompt has {rows} rows, with all turns before it, and this model has room for {most}; give a "
                "shorter recording, or begin another session."
            )
        return most - rows

    def reading(self, prompts: Prompts, requests: Sequence[RowRequest], n_vq: int) -> Reading[RowBatch]:  # noqa: ARG002
        """Read prompts; the result is a batch of Realtime."""
        return RealtimeBatch.reading(self.network, self.config, prompts, requests, self.prefixes)

    def reader(self, prompt: np.ndarray, max_frames: int, n_vq: int) -> FrameReader:  # noqa: ARG002
        """Reads rows that are frames."""
        return RealtimeFrameReader(self.config, max_frames)

    def _hidden(self, past: mx.array) -> mx.array:
        return self.network(past, self.network.backbone.make_cache([0]))

    def _logits(self, hidden: mx.array, rows: mx.array) -> tuple[mx.array, mx.array]:
        """There are no logits of text: (N, 0)."""
        return mx.zeros((len(rows), 0)), self.network.depth_logits(hidden, rows[:, 1:])

    @classmethod
    def closing_tokens(cls, config: RealtimeConfig) -> tuple[int, ...]:  # noqa: ARG003
        """None: codebook 0 says where speech ends."""
        return ()

    def bytes_per_frame(self) -> int:
        """The backbone once, the depth transformer and a head for each codebook, and some rows of tables."""
        depth = self.config.n_vq * self._bytes_of("local_transformer.")
        rows = (1 + 2 * self.config.n_vq) * self._bytes_of_text_row()
        return self._bytes_of("backbone.", "local_lm_heads.") + depth + rows


ARCHITECTURES: dict[type[MossConfig], type[Architecture[Any, Any]]] = {
    DelayConfig: DelayArchitecture,
    LocalConfig: LocalArchitecture,
    LocalV15Config: LocalV15Architecture,
    NanoConfig: NanoArchitecture,
    RealtimeConfig: RealtimeArchitecture,
}
