"""Attacks on the server, in small: what others wait for meanwhile, and what is left of the attack ten seconds later.

Each attack is a context manager that holds it up until its block ends; support/abuse.py measures.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

pytest.importorskip("fastapi", reason="the extra server is not installed")

from support.abuse import Attacked, assert_others_do_not_notice, attackable

pytestmark = pytest.mark.slow

LEAVERS = 16
LONG_TEXT = {
    "input": "A sentence of some length that is spoken. " * 60,
    "seed": 1,
    "long_form": True,
    "long_form_parallel": 2,
    "response_format": "pcm",
}


@pytest.fixture(scope="module")
def server(checkpoints, tmp_path_factory) -> Iterator[Attacked]:
    with attackable(checkpoints["delay"], tmp_path_factory.mktemp("voices")) as running:
        yield running


# ------------------------------------------------------------------------------------------ long texts


def test_leaving_in_the_middle_of_long_texts(server):
    @contextmanager
    def attack() -> Iterator[None]:
        with ExitStack() as connections:
            asked = [connections.enter_context(server.asking(LONG_TEXT)) for _ in range(LEAVERS)]
            for connection in asked:
                assert connection.getresponse().read(2)
        yield

    assert_others_do_not_notice(server, attack)
