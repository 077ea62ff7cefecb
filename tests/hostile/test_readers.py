"""Whatever is in a file, its reader reads it or raises a HandpickError: one sentence, never anything else."""

import json
from pathlib import Path

import pytest

from tests.hostile.mutations import mutations
from tests.hostile.readers import READERS, Reader, outcome

SEED = 21


def drive(reader: Reader, folder: Path, n: int, seed: int) -> None:
    sentences = 0
    for number, damaged in enumerate(mutations(reader.whole, n, seed)):
        place = folder / str(number // 500)  # each parsed table looks through the folder for what was left over
        place.mkdir(exist_ok=True)
        try:
            said = outcome(reader, place, damaged)
        except Exception as error:
            raise AssertionError(f"damage {number} of seed {seed}: {type(error).__name__}: {error}") from error
        if said is not None:
            sentences += 1
            assert said.strip(), f"damage {number} of seed {seed}: nothing is said"
    assert sentences < n, "not one of them can be read: what is damaged is no whole file"


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_a_whole_file_is_read(reader: Reader, tmp_path: Path) -> None:
    assert outcome(reader, tmp_path, reader.whole) is None


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_damage_is_read_or_said(reader: Reader, tmp_path: Path) -> None:
    drive(reader, tmp_path, 200, SEED)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_damage_of_every_kind_is_read_or_said(reader: Reader, tmp_path: Path) -> None:
    drive(reader, tmp_path, 10_000, SEED + 1)


@pytest.mark.parametrize("value", [{}, [], {"r": 1}, [[]], None, "x", -1, 1e400])
@pytest.mark.parametrize("name", ["peft_type", "r", "init_lora_weights", "target_modules", "lora_alpha"])
def test_an_adapter_s_configuration_with_an_odd_value(name: str, value: object, tmp_path: Path) -> None:
    reader = READERS["an adapter's configuration"]
    said = outcome(reader, tmp_path, json.dumps(json.loads(reader.whole) | {name: value}).encode())
    assert said is None or "adapter" in said
