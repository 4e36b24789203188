"""All checks of this package on a machine: the list of them, and what each one found."""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from moss_tts.checkpoints.demo import ARCHITECTURE_KEYS, write_demo_checkpoint
from moss_tts.errors import MossTTSError, MossTTSWarning
from moss_tts.evidence.adapters import ADAPTER_CHECKS
from moss_tts.evidence.comparing import measured
from moss_tts.evidence.goldens import folders
from moss_tts.evidence.kinds import checks_of
from moss_tts.evidence.laws import MODEL_LAWS, PRODUCT_LAWS
from moss_tts.kinds import load
from moss_tts.model import Model

FOLDERS_OF_A_PATH = re.compile(r"(?<![\w/])/(?:[^\s/'\"]+/)+")


@dataclass(frozen=True)
class Check:
    """A golden's check, or a law.

    Attributes:
        subject: what it is about, such as "golden delay".
        statement: what has to hold, as a sentence.
        run: raises an error if it does not hold.
    """

    subject: str
    statement: str
    run: Callable[[], None]


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Attributes:
        check: the check.
        seconds: how long it took.
        share: the largest difference of floats, as a share of the difference that is allowed; None if there was none.
        failure: why it does not hold, as a sentence; None if it holds.
    """

    check: Check
    seconds: float
    share: float | None
    failure: str | None

    @property
    def holds(self) -> bool:
        """Whether the statement holds on this machine."""
        return self.failure is None


def all_checks(scratch: Path) -> list[Check]:
    """Every golden of this package and every law.

    Args:
        scratch: a directory for tiny checkpoints, which are written when they are needed.
    """
    return [*_product_laws(), *_model_laws(scratch), *_goldens()]


def examine(check: Check) -> Finding:
    """Run a check. An error of the device is a finding too, and ends nothing else."""
    start, failure = time.perf_counter(), None
    with measured() as shares:
        try:
            check.run()
        except MossTTSError as error:
            failure = without_folders(str(error))
        except (RuntimeError, ValueError, TypeError, LookupError, ArithmeticError, OSError, MemoryError) as error:
            failure = without_folders(f"{type(error).__name__}: {error}")
    return Finding(check, time.perf_counter() - start, max(shares, default=None), failure)


def without_folders(text: str) -> str:
    """A sentence that other people may read: of each path, only the last part."""
    return FOLDERS_OF_A_PATH.sub("", text)


def _product_laws() -> Iterator[Check]:
    for law in PRODUCT_LAWS:
        yield Check("products", _statement(law), law)


def _model_laws(scratch: Path) -> Iterator[Check]:
    @cache
    def model(name: str) -> Model:
        return load(write_demo_checkpoint(scratch / name, name))

    def run(law: Callable[[Model], None], name: str) -> None:
        with warnings.catch_warnings():
            # Random weights may end before their text.
            warnings.simplefilter("ignore", MossTTSWarning)
            law(model(name))

    for name in ARCHITECTURE_KEYS:
        for law in MODEL_LAWS:
            yield Check(f"law of {name}", _statement(law), partial(run, law, name))


def _goldens() -> Iterator[Check]:
    bases = {folder.name: folder for folder in folders()}
    for folder in bases.values():
        for check in checks_of(folder):
            yield Check(f"golden {folder.name}", _statement(check), partial(check, folder))
    for folder in folders("golden_adapters"):
        for of_adapters in ADAPTER_CHECKS:
            run = partial(of_adapters, folder, bases[folder.name])
            yield Check(f"golden {folder.name} with adapters", _statement(of_adapters), run)


def _statement(check: Callable[..., None]) -> str:
    return (check.__doc__ or "").strip().splitlines()[0]
