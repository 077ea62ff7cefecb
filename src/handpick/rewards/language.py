"""Whether a text is in a language: by its script and, among languages that share one, by their commonest words.

A small check for IFEval's instruction to answer in a language; the original's detector is not needed for it. Two
languages of one script are told apart by which one's words occur more often: a paragraph is decided nearly always, a
few words often are not, and what is not decided counts as being in the language.
"""

import re
import unicodedata
from collections import Counter

from handpick.errors import DataError

# code → script, as Unicode names begin, and the commonest short words
_LANGUAGES: dict[str, tuple[str, str]] = {
    "en": ("LATIN", "the of and to in is that it was for on are with as be this have from at by not you an we"),
    "de": ("LATIN", "der die das und ist nicht ein eine zu den von mit sich auf für im dem des auch es wir ich sie"),
    "fr": ("LATIN", "le la les des et est un une du dans que qui pour pas sur au avec ce il nous vous plus sont"),
    "es": ("LATIN", "el la los las de y en que es un una por con del se no para su lo como más al fue este"),
    "it": ("LATIN", "il di che è la e un una per con del non si sono della gli le da nel alla questo più come anche"),
    "pt": ("LATIN", "o a os as de que e é um uma do da em para com não por mais dos das ao na no se como você foi"),
    "nl": ("LATIN", "de het een en van is dat op te zijn met voor niet aan er om ook als dan bij uit wordt naar"),
    "ro": ("LATIN", "și în de la cu pe din a fost este care mai nu un o pentru sau prin ale sunt al lui să ca"),
    "fi": ("LATIN", "ja on ei se että oli kun mutta hän joka myös ovat tai sen ole kuin niin jos mitä voi olla minä"),
    "sv": ("LATIN", "och att det är en som på för med av ett den inte till var jag har de om från vi kan men"),
    "sw": ("LATIN", "ya na wa kwa ni katika la za cha kuwa hii huo kama vya pia yake hiyo ambayo lakini wake kutoka"),
    "vi": ("LATIN", "của và là có cho các được một trong không người với những này để đã từ khi đến về tôi như"),
    "id": ("LATIN", "yang dan di dari dengan untuk ini itu pada adalah dalam tidak ke oleh sebagai akan juga atau"),
    "tr": ("LATIN", "ve bir bu için ile olarak da de en çok daha olan gibi sonra ne kadar ise ya her değil ben"),
    "pl": ("LATIN", "i w na z nie się do jest to że o jak po co ale od za przez są był oraz dla jego"),
    "cs": ("LATIN", "a v se na je že s z do o to i jako ale by za byl pro jsou po od který také nebo"),
    "ru": ("CYRILLIC", "и в не на что с он как это по но из к у за от так для был о же мы вы я ее его который"),
    "bg": ("CYRILLIC", "и на да се от за е са че в с това ще не като по или със беше към която който ни си"),
    "uk": ("CYRILLIC", "і в на не що з до та це як за від у для є було його але по або яка який про"),
    "hi": ("DEVANAGARI", "है हैं का की के में और से को नहीं यह पर एक ने भी कि था थे लिए हो कर इस"),
    "mr": ("DEVANAGARI", "आहे आणि आहेत नाही मी हे ही हा ते या एक होते होता तर आपण करा साठी मध्ये त्या असे"),
    "ne": ("DEVANAGARI", "छ छन् र पनि हो यो गर्न भएको हुन्छ थियो लागि तपाईं मा छैन गर्ने एउटा म हामी सबै"),
    "ar": ("ARABIC", "في من على إلى أن هذا هذه التي الذي لا ما عن مع كان كما أو ثم قد هو هي"),
    "fa": ("ARABIC", "است که را این از به با در می برای آن یک و ها بود شده کرد یا شما هم من"),
    "ur": ("ARABIC", "ہے کے کی میں اور سے کا نے کو ہیں پر یہ ایک نہیں تھا کہ اس بھی آپ ہم"),
    "bn": ("BENGALI", ""),
    "pa": ("GURMUKHI", ""),
    "gu": ("GUJARATI", ""),
    "ta": ("TAMIL", ""),
    "te": ("TELUGU", ""),
    "kn": ("KANNADA", ""),
    "ml": ("MALAYALAM", ""),
    "th": ("THAI", ""),
    "ko": ("HANGUL", ""),
    "el": ("GREEK", ""),
    "he": ("HEBREW", ""),
    "ja": ("HIRAGANA", ""),
    "zh": ("CJK", ""),
}
_WORDS = {code: frozenset(words.split()) for code, (_, words) in _LANGUAGES.items()}
# not \w+, which breaks Indic words at their vowel signs
_SEPARATOR = re.compile(r"[\s\d!-/:-@\[-`{-~।॥،؛؟۔“”„‘’…«»¿¡–—]+")
_KANA = 0.1  # of the letters of Japanese, at least


def is_in(text: str, language: str) -> bool:
    """Return whether a text is in a language, given by its ISO 639-1 code; one without a letter may be in any.

    IFEval's own program counts a text of which it cannot tell the language as one that follows the instruction.

    Raises:
        DataError: there is no telling this language from others.
    """
    if language not in _LANGUAGES:
        raise DataError(f"no way to tell whether a text is in {language!r}; known are {', '.join(_LANGUAGES)}")
    script = _script(text)
    if script is None:
        return True
    if _LANGUAGES[language][0] != script:
        return False
    words = Counter(word for word in _SEPARATOR.split(text.lower()) if word)
    votes = {code: sum(words[word] for word in _WORDS[code]) for code, (own, _) in _LANGUAGES.items() if own == script}
    return votes[language] == max(votes.values())


def guess(text: str) -> str:
    """Return the language that a text seems to be in, as its code, or the script alone where there is no telling.

    Where a script has one language here, the script decides ("ko"); where it has several, their commonest words do, and
    a text in which none stands twice, or two languages' as often, is "Latin script, undecided". Languages that are not
    in the list are taken for their nearest relation in it. A text without letters is "no letters".
    """
    script = _script(text)
    if script is None:
        return "no letters"
    codes = [code for code, (own, _) in _LANGUAGES.items() if own == script]
    if len(codes) == 1:
        return codes[0]
    if codes:
        split = _SEPARATOR.split(text.lower())
        words = Counter(
            word for word in split if len(word) > 1 or not word.isascii()
        )  # a and o are of formulas and lists
        votes = sorted(((sum(words[word] for word in _WORDS[code]), code) for code in codes), reverse=True)
        if votes[0][0] > max(1, votes[1][0]):
            return votes[0][1]
    return f"{script.capitalize()} script, undecided"


def _script(text: str) -> str | None:
    """Return what most letters are written in; Japanese, which writes with Chinese characters too, goes by its kana."""
    scripts: Counter[str] = Counter()
    for letter, n in Counter(c for c in text if c.isalpha()).items():
        scripts[unicodedata.name(letter, "?").partition(" ")[0]] += n
    scripts["HIRAGANA"] += scripts.pop("KATAKANA", 0)
    if scripts["HIRAGANA"] > _KANA * scripts.total():
        return "HIRAGANA"
    return scripts.most_common(1)[0][0] if scripts.total() else None
