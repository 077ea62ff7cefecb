"""Damage, seeded: what a disk, a careless writer or somebody with bad intentions makes of a file's bytes."""

import random
from collections.abc import Callable, Iterator

# what readers stumble over: numbers that no type holds, text that is none, brackets, markup
BITS = [
    b"", b"\0", b"\xff", b"\xff\xfe", b"\xed\xa0\x80", b"\\ud800", b"null", b"NaN", b"-Infinity", b"1e999", b"-1", b"0",
    b"9" * 400, b"9" * 5000, b"0x" + b"f" * 99, b"[" * 150, b"{\"a\":" * 150, b"]" * 20, b"[]", b"{}", b"\"\"",
    b"\"\x1b[31m\"", b"true", b"[null]", b"{\"\": 0}", b"&a [*a]", b"? [1]\n: 2", b"!!binary x", b"!!timestamp x",
    b"!!python/none", b"<<: *a", b"\t", b"\r", b"\n\n", b"../../x", b"con", b"[/b]", b"{{ 1/0 }}", b"{% for i in x %}",
    b"\"" * 3, b",,,", b"2024-13-45", b"\xef\xbb\xbf",
]  # fmt: skip


def _flip(data: bytearray, draw: random.Random) -> None:
    for _ in range(draw.choice((1, 1, 2, 8))):
        if data:
            data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)


def _cut(data: bytearray, draw: random.Random) -> None:
    del data[draw.randrange(len(data) + 1) :]


def _remove(data: bytearray, draw: random.Random) -> None:
    at = draw.randrange(len(data) + 1)
    del data[at : at + draw.choice((1, 4, 16, 64))]


def _repeat(data: bytearray, draw: random.Random) -> None:
    at = draw.randrange(len(data) + 1)
    piece = bytes(data[at : at + draw.choice((1, 8, 64))])
    data[at:at] = piece * draw.choice((1, 2, 20))


def _zero(data: bytearray, draw: random.Random) -> None:
    at, n = draw.randrange(len(data) + 1), draw.choice((1, 4, 64, 4096))
    data[at : at + n] = bytes(len(data[at : at + n]))


def _insert(data: bytearray, draw: random.Random) -> None:
    at = draw.randrange(len(data) + 1)
    data[at:at] = draw.choice(BITS)


def _replace_value(data: bytearray, draw: random.Random) -> None:
    """Put something else where text has a value: behind a colon, a comma or an equals sign."""
    places = [i for i, byte in enumerate(data[:4096]) if byte in b":,=["]
    if places:
        start = draw.choice(places) + 1
        end = next((i for i in range(start, len(data)) if data[i] in b",]}\n"), len(data))
        data[start:end] = draw.choice(BITS)


def _swap(data: bytearray, draw: random.Random) -> None:
    lines = bytes(data).split(b"\n")
    draw.shuffle(lines)
    data[:] = b"\n".join(lines)


_WAYS: tuple[Callable[[bytearray, random.Random], None], ...] = (
    _flip, _flip, _cut, _remove, _repeat, _zero, _insert, _insert, _replace_value, _replace_value, _replace_value,
    _swap,
)  # fmt: skip


def mutations(whole: bytes, n: int, seed: int) -> Iterator[bytes]:
    """Yield ``n`` damaged forms of a file, the same for the same seed."""
    draw = random.Random(seed)
    for _ in range(n):
        data = bytearray(whole)
        for _ in range(draw.choice((1, 1, 1, 2, 3))):
            draw.choice(_WAYS)(data, draw)
        yield bytes(data)
