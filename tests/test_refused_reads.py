"""A file that the system does not let be read is not called damaged: nobody is told to remove a good one."""

import errno
import json
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from safetensors import safe_open
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import BPE

from handpick.cli.errors import report_errors
from handpick.data.cache import _cached, _find_damage, is_current, parse_into
from handpick.data.read import FileInput
from handpick.data.reading import TABLE_ALONE
from handpick.errors import ModelError, StoreError, is_out_of_memory, system_error_number
from handpick.finetuning.record import read_record
from handpick.model import _loading
from handpick.objectives.samples import KeyedJournal
from handpick.sealed import read_sealed, read_sealed_list, write_sealed
from handpick.selection import Selection
from handpick.store.shard_file import finite_rows, map_tensors, read_sidecar, write_shard_file
from handpick.studies.cells import Results
from handpick.studies.steps import finish_step, read_step
from handpick.training.checkpoint import (
    ADAPTER_CONFIG,
    ADAPTER_FILE,
    attach_adapter,
    check_checkpoint,
    load_moments,
    save_moments,
    was_trained,
)  # fmt: skip
from handpick.training.checkpoint_weights import checkpoint_weights
from handpick.training.disk import translate_disk_errors
from handpick.training.sealed_checkpoint import check_file, seal_checkpoint


@contextmanager
def no_handle_left() -> Iterator[None]:
    """No file can be opened within."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def a_document(folder: Path) -> Path:
    write_sealed(folder / "some.json", {"taken": [1]})
    return folder / "some.json"


def a_step(folder: Path) -> Path:
    finish_step(folder, {}, {"made": 1})
    return folder


def a_record(folder: Path) -> Path:
    (folder / "train.yaml").write_text("made_from: {}\n")
    return folder


def a_checkpoint(folder: Path) -> Path:
    (folder / "optimizer.pt").write_bytes(b"moments")
    seal_checkpoint(folder)
    return folder / "optimizer.pt"


def an_adapter(folder: Path) -> Path:
    """As another trainer leaves it, without digests."""
    (folder / ADAPTER_CONFIG).write_text('{"peft_type": "LORA"}')
    save_file({"base_model.model.layer.lora_B.weight": torch.ones(2, 2)}, folder / ADAPTER_FILE)
    return folder


def a_log(folder: Path) -> Path:
    (folder / "trainer_state.json").write_text('{"global_step": 1, "log_history": [{"step": 1, "learning_rate": 0.1}]}')
    return folder


def moments(folder: Path) -> Path:
    model = torch.nn.Linear(2, 2)
    save_moments(folder, model, torch.optim.AdamW(model.parameters()))
    return folder


def samples(folder: Path) -> Path:
    KeyedJournal(folder / "samples.jsonl").add([("a", 1)])
    return folder / "samples.jsonl"


def a_selection(folder: Path) -> Path:
    Selection(["a"], [1.0], [None], {}, {}, lambda choice: b"{}").save(folder)
    return folder


def results(folder: Path) -> Path:
    Results(name="s", settings={}, cells=[]).save(folder / "results.json")
    return folder / "results.json"


def a_parsed_pool(folder: Path) -> Path:
    (folder / "pool.jsonl").write_text('{"prompt": "p", "completion": "c"}\n')
    return parse_into(folder / "parsed", FileInput(folder / "pool.jsonl")).table


def a_shard(folder: Path) -> Path:
    write_shard_file(folder / "0-0.safetensors", ["a"], {"norms": np.ones(1, dtype=np.float32)})
    return folder / "0-0.safetensors"


READS: dict[str, tuple[Callable[[Path], Path], Callable[[Path], object]]] = {
    "a document": (a_document, lambda path: read_sealed(path, "remove it")),
    "a list": (a_document, lambda path: read_sealed_list(path, "taken", "remove it")),
    "a step": (a_step, read_step),
    "a fine-tuning": (a_record, read_record),
    "a checkpoint": (a_checkpoint, check_file),
    "a shard": (a_shard, map_tensors),
    "a shard's norms": (a_shard, finite_rows),
    "an adapter's configuration": (an_adapter, check_checkpoint),
    "an adapter's weights": (an_adapter, was_trained),
    "a Trainer's log": (a_log, lambda path: checkpoint_weights([path])),
    "moments": (moments, lambda path: load_moments(path, torch.nn.Linear(2, 2))),
    "samples": (samples, KeyedJournal),
    "a selection": (a_selection, Selection.open),
    "a study's results": (results, Results.open),
    "a parsed table": (a_parsed_pool, is_current),
    "a parsed table's checksums": (
        a_parsed_pool,
        lambda path: _find_damage(_cached(path.parent, "pool.jsonl", "pool", path.stem, TABLE_ALONE)),
    ),
    "a sidecar": (a_shard, lambda path: read_sidecar(path.with_suffix(".json"))),
}


@pytest.mark.parametrize(("make", "read"), READS.values(), ids=READS)
def test_without_a_handle_nothing_is_damaged(
    make: Callable[[Path], Path], read: Callable[[Path], object], tmp_path: Path
) -> None:
    made = make(tmp_path)
    read(made)
    with no_handle_left(), pytest.raises(Exception, match="Too many open files") as raised:
        read(made)
    assert "damaged" not in str(raised.value)
    assert "remove" not in str(raised.value)
    read(made)


def test_an_adapter_that_cannot_be_opened_is_not_said_to_fit_no_model(tmp_path: Path) -> None:
    made = an_adapter(tmp_path)
    with no_handle_left(), pytest.raises(OSError, match="Too many open files"):
        attach_adapter(torch.nn.Linear(2, 2), made)


def test_weights_that_cannot_be_opened_are_not_said_to_be_gone(tmp_path: Path) -> None:
    weights = an_adapter(tmp_path) / ADAPTER_FILE
    (tmp_path / "config.json").write_text("{}")
    with no_handle_left(), pytest.raises(ModelError, match=r"loaded: .*safetensors cannot be opened$"):  # noqa: SIM117
        with _loading(str(tmp_path)):
            safe_open(weights, framework="pt")
    with pytest.raises(ModelError, match=r"loaded: No such file or directory: .*gone$"), _loading(str(tmp_path)):
        safe_open(tmp_path / "gone", framework="pt")


def test_without_memory_nothing_is_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = samples(tmp_path)

    def find_no_memory(data: object) -> object:
        raise MemoryError

    monkeypatch.setattr(json, "loads", find_no_memory)
    for read in (KeyedJournal, lambda path: read_sealed(path, "remove it")):
        with pytest.raises(MemoryError):
            read(made)


def test_a_folder_of_samples_that_cannot_be_made_is_nothing_to_remove(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_full(self: Path, **given: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(self))

    monkeypatch.setattr(Path, "mkdir", is_full)
    with pytest.raises(StoreError, match=r"opened \(No space left on device\); mend that, or name another place"):
        KeyedJournal(tmp_path / "answers" / "answers.jsonl")


def test_what_is_no_file_is_still_said_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "some.json").mkdir()
    with pytest.raises(StoreError, match=r"some\.json is damaged .*; remove it"):
        read_sealed(tmp_path / "some.json", "remove it")
    (tmp_path / "train.yaml").write_text("{")
    with pytest.raises(ModelError, match=r"train\.yaml is damaged .*remove it"):
        read_record(tmp_path)


def _allocate() -> None:
    torch.empty(1 << 60, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("fails", "sentence"),
    [
        (_allocate, "out of memory. What was computed is kept; with more memory the same command goes on from here."),
        (
            lambda: np.empty(1 << 60, dtype=np.uint8),
            "out of memory. What was computed is kept; with more memory the same command goes on from here.",
        ),
        (
            lambda: os.open("/proc/self/mem/there", os.O_RDONLY),
            "[Errno 20] Not a directory: '/proc/self/mem/there'. What was computed is kept; mend the cause, and the "
            "same command goes on from here.",
        ),
        (
            lambda: torch.UntypedStorage.from_file("/nowhere/weights", False, 8),
            "unable to open file </nowhere/weights> in read-only mode: No such file or directory (2). What was "
            "computed is kept; mend the cause, and the same command goes on from here.",
        ),
    ],
)
def test_what_the_machine_refuses_is_one_line(
    fails: Callable[[], object], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as ended, report_errors():
        fails()
    assert ended.value.exit_code == 2
    assert capsys.readouterr().err == f"handpick: {sentence}\n"


def test_whoever_says_that_memory_has_run_out_is_understood() -> None:
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert is_out_of_memory(OSError(errno.ENOMEM, "Cannot allocate memory"))
    assert is_out_of_memory(RuntimeError("can't start new thread"))
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_out_of_memory(OSError(errno.EACCES, "Permission denied"))


def test_an_error_that_says_nothing_is_one_of_memory_where_there_is_none() -> None:
    silent = SystemError("error return without exception set")
    assert not is_out_of_memory(silent)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (1 << 20, hard))  # less than there is: nothing more can be had
    try:
        found = is_out_of_memory(silent)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    assert found


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (OSError(errno.EACCES, "Permission denied"), errno.EACCES),
        (RuntimeError("unable to open file <x> in read-only mode: Too many open files (24)"), errno.EMFILE),
        (Exception("No space left on device (os error 28)"), errno.ENOSPC),
        (RuntimeError("The size of tensor a (3) must match the size of tensor b (24)"), None),
        (ValueError("Too many open files (28)"), None),  # not the number of these words
        (ValueError(""), None),
    ],
)
def test_the_systems_number_is_found_in_whoevers_words(error: Exception, number: int | None) -> None:
    assert system_error_number(error) == number


def test_what_tokenizers_cannot_write_is_one_of_the_disk(tmp_path: Path) -> None:
    """It raises a bare Exception, which nobody else's may be taken for."""
    with (
        pytest.raises(StoreError, match=r"cannot write a model\. Go on \(No such file or directory \(os error 2\)\)"),
        translate_disk_errors("a model", "Go on"),
    ):
        Tokenizer(BPE()).save(str(tmp_path / "nowhere" / "tokenizer.json"))
    with pytest.raises(StoreError, match=r"cannot write a model; is the disk full\? \(No space left"):  # noqa: SIM117
        with translate_disk_errors("a model"):
            raise Exception("No space left on device (os error 28)")
    with pytest.raises(Exception, match="something else"), translate_disk_errors("a model"):
        raise Exception("something else")
