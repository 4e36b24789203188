"""Requests spoken side by side, short and long ones: a thread waits for each, and one batch speaks them all."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import Any, Final, TypeAlias, TypeVar

from moss_tts.errors import GenerationError, MossTTSError
from moss_tts.model import Model
from moss_tts.result import GenerationResult
from moss_tts.speaking.hosted_texts import HostedText
from moss_tts.speaking.jobs import Cancel
from moss_tts.speaking.listening import Host, HostOnDevice
from moss_tts.speaking.results import results_of

Key = TypeVar("Key")
# The result of a request with its notes (MossNormalizedRequest.notes), or why there is none.
Outcome: TypeAlias = tuple[GenerationResult, tuple[str, ...]] | MossTTSError
# Ctrl-C is noticed after this time at the latest.
SECONDS_BETWEEN_LOOKS: Final = 0.2


def speak_together(
    model: Model, requests: Iterable[tuple[Key, Mapping[str, Any]]], at_once: int, cancel: Cancel
) -> Generator[tuple[Key, Outcome], None, None]:
    """Speak requests side by side; each gets the audio that it gets alone with the same seed.

    Closing the generator stops the work.

    Args:
        model: the model that speaks.
        requests: (key, options of generate), taken as places become free.
        at_once: how many are spoken at the same time.
        cancel: set it from any thread, and the work ends within a frame; requests that are not finished are dropped.

    Returns:
        (key, outcome) as requests are finished, in any order.
    """
    left = iter(requests)
    host = HostOnDevice(lambda: model.new_engine(at_once))
    running: dict[Future[Outcome], tuple[Key, _Spoken]] = {}
    with ThreadPoolExecutor(at_once, thread_name_prefix="speaker") as threads:
        try:
            while not cancel.is_set():
                for key, options in islice(left, at_once - len(running)):
                    spoken = _Spoken(host, model, options)
                    running[threads.submit(spoken.outcome)] = key, spoken
                if not running:
                    return
                for future in wait(running, SECONDS_BETWEEN_LOOKS, FIRST_COMPLETED).done:
                    yield running.pop(future)[0], future.result()
        finally:
            for _, spoken in running.values():
                spoken.cancel()


class _Spoken:
    """A request, for the thread that waits for it."""

    def __init__(self, host: Host, model: Model, options: Mapping[str, Any]) -> None:
        self._host, self._model, self._options = host, model, options
        self._text: HostedText | None = None
        self._is_cancelled = False

    def outcome(self) -> Outcome:
        """Speak it."""
        try:
            request = self._model.request({**self._options, "stream": False})
            text = self._text = HostedText(self._host, self._model, request, lambda: True)
            if self._is_cancelled:
                text.cancel()
            chunks = ((chunk.segment, chunk) for chunk in text.chunks())
            results = results_of(chunks, request, self._model.sample_rate)
            [result] = [result for result in results if result is not None]
            return result, request.notes
        except MossTTSError as error:
            return error
        except RuntimeError as error:  # MLX's
            return GenerationError(f"the computation failed: {error}")
        except CancelledError:
            return GenerationError("cancelled")

    def cancel(self) -> None:
        """End it within a frame; from any thread."""
        self._is_cancelled = True
        if self._text is not None:
            self._text.cancel()
