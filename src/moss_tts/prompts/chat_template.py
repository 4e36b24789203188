"""Chat templates, rendered in a process of their own: a checkpoint brings them, and they may loop, grow or raise."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from moss_tts.device.confined import ConfinedError, run_confined
from moss_tts.errors import ConfigError

PROGRAM = Path(__file__).with_name("template_program.py")
MAX_TIME = 5.0
MAX_MEMORY = 256 * 2**20
# Around one message; those of the family take 100.
MAX_CHARACTERS = 20_000


# What is asked of a template: a role, and whether an answer is to begin behind the message.
_CASES = [(role, prompt) for role in ("user", "assistant") for prompt in (True, False)]


def render_message(tokenizer: Any, role: str, content: str, generation_prompt: bool) -> str:
    """One message as the chat template of a transformers tokenizer writes it.

    Raises:
        ConfigError: there is no template, it fails, it goes on for too long, or it writes too much.
    """
    try:
        template = tokenizer.get_chat_template()
    except ValueError as error:
        raise ConfigError("the checkpoint has no chat template, which this model needs.") from error
    tokens = json.dumps(dict(tokenizer.special_tokens_map), default=str)
    text, failure = _renderings(template, tokens, content)[_CASES.index((role, generation_prompt))]
    if text is None:
        raise ConfigError(f"the tokenizer's chat template cannot be used: {failure}")
    if len(text) > MAX_CHARACTERS:
        raise ConfigError(
            f"the tokenizer's chat template writes {len(text)} characters around a message; at most {MAX_CHARACTERS} "
            "are allowed."
        )
    return text


@lru_cache(maxsize=8)
def _renderings(template: str, tokens: str, content: str) -> list[tuple[str | None, str | None]]:
    """(text, why there is none) of each case: a process renders all of them."""
    variables = [
        {**json.loads(tokens), "messages": [{"role": role, "content": content}], "add_generation_prompt": prompt}
        for role, prompt in _CASES
    ]
    given = json.dumps({"template": template, "variables": variables}).encode()
    try:
        said = run_confined(PROGRAM, seconds=MAX_TIME, memory=MAX_MEMORY, stdin=given)
    except ConfinedError as error:
        raise ConfigError(f"the tokenizer's chat template cannot be used: it {error}.") from error
    return [(text, failure) for text, failure in said["renderings"]]
