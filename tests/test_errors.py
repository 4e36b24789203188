"""Messages are one line that can be printed, of bounded length."""

import pytest

from moss_tts import errors
from moss_tts.errors import MOST_CHARACTERS, AudioError, BackendNotFoundError, MossTTSError, UnknownOptionError, shown


@pytest.mark.parametrize("kind", [MossTTSError, AudioError, BackendNotFoundError, UnknownOptionError])
def test_a_message_is_one_line_that_a_terminal_can_show(kind):
    assert str(kind("no\nsuch \x1b[2Jfile \ud800")) == "no such  [2Jfile  "
    long = str(kind("begin" + "x" * 10**6 + "end"))
    assert len(long) == MOST_CHARACTERS
    assert long.startswith("begin")
    assert long.endswith("end")


def test_every_error_is_a_moss_tts_error():
    raised = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert all(issubclass(kind, MossTTSError | Warning) for kind in raised)


def test_any_value_can_be_shown():
    nested: list = []
    for _ in range(10**5):
        nested = [nested]
    assert shown(3) == "3"
    assert "int that is too large" in shown(10**5000)
    assert "list that is too large" in shown(nested)
    assert len(shown("x" * 10**6)) == 120
