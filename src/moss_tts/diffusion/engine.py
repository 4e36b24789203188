"""Sounds one after the other, a step at a time, so that others have their turn between two steps."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from moss_tts.diffusion.config import TEXT_ROWS, SoundConfig
from moss_tts.diffusion.decoder import SoundDecoder
from moss_tts.diffusion.description import clean
from moss_tts.diffusion.loading import EncoderOnDemand
from moss_tts.diffusion.noise import noise
from moss_tts.diffusion.request import SoundRequest
from moss_tts.diffusion.sampler import Guide, denoise
from moss_tts.diffusion.schedule import Schedule
from moss_tts.diffusion.transformer import DiffusionTransformer
from moss_tts.errors import RequestError
from moss_tts.frames import FinishReason
from moss_tts.prompts.messages import PromptEncoder
from moss_tts.speaking.engine import SpeechChunk

# The share of the work that remains for the decoder when all steps are done.
DECODING = 0.02
SILENCE = np.zeros(0, np.float32)


@dataclass(frozen=True, eq=False)
class SoundParts:
    """The parts of a sound model in memory.

    Attributes:
        config: the sizes of all parts.
        tokens: texts to token ids.
        encode: token ids to hidden states.
        transformer: noisy latents to velocities.
        decoder: latents to a waveform.
    """

    config: SoundConfig
    tokens: PromptEncoder
    encode: EncoderOnDemand
    transformer: DiffusionTransformer
    decoder: SoundDecoder

    def ids(self, text: str, what: str) -> list[int]:
        """The token ids of a text.

        Args:
            text: a description as it is sent.
            what: the option that it comes from, for messages.

        Raises:
            RequestError: there are too many. Upstream drops the last ones, and with them the duration.
        """
        ids = self.tokens.encode(clean(text))
        if len(ids) > TEXT_ROWS:
            raise RequestError(f"{what} has {len(ids)} tokens with its duration; at most {TEXT_ROWS} are possible.")
        return ids

    def noise(self, request: SoundRequest) -> np.ndarray:
        """What a sound begins as, float32 (C, T); rounded as upstream's is, if the blocks compute in half precision."""
        if request.noise is not None:
            return request.noise
        drawn = noise(request.seed, (self.config.transformer.channels, self.config.latent_frames))
        kind = self.transformer.computes_in
        return drawn if kind == mx.float32 else np.array(mx.array(drawn).astype(kind).astype(mx.float32))


@dataclass(frozen=True, eq=False)
class SoundJob:
    """One sound, ready to be made.

    Attributes:
        request: what was asked for.
        prompt: the token ids of its description.
        negative: the token ids of what it is guided away from.
        cancelled: asked once per step; once it is true, the job ends without audio.
        is_heard: asked before a part is decoded; while it is false, the sound waits as latents.
    """

    request: SoundRequest
    prompt: list[int]
    negative: list[int]
    cancelled: Callable[[], bool] = lambda: False
    is_heard: Callable[[], bool] = lambda: True


@dataclass(frozen=True)
class SoundChunk(SpeechChunk):
    """Consecutive audio of one sound, or none after a step.

    Attributes:
        share: the share of the work that is done, 0 to 1.
        step: steps that are done.
    """

    share: float = 0.0
    step: int = 0


def make_latents(parts: SoundParts, jobs: Sequence[SoundJob]) -> Generator[mx.array, None, None]:
    """The latents (B, C, T) of sounds that are made together, after each step.

    Args:
        parts: the model.
        jobs: sounds that have steps, guidance, shift and negative prompt in common.
    """
    first = jobs[0].request
    hidden = [parts.encode(job.prompt) for job in jobs]
    negative = parts.encode(jobs[0].negative)
    parts.encode.release()
    guide = Guide.of(parts.transformer, hidden, negative, first.guidance)
    start = mx.array(np.stack([parts.noise(job.request) for job in jobs]))
    yield from denoise(parts.transformer, guide, start, Schedule.of(first.steps, first.shift))


def make_sound(parts: SoundParts, job: SoundJob) -> Generator[SoundChunk | None, None, None]:
    """The chunks of one sound, empty ones after each step; None while nobody takes them."""
    hop, steps, samples = parts.config.autoencoder.hop, job.request.steps, job.request.samples

    def chunk(audio: np.ndarray, step: int, share: float, finish_reason: FinishReason | None = None) -> SoundChunk:
        frames = np.zeros((-(-len(audio) // hop), 0), np.int32)
        return SoundChunk(audio, frames, finish_reason, len(job.prompt), share, step)

    step = 0
    for step, latents in enumerate(make_latents(parts, [job]), start=1):  # noqa: B007 - the last ones are decoded
        share = (1 - DECODING) * step / steps
        if job.cancelled():
            yield chunk(SILENCE, step, share, "cancelled")
            return
        yield chunk(SILENCE, step, share)
    made = 0
    for part in parts.decoder.parts(latents, samples):
        while not job.is_heard() and not job.cancelled():
            yield None
        made += part.shape[1]
        yield chunk(part[0], step, made / samples, "stop" if made == samples else None)


class SoundRun:
    """A sound while an engine makes it."""

    def __init__(self, parts: SoundParts, job: SoundJob) -> None:
        self.job, self.owner, self.waits = job, None, False
        self.chunks = make_sound(parts, job)


class SoundEngine:
    """Makes sounds in the order in which they come: two at once would take twice as long, and the first would wait.

    Args:
        parts: the model.
    """

    def __init__(self, parts: SoundParts) -> None:
        self._parts = parts
        self._runs: list[SoundRun] = []

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do until a job is submitted, or is heard again."""
        return all(run.waits and not run.job.is_heard() for run in self._runs)

    def submit(self, job: SoundJob) -> SoundRun:
        """Queue a job."""
        run = SoundRun(self._parts, job)
        self._runs.append(run)
        return run

    def drop(self, run: SoundRun) -> None:
        """Remove a job, whatever its state is."""
        if run in self._runs:
            self._runs.remove(run)
            run.chunks.close()

    def step(self) -> list[tuple[SoundRun, SoundChunk]]:
        """Do one step of the first sound that does not wait for its listener; gives its chunk."""
        for run in list(self._runs):
            chunk = next(run.chunks)
            run.waits = chunk is None
            if chunk is not None:
                if chunk.finish_reason is not None:
                    self.drop(run)
                return [(run, chunk)]
        return []
