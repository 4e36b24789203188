"""Sessions of a model: their options, and the engine that they share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Unpack, cast
from weakref import WeakSet

from moss_tts.errors import GenerationError, RequestError
from moss_tts.presets import Preset, resolve_preset
from moss_tts.prompts.options import GenerateOptions, spells_out_options
from moss_tts.prompts.turns import RealtimePacker
from moss_tts.request import MossNormalizedRequest
from moss_tts.sessions.protocol import Conversation
from moss_tts.sessions.rowwise import RowwiseConversation
from moss_tts.sessions.segmented import SegmentedConversation
from moss_tts.sessions.session import Session
from moss_tts.speaking.engine import SpeechEngine
from moss_tts.speaking.jobs import JobMaker
from moss_tts.speaking.listening import Host, HostOnDevice

MOST_SIDE_BY_SIDE = 16
# Options of generate that a session cannot have, and why.
REFUSED = {
    "text": "a session gets its text with speak and turn",
    "conversation": "a session gets its text with speak and turn",
    "ambient_sound": "a session speaks text",
    "tokens": "the length of a text that is still being written is unknown",
    "duration_s": "the length of a text that is still being written is unknown",
    "seconds": "the length of a text that is still being written is unknown",
    "long_form_min_chars": "a session cuts its text itself",
    "long_form_target_chars": "a session cuts its text itself",
    "long_form_max_chars": "a session cuts its text itself",
    "long_form_parallel": "a session speaks its segments one after the other",
    "long_form_crossfade_ms": "a session does not hold sound back to treat seams",
    "long_form_trim_silence": "a session does not hold sound back to treat seams",
}
# Settled for each session; the caller's options of these names say nothing else.
IMPLIED = {"stream": True, "long_form": True}
RETRIES = 2


def session_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of generate for a session; its text stands in for those that follow.

    Raises:
        RequestError: an option that a session cannot have.
    """
    given = {name: value for name, value in options.items() if value is not None}
    for name, reason in REFUSED.items():
        if name in given:
            raise RequestError(f"{name} is no option of a session: {reason}. Leave it out.")
    for name in IMPLIED:
        if given.get(name) is False:
            raise RequestError(f"{name} is always True in a session. Leave it out.")
    return {"long_form_retry_attempts": RETRIES, **given, **IMPLIED, "text": "Text."}


def refuse_segments(options: Mapping[str, Any]) -> None:
    """Refuse options of segments, where a turn has none.

    Raises:
        RequestError: there is one.
    """
    for name, value in options.items():
        if name.startswith("long_form_") and value is not None:
            raise RequestError(f"{name} is no option of this model's sessions: a turn has no segments. Leave it out.")


class SessionMaker(JobMaker):
    """A JobMaker that opens sessions, which share an engine."""

    preset: Preset
    _host: HostOnDevice | None = None
    _sessions: WeakSet[Session] | None = None

    @abstractmethod
    def request(self, options: Mapping[str, Any]) -> MossNormalizedRequest:
        """The options of a `generate`, checked and settled."""

    @abstractmethod
    def _noted_request(self, options: Mapping[str, Any]) -> MossNormalizedRequest:
        """The request of some options; its notes become warnings."""

    @spells_out_options
    def session(
        self, *, host: Host | None = None, marks_ends: bool = False, **options: Unpack[GenerateOptions]
    ) -> Session:
        """Open a session: text goes in while sound comes out.

            with model.session(voice="ada", seed=7) as session:
                for chunk in session.speak(deltas):
                    play(chunk)

        Several sessions of a model share its engine: their turns are spoken side by side.

        Args:
            host: speaks the turns, for servers that have an engine of their own; notes then become no warnings.
            marks_ends: whether a row follows each turn of Realtime that says that it has ended, as in training.
            **options: see GenerateOptions; all but those that set a text or its length, or that treat seams.

        Raises:
            RequestError: a bad option, or one that a session cannot have.
            AudioError: a reference that names a file which cannot be opened.
        """
        named = options.get("preset")
        preset = self.preset if named is None else resolve_preset(named)
        if preset.prompt_field != "text":
            raise RequestError(f"preset {preset.name} makes sounds and speaks no text, so it has no sessions.")
        settled = session_options(options)
        if self.architecture.reads_text_beside:
            refuse_segments(options)
        request = self._noted_request(settled) if host is None else self.request(settled)
        chosen = host or self._own_host()
        conversation = self._conversation(chosen, request, marks_ends)
        session = Session(chosen, conversation, self.sample_rate, request.seed, request.notes, warns=host is None)
        self._sessions = self._sessions or WeakSet()
        self._sessions.add(session)
        return session

    def _conversation(self, host: Host, request: MossNormalizedRequest, marks_ends: bool) -> Conversation:
        """The context of a session, of the kind that the model needs."""
        if self.architecture.reads_text_beside:
            return RowwiseConversation(host, self, request, cast(RealtimePacker, self.processor.packer), marks_ends)
        if marks_ends:
            raise RequestError("marks_ends is for models that read their text while they speak. Leave it out.")
        return SegmentedConversation(host, self, request)

    def _own_host(self) -> HostOnDevice:
        if self._host is None:
            self._host = HostOnDevice(lambda: SpeechEngine(self.architecture, self.codec, MOST_SIDE_BY_SIDE))
        return self._host

    def _close_sessions(self) -> None:
        """End the sessions that are open."""
        failure = GenerationError("the model of this session was closed.")
        for session in list(self._sessions or ()):
            session.fail(failure)
        if self._host is not None:
            self._host.stop(failure)
            self._host = None
