"""Casts and voice marks: files are read or refused by line, marks hold as docs/voices.md says, none is ever left."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moss_tts.errors import RequestError
from moss_tts.text.cast import Cast, Casting
from moss_tts.text.voice_marks import UnmarkedText, refuse_voice_marks, stretches, without_voice_marks

FILE = """\ufeff# Who speaks.
Narrator = Ada  # a comment "behind" an = entry
"Alice" = bob, seed 7

“Old Tom” = default, adapter warm=0.8, adapter dry
s1 = carol#too
"""


@pytest.fixture
def cast(tmp_path):
    (tmp_path / "cast.txt").write_text(FILE)
    return Cast.read(tmp_path / "cast.txt")


def test_a_file_has_a_voice_for_each_speaker(cast, tmp_path):
    assert dict(cast.castings) == {
        "narrator": Casting("ada"),
        "Alice": Casting("bob", 7),
        "Old Tom": Casting(None, None, (("dry", 1.0), ("warm", 0.8))),
        "S1": Casting("carol"),
    }
    assert str(cast["old  TOM"]) == "default, adapter dry=1, adapter warm=0.8"
    assert cast["Alice"].where == f"cast {tmp_path / 'cast.txt'}, line 3"
    assert "ALICE" in cast
    assert list(cast.names) == ["Alice", "Old Tom"]
    with pytest.raises(RequestError, match=r"no voice for 'Eve'. The cast has narrator, Alice, Old Tom, S1\."):
        cast["Eve"]


@pytest.mark.parametrize("quoted", ['"Alice"', "“Alice”", "„Alice“", "«Alice»", "« Alice »"])
def test_names_stand_in_the_quotation_marks_of_any_language(tmp_path, quoted):
    (tmp_path / "cast.txt").write_text(f"{quoted} = bob\n", "utf-8")
    assert dict(Cast.read(tmp_path / "cast.txt").castings) == {"Alice": Casting("bob")}


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("Alice = bob", 'no entry; write narrator = VOICE, "Name" = VOICE or S1 = VOICE'),
        ('"Alice" bob', "no entry"),
        ('"Alice" =', "needs the name of one voice"),
        ('"Alice" = bob carol', "needs the name of one voice"),
        ('"Alice" = bob, loud', "seed N, adapter NAME=WEIGHT"),
        ('"Alice" = bob, seed x', "whole number of 0 to 4294967295, got 'x'"),
        ('"Alice" = bob, seed 1, seed 2', "'seed 2' is not known"),
        ('"Alice" = bob, adapter warm=hot', "of either sign, got 'hot'"),
        ('"Alice" = bob, adapter warm=inf', "the weight of an adapter"),
        ('"" = bob', "must have 1 to 60 characters"),
        ('"[A]" = bob', "neither brackets nor colons"),
        ('"narrator" = bob', "write narrator without quotes"),
        ('"S1" = bob', "write S1 without quotes"),
        ("narrator = ada\nnarrator = bob", "narrator has a voice already"),
        ('"A" = ada\n"a" = bob', "a has a voice already"),
    ],
)
def test_a_line_that_is_no_entry_is_named(tmp_path, line, complaint):
    file = tmp_path / "cast.txt"
    file.write_text(f"# A comment.\n{line}\n")
    with pytest.raises(RequestError) as error:
        Cast.read(file)
    assert complaint in str(error.value)
    assert f"line {2 + line.count(chr(10))}: " in str(error.value)


@pytest.mark.parametrize(
    ("content", "complaint"), [(None, "cannot be read"), (b"\xff\xfe\xff", "no text"), (b"#" * 2**21, "bytes")]
)
def test_a_file_that_is_no_text_is_refused(tmp_path, content, complaint):
    if content is not None:
        (tmp_path / "cast.txt").write_bytes(content)
    with pytest.raises(RequestError, match=complaint):
        Cast.read(tmp_path / "cast.txt")


def said(text, cast):
    """(voice, text) of the stretches; None for the narrator without a voice."""
    return [(part.casting and (part.casting.voice or "own"), part.text) for part in stretches(text, cast)]


NAMED = Cast({"Alice": Casting("bob"), "Old Tom": Casting(None, 3)})
SCOPES = [
    ("No mark.\n\n[Eve] says no.", [(None, "No mark.\n\n[Eve] says no.")]),
    # Alone in its line: to the next one, or the end.
    ("One.\n\n[voice: ADA]\n\nTwo.\n\nThree.", [(None, "One."), ("ada", "Two.\n\nThree.")]),
    ("[voice: ada]\nTwo.\n\nThree.\n\n[narrator]\n\nEnd.", [("ada", "Two.\n\nThree."), (None, "End.")]),
    ("Alice:\nHello.\n\nWell.", [("bob", "Hello.\n\nWell.")]),
    # Before text: its paragraph.
    ("[voice: ada] Two.\nStill.\n\nThree.", [("ada", "Two.\nStill."), (None, "Three.")]),
    ("[voice: x]\n\nOne.\n\n[voice: y] Two.\n\nThree.", [("x", "One."), ("y", "Two."), ("x", "Three.")]),
    ("He said: [Alice] Hi. [narrator] And went.", [(None, "He said:"), ("bob", "Hi."), (None, "And went.")]),
    ("[voice: Default] Hi.\n\nOne.", [("own", "Hi."), (None, "One.")]),
    ("Hi. [Alice]\n\nOne.", [(None, "Hi.\n\nOne.")]),
    # Lines of a script, and lines that were joined.
    ("Alice: Hi.\nOLD  TOM: Ho.\n\nThey go.", [("bob", "Hi."), ("own", "Ho."), (None, "They go.")]),
    ("Alice: Hi! Old Tom: Ho.", [("bob", "Hi!"), ("own", "Ho.")]),
    ("“Alice: hi” said Alice: ho. Alice:3", [(None, "“Alice: hi” said Alice: ho. Alice:3")]),
    # The same voice goes on.
    ("Alice: One.\n\nAlice: Two.", [("bob", "One.\n\nTwo.")]),
    ("Alice: One, [voice: bob] two.", [("bob", "One, two.")]),
    # Pauses belong to what stands before them.
    ("Alice: One.\n\n[pause 2s]\n\nTwo.", [("bob", "One.\n\n[pause 2s]"), (None, "Two.")]),
    ("[pause 2s]\n\nAlice: One.", [("bob", "[pause 2s]\n\nOne.")]),
    # Without a voice for S1, its tag is the model's.
    ("[S1] Hi.\n[S2] Ho.", [(None, "[S1] Hi.\n[S2] Ho.")]),
]


@pytest.mark.parametrize(("text", "expected"), SCOPES)
def test_a_mark_holds_as_long_as_the_documents_say(text, expected):
    assert said(text, NAMED) == expected


def test_a_speaker_of_a_dialogue_is_a_mark_if_the_cast_has_one(cast):
    assert said("[S1] Hi.\n[narrator] Ho.", cast) == [("carol", "Hi."), ("ada", "Ho.")]
    with pytest.raises(RequestError, match="no voice for 'S2'"):
        stretches("[S1] Hi.\n[S2] Ho.", cast)


def test_wide_marks_need_no_spaces():
    cast = Cast({"爱丽丝": Casting("bob")})
    assert said("他来了。爱丽丝：你好。", cast) == [(None, "他来了。"), ("bob", "你好。")]


@pytest.mark.parametrize("mark", ["[voice:]", "[voice: ]", "[voice: ada bob]"])
def test_a_mark_without_a_voice_is_refused(mark):
    with pytest.raises(RequestError, match="must name one voice"):
        stretches(f"{mark} Hi.", NAMED)


@given(
    st.lists(st.sampled_from(["[voice: ada]", "[Alice]", "Alice: ", "[narrator]", "\n", "\n\n", " ", "So. ", "x,y "]))
)
def test_nothing_but_marks_is_lost(parts):
    text = "".join([*parts, "So."])
    parts = [*parts, "So."]
    spoken = " ".join(part.text for part in stretches(text, NAMED))
    assert "[" not in spoken
    assert "".join(spoken.replace("Alice:", "").split()) == "".join(
        "".join(part for part in parts if not part.startswith(("[", "Alice"))).split()
    )


def test_where_one_voice_speaks_a_mark_is_refused():
    refuse_voice_marks("[Alice] and [voice over]")
    with pytest.raises(RequestError, match=r"has the mark '\[Voice: ada\]'"):
        refuse_voice_marks("Hi. [Voice: ada] Ho.")
    assert without_voice_marks("[voice: ada] One") == "One"


@pytest.mark.parametrize(
    ("text", "wanted", "marks"),
    [
        ("[voice: ada] One. [Voice:bob]  Two.\n[voice: ada]\nThree.", "One. Two.\n\nThree.", 3),
        ("One[voice: ada] two, [voice:", "One two, [voice:", 1),
        ("[v] [voi [voice: a\nb] [[voice: c]", "[v] [voi [voice: a\nb] [", 1),
        (f"[voice: {'a' * 101}] x", f"[voice: {'a' * 101}] x", 0),
        ("[voice: ada]", "", 1),
    ],
)
def test_marks_of_a_text_that_is_still_written_are_found_in_any_pieces(text, wanted, marks):
    for size in (1, 2, 5, len(text)):
        unmarked = UnmarkedText()
        pieces = [unmarked.push(text[at : at + size]) for at in range(0, len(text), size)]
        assert "".join([*pieces, unmarked.rest()]) == wanted
        assert len(unmarked.marks) == marks
