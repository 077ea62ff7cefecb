"""Verdicts are found wherever they stand, and nothing else is taken for one."""

import pytest

from handpick.judge.parsing import read_score, read_side


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ('{"score": 7}', 7),
        ('{"score": 7.5}', 7.5),
        ('{"score": "8"}', 8),
        ('{"reason": "a {brace} and \\"quotes\\"", "score": 1}', 1),
        ('Sure!\n```json\n{"score": 10}\n```\nAnything else?', 10),
        ('<think>maybe {"score": 3}? {no</think>\n{"score": 4}', 4),
        ('{"verdict": {"score": 5}}', 5),
        ('{"score": 6, "parts": [{"score": 2}]}', 6),
        ('{"score": 6} {"note": "fine"}', 6),
        ("{{{" + '{"score": 2}' + "}}}", 2),
        ('{"score": 0.99}', None),
        ('{"score": 11}', None),
        ('{"score": ' + "9" * 400 + "}", None),
        ('{"score": NaN}', None),
        ('{"score": Infinity}', None),
        ('{"score": true}', None),
        ('{"score": null}', None),
        ('{"score": [7]}', None),
        ('{"score": "high"}', None),
        ('{"Score": 7}', None),
        ('{"score": 7', None),
        ('{"a":' * 2000, None),
        ("7", None),
        ("[7]", None),
        ("", None),
    ],
)
def test_read_score(text: str, score: float | None) -> None:
    assert read_score(text, 1, 10) == score


@pytest.mark.parametrize(
    ("text", "side"),
    [
        ('{"verdict": "A"}', "a"),
        ('{"verdict": " b "}', "b"),
        ('Well: {"reason": "x", "verdict": "Tie"}.', "tie"),
        ('{"verdict": "C"}', None),
        ('{"verdict": "A or B"}', None),
        ('{"verdict": 1}', None),
        ('{"score": 1}', None),
        ("A", None),
    ],
)
def test_read_side(text: str, side: str | None) -> None:
    assert read_side(text) == side
