"""Folders: of shards, of saved data sets, of a repository of the Hub; which files, which split, and what is said."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest

from handpick.data.pool import Pool
from handpick.data.quarantine import Quarantine
from handpick.data.read import FileInput, absolute_source, open_source
from handpick.data.reading import Reading
from handpick.errors import DataError
from tests.conftest import refuse_listing
from tests.data.containers.reading import fields


def rows(name: str, count: int = 3) -> list[dict[str, Any]]:
    return [{"prompt": f"{name} {i}", "completion": "c"} for i in range(count)]


def table(name: str, count: int = 3) -> datasets.Dataset:
    return datasets.Dataset.from_list(rows(name, count))


def lines(file: Path) -> None:
    """Write a file of records that say which it is."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows(file.stem)))


def parquet(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    table(file.stem).to_parquet(file)


def prompts(source: Path | str) -> list[str]:
    """Return the names of what is read, each once."""
    return list(dict.fromkeys(row["prompt"].rpartition(" ")[0] for row in fields(source)))


Said = Callable[[], list[str]]


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    """Returns the lines that were printed since the last call, without the bars of ``datasets``."""
    return lambda: [line for line in capsys.readouterr().err.splitlines() if "s/s]" not in line and "ba/s" not in line]


@pytest.fixture(autouse=True)
def without_bars() -> None:
    datasets.disable_progress_bars()


def test_a_saved_dataset(tmp_path: Path, said: Said) -> None:
    table("x", 2500).save_to_disk(tmp_path / "one", num_shards=3)
    assert fields(tmp_path / "one") == rows("x", 2500)
    assert {source.stem for source in open_source(tmp_path / "one")} == {"one"}
    assert said() == []
    with pytest.raises(DataError, match=r"one is one saved data set without splits, and 'train' was named"):
        open_source(f"{tmp_path}/one:train")


def test_leftovers_of_map_in_a_saved_dataset_are_not_read(tmp_path: Path) -> None:
    table("x").save_to_disk(tmp_path / "one")
    loaded = datasets.load_from_disk(str(tmp_path / "one"))
    loaded.map(lambda row: {"prompt": "mapped 0"})
    assert list((tmp_path / "one").glob("cache-*.arrow"))
    assert prompts(tmp_path / "one") == ["x"]
    assert prompts(f"{tmp_path}/one/*.arrow") == prompts(f"{tmp_path}/one/*") == ["x"]


def test_a_saved_dictionary_of_splits(tmp_path: Path, said: Said) -> None:
    folder = tmp_path / "dict"
    datasets.DatasetDict({"test": table("test"), "train": table("train"), "extra": table("e")}).save_to_disk(folder)
    assert prompts(folder) == ["train"]
    assert said() == [f"{folder}: its split 'train' is read; left out: test, extra"]
    assert {source.stem for source in open_source(folder)} == {"dict"}
    said()
    assert prompts(f"{folder}:test") == ["test"]
    assert said() == []
    with pytest.raises(DataError, match=r"dict has no split 'dev'; its splits are test, train, extra"):
        open_source(f"{folder}:dev")


def test_the_only_split_is_taken_and_one_to_test_with_is_not(tmp_path: Path, said: Said) -> None:
    datasets.DatasetDict({"all": table("all")}).save_to_disk(tmp_path / "a")
    assert prompts(tmp_path / "a") == ["all"]
    assert said() == [f"{tmp_path / 'a'}: its split 'all' is read"]
    datasets.DatasetDict({"test": table("t"), "validation": table("v")}).save_to_disk(tmp_path / "b")
    with pytest.raises(DataError, match=r"no split to train on: it has test, validation; name one, as .*b:test$"):
        open_source(tmp_path / "b")
    assert prompts(f"{tmp_path}/b:validation") == ["v"]
    datasets.DatasetDict({"train_sft": table("s"), "train_gen": table("g")}).save_to_disk(tmp_path / "c")
    with pytest.raises(DataError, match=r"several splits to train on: it has train_sft, train_gen; name one"):
        open_source(tmp_path / "c")
    (tmp_path / "c" / "dataset_dict.json").write_text('{"splits": ["train"]}')
    with pytest.raises(DataError, match=r"c/train is not there, or is no data set that save_to_disk wrote"):
        open_source(tmp_path / "c")


def test_a_dictionary_of_splits_in_python(said: Said) -> None:
    whole = datasets.DatasetDict({"train": table("train"), "test": table("test")})
    for each in (whole, datasets.IterableDatasetDict({k: v.to_iterable_dataset() for k, v in whole.items()})):
        (source,) = open_source(each)
        assert [record.raw for record in source.records()] == [
            json.dumps(row, separators=(",", ":")).encode() for row in rows("train")
        ]
        assert said()[0] == f"the {type(each).__name__} handed over: its split 'train' is read; left out: test"
    with pytest.raises(DataError, match=r"it has test; hand one split over, as dataset\['test'\]"):
        open_source(datasets.DatasetDict({"test": table("test")}))


def test_folders_without_splits_are_read_whole(tmp_path: Path, said: Said) -> None:
    for name in ("b.jsonl", "part-00000-of-00002.jsonl", "part-00001-of-00002.jsonl", "deep/er/a.jsonl", "c.jsonl",
                 ".cache/x.jsonl", "attest.jsonl", "contest-1.jsonl", "trainer.jsonl"):  # fmt: skip
        lines(tmp_path / name)
    with (tmp_path / "d.csv").open("w", newline="") as out:
        csv.writer(out).writerows([["prompt", "completion"], ["d 0", "c"]])
    (tmp_path / "notes.txt").write_text("no records")
    (tmp_path / "dataset_info.json").write_text('{"features": {}}')
    (tmp_path / "dataset_infos.json").write_text("{}")
    (tmp_path / "deep" / "around").symlink_to(tmp_path)
    assert prompts(tmp_path) == [
        "attest", "b", "c", "contest-1", "d", "a", "part-00000-of-00002", "part-00001-of-00002", "trainer",
    ]  # fmt: skip
    assert said() == [f"{tmp_path}: the folders in it are read too: deep"]


@pytest.mark.parametrize(
    ("names", "read", "left"),
    [
        (["train.jsonl", "test.jsonl"], ["train"], "test"),
        (["train-0.jsonl", "train-1.jsonl", "dev.jsonl", "val_2.jsonl"], ["train-0", "train-1"], "validation"),
        (["a/train.jsonl", "a/eval.jsonl", "b/train.jsonl"], ["train"], "test"),
        (["test/a.jsonl", "train/b.jsonl", "train/test.jsonl"], ["b", "test"], "test"),
        (["x_train.jsonl", "x_test.jsonl", "more.jsonl"], ["more", "x_train"], "test"),
        (["data/train_sft-00000-of-00001.jsonl", "data/test_sft-00000-of-00001.jsonl"],
         ["train_sft-00000-of-00001"], "test_sft"),
    ],
)  # fmt: skip
def test_files_to_test_with_are_left_out_by_their_names(
    tmp_path: Path, said: Said, names: list[str], read: list[str], left: str
) -> None:
    for name in names:
        lines(tmp_path / name)
    assert prompts(tmp_path) == read
    (line,) = said()
    assert line.startswith(f"{tmp_path}: its split 'train")
    assert line.endswith(f"; left out: {left}")
    assert prompts(f"{tmp_path}:{left}")
    assert said() == []


def test_files_without_a_split_beside_one_to_test_with(tmp_path: Path, said: Said) -> None:
    for name in ("more.jsonl", "test.jsonl"):
        lines(tmp_path / name)
    assert prompts(tmp_path) == ["more"]
    assert said() == [f"{tmp_path}: left out, by the names of files: test"]


def test_a_folder_of_a_test_split_alone_has_to_be_named(tmp_path: Path) -> None:
    lines(tmp_path / "test.jsonl")
    with pytest.raises(DataError, match=r"has no split to train on: it has test; name one, as .*:test"):
        open_source(tmp_path)
    assert prompts(f"{tmp_path}:test") == prompts(tmp_path / "test.jsonl") == prompts(f"{tmp_path}/*.jsonl") == ["test"]


def test_what_a_run_left_inside_a_folder_is_not_read(tmp_path: Path, said: Said, quarantine: Quarantine) -> None:
    lines(tmp_path / "a.jsonl")
    for parsed in ("run/features/parsed", "clean/parsed", "cache"):
        Pool.open(tmp_path / "a.jsonl", cache=tmp_path / parsed, quarantine=quarantine)
        lines(tmp_path / parsed.partition("/")[0] / "selected.jsonl")
    named = Reading((("source", "prompt"),))
    Pool.open(tmp_path / "a.jsonl", cache=tmp_path / "named/features/parsed", quarantine=quarantine, reading=named)
    lines(tmp_path / "named" / "selected.jsonl")
    assert prompts(tmp_path) == ["a"]
    assert said() == [
        f"{tmp_path}: left out, since it is a run's: the folder {name}" for name in ("cache", "clean", "named", "run")
    ]


def test_saved_datasets_inside_a_folder(tmp_path: Path, said: Said) -> None:
    table("one").save_to_disk(tmp_path / "all" / "one")
    datasets.DatasetDict({"train": table("two"), "test": table("test")}).save_to_disk(tmp_path / "all" / "two")
    lines(tmp_path / "all" / "a.jsonl")
    assert prompts(tmp_path / "all") == ["a", "one", "two"]
    assert said() == [
        f"{tmp_path / 'all'}: two: its split 'train' is read; left out: test",
        f"{tmp_path / 'all'}: the folders in it are read too: one, two",
    ]


CARD = """---
license: mit
configs:
{}
---
# Data
"""


def snapshot(tmp_path: Path, configs: str, *files: str) -> Path:
    """Lay a repository out as the Hub's client does: a snapshot of links to blobs."""
    repository = tmp_path / "datasets--org--name"
    folder = repository / "snapshots" / ("0" * 40)
    folder.mkdir(parents=True)
    (repository / "blobs").mkdir()
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    for number, name in enumerate(files):
        blob = repository / "blobs" / f"{number:064x}"
        parquet(blob.parent / Path(name).name)
        (blob.parent / Path(name).name).rename(blob)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(blob)
    if configs:
        (folder / "README.md").write_text(CARD.format(configs))
    (folder / "dataset_infos.json").write_text("{}")
    return folder


ONE = """\
- config_name: default
  data_files:
  - split: train
    path: data/train-*
  - split: test
    path: data/test-*"""
FILES = ("data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet", "data/test-00000-of-00001.parquet")


@pytest.mark.parametrize("configs", [ONE, ""], ids=["card", "names"])
def test_a_snapshot(tmp_path: Path, said: Said, configs: str) -> None:
    folder = snapshot(tmp_path, configs, *FILES)
    assert prompts(folder) == ["train-00000-of-00002", "train-00001-of-00002"]
    assert said() == [f"{folder}: its split 'train' is read; left out: test"]
    assert prompts(f"{folder}:test") == ["test-00000-of-00001"]
    assert said() == []
    repository = tmp_path / "datasets--org--name"
    assert prompts(repository) == prompts(folder)
    assert said()[0] == f"{repository}: its snapshot {'0' * 40} is read"
    assert prompts(f"{repository}:test") == ["test-00000-of-00001"]


def test_a_card_decides_and_not_the_names(tmp_path: Path, said: Said) -> None:
    configs = "- data_files: {train: [a.parquet, 'sub/**/*.parquet'], held: test.parquet}"
    names = ("a.parquet", "sub/deep/test.parquet", "sub/b.parquet", "test.parquet", "x.parquet")
    folder = snapshot(tmp_path, configs, *names)
    assert prompts(folder) == ["a", "b", "test"]
    assert said() == [f"{folder}: its split 'train' is read; left out: held"]
    assert prompts(f"{folder}:default/held") == prompts(f"{folder}:held") == ["test"]


@pytest.mark.parametrize("data_files", ["'*.parquet'", "[a.parquet, b.parquet]", "{path: '*.parquet', split: train}",
                                        "[{split: train, path: [b.parquet, a.parquet]}]"])  # fmt: skip
def test_ways_to_write_data_files(tmp_path: Path, data_files: str) -> None:
    if data_files.startswith("{path"):
        data_files = f"[{data_files}]"
    folder = snapshot(tmp_path, f"- config_name: x\n  data_files: {data_files}", "a.parquet", "b.parquet")
    assert sorted(prompts(folder)) == ["a", "b"]


SEVERAL = """\
- config_name: main
  data_files: [{split: train, path: main/train*}, {split: test, path: main/test*}]
- config_name: socratic
  data_dir: socratic
  data_files: [{split: train, path: train*}]"""


def test_several_configurations_are_refused_by_their_names(tmp_path: Path, said: Said) -> None:
    folder = snapshot(tmp_path, SEVERAL, "main/train.parquet", "main/test.parquet", "socratic/train-s.parquet")
    with pytest.raises(DataError, match=r"has several configurations: main, socratic; name one, as .*:main$"):
        open_source(folder)
    with pytest.raises(DataError, match=r"has several configurations: main, socratic"):
        open_source(f"{folder}:test")
    assert prompts(f"{folder}:main") == ["train"]
    assert said() == [f"{folder}:main: its split 'train' is read; left out: test"]
    assert prompts(f"{folder}:main/test") == ["test"]
    assert prompts(f"{folder}:socratic/train") == ["train-s"]
    with pytest.raises(DataError, match=r"\(socratic\) has no split 'test'; its splits are train"):
        open_source(f"{folder}:socratic/test")


def test_configurations_that_are_folders(tmp_path: Path, said: Said) -> None:
    configs = "- {config_name: a, data_dir: a}\n- {config_name: b, data_dir: b}"
    folder = snapshot(tmp_path, configs, "a/train.parquet", "a/test.parquet", "b/more.parquet")
    with pytest.raises(DataError, match=r"has several configurations: a, b; name one"):
        open_source(folder)
    assert prompts(f"{folder}:a") == ["train"]
    assert said() == [f"{folder}:a: its split 'train' is read; left out: test"]
    assert prompts(f"{folder}:a/test") == ["test"]
    assert prompts(f"{folder}:b") == ["more"]


def test_a_default_configuration_is_taken_and_said(tmp_path: Path, said: Said) -> None:
    folder = snapshot(
        tmp_path, SEVERAL.replace("config_name: main", "config_name: main\n  default: true"), "main/train.parquet",
        "socratic/train-s.parquet",
    )  # fmt: skip
    assert prompts(folder) == ["train"]
    assert said()[0] == f"{folder}: its configuration 'main' is read; left out: socratic"
    assert prompts(f"{folder}:socratic") == ["train-s"]


def test_a_snapshot_that_is_a_part(tmp_path: Path) -> None:
    folder = snapshot(tmp_path, ONE, FILES[2])
    with pytest.raises(DataError, match=r"has no file of its split 'train'; fetch the whole data set"):
        open_source(folder)
    assert prompts(f"{folder}:test") == ["test-00000-of-00001"]


@pytest.mark.parametrize("path", ["https://example.org/a.parquet", "hf://datasets/x/y/a.parquet", "/a.parquet"])
def test_a_card_that_names_files_of_elsewhere(tmp_path: Path, path: str) -> None:
    folder = snapshot(tmp_path, f"- data_files: {path}", "a.parquet")
    with pytest.raises(DataError, match=r"names files of elsewhere: .*a.parquet; fetch them"):
        open_source(folder)


def test_a_card_that_names_a_folder_by_what_no_folder_is_called(tmp_path: Path) -> None:
    folder = snapshot(tmp_path, f"- data_dir: {'9' * 300}", "a.parquet")
    with pytest.raises(DataError, match=r"names a folder that cannot be read: File name too long; name its files"):
        open_source(folder)


def test_a_card_that_names_a_folder_with_one_that_may_not_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = snapshot(tmp_path, "- data_dir: data", "data/a.parquet", "data/inner/b.parquet")
    refuse_listing(monkeypatch, "inner")
    with pytest.raises(DataError, match=r"names a folder that cannot be read: Permission denied; name its files"):
        open_source(folder)


def test_a_card_with_a_pattern_in_a_folder_that_may_not_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = snapshot(tmp_path, "- data_files: 'data/*.parquet'", "data/a.parquet")
    refuse_listing(monkeypatch, "data")
    with pytest.raises(DataError, match=r"names files by 'data/\*.parquet', and they cannot be looked for: Permission"):
        open_source(folder)


@pytest.mark.parametrize("card", ["# Data\n", "---\nlicense: mit\n---\n", "---\nno end\n", "---\n- a\n---\n", "",
                                  "---\nconfigs: x\n---\n", "---\nconfigs:\n- config_name: a\n---\n"])  # fmt: skip
def test_a_card_that_says_nothing_of_files(tmp_path: Path, card: str) -> None:
    lines(tmp_path / "train.jsonl")
    lines(tmp_path / "test.jsonl")
    (tmp_path / "README.md").write_text(card)
    assert prompts(tmp_path) == ["train"]


def test_a_card_that_is_no_yaml(tmp_path: Path) -> None:
    lines(tmp_path / "train.jsonl")
    (tmp_path / "README.md").write_text("---\na: [\n---\n")
    with pytest.raises(DataError, match=r"the header of .*README.md is no YAML"):
        open_source(tmp_path)


def test_a_cache_of_datasets(tmp_path: Path, said: Said) -> None:
    lines(tmp_path / "train.jsonl")
    lines(tmp_path / "test.jsonl")
    files = {split: str(tmp_path / f"{split}.jsonl") for split in ("train", "test")}
    loaded = datasets.load_dataset("json", data_files=files, cache_dir=str(tmp_path / "cache"))
    folder = Path(loaded["train"].cache_files[0]["filename"]).parent
    assert prompts(folder) == ["train"]
    assert said() == [f"{folder}: its split 'train' is read; left out: test"]


def test_a_name_with_a_colon_of_its_own(tmp_path: Path) -> None:
    lines(tmp_path / "a:train.jsonl")
    (source,) = open_source(f"{tmp_path}/a:train.jsonl")
    assert source.stem == "a:train"
    assert FileInput(Path("x/data:test")).stem == "data"


def test_sources_as_another_folder_names_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines(tmp_path / "d" / "train.jsonl")
    names = ["d", "d:train", "d/*.jsonl", "org/name:train[:10%]", "memory:pool-1", "d/train.jsonl", "gone:x"]
    assert [absolute_source(name) for name in names] == [
        f"{tmp_path}/d", f"{tmp_path}/d:train", f"{tmp_path}/d/*.jsonl", "org/name:train[:10%]", "memory:pool-1",
        f"{tmp_path}/d/train.jsonl", "gone:x",
    ]  # fmt: skip


def test_a_pool_of_a_folder_keeps_its_source_in_the_cache(tmp_path: Path, open_pool: Callable[..., Pool]) -> None:
    datasets.DatasetDict({"train": table("train"), "test": table("test")}).save_to_disk(tmp_path / "d")
    for _ in range(2):
        pool = open_pool(tmp_path / "d")
        assert pool.column("source") == ["d"] * 3
        assert pool.raw(0) == b'{"prompt":"train 0","completion":"c"}'
    assert len(open_pool(datasets.DatasetDict({"train": table("train")}))) == 3
    assert len(open_pool(table("train").to_iterable_dataset())) == 3
