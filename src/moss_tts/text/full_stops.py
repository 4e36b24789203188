"""Which '.' ends a sentence. A missed end costs little, and a wrong one is heard: doubtful cases are no end."""

from __future__ import annotations

import re
import unicodedata

# Lower case, without the last dot; abbreviations with inner dots ("z.B.", "U.S.") need no entry.
ABBREVIATIONS = frozenset(
    """
    mr mrs ms dr prof rev hon st sr jr gen col capt lt sgt maj cmdr gov sen rep pres messrs mt ft esq
    vs etc al approx dept est inc ltd corp co bros cf viz ibid ca govt assn univ ave blvd rd
    hr hrn frl fr bzw usw evtl ggf inkl exkl vgl sog geb gest zzgl usf str abb bsp dipl ing hl mio mrd tel
    ex mm mlle mlles mgr éd env boul chap
    ee uu sra srta dra ud uds vd vds pág págs aprox avda exc lic
    exmo exma lda ltda
    sig sigg dott avv ecc pag pagg egr spett
    dhr mevr mw drs bijv blz enz jl
    bl dvs osv resp
    np ul tzw itd itp godz inż św tj woj
    např tzv atd apod mudr judr
    г гг стр рис тыс млн млрд ул проф акад см ср напр руб коп
    vb doç örn sn bkz yy
    kb stb ún
    δηλ κα
    """.split()
)
# Words of their own elsewhere: abbreviations only before a number.
NUMBER_ABBREVIATIONS = frozenset(
    """
    no nos nr n° nº № núm num fig figs pp vol ch sec art eq op cap bd abs kap
    apt rs tel ext mon tue tues wed thu thurs fri sat
    jan feb mar apr jun jul aug sep sept oct okt nov dec dez
    """.split()
)
# How far back a word is searched; no abbreviation is longer.
_REACH = 24
_WORD_BEFORE = re.compile(r"[\w.@№°º]*\Z")
_NUMBER_AFTER = re.compile(r"\s*[\d#]")
_CLOSING = re.compile(r"[\"'”’“‘»«›‹)\]}」』】）》〉］]*")
# Characters that may follow the end of a sentence, besides white space and scripts without spaces.
_FOLLOWERS = frozenset("[{(—–")


def is_full_stop(text: str, dot: int) -> bool:
    """Whether the single '.' at text[dot] ends a sentence."""
    closed = _CLOSING.match(text, dot + 1)
    end = closed.end() if closed else dot + 1
    if not _may_follow(text[end : end + 1]) and not _may_follow(text[dot + 1 : dot + 2]):
        return False
    before = unicodedata.normalize("NFC", text[max(0, dot - _REACH) : dot])
    match = _WORD_BEFORE.search(before)
    return match is None or not _is_shortened(match[0].casefold(), text, end)


def _may_follow(character: str) -> bool:
    return (
        character == ""
        or character.isspace()
        or character in _FOLLOWERS
        or unicodedata.east_asian_width(character) in "WF"
    )


def _is_shortened(word: str, text: str, end: int) -> bool:
    """Whether a word before a dot is an initial, an initialism, an ordinal or an abbreviation."""
    pieces = word.split(".")
    last = pieces[-1]
    if last.isdigit():
        # "am 3. Mai", "1. Wash the rice": years and larger numbers do end sentences.
        return len(last) <= 2 and len(pieces) == 1
    is_initial = len(last) == 1 and last.upper() != last.lower()
    is_initialism = len(pieces) > 1 and all(0 < len(piece) <= 2 and piece.isalpha() for piece in pieces)
    return (
        is_initial
        or is_initialism
        or last in ABBREVIATIONS
        or (last in NUMBER_ABBREVIATIONS and _NUMBER_AFTER.match(text, end) is not None)
    )
