"""A pickle read as a description, without running it: a machine with the few instructions that tables of tensors need.

Python's own unpickler imports what a pickle names and calls it. This one never imports: the caller says which names are
allowed and what each means. Any other name, any other instruction and any value of another kind is refused.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

_VALUES = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_PUTS = {"BINPUT", "LONG_BINPUT"}
_GETS = {"BINGET", "LONG_BINGET"}
_LISTS = {"EMPTY_LIST", "APPEND", "APPENDS"}
_NOTHING_TO_DO = {"PROTO", "FRAME", "STOP"}
_MARK = object()
_MOST_SHOWN = 60
_MOST_BITS = 63

# Takes the arguments with which the pickle would call a function.
Meaning: TypeAlias = Callable[[tuple[Any, ...]], object]


@dataclass(frozen=True)
class Name:
    """An object of Python that a pickle names, "module.name"; it was not imported."""

    name: str


def read_pickle(raw: bytes, names: Mapping[str, Meaning | None], persistent: Callable[[object], object]) -> object:
    """What a pickle describes: text, numbers, None, tuples, lists, dicts, and what the caller makes of names.

    Args:
        raw: the pickle.
        names: the meaning of a call of each name; None for a name that may be a value and is never called.
        persistent: the meaning of a reference to something outside the pickle.

    Raises:
        ValueError: it is broken, or contains something else. Nothing of it was run.
    """
    machine = _Machine(names, persistent)
    for instruction, argument, _ in pickletools.genops(raw):
        machine.do(instruction.name, argument)
    if len(machine.stack) != 1:
        raise ValueError("it describes more than one thing, or none")
    return machine.stack[0]


@dataclass
class _Machine:
    """The stack and the memory of a pickle that is being read."""

    names: Mapping[str, Meaning | None]
    persistent: Callable[[object], object]
    stack: list[Any] = field(default_factory=list)
    memory: dict[int, Any] = field(default_factory=dict)

    def do(self, name: str, argument: Any) -> None:
        """Do one instruction."""
        if isinstance(argument, int) and argument.bit_length() > _MOST_BITS:
            raise ValueError("it has a number larger than any size")
        if name in _VALUES:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _TUPLES:
            self.stack.append(tuple(reversed([self._pop() for _ in range(_TUPLES[name])])))
        elif name in _PUTS:
            self.memory[argument] = self._top()
        elif name in _GETS:
            self.stack.append(self._remembered(argument))
        elif name in _LISTS:
            self._fill_list(name)
        elif name not in _NOTHING_TO_DO:
            self._do_rarer(name, argument)

    def _do_rarer(self, name: str, argument: Any) -> None:
        match name:
            case "MARK":
                self.stack.append(_MARK)
            case "TUPLE":
                self.stack.append(tuple(self._to_mark()))
            case "EMPTY_DICT":
                self.stack.append({})
            case "MEMOIZE":
                self.memory[len(self.memory)] = self._top()
            case "SETITEM":
                value, key = self._pop(), self._pop()
                self._fill([key, value])
            case "SETITEMS":
                self._fill(self._to_mark())
            case "GLOBAL":
                self.stack.append(self._known(argument.replace(" ", ".", 1)))
            case "STACK_GLOBAL":
                last, module = self._pop(), self._pop()
                self.stack.append(self._known(f"{module}.{last}"))
            case "BINPERSID":
                self.stack.append(self.persistent(self._pop()))
            case "REDUCE":
                arguments, called = self._pop(), self._pop()
                self.stack.append(self._called(called, arguments))
            case "BUILD":
                self._check_state(self._pop())
            case _:
                raise ValueError(f"it has the instruction {name}, which no table of tensors needs")

    def _pop(self) -> Any:
        value = self._top()
        self.stack.pop()
        return value

    def _top(self) -> Any:
        if not self.stack or self.stack[-1] is _MARK:
            raise ValueError("an instruction lacks what it works on")
        return self.stack[-1]

    def _to_mark(self) -> list[Any]:
        values = []
        while self.stack and self.stack[-1] is not _MARK:
            values.append(self.stack.pop())
        if not self.stack:
            raise ValueError("an instruction lacks what it works on")
        self.stack.pop()
        return values[::-1]

    def _remembered(self, place: int) -> Any:
        if place not in self.memory:
            raise ValueError("it refers to what it has not described")
        return self.memory[place]

    def _fill(self, items: list[Any]) -> None:
        """Put keys and values, by turns, into the dict on top."""
        target = self._top()
        if not isinstance(target, dict) or len(items) % 2 or not all(isinstance(key, str) for key in items[::2]):
            raise ValueError("it fills something that is no dict with text for keys")
        target.update(zip(items[::2], items[1::2], strict=True))

    def _fill_list(self, name: str) -> None:
        """Begin a list, or put one value or several behind those of the list on top."""
        if name == "EMPTY_LIST":
            self.stack.append([])
            return
        values = [self._pop()] if name == "APPEND" else self._to_mark()
        target = self._top()
        if not isinstance(target, list):
            raise ValueError("it appends to something that is no list")
        target.extend(values)

    def _known(self, name: str) -> Name:
        if name not in self.names:
            raise ValueError(f"it asks for {name[:_MOST_SHOWN]!r} of Python, which is no tensor")
        return Name(name)

    def _called(self, called: object, arguments: object) -> object:
        meaning = self.names[called.name] if isinstance(called, Name) else None
        if meaning is None or not isinstance(arguments, tuple):
            raise ValueError("it calls what makes no tensor")
        return meaning(arguments)

    def _check_state(self, state: object) -> None:
        """The version numbers that PyTorch keeps beside a table are all that may be set on a finished thing."""
        if not isinstance(self._top(), dict) or not isinstance(state, dict) or state.keys() != {"_metadata"}:
            raise ValueError("it changes a finished thing, which no table of tensors needs")
