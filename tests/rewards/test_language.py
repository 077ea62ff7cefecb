"""What language a text seems to be in, and that nothing is said where there is no telling."""

import pytest

from handpick.rewards.language import guess


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("The clock on the wall is of the king, and it is late.", "en"),
        ("Die Uhr an der Wand ist von dem König, und es ist spät.", "de"),
        ("El reloj de la pared es del rey, y es tarde para los dos.", "es"),
        ("Часы на стене не его, и он это знает, но молчит.", "ru"),
        ("이것은 무엇입니까", "ko"),
        ("これは時計です", "ja"),
        ("这是一个时钟", "zh"),
        ("Blue Whale", "Latin script, undecided"),
        ("a + b = c, o = a * s, v = z", "Latin script, undecided"),  # letters that are words of Czech or Portuguese
        ("սա ժամացույց է", "Armenian script, undecided"),
        ("12 + 30 = 42", "no letters"),
        ("", "no letters"),
    ],
)
def test_guess(text: str, found: str) -> None:
    assert guess(text) == found
