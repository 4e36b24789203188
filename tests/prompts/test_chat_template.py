"""Chat templates come with a checkpoint: they render as transformers renders them, and may do whatever they like."""

from __future__ import annotations

from typing import Any

import pytest

from moss_tts.errors import ConfigError
from moss_tts.prompts import chat_template
from moss_tts.prompts.chat_template import render_message

CONTENT = "\ue000content\ue000"


class Templated:
    """The part of a tokenizer that is asked for."""

    def __init__(self, template: str) -> None:
        self.special_tokens_map: dict[str, Any] = {"eos_token": "<|im_end|>"}
        self._template = template

    def get_chat_template(self) -> str:
        return self._template


def complaint(template: str) -> str:
    with pytest.raises(ConfigError) as caught:
        render_message(Templated(template), "user", CONTENT, True)
    assert len(str(caught.value)) < 300
    return str(caught.value)


@pytest.mark.parametrize("role", ["user", "assistant"])
@pytest.mark.parametrize("generation_prompt", [True, False])
def test_messages_are_what_transformers_makes_of_them(models, role, generation_prompt):
    tokenizer = models["delay"].processor.tokenizer
    message = [{"role": role, "content": CONTENT}]
    wanted = tokenizer.apply_chat_template(message, add_generation_prompt=generation_prompt, tokenize=False)
    assert render_message(tokenizer, role, CONTENT, generation_prompt) == wanted


def test_what_templates_of_the_hub_use_is_there():
    template = (
        "{% set ns = namespace(seen=false) %}{% for m in messages %}{% if loop.first %}{{ eos_token }}{% endif %}\n"
        "    {% generation %}{{ m.content | trim }}{% endgeneration %}{% break %}{% endfor %}"
        "{{ {'a': '<é>'} | tojson }}{{ strftime_now('') }}{{ dict(a=1).a }}{{ ns.seen }}"
    )
    assert render_message(Templated(template), "user", CONTENT, False) == f'<|im_end|>{CONTENT}{{"a": "<é>"}}1False'


def test_a_template_that_raises_says_what_it_says():
    assert complaint("{{ raise_exception('roles must alternate') }}").endswith("TemplateError: roles must alternate")


def test_a_case_that_nobody_asks_for_may_fail():
    template = "{% if messages[0].role == 'assistant' %}{{ 1 / 0 }}{% endif %}{{ messages[0].content }}"
    assert render_message(Templated(template), "user", CONTENT, True) == CONTENT
    with pytest.raises(ConfigError, match="ZeroDivisionError"):
        render_message(Templated(template), "assistant", CONTENT, True)


@pytest.mark.parametrize(
    "template",
    [
        "{{ 1 / 0 }}",
        "{{ messages[7].content }}",
        "{{ messages.content() }}",
        "{{ '%d' % 'x' }}",
        "{% for m in %}",
        "{{ messages | sum }}",
        "{{ ''.__class__.__mro__ }}{{ ''.__class__.mro() }}",
        "{% include '/etc/passwd' %}",
        "{{ range(10 ** 9) | list }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{{ " + "(" * 10_000 + ")" * 10_000 + " }}",
    ],
)
def test_a_template_that_fails_is_a_config_error(template):
    assert complaint(template).startswith("the tokenizer's chat template cannot be used: ")


def test_a_template_that_loops_is_ended(monkeypatch):
    monkeypatch.setattr(chat_template, "MAX_TIME", 0.5)
    loop = "{% for a in range(9999) %}" * 3 + "{% endfor %}" * 3
    assert complaint(loop).endswith("it is not done after 0.5 s.")


@pytest.mark.parametrize("template", ["{{ 'x' * 10 ** 9 }}", "{{ 'x' | center(10 ** 9) }}", "{{ lipsum(n=10 ** 6) }}"])
def test_a_template_that_grows_is_ended(template, monkeypatch):
    """Whichever of its limits it comes to first."""
    monkeypatch.setattr(chat_template, "MAX_TIME", 1.0)
    assert "it takes more memory than 256 MiB" in (said := complaint(template)) or "is not done" in said


def test_a_template_may_not_write_much():
    assert "writes 30000 characters" in complaint("{{ 'x' * 30000 }}")
