"""IFEval's 25 instructions: answers that follow each one and answers that do not."""

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.tokenize import NLTKWordTokenizer

from handpick.errors import DataError
from handpick.rewards import find_reward, score
from handpick.rewards.ifeval import INSTRUCTIONS, count_capital_words, count_sentences, follows, has_bullets
from handpick.rewards.language import is_in
from tests.conftest import records
from tests.rewards.nltks_punkt import NLTKS_PUNKT

DATA = Path(os.environ.get("HANDPICK_DATA") or Path(__file__).parents[3] / "shared" / "data")

# instruction, its arguments, answers that follow it, answers that do not
CASES: list[tuple[str, dict[str, Any], list[str], list[str]]] = [
    ("keywords:existence", {"keywords": ["mom", "Mother"]}, ["My MOM is a mother."], ["My mom is great."]),
    ("keywords:frequency", {"keyword": "war", "frequency": 2, "relation": "at least"},
     ["War and war.", "warm war"], ["War once."]),
    ("keywords:frequency", {"keyword": "war", "frequency": 2, "relation": "less than"}, ["War once.", "Peace."],
     ["War and war."]),
    ("keywords:forbidden_words", {"forbidden_words": ["rock", "le"]}, ["Rocky people.", "Apple"],
     ["I ROCK!", "rock-hard", "le chat"]),
    ("keywords:letter_frequency", {"letter": "Q", "let_frequency": 2, "let_relation": "at least"},
     ["Quick quiz"], ["Quick", "none"]),
    ("keywords:letter_frequency", {"letter": "!", "let_frequency": 1, "let_relation": "less than"}, ["calm"], ["wow!"]),
    ("language:response_language", {"language": "de"},
     ["Das ist nicht die Antwort, die ich auf dem Tisch habe.", "12 + 3"],
     ["This is not the answer that you have on the table."]),
    ("language:response_language", {"language": "hi"}, ["यह एक किताब है और वह मेज पर है।"],
     ["This is a book and it is on the table.", "हे एक पुस्तक आहे आणि ते टेबलावर आहे."]),
    ("language:response_language", {"language": "ko"}, ["이것은 책입니다."], ["这是一本书。", "これは本です。"]),
    ("length_constraints:number_sentences", {"num_sentences": 3, "relation": "at least"},
     ["One. Two! Three?", "One. 2. Three"], ["One. Two.", "Mr. Smith met Dr. Brown. They ate 3.5 pies."]),
    ("length_constraints:number_sentences", {"num_sentences": 2, "relation": "less than"},
     ["Only Mr. Smith came.", "J. K. Rowling wrote it."], ["One. Two."]),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2},
     ["one\n***\ntwo", "***\none\n***\ntwo\n***"], ["one two", "one\n***\ntwo\n***\nthree", "one\n***\n***\ntwo"]),
    ("length_constraints:number_words", {"num_words": 4, "relation": "at least"}, ["one two three four"],
     ["one two 3"]),
    ("length_constraints:number_words", {"num_words": 4, "relation": "less than"}, ["one two 3"],
     ["one two three four"]),
    ("length_constraints:nth_paragraph_first_word", {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "elm"},
     ["Oak here.\n\nElm, there.", 'a\n\n"elm" b', "a\n\n\nElm! b", "a\n\n'elm's b", "a\n\nelm\n\n"],
     ["Elm here.\n\nOak there.", "a\n\nelm\n\nc", "elm", "a\n\nelms b", "a\n\n**Elm** x", "a\n\nElm: x",
      "a\n\n\n\nelm x", "a\n\n“elm” x", "a\n\n\"'elm b"]),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, ["[name] lives at [address]"], ["[name] lives",
     "]["]),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, ["Bye.\nP.S. more", "p. s. more"],
     ["Bye.", "PS more"]),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, ["Bye.\nP.P.S more", "p.p.s. more"],
     ["Bye.\nP.S. more"]),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, ["* one\n* two", "list:\n - one\n - two"],
     ["* one", "* one\n* two\n* three", "**bold**\n* one"]),
    ("detectable_format:constrained_response", {}, ["My answer is maybe.", "Well. My answer is no. Sorry."],
     ["Maybe.", "my answer is yes"]),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, ["*one* and **two**", "*a* *b* *c*"],
     ["*one*", "** ** and *one*", "* one\n* two"]),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 4},
     ["* **Alpha:** one\n* **Beta:** two", "***x*** and ***y***"], ["**x** and *y*", "* * **x** ** **"]),
    ("detectable_format:multiple_sections", {"section_spliter": "Section", "num_sections": 2},
     ["Section 1\na\nSection 2\nb"], ["Section 1\na", "SECTION 1 SECTION 2", "Section one Section two"]),
    ("detectable_format:json_format", {}, ['{"a": [1, 2]}', '```json\n{"a": 1}\n```', "```\n[]\n```"],
     ["{a: 1}", 'Here: {"a": 1}']),
    ("detectable_format:title", {}, ["<<Poem of joy>>\nIt goes", "x <<y>> z"], ["<Poem>", "<<>>", "<< >>", "<<a\nb>>"]),
    ("combination:two_responses", {}, ["one\n******\ntwo", "******\none******two"],
     ["one", "same******same", "a******b******c", "one******"]),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say hi."}, ["say hi. Hi!", "  Say hi.\nHi!"],
     ["Hi!", "First: Say hi."]),
    ("startend:end_checker", {"end_phrase": "Any more questions?"},
     ["Bye. Any more questions?", '"Bye. any more questions?"  '], ["Any more questions? No.", "Bye."]),
    ("change_case:capital_word_frequency", {"capital_frequency": 2, "capital_relation": "at least"},
     ["I AM here", "NASA-USA and GO"], ["NASA went", "Nasa Went"]),
    ("change_case:capital_word_frequency", {"capital_frequency": 2, "capital_relation": "less than"},
     ["NASA went"], ["STOP IT"]),
    ("change_case:english_capital", {}, ["THIS IS THE END OF IT."],
     ["This is the end.", "DAS IST DIE ANTWORT.", "12"]),
    ("change_case:english_lowercase", {}, ["this is the end of it."],
     ["This is the end.", "das ist die antwort.", "12"]),
    ("punctuation:no_comma", {}, ["No commas here; none."], ["Well, one."]),
    ("startend:quotation", {}, ['"All of it."', ' "a" and "b" '], ['"Only" some', '"', "plain"]),
]  # fmt: skip


def asking(name: str, given: dict[str, Any]) -> dict[str, Any]:
    return {"id": "r", "instruction_id_list": [name], "kwargs": [given]}


@pytest.mark.parametrize(("name", "given", "yes", "no"), CASES, ids=[f"{c[0]} {i}" for i, c in enumerate(CASES)])
def test_what_follows_an_instruction_and_what_does_not(
    name: str, given: dict[str, Any], yes: list[str], no: list[str]
) -> None:
    for answer in yes:
        assert follows(answer, asking(name, given)) == [True], answer
        assert follows(answer, asking(name, given), loose=True) == [True], answer
    for answer in no:
        assert follows(answer, asking(name, given)) == [False], answer


def test_every_instruction_has_a_case() -> None:
    assert {case[0] for case in CASES} == set(INSTRUCTIONS)
    assert len(INSTRUCTIONS) == 25


@pytest.mark.parametrize(
    ("text", "n"),
    [
        ("", 0), ("...", 1), ("one", 1), ("One. Two", 2), ("He said “Stop!” Then he left.", 2), ("v1.2.3 is out.", 1),
        ("1. Wash the rice.\n2. Cook it.\n3. Eat.", 6), ("At 5 p.m. we left.", 1), ("一。二！三？", 1),
        ("What?! Really...", 2),
        ("The U.S. Navy came.", 1),
    ],
)  # fmt: skip
def test_sentences_are_counted_as_the_authors_program_counts_them(text: str, n: int) -> None:
    assert count_sentences(text) == n


@pytest.mark.parametrize(
    ("text", "n"),
    [
        ("*\none", 1), ("*", 0), ("one\n*\n\n* two", 2), ("*\n* two\n- three", 2), ("* one\n * two\n- three", 3),
        ("** no\n---", 1), ("*\n*\n", 1),
    ],
)  # fmt: skip
def test_bullets_are_counted_as_the_authors_program_counts_them(text: str, n: int) -> None:
    assert [k for k in range(9) if has_bullets(text, num_bullets=k)] == [n]


@pytest.mark.parametrize(
    ("text", "n"),
    [
        ("I'll go, I'd say I am", 3), ("I'LL GO", 3), ("DON'T STOP", 3), ("The U.S. and the U.K. won", 2),
        ("AI/ML is ON", 2), ("NASA-USA", 1), ("WAIT,NOW", 2), ("**HOT** OFF", 2), ("IT’S", 2), ("I CANNOT", 3),
        ("B2 1,000X", 2), ("I DON'T. GO", 4), ("Hello There", 0), ("", 0), ("...", 0),
    ],
)  # fmt: skip
def test_words_in_capitals_are_counted(text: str, n: int) -> None:
    assert count_capital_words(text) == n


_STEMS = [
    "I", "GO", "DON", "It", "b", "U.S", "AI/ML", "NASA-USA", "CANNOT", "GOTTA", "Gimme", "WANNA", "D'YE", "B2", "1",
]  # fmt: skip
_WORDS = st.tuples(
    st.sampled_from(["", "", "'", '"', "(", "**", "“", "$"]), st.sampled_from(_STEMS),
    st.sampled_from(["", "", "'LL", "'ll", "N'T", "n't", "'S", "'s", "'", "’S"]),
    st.sampled_from(["", "", ".", ",", ":", "!", "...", ")", "**", ";"]),
    st.sampled_from([" ", " ", "\n", "--", " — ", "*", "/", ",", ":"]),
).map("".join)  # fmt: skip


@settings(deadline=None)
@given(st.lists(_WORDS, max_size=6).map("".join))
def test_words_in_capitals_are_nltks(text: str) -> None:
    words = [word for sentence in NLTKS_PUNKT.tokenize(text) for word in NLTKWordTokenizer().tokenize(sentence)]
    assert count_capital_words(text) == sum(word.isupper() for word in words)


def test_loose_forgives_a_first_line_a_last_line_and_asterisks() -> None:
    lower = asking("change_case:english_lowercase", {})
    bullets = asking("detectable_format:constrained_response", {})
    for answer in ("Sure! Here it is:\nthis is the text of it", "this is the text of it\nHope That Helps",
                   "Sure!\nthis is the text of it\nBye!"):  # fmt: skip
        assert follows(answer, lower) == [False]
        assert follows(answer, lower, loose=True) == [True]
    assert follows("My answer is **yes.**", bullets) == [False]
    assert follows("My answer is **yes.**", bullets, loose=True) == [True]
    assert follows("Sure!\nTHIS\nis\nBye!", lower, loose=True) == [False]


def test_an_empty_answer_follows_nothing() -> None:
    record = asking("punctuation:no_comma", {})
    for answer in ("", " \n "):
        assert follows(answer, record) == [False]
        assert follows(answer, record, loose=True) == [False]


def test_the_reward_is_the_share_that_is_followed() -> None:
    record = {"id": "r", "instruction_id_list": ["punctuation:no_comma", "detectable_format:title"],
              "kwargs": [{}, {"num_words": None}]}  # fmt: skip
    reward = find_reward("ifeval")
    answers = ["<<T>> none", "none", "one, two"]
    assert score(reward, [[]] * 3, answers, [record] * 3, ["r"] * 3) == [1.0, 0.5, 0.0]


@pytest.mark.parametrize(
    ("record", "complaint"),
    [
        ({"id": "r"}, r"^no instructions to check: none in the record r; IFEval needs `instruction_id_list`"),
        ({"id": "r", "instruction_id_list": [], "kwargs": []}, r"^no instructions to check: none in the record r"),
        ({"id": "r", "instruction_id_list": ["a:b"], "kwargs": []}, r"^no instructions to check: none in the record r"),
        (asking("a:b", {}), r"^there is no such instruction: 'a:b' of the record r"),
        (asking("keywords:existence", {}), r"^an instruction cannot be checked: keywords:existence of the record r, "
                                           r"has_keywords\(\) missing 1 required .* 'keywords'"),
        (asking("language:response_language", {"language": "xx"}),
         r"^an instruction cannot be checked: language:response_language of the record r, no way to tell"),
        (asking("keywords:frequency", {"keyword": "a", "frequency": 1, "relation": "about"}),
         r"the relation 'about' is neither 'at least' nor 'less than'$"),
    ],
)  # fmt: skip
def test_a_record_that_cannot_be_checked_is_named(record: dict[str, Any], complaint: str) -> None:
    with pytest.raises(DataError, match=complaint):
        follows("an answer", record)


# --- real data ---


def target(name: str, part: str) -> list[dict[str, Any]]:
    path = DATA / "targets" / name / f"{part}.jsonl.gz"
    if not path.exists():
        pytest.skip(f"no {path}; set HANDPICK_DATA to the folder of the full data set")
    return records(path, 10_000)


@pytest.mark.data
def test_every_record_of_the_real_set_can_be_checked() -> None:
    """541 prompts, every instruction among them, each followed by one of two answers or by none, but never an error."""
    found = target("ifeval", "dev") + target("ifeval", "test")
    seen: Counter[str] = Counter()
    for record in found:
        for answer in ("An answer. It has, all in all, two sentences.", record["messages"][-1]["content"]):
            each = follows(answer, record)
            assert len(each) == len(record["instruction_id_list"])
            loose = follows(answer, record, loose=True)
            assert all(not strict or forgiven for strict, forgiven in zip(each, loose, strict=True))
        seen.update(record["instruction_id_list"])
    assert len(found) == 541
    assert set(seen) == set(INSTRUCTIONS)


LANGUAGES = {"arabic": "ar", "bengali": "bn", "english": "en", "finnish": "fi", "indonesian": "id", "korean": "ko",
             "russian": "ru", "swahili": "sw", "telugu": "te"}  # fmt: skip


@pytest.mark.data
def test_passages_of_wikipedia_are_in_their_own_language_and_in_no_other() -> None:
    """Up to 60 of each language, of XQuAD and TyDi QA."""
    passages: dict[str, dict[str, None]] = {}
    for record in target("xquad", "test") + target("tydiqa", "dev"):
        text = record["messages"][0]["content"].split("Passage:")[1].split("Question:")[0].strip()
        passages.setdefault(LANGUAGES.get(record["subtask"], record["subtask"]), {})[text] = None
    assert len(passages) == 12
    for language, texts in passages.items():
        some = list(texts)[:60]
        assert sum(is_in(text, language) for text in some) >= 0.95 * len(some), language
        alone = [text for text in some if not any(is_in(text, other) for other in passages if other != language)]
        assert len(alone) >= 0.95 * len(some), language
