"""Messages and the text of prompts, before they become rows.

A message's content is a tuple of parts: strings, and `Audio` where upstream writes `<|audio|>`. Fields are
the caller's text, put into the template once: nothing inside a value is ever replaced or read as a token.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Literal, TypeAlias

from tokenizers import Tokenizer

from moss_tts.audio.references import Reference, as_references
from moss_tts.errors import ConfigError, RequestError, shown
from moss_tts.presets import PromptTemplate
from moss_tts.prompts.chat_template import render_message
from moss_tts.strict import MOST_INTEGER, is_integer
from moss_tts.text.cleanup import check_text

AUDIO_PLACEHOLDER = "<|audio|>"
Mode: TypeAlias = Literal["generation", "continuation"]
# Mode -> the role of a conversation's last message.
FINAL_ROLE: Mapping[str, str] = {"generation": "user", "continuation": "assistant"}
USER_HEAD = "<user_inst>\n- Reference(s):\n"
TEXT_HEADING = "- Text:\n"
USER_TAIL = "\n</user_inst>"


@dataclass(frozen=True, eq=False)
class Audio:
    """A block of audio inside a message."""

    reference: Reference


Content: TypeAlias = tuple[str | Audio, ...]


class Message:
    """One turn of a conversation."""

    role: ClassVar[str]

    def parts(self, template: PromptTemplate) -> Content:
        """The message's content as a variant's template shapes it."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class UserMessage(Message):
    """What to speak and how.

    `reference` is one entry per speaker, in any form that `as_reference` knows, and None for a speaker without one.
    """

    text: str | None = None
    reference: Sequence[Any] | None = None
    instruction: str | None = None
    tokens: int | None = None
    quality: str | None = None
    sound_event: str | None = None
    ambient_sound: str | None = None
    language: str | None = None
    scene: str | None = None

    role: ClassVar[str] = "user"

    def __post_init__(self) -> None:
        if self.reference is not None and not isinstance(self.reference, list | tuple):
            raise RequestError(
                f"UserMessage.reference must be a list with one entry per speaker, got {type(self.reference).__name__}"
            )
        if self.reference is not None:
            typed = as_references(list(self.reference), "UserMessage.reference")
            object.__setattr__(self, "reference", typed)
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name not in ("reference", "tokens") and value is not None:
                check_text(f"UserMessage.{field.name}", value)
        if self.tokens is not None and not is_integer(self.tokens, 1):
            raise RequestError(f"UserMessage.tokens must be an integer in 1..{MOST_INTEGER}, got {shown(self.tokens)}")

    def trimmed(self) -> UserMessage:
        """The same message without white space around its fields; the text stays as it is."""
        given = ((field.name, getattr(self, field.name)) for field in fields(self) if field.name != "text")
        trimmed: dict[str, Any] = {name: value.strip() for name, value in given if isinstance(value, str)}
        return replace(self, **trimmed)

    def parts(self, template: PromptTemplate) -> Content:
        """The user template around the fields."""
        text = _shown(self.text) + USER_TAIL
        return (USER_HEAD, *self.reference_parts(template), self.field_block(template), text)

    def reference_parts(self, template: PromptTemplate) -> Content:
        """The lines under `- Reference(s):`, without the last line break."""
        parts: list[str | Audio] = []
        for number, reference in enumerate(self.reference or (), start=1):
            line_break = "\n" if parts else ""
            if reference is not None:
                parts += [f"{line_break}[S{number}]:\n", Audio(reference)]
            elif template.names_silent_speakers:
                parts.append(f"{line_break}[S{number}]: None")
        return tuple(parts) or ("None",)

    def field_block(self, template: PromptTemplate) -> str:
        """Everything from the line break before `- Instruction:` to the one after `- Text:`."""
        if self.scene is not None and not template.scene:
            raise RequestError("The prompt of this variant has no place for scene. Leave it out, or use preset ttsd.")
        blocks = {
            "Instruction": self.instruction,
            "Tokens": self.tokens if template.tokens else None,
            "Quality": self.quality,
            "Sound Event": self.sound_event,
            "Ambient Sound": self.ambient_sound,
            "Language": self.language,
        }
        if template.scene:
            blocks["Scene"] = self.scene
        return "".join(f"\n- {label}:\n{_shown(value)}" for label, value in blocks.items()) + f"\n{TEXT_HEADING}"


@dataclass(frozen=True, eq=False)
class WrittenMessage(Message):
    """A message with content by the caller: `<|audio|>` marks where each piece of audio goes."""

    audio_codes_list: Sequence[Any] = ()
    content: str = AUDIO_PLACEHOLDER

    def __post_init__(self) -> None:
        check_text("a message's content", self.content)
        if not isinstance(self.audio_codes_list, list | tuple):
            raise RequestError(
                f"a message's audio_codes_list must be a list, got {type(self.audio_codes_list).__name__}"
            )
        places = self.content.count(AUDIO_PLACEHOLDER)
        if places != len(self.audio_codes_list) or any(item is None for item in self.audio_codes_list):
            present = sum(item is not None for item in self.audio_codes_list)
            raise RequestError(
                f"a message needs one entry of audio_codes_list for each {AUDIO_PLACEHOLDER} in its content; it has "
                f"{present} for {places}"
            )
        object.__setattr__(self, "audio_codes_list", as_references(list(self.audio_codes_list), "audio_codes_list"))

    def parts(self, template: PromptTemplate) -> Content:  # noqa: ARG002  # written already
        """The content as it stands, with audio in its places."""
        texts = self.content.split(AUDIO_PLACEHOLDER)
        audio: list[str | Audio] = [texts[0]]
        for reference, text in zip(self.audio_codes_list, texts[1:], strict=True):
            audio += [Audio(reference), text]
        return tuple(part for part in audio if part != "")


class AssistantMessage(WrittenMessage):
    """Speech that the model has made already, or shall continue."""

    role: ClassVar[str] = "assistant"


class WrittenUserMessage(WrittenMessage):
    """A user message that does not come from the user template."""

    role: ClassVar[str] = "user"


def _shown(value: str | int | None) -> str:
    return "None" if value is None or not str(value).strip() else str(value)


def build_user_message(
    text: str | None = None,
    reference: object = None,
    instruction: str | None = None,
    tokens: int | None = None,
    quality: str | None = None,
    sound_event: str | None = None,
    ambient_sound: str | None = None,
    language: str | None = None,
    scene: str | None = None,
) -> UserMessage:
    """A user message; a single reference becomes a list of one. The text goes in as it is, not cleaned up."""
    references = None if reference is None else as_references(reference, "reference")
    return UserMessage(text, references, instruction, tokens, quality, sound_event, ambient_sound, language, scene)


USER_FIELDS = tuple(field.name for field in fields(UserMessage))
WRITTEN_FIELDS = tuple(field.name for field in fields(WrittenMessage))


def as_message(value: Message | Mapping[str, Any]) -> Message:
    """A message from a dict: a role, and either the fields of that role's class or a written content.

    Raises:
        RequestError: the role is missing or unknown, or does not have a field.
    """
    if isinstance(value, Message):
        return value
    if not isinstance(value, Mapping):
        raise RequestError(f"a message must be a Message or a dict with a role, got {type(value).__name__}")
    given = dict(value)
    role = given.pop("role", None)
    if role == "assistant":
        return AssistantMessage(**_known(given, WRITTEN_FIELDS, role))
    if role == "user" and "content" in given:
        return WrittenUserMessage(**{"audio_codes_list": (), **_known(given, WRITTEN_FIELDS, role)})
    if role == "user":
        return build_user_message(**_known(given, USER_FIELDS, role))
    raise RequestError(f"a message's role must be 'user' or 'assistant', got {shown(role)}")


def check_final_role(conversation: Sequence[Message], mode: str) -> None:
    """Refuse a conversation that a mode does not answer or continue.

    Raises:
        RequestError: its last message has another role.
    """
    if (role := conversation[-1].role) != FINAL_ROLE[mode]:
        raise RequestError(
            f"mode {mode!r} needs a conversation that ends with a message of the {FINAL_ROLE[mode]}; this one ends "
            f"with a message of the {role}"
        )


def _known(given: dict[str, Any], allowed: Sequence[str], role: str) -> dict[str, Any]:
    unknown = sorted(set(given) - set(allowed))
    if unknown:
        raise RequestError(
            f"a {role} message has no field {', '.join(map(repr, unknown))}; allowed: {', '.join(allowed)}"
        )
    return given


# Stands in for a message's content while the chat template is rendered, so no template code sees user text.
_CONTENT_MARK = "\ue000content\ue000"


class PromptEncoder:
    """Text and chat frames as token ids. Control tokens come from the chat template, never from a message."""

    def __init__(self, tokenizer: Any) -> None:
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if not isinstance(backend, Tokenizer):
            raise ConfigError(
                "the tokenizer must be one of the `tokenizers` library (tokenizer.json), "
                f"got {type(tokenizer).__name__}"
            )
        self._tokenizer = tokenizer
        self._control = {token.content: id_ for id_, token in backend.get_added_tokens_decoder().items()}
        spellings = sorted(self._control, key=len, reverse=True)
        self._control_pattern = re.compile("|".join(map(re.escape, spellings)) or "(?!)")
        # The same model without any added token. `split_special_tokens` would not do: it leaves those that
        # are not marked special, and Qwen's <|fim_pad|>, which MOSS uses as delay slot, is not.
        self._plain = Tokenizer(backend.model)
        self._plain.normalizer = backend.normalizer
        self._plain.pre_tokenizer = backend.pre_tokenizer

    @property
    def vocabulary_size(self) -> int:
        """How many tokens there are, control tokens among them."""
        return int(self._tokenizer.backend_tokenizer.get_vocab_size())

    @staticmethod
    def of(tokenizer: Any) -> PromptEncoder:
        """The encoder of a checkpoint's tokenizer, which may be one itself."""
        return tokenizer if isinstance(tokenizer, PromptEncoder) else PromptEncoder(tokenizer)

    def encode(self, text: str) -> list[int]:
        """Ids of text in which nothing is a control token."""
        ids: list[int] = self._plain.encode(text, add_special_tokens=False).ids
        return ids

    def normalised(self, text: str) -> str:
        """The text as the vocabulary has its characters."""
        normalizer = self._plain.normalizer
        return text if normalizer is None else str(normalizer.normalize_str(text))

    def settled(self, text: str) -> int:
        """How many characters of a normalised text have ids that stay the same, whatever follows.

        The pieces that the vocabulary splits a text into never share a token. The last two may still change: white
        space looks at what follows it.
        """
        split = self._plain.pre_tokenizer
        pieces = [] if split is None else split.pre_tokenize_str(text)
        return int(pieces[-2][1][0]) if len(pieces) > 1 else 0

    def encode_template(self, text: str) -> list[int]:
        """Ids of the prompt's own words, in which the spelling of a control token is that token."""
        pieces = self._template_pieces(text)
        return [id_ for piece in pieces for id_ in ([piece] if isinstance(piece, int) else self.encode(piece))]

    def frame(self, role: str, generation_prompt: bool) -> tuple[list[str | int], list[str | int]]:
        """What the chat template puts before and after a message's content: text, control ids.

        Raises:
            ConfigError: there is no template, it fails, or it does not write the content as it is.
        """
        rendered = render_message(self._tokenizer, role, _CONTENT_MARK, generation_prompt)
        before, *after = rendered.split(_CONTENT_MARK)
        if len(after) != 1:
            raise ConfigError(
                f"the tokenizer's chat template writes a {role} message's content {len(after)} times; "
                "it must do so once, unchanged"
            )
        return list(self._template_pieces(before)), list(self._template_pieces(after[0]))

    def _template_pieces(self, text: str) -> Iterator[str | int]:
        end = 0
        for match in self._control_pattern.finditer(text):
            if match.start() > end:
                yield text[end : match.start()]
            yield self._control[match.group()]
            end = match.end()
        if end < len(text):
            yield text[end:]
