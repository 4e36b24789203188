"""The work of `moss-tts follow`: text in as it comes, sound out into a player, a growing file or a pipe."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from rich.console import Console

from moss_tts.audio.live_output import Sink, SinkFailedError, send_on
from moss_tts.audio.marking import mark_of
from moss_tts.audio.players import find_player
from moss_tts.cli.incoming import IncomingTurns, decoded, reader_of_stdin, split_turns
from moss_tts.cli.speak_live import STDOUT, open_sinks
from moss_tts.cli.speak_text import INTERRUPTED, Source
from moss_tts.cli.terminal import Terminal
from moss_tts.errors import RequestError
from moss_tts.presets import resolve_preset

if TYPE_CHECKING:
    from moss_tts.sessions.session import Session
    from moss_tts.sessions.turn import Turn

# How a turn ends: by itself, by Ctrl-C, or because its listener has gone.
End: TypeAlias = Literal["whole", "stopped", "unheard"]


@dataclass
class Followed:
    """What a run has done so far; times are of perf_counter."""

    began: float
    first_sound: float | None = None
    seconds: float = 0.0
    starved: float = 0.0
    turns: int = 0
    interrupted: bool = False
    failed: list[SinkFailedError] = field(default_factory=list)

    def figures(self, first_text: float | None) -> str:
        """One line: how long a listener had to wait."""
        if first_text is None:
            return "no text came"
        parts = [f"{_ms(max(0.0, first_text - self.began))} to first text"]
        if self.first_sound is not None:
            parts.append(f"{_ms(self.first_sound - self.began)} to first sound")
        return ", ".join([*parts, f"{_ms(self.starved)} starved"])


def _ms(seconds: float) -> str:
    return f"{round(1000 * seconds)} ms"


class Kept:
    """A sink that takes the audio of several turns: it is opened with the first one, and closed by `finish`."""

    def __init__(self, sink: Sink) -> None:
        self._sink, self._is_open = sink, False

    def open(self, sample_rate: int, channels: int) -> None:
        """Open it, once."""
        if not self._is_open:
            self._is_open = True
            self._sink.open(sample_rate, channels)

    def write(self, pcm: bytes) -> None:
        """Pass samples on."""
        self._sink.write(pcm)

    def close(self, complete: bool) -> None:
        """Keep it open: another turn may follow."""

    def finish(self) -> None:
        """Close it."""
        self._sink.close(complete=True)


def follow_text(
    options: Mapping[str, Any],
    output: Path | None,
    play: bool,
    by_turns: bool,
    source: Source,
    quiet: bool = False,
    mark: bool = True,
    user: Mapping[str, Any] | None = None,
) -> int:
    """Speak standard input while it comes.

    Args:
        options: the options of a session.
        output: a .wav that grows, STDOUT, or None for a player alone.
        play: whether to play as well.
        by_turns: whether a blank line ends a turn.
        source: the source of the model.
        quiet: show nothing but warnings and errors.
        mark: whether the file says what made it.
        user: what the user said before the first turn, as options of Session.turn.

    Returns:
        The exit code; it is 0 as well if the listener has gone.

    Raises:
        MossTTSError: what went wrong. What was written before stays.
    """
    terminal = Terminal(quiet, Console(stderr=True, highlight=False, soft_wrap=True))
    read = reader_of_stdin()
    plays = play or output is None
    if plays:
        find_player()  # before anything is loaded
    told = mark_of(source.name) if mark else None
    with _kept([] if output is None else open_sinks(output, False, terminal, told)) as kept:
        with _loaded(source, options, terminal) as session:
            _check_user(session, user or {})
            if sys.stdin.isatty():
                terminal.hint("Type the text; a line with Ctrl-D alone ends it.")
            pieces = decoded(read)
            incoming = IncomingTurns(session, split_turns(pieces) if by_turns else _one_turn(pieces), user)
            followed = Followed(time.perf_counter())
            _follow(incoming, followed, kept, plays, by_turns, terminal)
    if followed.first_sound is None and not followed.interrupted and incoming.first_text is None:
        raise RequestError("There is no text to follow. Give it with a pipe, such as: echo Hello. | moss-tts follow")
    _tell(followed, output, terminal, session.seed)
    terminal.hint(followed.figures(incoming.first_text))
    return INTERRUPTED if followed.interrupted else 1 if followed.failed else 0


def _check_user(session: Session, user: Mapping[str, Any]) -> None:
    if user and not session.takes_user:
        given = " and ".join(f"--{name.replace('_', '-')}" for name in user)
        raise RequestError(
            f"This model's prompt has no place for what the user said, so {given} cannot be followed. Leave it out, or "
            "take a checkpoint of MOSS-TTS-Realtime."
        )


def _one_turn(pieces: Iterator[str]) -> Iterator[str | None]:
    yield from pieces
    yield None


@contextmanager
def _kept(sinks: list[Sink]) -> Iterator[list[Kept]]:
    kept = [Kept(sink) for sink in sinks]
    try:
        yield kept
    finally:
        for sink in kept:
            sink.finish()


@contextmanager
def _loaded(source: Source, options: Mapping[str, Any], terminal: Terminal) -> Iterator[Session]:
    with terminal.loading(source.name):
        model = source.load_speech()
    with model, model.session(**options) as session:
        with terminal.loading("codec"):
            model.codec()
        named = options.get("preset")
        source.tell_variant(terminal, model, model.preset if named is None else resolve_preset(named))
        yield session


def _follow(
    incoming: IncomingTurns, followed: Followed, kept: list[Kept], plays: bool, by_turns: bool, terminal: Terminal
) -> None:
    """Speak turn after turn, until the text ends, the listener has gone, or Ctrl-C comes between two turns."""
    try:
        while (turn := incoming.next()) is not None:
            followed.turns += 1
            end = _speak(turn, followed, [*kept, *([find_player()] if plays else [])], terminal, by_turns)
            if end == "unheard":
                return
            if end == "stopped" and not by_turns:
                raise KeyboardInterrupt
            incoming.done()
    except KeyboardInterrupt:
        followed.interrupted = True


def _speak(turn: Turn, followed: Followed, sinks: list[Sink], terminal: Terminal, by_turns: bool) -> End:
    """Speak a turn; how it has ended."""
    try:
        with turn:
            return "whole" if _is_heard(turn, followed, sinks, terminal) else "unheard"
    except KeyboardInterrupt:
        return "stopped"
    except RequestError as error:
        # A turn without words must not end those after it.
        if not by_turns:
            raise
        terminal.warn(str(error))
        return "whole"
    finally:
        followed.starved += turn.timings.starved


def _is_heard(turn: Turn, followed: Followed, sinks: list[Sink], terminal: Terminal) -> bool:
    """Speak a turn; whether somebody has listened to its end."""

    def player_failed(error: SinkFailedError) -> None:
        if len(sinks) == 1:
            raise error
        followed.failed.append(error)
        terminal.warn(str(error))

    is_heard = False
    with closing(send_on(turn, sinks, player_failed)) as sent:
        for result in sent:
            followed.seconds += result.samples / result.sample_rate
            is_heard = result.is_final_chunk
            if result.samples and followed.first_sound is None:
                followed.first_sound = time.perf_counter()
    return is_heard


def _tell(followed: Followed, output: Path | None, terminal: Terminal, seed: int) -> None:
    """Say what was spoken, and where it is."""
    place = "played" if output is None else "piped" if output == STDOUT else str(output)
    many = f" in {followed.turns} turns" if followed.turns > 1 else ""
    terminal.say(f"{place}: {followed.seconds:.2f} s of audio{many}, seed {seed}")
