r"""A choice's letter as people state it, in their languages and scripts: "答案是B", "Ответ: Б", "คำตอบคือ ข".

A statement is a cue (a noun or a verb, then a copula or a colon where the language has one) and a label behind it, or
a label and a cue behind that. What a text denies ("不是B", "정답은 B가 아니다") is no statement.

Labels of other scripts count by their place among the labels that are in use for choices, and are told as Latin
capitals: Cyrillic А Б В Г, Greek Α Β Γ Δ, Arabic أ ب ج د, Hebrew א ב ג ד, Devanagari क ख ग घ (and अ ब स द), Bengali
ক খ গ ঘ, Thai ก ข ค ง, Hangul 가 나 다 라, Katakana ア イ ウ エ and 甲 乙 丙 丁 are A B C D. So Cyrillic В is the third,
C, and not the Latin B that it looks like; Cyrillic С is no label of theirs, and is read as the Latin C.
"""

import re
import unicodedata
from collections.abc import Iterator
from typing import NamedTuple

_FULL_WIDTH = {0xFF01 + i: 0x21 + i for i in range(94)}
_BRACKETS = dict(zip(map(ord, "【】〔〕〖〗「」『』《》〈〉"), "()()()“”“”“”“”", strict=True))
_PLAIN = {**_FULL_WIDTH, **_BRACKETS, 0x3000: " ", 0x200E: None, 0x200F: None, 0x0640: None}  # marks, tatweel

OPENING = r"""(?:[\s("'“‘«„‹*_`$\[]|\\(?:boxed|text|textbf|mathrm)\{)*+"""
_CLOSING = r"""[\s)\]}"'”’»“›*_`$.]*+"""
_MARKS = r"[\s*_]*+"

# Labels that count by their place, and what must not follow one: a letter or mark that makes a word of it.
_LABELS = {
    "cyrillic": ("АБВГДЕ", r"(?!\w)"),
    "greek": ("ΑΒΓΔΕ", r"(?!\w)"),
    "arabic": ("أبجده", r"(?![\w\u064B-\u0652])"),
    "hebrew": ("אבגדה", r"(?![\w'׳])"),
    "devanagari": ("कखगघङ", r"(?![\u0900-\u0963\w])"),
    "devanagari by sound": ("अबसद", r"(?![\u0900-\u0963\w])"),
    "bengali": ("কখগঘঙ", r"(?![\u0980-\u09E3\w])"),
    "thai": ("กขคงจ", r"(?![\u0E00-\u0E4E\w])"),
    "jamo": ("ㄱㄴㄷㄹㅁ", r"(?![ㄱ-ㅎ])"),
    "hangul": ("가나다라마", r"(?=\W|$|입니다|이다|번|예요|이에요)"),
    "katakana": ("アイウエオ", r"(?=\W|$|です|だ|である|が正)"),
    "stems": ("甲乙丙丁戊", r"(?!\w)"),
}
_PLACE = {label: "ABCDEF"[i] for labels, _ in _LABELS.values() for i, label in enumerate(labels)}
_PLACE |= {"С": "C", "ا": "A", "إ": "A", "الف": "A"}
_PLACE |= {label.lower(): letter for label, letter in _PLACE.items()}

# Capitals that are words of Spanish or Russian too ("Respuesta: A la playa", "Ответ: В России").
_BECAUSE = r"(?:porque|pues|pois|parce|car|perché|weil|denn|потому|так|bởi|vì|çünkü|karena)\b"
_A_WORD = rf"(?!\s+(?!{_BECAUSE})[^\W\d_A-Z])"
_LATIN = (
    r"(?:(?P<capital>(?![AEIOY]\s)[A-Z]|[AEIOY]"
    + _A_WORD
    + r")(?![0-9A-Za-z_\u00C0-\u024F]|-\w|['’](?![dt][ıiuü]r)[A-Za-z])"
    r"|(?P<small>[a-z])(?=[)\]}.。*_`\"'”’]*\s*$|\s*[)\]]))"
)
_OTHER = "|".join(
    rf"[{labels.replace('А', '').replace('В', '')}{'С' * (name == 'cyrillic')}{'اإ' * (name == 'arabic')}]{end}"
    for name, (labels, end) in _LABELS.items()
)
_SMALL = r"[а-еα-ε](?=[)\]}.。*_`\"'”’»]*\s*$|\s*[)\]])"
_SEVERAL = r"(?!\s*(?:和|与|與|及|或|跟|、|と|와|과)\s*[(“]?[A-Z](?![A-Za-z]))"  # "选A和B" is no single choice
_LABEL = rf"(?:{_LATIN}|(?P<other>الف(?!\w)|{_OTHER}|[АВ](?!\w|\s+\w)|{_SMALL})){_SEVERAL}"


class _Cue(NamedTuple):
    """What stands before a label: a noun, a copula or a colon, and words that may stand between.

    ``bare``: the copula may be missing, or comes behind the label.
    """

    noun: str
    copula: str = ""
    between: str = ""
    bare: bool = False

    def pattern(self) -> str:
        copula = rf"(?:[:=]|(?:{self.copula})(?![^\W\d_A-Z\u0E00-\uFFFF]))" if self.copula else "[:=]"
        between = rf"(?:(?:{self.between})[\s:*_]*+){{0,3}}" if self.between else ""
        return rf"(?i:(?:{self.noun}){_MARKS}{copula}{'?' * self.bare}[\s:*_、,]*+{between})"


_CUES = {
    "zh": _Cue(
        "答案|正确选项|正確選項|正确的选项|答(?=\\s*:)",
        "应该是|應該是|应当是|應當是|应是|應是|应为|應為|就是|是|係|为|為|选择|選擇|选|選",
        "选项|選項|字母|第",
        bare=True,
    ),
    "zh, a verb": _Cue("(?:选择|選擇|选|選)(?![项項题題])", "了|的是|为|為|是", "选项|選項", bare=True),
    "zh, without a noun": _Cue(
        "应该是|應該是|应当是|應當是|应是|應是|而是|(?<=[,;、])是|应为|應為|正[确確]的是", "", "选项|選項", bare=True
    ),
    "zh, an option": _Cue("选项|選項", "应该是|應該是|应为|應為|是|为|為"),
    "ja": _Cue("答え|こたえ|正解|正答|解答|回答|答(?=は)|正しい選択肢", "は|が", "選択肢"),
    "ja, another": _Cue("(?:ではなく|じゃなく)て?[、,]?", "", "選択肢", bare=True),
    "ja, the right one": _Cue("正しいのは", "", "選択肢", bare=True),
    "ko": _Cue("정답|해답|답안|답", "은|는|이", "선택지|보기|옵션", bare=True),
    "ko, another": _Cue("아니라|아니고", "", "선택지|보기|옵션", bare=True),
    "vi": _Cue(
        r"(?<!\w)(?:đáp\s+án|câu\s+trả\s+lời|phương\s+án\s+đúng|lựa\s+chọn\s+đúng)"
        r"(?:\s+(?:đúng|chính\s+xác|cuối\s+cùng))?",
        r"chính\s+là|sẽ\s+là|là",
        r"phương\s+án|đáp\s+án|lựa\s+chọn|câu",
        bare=True,
    ),
    "vi, a verb": _Cue(r"(?<!\w)chọn", "là", r"phương\s+án|đáp\s+án|câu", bare=True),
    "fr": _Cue(
        r"(?<!\w)r[ée]ponse(?:\s+(?:correcte|exacte|juste|finale))?",
        r"est|serait|doit\s+être|c['’]est",
        r"donc|alors|la|le|l['’]|bonne|lettre|option|réponse|proposition|choix",
    ),
    "de": _Cue(
        r"(?<!\w)(?:antwort(?:möglichkeit|option)?|lösung|(?:richtige|korrekte)\s+(?:option|möglichkeit)|richtig)",
        "ist|lautet|wäre|heißt",
        "also|somit|daher|die|der|option|antwort|buchstabe|möglichkeit",
    ),
    "es": _Cue(
        r"(?<!\w)(?:respuesta(?:\s+(?:correcta|final))?|(?:opción|alternativa|letra)\s+correcta)",
        r"es|sería|será|debe\s+ser",
        "la|el|opción|letra|alternativa|respuesta",
    ),
    "pt": _Cue(
        r"(?<!\w)(?:resposta(?:\s+(?:correta|certa|final))?|(?:opção|alternativa|letra)\s+(?:correta|certa)|gabarito)",
        r"é|seria|será|deve\s+ser",
        "a|o|opção|letra|alternativa|resposta",
    ),
    "it": _Cue(
        r"(?<!\w)(?:risposta(?:\s+(?:corretta|esatta|giusta|finale))?|opzione\s+corretta)",
        "è|sarebbe",
        "la|il|l['’]|lettera|opzione",
    ),
    "nl": _Cue(r"(?<!\w)antwoord", "is|luidt", "optie|letter|dus"),
    "pl, cs, sk": _Cue(r"(?<!\w)(?:odpowiedź|odpowiedzią|odpověď|odpoveď)", "to|jest|brzmi|je", "litera|opcja"),
    "sv, no, da": _Cue(r"(?<!\w)(?:svaret|svar)", "är|er", "alternativ"),
    "ro": _Cue(r"(?<!\w)r[ăa]spuns(?:ul)?(?:\s+corect)?", "este|e", "varianta|litera"),
    "fi": _Cue(r"(?<!\w)(?:oikea\s+)?vastaus", "on", "vaihtoehto"),
    "id, ms": _Cue(
        r"(?<!\w)(?:jawaban|jawapan)(?:nya)?(?:\s+yang\s+(?:benar|tepat|betul))?",
        "adalah|ialah|yaitu",
        "pilihan|opsi|huruf",
        bare=True,
    ),
    "sw": _Cue(r"(?<!\w)jibu(?:\s+sahihi)?", "ni", "chaguo|herufi"),
    "tr": _Cue(
        r"(?<!\w)(?:cevap|cevab[ıi](?:mız)?|yanıt[ıi]?|doğru\s+(?:seçenek|şık))", "şudur", "seçenek|şık", bare=True
    ),
    "el": _Cue(r"(?<!\w)(?:απάντηση|απαντηση|σωστή\s+επιλογή)", "είναι|ειναι", "λοιπόν|το|η|επιλογή|γράμμα"),
    "ru": _Cue(
        r"(?<!\w)(?:ответ(?:ом)?|(?:правильн|верн)\w+\s+вариант\w*(?:\s+ответа)?)",
        r"это|является|будет|под\s+буквой|—|–|-",
        "вариант|буква|буквой|под|это|—|–|-",
        bare=True,
    ),
    "ru, a verb": _Cue(r"(?<!\w)(?:выбираю|выбираем)", "", "вариант|ответ|букву", bare=True),
    "uk": _Cue(r"(?<!\w)відповід(?:ь|дю)", "це|є|—|–|-", "варіант|буква", bare=True),
    "bg": _Cue(r"(?<!\w)отговор(?:ът)?", "е|—|–|-", "вариант|буква", bare=True),
    "ar": _Cue(
        r"(?<!\w)(?:ال)?(?:إجابة|اجابة|جواب|خيار\s+الصحيح)(?:\s+(?:ال)?(?:صحيحة?|نهائية?))?",
        "هي|هو|هى|ستكون",
        "الخيار|الحرف|الإجابة",
        bare=True,
    ),
    "ar, a verb": _Cue(r"(?<!\w)(?:[أا]ختار|اخترت|اختيار)", "", "الخيار|الإجابة|الحرف", bare=True),
    "fa, ur": _Cue(r"(?<!\w)(?:پاسخ|جواب|درست\s+جواب)(?:\s+(?:صحیح|درست))?", "است|ہے", "گزینه|گزینهٔ|آپشن", bare=True),
    "he": _Cue(r"(?<!\w)ה?תשובה(?:\s+הנכונה)?", "היא|הוא", "אפשרות", bare=True),
    "hi": _Cue(r"उत्तर|जवाब|सही\s+विकल्प", "है|होगा|-", "विकल्प", bare=True),
    "bn": _Cue("উত্তর", "হলো|হল|হচ্ছে", "বিকল্প", bare=True),
    "ta, te": _Cue("விடை|பதில்|సమాధానం|జవాబు", "", "", bare=True),
    "th": _Cue(
        r"(?:คำตอบ|ตัวเลือก|ข้อ)(?:ที่ถูกต้อง|ที่ถูก|สุดท้าย)|คำตอบ|(?<!คำ)ตอบ|(?<!ตัว)เลือก", "คือ|เป็น|ได้แก่", "ตัวเลือก|ข้อ", bare=True
    ),
}
_STATED = re.compile(f"(?:{'|'.join(cue.pattern() for cue in _CUES.values())}){OPENING}{_LABEL}", re.MULTILINE)

# A label with its cue behind it.
_CUE_BEHIND = (
    r"(?:(?:选项|選項|项|項|选|選)?\s*(?:是|为|為)?\s*最?(?:正确|正確|对(?![于不])|對(?![於不])|正解|合适|恰当)|符合|[选選](?![项項择擇取举舉])"
    r"|が\s*(?:正解|正し[いく]|答え|適切)|を\s*選|[이가]\s*(?:정답|맞|옳|답)|[를을]\s*(?:선택|고르|골)|\s*ถูก)"
)
_BEFORE_A_CUE = re.compile(rf"(?<![0-9A-Za-z_\u00C0-\u024F])(?P<capital>[A-Z])[)\]”*]*\s*{_CUE_BEHIND}")

_ALONE = f"[{''.join(sorted(label for label in _PLACE if len(label) == 1))}]"
_OPTION = r"(?:选项|選項|选|選|選択肢|보기|ข้อ|विकल्प|الخيار|گزینه|вариант|Вариант|варіант|Επιλογή|επιλογή)\s*"
_END = r"(?=[)\]}:*]|[.。](?!\w)|\s*$)"
_LEADING = re.compile(rf"\A{OPENING}(?:(?P<other>{_ALONE})|{_OPTION}{OPENING}(?P<behind>[A-Z]|{_ALONE})){_END}")
_SAID_ALONE = re.compile(rf"\A{OPENING}(?P<capital>[A-Z])[)”]*(?:번|입니다|이다|です|である|だ)\W*\Z")  # "Bです。"
_BRACKETED = re.compile(rf"\((?P<other>{_ALONE})\)")

_BETWEEN = (
    r"(?:(?:be|the|option|choice|letter|answer|la|le|die|der|el|a|o|opción|letra|opção|là|chọn|phương\s+án|đáp\s+án|вариант"
    r"|ответ|το|η|选项|選項|选择|選擇|选|選|ข้อ|الخيار)\s*+){0,2}"
)
_DENIED_BEFORE = re.compile(
    r"(?i:(?<!\w)not|n['’]t|(?<!\w)(?:never|neither|nor|rather\s+than|instead\s+of|pas|ni|nicht|keine?|không(?:\s+phải)?"
    r"|không\s+nên|не|ні|no\s+(?:es|puede\s+ser)|não\s+é|non\s+è|ليست?|لیس|לא)"
    r"|(?:(?:δεν|δε)\s+είναι|ไม่ใช่|ไม่|[并並]?非|不[是为為]?|别|別|勿|[没沒])(?:应该|應該|应|應|能|要|会|會|可以|太?可能|可|该|該|认为|認為|觉得|覺得)?是?)"
    rf"\s*{_BETWEEN}{OPENING}\Z"
)
_DENIED_BEHIND = re.compile(
    _CLOSING
    + r"(?i:(?:选项|選項|项|項|选|選)?\s*(?:(?:是|为|為)?\s*(?:错|錯)|不(?:是(?!\s*[(“]?[A-Z])|对|對|正确|正確))"
    r"|(?:は|が|を)?\s*(?:ではな|ではあり|じゃな|でな|選ば|選び?ません|正しくな|間違|誤り|不正解)"
    r"|(?:이|가|은|는)?\s*(?:아니|아닙|아닌|틀)|['’]?\w*\s*değil|\s*(?:विकल्प\s*)?(?:नहीं|गलत)|(?:ঠিক\s*)?নয়"
    r"|ist\s+(?:falsch|nicht)|est\s+(?:fausse|incorrecte)|n['’]est\s+pas|no\s+es|es\s+(?:incorrecta|falsa)"
    r"|não\s+é|é\s+(?:incorreta|errada)|non\s+è|—?\s*(?:не\s|неверн|неправильн)|δεν\s|είναι\s+λάθος|خاطئ|خطأ|ليس"
    r"|ผิด|ไม่ถูก|ไม่ใช่|là\s+sai|sai\b|không\s+(?:đúng|phải))"
)
# Of a letter that nothing states. "(B) is wrong" may well answer which of them is wrong.
_IS_NOT_IT = re.compile(
    _CLOSING
    + r"(?i:(?:is\s+not|isn['’]t)\s+(?:it\b|(?:the|my)\s+(?:(?:right|correct)\s+)?(?:answer|choice|option|one)\b)"
    r"|不是(?:正确|正確)?(?:答案|选项|選項)|(?:は|が)?\s*(?:ではな|ではあり|じゃな)|(?:이|가|은|는)?\s*(?:아니|아닙|아닌)"
    r"|['’]?\w*\s*değil|\s*नहीं)"
)
_LOOKED_BACK = 48  # characters


def plain_forms(text: str) -> str:
    """Return a text with full-width letters and brackets as ASCII has them, and accents joined to their letters."""
    return text if text.isascii() else unicodedata.normalize("NFC", text).translate(_PLAIN)


def stated_letters(text: str) -> Iterator[tuple[int, str]]:
    """Yield (where its statement stands, the letter as a Latin capital) of every statement that is no denial.

    Args:
        text: in plain forms.
    """
    if text.isascii() and not _ASCII_CUES.search(text):
        return
    for pattern in (_STATED, _BEFORE_A_CUE):
        for match in pattern.finditer(text):
            if not is_denied(text, match, behind=_DENIED_BEHIND):
                yield match.end(), _letter(match)


def leading_label(text: str) -> str | None:
    """Return the letter that a text begins with, as a label of another script, or behind a word for an option."""
    if alone := _SAID_ALONE.match(text):
        return alone["capital"]
    found = _LEADING.match(text)
    if not found or is_denied(text, found):
        return None
    label = found["other"] or found["behind"]
    return _PLACE.get(label, label)


def bracketed_labels(text: str) -> Iterator[tuple[int, str]]:
    """Yield (where, letter) of the labels of other scripts that stand in brackets, but for those denied."""
    for match in _BRACKETED.finditer(text):
        if not is_denied(text, match):
            yield match.end(), _PLACE[match["other"]]


def is_denied(text: str, match: re.Match[str], *, behind: re.Pattern[str] = _IS_NOT_IT) -> bool:
    """Return whether a text says that what was found is not it: "not B", "不选B", "B가 아니다".

    Args:
        text: in plain forms.
        match: of the letter, with what states it.
        behind: what denies it, where it follows.
    """
    before = text[max(0, match.start() - _LOOKED_BACK) : match.start()]
    return bool(behind.match(text, match.end()) or _DENIED_BEFORE.search(before))


def _letter(match: re.Match[str]) -> str:
    found = match.groupdict()
    latin = found.get("capital") or found.get("small")
    return latin.upper() if latin else _PLACE[found["other"]]


_ASCII_CUES = re.compile(
    r"(?i:reponse|antwort|respuesta|resposta|alternativa|gabarito|risposta|opzione|antwoord|svar|raspuns|vastaus|jawa[bp]an"
    r"|jibu|cevap|lautet|richtig|letra)"
)
