"""The words of the code: comments and docstrings are sentences that a stranger understands at first reading."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src/moss_tts"
FILES = sorted(SOURCE.rglob("*.py"))
PREPOSITIONS = {"Of", "In", "As", "At", "For", "From", "With", "By", "On", "To"}
FRAGMENT = re.compile(r"^ +\w+(?:, \w+)*: (?:of|in|as|at|for|from|with|by|on|to) .*", re.MULTILINE)
WHO = re.compile(r"\b(who|whom|whose)\b", re.IGNORECASE)
# People may be "who"; so may the words of a text that the code reads.
PEOPLE = {
    "cli/serve.py": ["Who may use it"],
    "text/tags.py": ["A speaker who goes on"],
}
WORDS_OF_TEXTS = {"bench.py", "text/english/names.py", "text/english/rules.py", "text/pieces.py"}


def name(file: Path) -> str:
    return file.relative_to(SOURCE).as_posix()


def docstrings(source: str) -> Iterator[str]:
    documented = ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, documented) and (text := ast.get_docstring(node)):
            yield text


def comments_and_strings(source: str) -> Iterator[str]:
    kinds = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in kinds:
            yield from token.string.splitlines()


def begins_with_preposition(docstring: str) -> bool:
    return docstring.split()[0].strip(",.:;") in PREPOSITIONS


@pytest.mark.parametrize("file", FILES, ids=name)
def test_no_docstring_begins_with_a_preposition(file: Path) -> None:
    found = [text.splitlines()[0] for text in docstrings(file.read_text()) if begins_with_preposition(text)]
    assert not found


@pytest.mark.parametrize("file", FILES, ids=name)
def test_no_argument_is_explained_by_a_fragment(file: Path) -> None:
    """`seed: the seed of the weights`, and not `seed: of the weights`."""
    assert not [found for text in docstrings(file.read_text()) for found in FRAGMENT.findall(text)]


@pytest.mark.parametrize("file", [file for file in FILES if name(file) not in WORDS_OF_TEXTS], ids=name)
def test_data_is_not_a_person(file: Path) -> None:
    allowed = PEOPLE.get(name(file), [])
    found = [line for line in comments_and_strings(file.read_text()) if WHO.search(line)]
    assert not [line for line in found if not any(sentence in line for sentence in allowed)]


def test_the_rules_find_what_they_forbid() -> None:
    source = '"""Of all tensors."""\nx = 1  # the batch whose rows end\n'
    assert [begins_with_preposition(text) for text in docstrings(source)] == [True]
    assert any(WHO.search(line) for line in comments_and_strings(source))
    assert FRAGMENT.findall("Write.\n\nArgs:\n    seed: of the weights.\n    path: a file of text.") == [
        "    seed: of the weights."
    ]
