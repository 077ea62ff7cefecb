"""Every reader of files, and a whole file of its kind to damage.

A reader is given a folder and damaged bytes, and may do one of two things: read them, or raise a ``HandpickError``.
"""

import gzip
import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import zstandard
from safetensors.torch import save

from handpick.data.cache import parse_into
from handpick.data.folder import files_of_folder
from handpick.data.quarantine import Quarantine
from handpick.data.read import FileInput
from handpick.data.reading import ReadingSettings
from handpick.data.unwritten import read_unwritten
from handpick.errors import HandpickError
from handpick.finetuning.record import read_record
from handpick.judge.journal import HEADER, Journal
from handpick.judge.parsing import read_score, read_side
from handpick.judge.template import Template
from handpick.layout import CheckpointLayout, FinetuneLayout, RunLayout, StepLayout, StoreLayout, WarmupLayout
from handpick.objectives.samples import KeyedJournal
from handpick.pipeline.missed import read_missed
from handpick.reporting.iterated import read_iterated
from handpick.scorers.checkpoints import read_record as read_warmup_record
from handpick.scorers.id_table import IdTable
from handpick.selection import Selection
from handpick.settings import Settings
from handpick.store.manifest import read_manifest
from handpick.studies.cells import Results
from handpick.studies.published import read_tis
from handpick.studies.settings import StudySettings
from handpick.studies.trained import evaluation_of
from handpick.training.checkpoint import ADAPTER_CONFIG, ADAPTER_FILE, check_checkpoint, was_trained
from handpick.training.checkpoint_weights import checkpoint_weights
from handpick.training.moments import check_fits, moments_of
from handpick.training.optimizer_state import read_optimizer


class Reader(NamedTuple):
    """What reads a file of a name, and a whole one."""

    file: str
    whole: bytes
    read: Callable[[Path], Any]


def dump(value: Any) -> bytes:
    return json.dumps(value, indent=1).encode()


_RECORDS: list[dict[str, Any]] = [
    {"id": f"r{i}", "source": "s", "n": [i, 0.5, None], "messages": [
        {"role": "user", "content": f"question {i} é"},
        {"role": "assistant", "content": [{"type": "text", "text": f"answer {i}", "train": True}]},
    ]}
    for i in range(5)
] + [
    {"conversations": json.dumps([{"from": "human", "value": "q"}, {"from": "gpt", "value": "<think>t</think>a"}]),
     "tools": json.dumps([{"name": "f", "parameters": {"x": {"type": "int"}}}]), "weight": 1},
    {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": None, "tool_calls": [
        {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{'x': (1, 2)}"}}]},
        {"role": "tool", "tool_call_id": "1", "content": "3"}], "chat_template_kwargs": {"enable_thinking": False}},
    {"prompt": "p", "chosen": "c", "rejected": "r"}, {"prompt": "p", "completion": "c", "label": "true"},
    {"instruction": "i", "input": "n", "output": "o", "history": [["a", "b"]]},
]  # fmt: skip
_LINES = b"".join(json.dumps(record, ensure_ascii=False).encode() + b"\n" for record in _RECORDS)
_COLUMNS = {
    "id": ["a", "b", "c"], "prompt": ["p", "q", None], "completion": ["x", "y", "zz"],
    "meta": [{"k": [1, 2]}, None, {"k": []}], "at": [1, None, 3],
}  # fmt: skip
_TABLE = pa.table(_COLUMNS).append_column("when", pa.array([1, 2, None], pa.timestamp("us")))


def _arrow(new: Any) -> bytes:
    sink = BytesIO()
    with new(sink, _TABLE.schema) as writer:
        writer.write_table(_TABLE)
    return sink.getvalue()


def _parquet(table: pa.Table, **options: Any) -> bytes:
    sink = BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def _npy() -> bytes:
    sink = BytesIO()
    np.save(sink, np.ones((3, 4), np.float32))
    return sink.getvalue()


def read_records(path: Path) -> None:
    """Parse a file as a pool's, into its table and the list of what was set aside; and list those."""
    reading = ReadingSettings(turn_weights="round").reading
    parsed = parse_into(path.parent / "parsed", FileInput(path, say=lambda text: None), reading)
    parsed.report(Quarantine(path.parent / "quarantine.jsonl"))


_SHAPES = {"layer.0.lora_A.weight": torch.Size([2, 4]), "layer.0.lora_B.weight": torch.Size([4, 2])}


def _optimizer() -> bytes:
    parameters = [torch.nn.Parameter(torch.ones(shape)) for shape in _SHAPES.values()]
    optimizer = torch.optim.AdamW(parameters)
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    sink = BytesIO()
    torch.save(optimizer.state_dict(), sink)
    return sink.getvalue()


def _read_optimizer(path: Path) -> None:
    saved = read_optimizer(path)
    check_fits(saved, _SHAPES, _SHAPES)
    moments_of(saved, _SHAPES, _SHAPES)


_ADAPTER = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["layer"], "init_lora_weights": True}
_TENSORS = save({"base_model.model.layer.0.lora_A.weight": torch.ones(2, 4), "a.lora_B.weight": torch.zeros(4, 2)})


def _read_adapter(path: Path) -> None:
    folder = path.parent
    for name, whole in ((ADAPTER_CONFIG, dump(_ADAPTER)), (ADAPTER_FILE, _TENSORS)):
        if name != path.name:
            (folder / name).write_bytes(whole)
    check_checkpoint(folder)
    was_trained(folder)


_LOG = {
    "global_step": 6, "max_steps": 6, "epoch": 1.0,
    "log_history": [{"step": step, "learning_rate": 1e-4 * step, "loss": 1.0} for step in range(1, 7)],
}  # fmt: skip
_ESTIMATE = {"value": 0.5, "low": 0.25, "high": None, "n": 3}
_EVALUATION = {
    "metrics": {"loss": _ESTIMATE}, "macro": {"loss": _ESTIMATE}, "subtasks": {"s": {"loss": _ESTIMATE}},
    "records": 3, "left_out": 0,
}  # fmt: skip
_SELECTION = {
    "schema_version": 1, "handpick_version": "0.1.0", "settings": {"method": "random", "pool": ["pool.jsonl"]},
    "fingerprints": {"pool": {"files": [{"sha256": "0" * 64, "rows": 5}]}}, "ids": ["r0", "r1"], "scores": [0.5, -1.0],
    "picked_for": ["q", None], "origins": [["pool.jsonl", 1], ["pool.jsonl", 2]], "records": None,
}  # fmt: skip
_CELL = {
    "status": "done", "model": "m", "target": "t", "method": "random", "budget": 4, "seed": 0, "metrics": {"loss": 1.5},
    "intervals": {"loss": [1.0, 2.0]}, "chosen": 4, "left_out": 0, "seconds": 1.0,
}  # fmt: skip
_WARMUP = {"warmup": {"epochs": 2}, "files": [{"sha256": "0" * 64, "rows": 5}], "checkpoints": ["checkpoint-3"]}
_MISSED = {
    "prefilters": ["bm25"], "left": 4, "cut": 6, "depths": {"q": 2}, "chosen": 2, "checked": 2, "would_be": 0,
    "recall": None,
}  # fmt: skip
_MANIFEST = {
    "schema_version": 1, "space": {"model": "m"}, "build": {"seed": 0}, "dim": 4, "storage": "float32",
    "checkpoints": [{"name": "c", "weight": 1.0}], "files": [{"name": "p", "sha256": "0" * 64, "rows": 5}],
    "shard_rows": 1024,
}  # fmt: skip
_ROUND = {
    "round": 1, "judged": 4, "hard": 2, "easy": 2, "ties": 1, "flipped": 0, "missing": 0, "train": 3, "held_out": 1,
    "accuracy": 0.5, "precision": None, "recall": 1.0, "auc": None, "ece": 0.1, "reliability": [[0.1, 0.2, 3]],
    "seconds": {"judge": 1.0},
}  # fmt: skip
_STUDY = b"""name: s
pool: [pool.jsonl]
models: {m: model}
budgets: [4, 5%]
baselines: [zero-shot, random]
methods: {less: {max_length: 64}, random: }
seeds: [0, 1]
draws: 2
train: {epochs: 1, learning_rate: 1.0e-3, lora: {rank: 4}}
targets: {t: {query: q.jsonl, test: {files: t.jsonl, metrics: [loss]}}}
"""
_SETTINGS = b"""pool: [pool.jsonl]
query: &q [q.jsonl]
model: model
budget: 5%
warmup: {epochs: 2, learning_rate: 1.0e-4, lora: {rank: 8, targets: auto}}
max_share: {a: 0.5, '*': .2}
template_args: {enable_thinking: false}
seed: 3
balanced: true
out: runs/x
"""
_CARD = b"""---
license: mit
configs:
- config_name: default
  data_files: [{split: train, path: data/train-*.jsonl}, {split: test, path: "t*.jsonl"}]
- config_name: other
  default: false
  data_dir: data
---
# A data set
"""
_TIS = b"dataset,method,num_samples,seed,dev,test\nbbh,Random,500,0,1.5,1.25\nbbh,RR,500,1,1,2\n"
_TRAINED = b"finished: true\nselection: runs/x\nmade_from: {model: {a: 1}, examples: 3, tokens: abc}\n"


def _select_settings(path: Path) -> None:
    Settings.from_yaml(path).model_dump_json()


def _read_template(path: Path) -> None:
    Template.load(str(path), "pairwise", ["prompt", "answer"]).fill({"prompt": "p", "answer": "a"})


def _read_journal(path: Path) -> None:
    with Journal(path).open():
        pass


def _read_card(path: Path) -> None:
    (path.parent / "data").mkdir(exist_ok=True)
    (path.parent / "data" / "train-0.jsonl").write_bytes(_LINES)
    files_of_folder(path.parent, None, lambda text: None)


def _read_selection(path: Path) -> None:
    RunLayout(path.parent).records.write_bytes(b"{}\n{}\n")
    selection = Selection.open(path.parent)
    repr(selection), selection.settings, [selection.record(choice) for choice in range(len(selection))]


def _read_vectors(path: Path) -> None:
    path.with_suffix(".ids").write_text("a\nb\nc")
    table = IdTable(path, "vector", 2)
    table.check()
    table.take(["a"])


def _read_answers(path: Path) -> None:
    text = path.read_text("utf-8", errors="replace")
    read_score(text, 0, 10), read_side(text)


def _read_step(path: Path) -> None:
    evaluation_of(path.parent)


_JSON_ROWS = json.dumps({"version": 1, "data": {"records": _RECORDS}}, indent=1).encode()

READERS: dict[str, Reader] = {
    "JSON Lines": Reader("pool.jsonl", _LINES, read_records),
    "a JSON array": Reader("pool.json", json.dumps(_RECORDS, indent=1).encode(), read_records),
    "a JSON object": Reader("pool.json", _JSON_ROWS, read_records),
    "gzip": Reader("pool.jsonl.gz", gzip.compress(_LINES, mtime=0), read_records),
    "zstd": Reader("pool.jsonl.zst", zstandard.compress(_LINES), read_records),
    "CSV": Reader("pool.csv", b'prompt,completion,id\n"a ""b"",\nc",d,1\ne,f,2\n"g",,3\n', read_records),
    "TSV": Reader("pool.tsv", b"prompt\tcompletion\na\tb\nc\td\n", read_records),
    "Parquet": Reader("pool.parquet", _parquet(_TABLE, compression="none"), read_records),
    "an Arrow file": Reader("pool.arrow", _arrow(pa.ipc.new_file), read_records),
    "an Arrow stream": Reader("pool.arrow", _arrow(pa.ipc.new_stream), read_records),
    "a data set's card": Reader("README.md", _CARD, _read_card),
    "settings": Reader("settings.yaml", _SETTINGS, _select_settings),
    "a study": Reader("study.yaml", _STUDY, StudySettings.from_yaml),
    "a judge's prompt": Reader("prompt.txt", b"{prompt} {answer}?", _read_template),
    "a judge's answer": Reader("answer.txt", b'so {"score": 7, "better": "A"} it is', _read_answers),
    "an optimizer's state": Reader("optimizer.pt", _optimizer(), _read_optimizer),
    "an adapter's configuration": Reader(ADAPTER_CONFIG, dump(_ADAPTER), _read_adapter),
    "an adapter's weights": Reader(ADAPTER_FILE, _TENSORS, _read_adapter),
    "a Trainer's log": Reader("trainer_state.json", dump(_LOG), lambda path: checkpoint_weights([path.parent])),
    "a checkpoint's record": Reader(
        CheckpointLayout(Path()).record.name, dump({"step": 3, "mean_learning_rate": 1e-4}),
        lambda path: checkpoint_weights([path.parent]),
    ),
    "vectors": Reader("vectors.npy", _npy(), _read_vectors),
    "published numbers": Reader("budget_ce_loss_budget.csv", _TIS, lambda path: read_tis(path.parent)),
    "a selection": Reader(RunLayout(Path()).selection.name, dump(_SELECTION), _read_selection),
    "a study's results": Reader(
        "results.json", dump({"schema_version": 1, "name": "s", "settings": {}, "cells": [_CELL]}), Results.open
    ),
    "a study's step": Reader(
        StepLayout(Path()).record.name, dump({"inputs": {}, "made": {"evaluation": _EVALUATION, "seconds": 1.0}}),
        _read_step,
    ),
    "a model's record": Reader(FinetuneLayout(Path()).record.name, _TRAINED, lambda path: read_record(path.parent)),
    "a warmup's record": Reader(WarmupLayout(Path()).record.name, dump(_WARMUP), read_warmup_record),
    "a store's manifest": Reader(
        StoreLayout(Path()).manifest.name, dump(_MANIFEST),
        lambda path: read_manifest(path.parent),
    ),
    "what a prefilter missed": Reader("prefilter.json", dump(_MISSED), read_missed),
    "what is not written": Reader(
        "unwritten.json", dump({"pool": {"name": {"records": 3, "first": "r0"}}}), read_unwritten
    ),
    "the rounds of iterselect": Reader(
        "rounds.json", dump([_ROUND]), lambda path: read_iterated(path.parent, {}, [])
    ),
    "samples": Reader("samples.jsonl", dump({"key": "k", "value": [1, "a"]}).replace(b"\n", b"") + b"\n", KeyedJournal),
    "a judge's journal": Reader(
        "judge.jsonl", HEADER + b'{"sent": "k", "in": 3, "out": 4}\n'
        b'{"over": "k", "in": 3, "out": 4, "text": "A", "cut": false}\n', _read_journal,
    ),
}  # fmt: skip


def outcome(reader: Reader, folder: Path, damaged: bytes) -> str | None:
    """Return the sentence that a reader raises, None where it reads."""
    path = folder / reader.file
    path.write_bytes(damaged)
    try:
        reader.read(path)
    except HandpickError as error:
        return str(error)
    return None
