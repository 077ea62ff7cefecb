"""The page of a selection: its numbers are the folder's, and nothing in it comes from elsewhere."""

import csv
import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handpick.data.formats import parse_record
from handpick.errors import SettingsError, StoreError
from handpick.reporting.page import data_block, replace_unprintable
from handpick.reporting.run_folder import open_run
from handpick.reporting.selection import write_selection_report
from handpick.selection import Selection
from tests.reporting.conftest import Page, record

Read = Callable[[Path], Page]


@pytest.fixture(scope="module")
def report(by_words: Path) -> Page:
    return Page(write_selection_report(by_words).read_text(encoding="utf-8"))


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_picks_are_those_of_the_folder(by_words: Path, report: Page) -> None:
    selection, data = Selection.open(by_words), report.data()
    rows = data["rows"]
    assert [row["id"] for row in rows] == selection.ids
    assert [row["score"] for row in rows] == selection.scores
    assert [row["rank"] for row in rows] == list(range(1, 21))
    assert [data["queries"][row["query"]]["id"] for row in rows] == selection.picked_for
    for choice, row in enumerate(rows):
        found = json.loads(selection.record(choice))
        assert row["turns"] == [*([m["role"], m["content"]] for m in found["messages"]), 0]
        assert data["sources"][row["source"]] == f"{found['source']} / {found['category']}"


def test_each_query_has_its_text(report: Page, query_records: list[dict[str, Any]]) -> None:
    texts = {each["id"]: [[m["role"], m["content"]] for m in each["messages"]] + [0] for each in query_records}
    assert {each["id"]: each["turns"] for each in report.data()["queries"]} == texts


def test_composition(by_words: Path, report: Page, pool_records: list[dict[str, Any]]) -> None:
    chosen = [json.loads(line) for line in (by_words / "selected.jsonl").read_text().splitlines()]
    kinds, in_pool = (Counter((r["source"], r["category"]) for r in some) for some in (chosen, pool_records))
    rows = table(by_words / "report" / "composition.csv")
    assert {(row["source"], row["category"]): int(row["chosen"]) for row in rows} == {k: kinds[k] for k in in_pool}
    for row in rows:
        kind = row["source"], row["category"]
        assert float(row["share"]) == pytest.approx(kinds[kind] / 20)
        assert float(row["pool_share"]) == pytest.approx(in_pool[kind] / 120)
        assert float(row["ratio"]) == pytest.approx(kinds[kind] / 20 / (in_pool[kind] / 120))
    assert [int(row["chosen"]) for row in rows] == sorted(kinds[kind] for kind in in_pool)[::-1]


def test_length_plot_counts_every_example_once(
    by_words: Path, report: Page, pool_records: list[dict[str, Any]]
) -> None:
    rows = [row for row in table(by_words / "report" / "lengths.csv") if row["length of"] == "response"]
    lengths = np.array([len(r["messages"][-1]["content"]) for r in pool_records])
    assert sum(float(row["pool"]) for row in rows) == pytest.approx(1)
    assert sum(float(row["chosen"]) for row in rows) == pytest.approx(1)
    edges = [float(row["from"]) for row in rows] + [float(rows[-1]["to"])]
    edges[0] -= 1e-6  # the logarithm and back
    edges[-1] += 1e-6
    assert [float(row["pool"]) for row in rows] == pytest.approx(list(np.histogram(lengths, edges)[0] / 120))


def test_it_needs_nothing_but_itself(report: Page) -> None:
    for tag, attributes, _ in report.elements:
        assert tag not in ("link", "img", "iframe", "object", "base"), tag
        assert "src" not in attributes
        for name in ("href", "xlink:href"):
            assert (attributes.get(name) or "#").startswith(("#", "report/")), attributes
    (style,) = report.all("style")[:1]
    assert "@import" not in style
    assert "url(" not in style


def test_ids_are_unique_and_every_reference_leads_somewhere(report: Page) -> None:
    ids = Counter(attributes["id"] for _, attributes, _ in report.elements if "id" in attributes)
    assert [each for each, count in ids.items() if count > 1] == []
    links = {attributes.get("href") or "" for tag, attributes, _ in report.elements if tag in ("a", "use")}
    assert {link[1:] for link in links if link.startswith("#")} <= ids.keys()


def test_plots_take_the_pages_colours(by_words: Path, report: Page) -> None:
    text = (by_words / "report.html").read_text()
    svgs = text[text.index("<svg") : text.rindex("</svg>")]
    assert "currentColor" in svgs
    assert "#1d1f21" not in svgs
    assert {path.name for path in (by_words / "report").iterdir()} == {
        "composition.csv", "lengths.csv", "lengths.png", "scores.csv", "scores.png", "similarity.csv", "similarity.png",
    }  # fmt: skip
    assert all(path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" for path in (by_words / "report").glob("*.png"))


def test_equal_folders_give_equal_bytes(by_words: Path, tmp_path: Path) -> None:
    contents = []
    for where in ("a", "b"):
        copy = tmp_path / where / "run"
        shutil.copytree(by_words, copy, ignore=shutil.ignore_patterns("report*"))
        write_selection_report(copy)
        contents.append({p.relative_to(copy): p.read_bytes() for p in sorted(copy.rglob("*")) if p.is_file()})
    assert contents[0] == contents[1]
    assert len([path for path in contents[0] if path.parts[0] in ("report", "report.html")]) == 8


def test_matplotlib_is_left_as_it_was(by_words: Path) -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    write_selection_report(by_words)
    assert dict(matplotlib.rcParams) == before


HOSTILE = (
    "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'& {{ 7*7 }} $x^2$ \u202eabc\u0000 שלום ]]> <!--"
)


def test_hostile_text_stays_text(chosen_from: Callable[..., Path], page: Read) -> None:
    fields = {"source": HOSTILE, "category": HOSTILE}
    pool = [record(n, f"what is {n} {HOSTILE}", HOSTILE, **fields) for n in range(4)]
    pool.append(record(9, "what is long", "x" * 2**20, source="plain"))
    queries = [record(n, f"what is {n} {HOSTILE}", "b", subtask=HOSTILE) for n in (20, 21)]
    folder = chosen_from(pool, queries)
    found = page(write_selection_report(folder))  # which fails where an element is opened or closed that should not be
    scripts = [(attributes.get("type"), said) for tag, attributes, said in found.elements if tag == "script"]
    assert [kind for kind, _ in scripts] == ["application/json", "application/json", None]
    assert not any("onerror" in attributes for _, attributes, _ in found.elements)
    rows = {row["id"]: row for row in found.data()["rows"]}
    assert rows["r0"]["turns"][1] == ["assistant", HOSTILE]
    assert "49" not in "".join(found.all("h1") + found.all("td", class_="first"))
    assert found.all("td", class_="first")[0] == HOSTILE.replace("\0", "\ufffd")
    assert rows["r9"]["turns"] == [["user", "what is long"], ["assistant", "x" * 19_988], 2**20 - 19_988]
    assert b"\0" not in (folder / "report.html").read_bytes()


def test_what_no_page_can_hold_is_shown_as_such() -> None:
    assert replace_unprintable("a\ud800\x00\x1b\ufffeb\n\u202e") == "a\ufffd\ufffd\ufffd\ufffdb\n\u202e"
    assert str(data_block("</script><!--&")) == '"\\u003c/script\\u003e\\u003c!--\\u0026"'


def test_several_targets_are_named(chosen_from: Callable[..., Path], tmp_path: Path, page: Read) -> None:
    pool = [record(n, f"word {n} and sentence", "answer") for n in range(6)]
    folder = chosen_from(pool, [record(7, "word", "b")], budget=2)
    settings = (folder / "settings.yaml").read_text()
    (tmp_path / "other.jsonl").write_text(json.dumps(record(8, "sentence", "b")) + "\n")
    import handpick

    out = tmp_path / "two"
    targets = {"left": [str(tmp_path / "q.jsonl")], "right": [str(tmp_path / "other.jsonl")]}
    handpick.select(str(tmp_path / "p.jsonl"), target=targets, budget=4, method="bm25", out=str(out))
    cells = page(write_selection_report(out)).all("td")
    assert {"left", "right"} <= set(cells)
    assert "left" not in settings


def test_a_pool_that_is_gone_is_said(chosen_from: Callable[..., Path], tmp_path: Path, page: Read) -> None:
    folder = chosen_from([record(n, f"word {n}", "answer") for n in range(6)], [record(7, "word", "b")], budget=3)
    (tmp_path / "p.jsonl").unlink()
    found = page(write_selection_report(folder))
    notes = " ".join(found.all("p", class_="note"))
    assert "The pool could not be read: there is no file" in notes
    assert "words of pool and queries are needed" in notes
    assert len(found.data()["rows"]) == 3
    assert "ratio" not in "".join(found.all("th"))


def test_a_pool_that_changed_is_said(chosen_from: Callable[..., Path], tmp_path: Path, page: Read) -> None:
    folder = chosen_from([record(n, f"word {n}", "answer") for n in range(6)], [record(7, "word", "b")], budget=3)
    with (tmp_path / "p.jsonl").open("a") as file:
        file.write(json.dumps(record(50, "more", "answer")) + "\n")
    assert "have changed since" in " ".join(page(write_selection_report(folder)).all("p", class_="note"))


def test_a_pool_that_is_read_otherwise_is_said(chosen_from: Callable[..., Path], tmp_path: Path, page: Read) -> None:
    pool = [{"instruction": f"word {n}", "input": "text", "output": "answer"} for n in range(6)]
    folder = chosen_from(pool, [record(7, "word", "b")], budget=3)
    selection = folder / "selection.json"
    found = json.loads(selection.read_text())
    assert found["fingerprints"]["pool"]["files"][0].pop("record_rule") == 2  # as the first rule's handpick left it
    del found["digest"]
    selection.write_text(json.dumps(found))
    assert "are read otherwise since" in " ".join(page(write_selection_report(folder)).all("p", class_="note"))


def test_no_selection_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no selection in"):
        write_selection_report(tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "match"),
    [
        ("distances.json", "{", r"distances\.json cannot be read"),
        ("overlap.jsonl", "{}\n", r"overlap\.jsonl cannot be read"),
        ("selected.jsonl", "{}\n" * 20, r"selected\.jsonl has changed since"),
        ("quarantine.jsonl", "{}\n", r"quarantine\.jsonl cannot be read"),
        ("selection.json", "{", r"selection\.json is damaged"),
    ],
)
def test_a_damaged_folder_is_one_sentence(by_words: Path, tmp_path: Path, name: str, text: str, match: str) -> None:
    folder = tmp_path / "run"
    shutil.copytree(by_words, folder)
    (folder / name).write_text(text)
    with pytest.raises((StoreError, SettingsError), match=match):
        write_selection_report(folder)


def test_the_settings_are_the_selections_whatever_was_computed_there_since(by_words: Path, tmp_path: Path) -> None:
    """`similarity` and `represent` write a settings.yaml of their own into the same folder."""
    folder = tmp_path / "run"
    shutil.copytree(by_words, folder)
    before = open_run(folder).made_by
    (folder / "settings.yaml").write_text("method: dsir\nbudget: 7\n")
    assert open_run(folder).made_by == before
    assert open_run(folder).method == "bm25"


@pytest.mark.parametrize(("threads", "said"), [(1, "cpu, 1 thread"), (2, "cpu, 2 threads")])
def test_what_it_ran_on(threads: int, said: str, by_words: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(by_words, folder)
    (folder / "cost.json").write_text(json.dumps({"seconds": {"total": 1.0}, "device": "cpu", "threads": threads}))
    assert open_run(folder).machine == said


def test_a_save_that_was_cut_short_is_no_selection(tmp_path: Path) -> None:
    def selection(name: str) -> Selection:
        return Selection([f"{name}0"], [0.0], [None], {}, {}, lambda i: f'{{"id": "{name}{i}"}}'.encode())

    selection("a").save(tmp_path)
    summary = (tmp_path / "selection.json").read_bytes()
    selection("b").save(tmp_path)
    (tmp_path / "selection.json").write_bytes(summary)
    with pytest.raises(StoreError, match="cut short between the two"):
        Selection.open(tmp_path)


def test_turns_are_those_the_reader_sees(pool_records: list[dict[str, Any]]) -> None:
    from handpick.reporting.picks import response

    for each in pool_records[:5]:
        messages = parse_record(each).messages
        assert response(messages) == each["messages"][-1]["content"]
