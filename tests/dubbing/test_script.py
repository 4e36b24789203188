"""What is said of a cue, and by whom."""

from __future__ import annotations

import pytest

from moss_tts.dubbing.script import Script, script_of
from moss_tts.dubbing.subtitle_files import FilmCue
from moss_tts.errors import RequestError
from moss_tts.text.cast import Cast, Casting

CAST = Cast({"Alice": Casting("ada", seed=7), "S1": Casting("bob")})


def script(*texts: str, cast: Cast = CAST, actor: str = "") -> Script:
    cues = [FilmCue(n, 4 * n, float(n), n + 0.5, text, actor) for n, text in enumerate(texts, start=1)]
    return script_of(cues, cast, ["ada", "bob", "carol"])


def said(text: str, actor: str = "") -> list[tuple[str | None, str]]:
    return [
        (None if part.casting is None else part.casting.voice, part.text)
        for spoken in script(text, actor=actor).cues
        for part in spoken.parts
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<i>Stop!</i> <font color=#fff>Now</font>", "Stop! Now"),
        ("<c.loud>Stop</c> <00:00:01.500>now", "Stop now"),
        ("Salt &amp; pepper, 3 &lt; 4", "Salt & pepper, 3 < 4"),
        ("One line\nand another", "One line and another"),
        ("- One.\n- Two.", "One. Two."),
        ("[door slams] Who is it?", "Who is it?"),
        ("(SIGHS) Who is it?", "Who is it?"),
        ("Who (in the world) is it?", "Who (in the world) is it?"),
        ("(quietly)\nWho is it?", "Who is it?"),
        ("♪ La la ♪ Turn it off!", "Turn it off!"),
        ("♪ La la\nla la ♪\nTurn it off!", "Turn it off!"),
        ("Turn it off!\n♪ La la", "Turn it off!"),
        ("# La la\nla la #\nTurn it off!", "Turn it off!"),
        ("Turn it off!\n# La la\n# la la", "Turn it off!"),
        ("- ¶ La la ¶\nTurn it off!", "Turn it off!"),
        ("We are #1, or # 2", "We are #1, or # 2"),
        (">> REPORTER: Now.\n&gt;&gt;&gt; And then?", "Now. And then?"),
        ("\u200f- One.\n\u202b― Two.\u202c", "One. Two."),
        ("MARY: Turn it off!", "Turn it off!"),
        ("MARY: Turn it off! MR. JONES: No.", "Turn it off! No."),
        ("Turn it off! NASA: one word", "Turn it off! one word"),
        ("MAN #1 (O.S.): Turn it off!", "Turn it off!"),
        ("It is 10:30, he said: now", "It is 10:30, he said: now"),
        ("Note: he left", "Note: he left"),
        ("Wait [pause 1s] here", "Wait [pause 1s] here"),
    ],
)
def test_signs_around_the_words_are_not_said(text, words):
    assert said(text) == [(None, words)]


@pytest.mark.parametrize("text", ["[door slams]", "♪♪", "♪ La la la ♪", "(SIGHS)", "...", "<i></i>", ""])
def test_a_cue_without_words_is_silent(text):
    assert said(text) == []


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("Alice: Stop!", [("ada", "Stop!")]),
        ("ALICE : Stop!", [("ada", "Stop!")]),
        ("[Alice] Stop!", [("ada", "Stop!")]),
        ("[S1] Stop!", [("bob", "Stop!")]),
        ("carol: Stop!", [("carol", "Stop!")]),
        ("[voice: carol] Stop!", [("carol", "Stop!")]),
        ("<v Alice>Stop!</v>", [("ada", "Stop!")]),
        ("<v.loud Nobody>Stop!", [(None, "Stop!")]),
        (
            "- Alice: Stop!\n- carol: Why\nnot?\n- Because.",
            [("ada", "Stop!"), ("carol", "Why not?"), (None, "Because.")],
        ),
        ("Alice: One.\nTwo.", [("ada", "One. Two.")]),
    ],
)
def test_a_cue_names_its_voices(text, parts):
    assert said(text) == parts


def test_the_name_of_an_ass_event_speaks_what_names_nobody_else():
    assert said("Stop!", actor="alice") == [("ada", "Stop!")]
    assert said("- Stop!\n- carol: No.", actor="alice") == [("ada", "Stop!"), ("carol", "No.")]
    assert said("Stop!", actor="Nobody") == [(None, "Stop!")]


def test_a_narrator_speaks_what_nobody_else_does():
    cast = Cast({"narrator": Casting("ada"), "S1": Casting("bob")})
    [one, two] = script("Stop!", "[S1] Why?", cast=cast).cues
    assert (one.voice, two.voice) == ("ada", "bob")


def test_cues_with_one_start_follow_each_other():
    cues = [FilmCue(1, 2, 1.0, 2.0, "One."), FilmCue(2, 6, 1.0, 3.0, "carol: Two."), FilmCue(3, 9, 2.0, 3.0, "Three.")]
    first, second = script_of(cues, CAST, ["ada", "bob", "carol"]).cues
    assert (first.text, first.cue.start, first.end, first.voice) == ("One. Two.", 1.0, 3.0, None)
    assert second.text == "Three."


def test_what_is_not_said_is_counted():
    found = script("[door slams] Hello", "[door slams]", "♪ La ♪", "MARY: Hi")
    assert found.left_out == {"[door slams]": 2, "♪ La ♪": 1}
    assert found.labels == {"MARY": 1}


def test_an_unknown_speaker_is_named_with_its_line():
    with pytest.raises(RequestError, match=r"line 8: The cast has no voice for 'S2'"):
        script("Hello", "[S2] Hi")


def test_a_voice_that_is_not_registered_is_named_with_its_line():
    cast = Cast({"Alice": Casting("dora", where="cast cast.txt, line 3")})
    with pytest.raises(
        RequestError, match=r"line 8: there is no voice 'dora' \(cast cast.txt, line 3\); registered are"
    ):
        script("Hello", "Alice: Hi", cast=cast)
