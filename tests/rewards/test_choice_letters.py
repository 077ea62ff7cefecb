"""A choice's letter as people state it in their languages; and what they deny is not taken."""

import re
import time

import pytest

from handpick.rewards.choice import choice
from handpick.rewards.extractors import choice_letter

# Chinese, Japanese, Korean; Arabic, Persian, Hebrew; Cyrillic, Greek, Indic, Thai; Latin scripts; one among others.
B = r"""
答案是B | 答案：B | 答案: B。 | 答案 B | 答案为B | 选B | 选 B。 | 选择B | 故选：B。 | 故选B. | 应选B
我选择 B | 因此，答案选B。 | 正确答案为 (B) | 正确答案是（B）。 | 正确答案是：B. 北京 | 正確答案是 B
答案應該是B | B選 | B選項正確 | B选项正确。 | B是正确的 | 选项A错误，所以B项正确 | 答案是Ｂ | （B）
（Ｂ） | 【B】 | 答案：【B】 | 答案：「B」 | **答案：B** | 所以答案是**B**。 | 答：B | 答案是选项B
答案是 $\boxed{B}$ | 不是A，而是B | 答案不是A而是B。 | 不选A，选B。
我们先看A。A不对。所以选B，因为它是首都。 | 答案是乙 | Ｂ | Ｂ． | 应该是（B） | 答案是B不是C
答えはB | 答えはBです。 | 答えは「B」です | 正解はB | 正解は（B）です。 | 答え：B | 解答：Ｂ
Bが正解です | Bを選びます | 正しい選択肢はBです | AではなくB | 答えはイです
정답은 B | 정답은 B입니다. | 정답: B | 답은 B이다 | 답: (B) | B가 정답입니다 | 정답은 B번입니다
A가 아니라 B | 정답은 나입니다
الإجابة هي ب | الإجابة: ب | الإجابة الصحيحة هي (ب) | الجواب هو ب. | الإجابة الصحيحة هي الخيار ب
الإجابة هي B | ب | ب) | (ب) | پاسخ: ب | پاسخ صحیح گزینه ب است | جواب: B | התשובה היא ב | תשובה: ב
Ответ: Б | Ответ: B | Ответ — Б. | Правильный ответ: Б | Правильный ответ — вариант Б | Ответ: б
ответ: (Б) | Б | Б) | Б. | Верный вариант ответа: B | Відповідь: Б | Отговор: Б | Правильный ответ: **Б**
Η απάντηση είναι Β | Η σωστή απάντηση είναι το Β. | Απάντηση: Β | Η απάντηση είναι B
उत्तर: B | सही उत्तर B है | सही उत्तर है B | उत्तर: (B) | उत्तर: ख | सही उत्तर (ख) है | सही विकल्प B है
उत्तर: ब | উত্তর: B | উত্তর: খ | விடை: B | సమాధానం: B
คำตอบคือ ข | คำตอบคือ B | คำตอบที่ถูกต้องคือ ข้อ ข | คำตอบ: ข. | ตอบ ข | คำตอบคือข้อ B
la réponse est B | La réponse est la B. | La bonne réponse est (B). | Réponse : B | Réponse: b
La réponse correcte est B | La réponse est donc l'option B | Antwort: B | Die Antwort ist B.
Die richtige Antwort lautet B | Die Antwort ist b) | Richtig ist Antwort B | Lösung: (B)
la respuesta es B | La respuesta correcta es la B. | Respuesta: B | Respuesta: b)
La opción correcta es la B | A resposta é B | A resposta correta é a letra B. | Resposta: B | Gabarito: B
A alternativa correta é a B | La risposta è B | La risposta corretta è la B | Risposta: B
Het antwoord is B | Đáp án: B | Đáp án là B | Đáp án đúng là B. | Chọn B | Chọn đáp án B
Câu trả lời đúng là B | Cevap: B | Cevap B | Doğru cevap B'dir | Doğru cevap: B | Yanıt: B
Cevap B şıkkıdır | Odpowiedź: B | Prawidłowa odpowiedź to B | Odpověď: B | Svaret är B | Răspunsul este B
Vastaus: B | Jawaban: B | Jawabannya adalah B | Jawaban yang benar adalah B | Jibu ni B | Jibu: B
正确的是B | 答案是第B项 | 选项是B | B符合题意 | A错误，B正确 | 不选A，是B | 正しいのはB | 答えは、Ｂです | Bです。
B입니다. | B번 | 정답은 'B'입니다 | Выбираю вариант Б | Вариант Б | أختار ب | Επιλογή Β | เลือกข้อ ข
A est faux, donc la réponse est B | Die Antwort ist nicht A, die Antwort ist B | Not A but B
(B) is right, not (A) | B rather than C
Респондент сказал A, но ответ: B | (B) is wrong | (B) is not a mammal | B is not correct, unlike the others
"""

# Denied; and words that only look like a choice.
NONE = r"""
not B | It is not B | The answer is not B | The answer is not (B). | The answer isn't B | It can't be B
(B) is not the answer | B isn't it | Definitely not (B) | 不是B | 答案不是B | 不选B | 不应该选B | 不能选（B）
答案不是（B） | 并非B | B不是答案 | B是错的 | B不对 | 选B是错误的 | B选项是错误的 | 答えはBではない
答えはBではありません | Bは正しくない | 정답은 B가 아닙니다 | B가 아니다 | 답은 B가 아니다
الإجابة ليست ب | Ответ не Б | Ответ: не B | не B | Η απάντηση δεν είναι B | उत्तर B नहीं है
सही उत्तर B नहीं है | คำตอบไม่ใช่ ข | คำตอบไม่ใช่ B | la réponse n'est pas B | Ce n'est pas (B)
Die Antwort ist nicht B | la respuesta no es B | A resposta não é B | La risposta non è B
Đáp án không phải là B | Không chọn B | Cevap B değil | Cevap B değildir
คำตอบคือ ขนม | उत्तर: किताब | Ответ: В России | Ответ: А потому | Respuesta: A la playa | 答案是Berlin
答案是B2B | Antwort: E-Mail | الإجابة هي بغداد | 정답은 나무입니다 | 答えはイギリスです | 选A和B吗
不太可能选B | 我不认为答案是B | B不符合题意 | 我选Beta | 答案 | 选项
"""

# A Cyrillic В is the third label and no Latin B; a Cyrillic С is a Latin C.
PLACES = {
    "A": r"""
Ответ: А | الإجابة هي أ | الإجابة هي ا | پاسخ: الف | Απάντηση: Α | คำตอบคือ ก | उत्तर: क | 정답은 가
答えはア | 答案是Ａ
""",
    "C": r"""
Ответ: В | В | Ответ: С | الإجابة هي ج | Απάντηση: Γ | （Ｃ） | 选ｃ。
""",
    "D": r"""
Ответ: Г. | الإجابة: د | Απάντηση: Δ | คำตอบคือ ง | उत्तर: घ | उत्तर: द | 정답은 라입니다 | 答案是丁
故选：Ｄ． | 答案：d
""",
    "E": r"""
Ответ: Д
""",
}


def entries(table: str) -> list[str]:
    return [entry.strip() for entry in re.split(r"[|\n]", table) if entry.strip()]


@pytest.mark.parametrize("text", entries(B))
def test_a_letter_as_people_state_it(text: str) -> None:
    assert choice_letter(text) == "B"


@pytest.mark.parametrize("text", entries(NONE))
def test_what_is_denied_or_no_choice_is_not_taken(text: str) -> None:
    assert choice_letter(text) is None


@pytest.mark.parametrize(
    ("text", "letter"), [(text, letter) for letter, table in PLACES.items() for text in entries(table)]
)
def test_a_label_counts_by_its_place(text: str, letter: str) -> None:
    assert choice_letter(text) == letter


@pytest.mark.parametrize(
    ("record", "completion", "expected"),
    [
        ({"answer": "B"}, "答案是B", 1.0),
        ({"answer": "Б"}, "Правильный ответ: Б", 1.0),
        ({"answer": "В"}, "Правильный ответ: Б", 0.0),
        ({"answer": "ب"}, "الإجابة الصحيحة هي ب", 1.0),
        ({"answer": "ข"}, "คำตอบคือ ข", 1.0),
        ({"choices": ["上海", "北京"], "answer": "北京"}, "故选：B。", 1.0),
        ({"choices": ["上海", "北京"], "answer": "B"}, "不是B，而是A", 0.0),
        ({"choices": ["Москва", "Киев", "Минск"], "answer": "Минск"}, "Ответ: В", 1.0),
    ],
)
def test_the_reward_reads_them_too(record: dict[str, object], completion: str, expected: float) -> None:
    assert choice(completion, record) == expected


@pytest.mark.parametrize(
    "unit", ["答案是", "选", "不选", "Ответ: ", "réponse ", "ب", "(B)不", "答案 ", "Cevap ", "не B ", "（"]
)
def test_a_text_that_runs_on_is_read_in_time(unit: str) -> None:
    text = unit * (20_000 // len(unit)) + "B"
    start = time.process_time()
    choice_letter(text)
    choice_letter("答案" + text)
    assert time.process_time() - start < 1
