"""Laws of the text clean-up: it settles at once, loses no words, leaves tokens whole, takes linear time."""

import time
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from moss_tts.text.cleanup import normalize_text

# Brackets and what decides about them; pairs in pairs, crossed and unclosed.
BRACKETS = [*"a你1 .。，！;?【】『』「」《》《》-#>", "1. ", "- ", "->", "--"]

# Pieces that meet each other's rules: every kind of mark, half marks included.
PIECES = [
    *"你好aB13é \n\t.,;:!?-_/+@#%[](){}<>=|'\"*~。，！？；：、…．—–【】『』「」《》（）“”‘’→ə",
    *("http://", "https://x.y/", "](http://u)", "[a](http://u)", ".map", "./", "..", "...", "--", "->", "<-", "=>"),
    *(
        "1. ",
        "- ",
        "# ",
        "> ",
        "[S1]",
        "[pause 3.2s]",
        "{w}",
        "/kæt/",
        "#t",
        "привет",
        "한",
        "\u200b",
        "\r\n",
        "\u3000",
    ),
]
noisy_text = (st.lists(st.sampled_from(PIECES), max_size=14) | st.lists(st.sampled_from(BRACKETS))).map("".join)

PROTECTED = [
    *("[S1]", "[S12]", "[pause 3.2s]", "[a -> b]", "{whisper}", "{sad -- very ...}", "/həˈloʊ/", "/meɪ aɪ, ɑːr frʌm?/"),
    *("https://example.org/a--b?c=d&e=->", "http://x.y/中文/...z", "ops+tts@example.ai", "@Fried_rice", "#hash_tag"),
    *("#话题[话题]", "r/singularity", "app.js.map", ".env", ".gitignore", "./run.sh", "../up/x.py", "index.d.ts"),
    *("v2.3.1", "3.0.0-rc.1", "fabric-api-0.91.3+1.20.2.jar", "C:/Users/me", "20:00", "3.14", "ni3 hao3"),
]


def letters(text):
    return [c for c in text if c.isalpha()]


@example("《.】.--「》」")
@example("……『？『。』』")
@example("–-=> –--=>")
@example("「> ……」")
@example("《1》 . a")
@given(noisy_text | st.text())
def test_clean_up_is_idempotent(text):
    once = normalize_text(text)
    assert normalize_text(once) == once


@given(noisy_text | st.text())
def test_no_letter_is_lost_or_moved(text):
    visible = [c for c in letters(text) if not unicodedata.category(c).startswith("C")]
    assert letters(normalize_text(text)) == visible


@given(noisy_text | st.text())
def test_the_result_is_one_line_of_visible_characters_and_single_spaces(text):
    cleaned = normalize_text(text)
    assert cleaned == cleaned.strip()
    assert "  " not in cleaned
    assert all(c == " " or not (c.isspace() or unicodedata.category(c).startswith("C")) for c in cleaned)


@pytest.mark.parametrize("token", PROTECTED)
@given(
    before=st.sampled_from(["", "看", "see ", "。", "3 "]), after=st.sampled_from(["", " 了。", " now", "。", "\n好"])
)
def test_protected_tokens_survive_whole(token, before, after):
    assert token in normalize_text(before + token + after)


@given(st.lists(st.sampled_from(["Hello there.", "你好。", "What?", "走吧", "3 apples"]), min_size=1))
def test_clean_text_is_left_alone(sentences):
    text = "。".join(sentence.rstrip("。.?") for sentence in sentences)
    assert normalize_text(text) == text


@pytest.mark.parametrize(
    "unit", [*PIECES, "a.:", "[a](http://", "[[a](http://x) ", "【a】", "! ", "， ", "a@", ".-", "==-"]
)
def test_time_is_linear(unit):
    def seconds(n_characters):
        text = (unit * n_characters)[:n_characters]
        start = time.process_time()
        normalize_text(text)
        return time.process_time() - start

    # Linear work takes a tenth of a second, quadratic work many seconds.
    assert seconds(20_000) < 2


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        # Characters and spaces.
        ("Hi\u200b  there\ufeff.\u0007", "Hi there."),
        ("a\u00a0\u3000b", "a b"),
        ("This   is   a   test.", "This is a test."),
        ("这 是　一 段  文本。", "这是一段文本。"),
        ("2026 年 3 月 31 日", "2026年3月31日"),
        ("这是Anthropic的npm包", "这是 Anthropic 的 npm 包"),
        ("今天update到v2.3.1了", "今天 update 到 v2.3.1 了"),
        ("用C++写café的人", "用 C++ 写 café 的人"),
        ("你好 ， 再见 ！ （ 走 ）", "你好，再见！（走）"),
        ("Well , yes !", "Well, yes!"),
        ("暴露了 .map 文件，", "暴露了 .map 文件，"),
        # Lines and Markdown.
        ("第一行\r\n\r\n第二行\n第三行", "第一行。第二行。第三行"),
        ("One line.\nAnother!\n其他", "One line. Another! 其他"),
        ("床前明月光，\n疑是地上霜。\n", "床前明月光。疑是地上霜。"),
        ("# Title\n> quote\n- item\n1. first\n10) tenth", "Title。quote。item。first。tenth"),
        ("> - 1. nested\n> - 2. too", "nested。too"),
        ("3. Oktober ist Feiertag", "3. Oktober ist Feiertag"),
        ("- 1. Mai\nund weiter", "1. Mai。und weiter"),
        ("2024. A year", "2024. A year"),
        ("见 [release note](https://x.y/a_(b))后面", "见 release note https://x.y/a_(b) 后面"),
        ("[[a](http://x) b](http://y)", "a http://x b http://y"),
        # Structure into punctuation.
        ("【公告】今天 20:00 维护——预计 30 分钟。", "公告。今天20:00维护。预计30分钟。"),
        ("〖重磅〗《新品发布》——现在开始！", "重磅。新品发布。现在开始！"),
        ("『特别提醒』「不要外传」", "特别提醒。不要外传。"),
        ("【注意！】走", "注意！走"),
        ("他说「你好」，走了", "他说「你好」，走了"),
        ("我喜欢《哈姆雷特》这本书。", "我喜欢《哈姆雷特》这本书。"),
        ("A->B => C → D", "A，B，C，D"),
        ("wait--what...ok…", "wait。what。ok。"),
        ("a well-known yes—no", "a well-known yes—no"),
        # Quotation marks that open here close elsewhere.
        ("Er sagte „Ja!“ und ‚Nein‘ dazu", "Er sagte „Ja!“ und ‚Nein‘ dazu"),
        ("Han sade ”ja” och gick", "Han sade ”ja” och gick"),
        ("Той каза „да“ и тръгна", "Той каза „да“ и тръгна"),
        ("他说 “ 你好 ” 吧", "他说 “你好” 吧"),
        # Repeats.
        ("真的假的？？？！！！", "真的假的？！"),
        ("太离谱了......！！", "太离谱了！"),
        ("No . . . stop ! !", "No。stop！"),
        ("好，，，、、走", "好，、走"),
        # Tags.
        ("[S1]你好。[S2]收到……", "[S1]你好。[S2]收到。"),
        ("请模仿 {whisper} 的语气说“今天下雨了……”", "请模仿 {whisper} 的语气说“今天下雨了。”"),
    ],
)
def test_rules_by_example(typed, read):
    assert normalize_text(typed) == read
