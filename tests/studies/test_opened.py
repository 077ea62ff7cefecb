"""What a study says when it has opened its data and models."""

import json
from pathlib import Path

import pytest

from handpick.data.examples import Conversation
from handpick.data.render import Renderer
from handpick.data.unwritten import Unwritten, read_unwritten
from handpick.layout import StudyLayout
from handpick.studies.opened import StudyInputs
from tests.studies.conftest import Ask

SAID = "1 record of the pool{} carries system; this template does not write it (first: told)"


def test_what_a_models_template_does_not_write_is_said_once_a_model(
    ask: Ask, study_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unwritten(self: Renderer, conversation: Conversation) -> tuple[str, ...]:
        return ("system",) if conversation[0].role == "system" else ()

    monkeypatch.setattr(Renderer, "unwritten", unwritten, raising=False)
    turns = [{"role": role, "content": role} for role in ("system", "user", "assistant")]
    pool = tmp_path / "pool.jsonl"
    pool.write_bytes((study_data / "pool.jsonl").read_bytes() + json.dumps({"id": "told", "messages": turns}).encode())
    settings = ask(pool=str(pool))
    StudyInputs(settings)
    assert SAID.format("") in capsys.readouterr().err
    kept = StudyLayout(settings.folder).unwritten
    assert read_unwritten(kept) == {"pool": {"system": Unwritten(1, "told")}}

    model = settings.models["tiny"]
    StudyInputs(ask(pool=str(pool), models={"a/b": model, "c": model}))
    said = capsys.readouterr().err
    assert all(said.count(SAID.format(f" under {name}'s template")) == 1 for name in ("a/b", "c"))
    assert set(read_unwritten(kept)) == {"pool under a/b's template", "pool under c's template"}


@pytest.mark.parametrize(
    ("methods", "queries"),
    [(["rose"], ["good"]), (["bm25"], ["good", "alone"]), (["rose", "bm25"], ["good", "alone"])],
)
def test_kto_queries_are_pairs_where_every_method_makes_pairs(
    methods: list[str], queries: list[str], ask: Ask, study_data: Path, tmp_path: Path
) -> None:
    kto = [("good", "Hi", "Hello", True), ("bad", "Hi", "Go away.", False), ("alone", "Bye", "Bye", True)]
    path = tmp_path / "kto.jsonl"
    path.write_text(
        "\n".join(
            json.dumps({"id": id, "prompt": asked, "completion": said, "label": wanted})
            for id, asked, said, wanted in kto
        )
    )
    target = {"query": str(path), "test": str(study_data / "gsm8k-test.jsonl")}
    opened = StudyInputs(ask(methods=methods, targets={"kto": target}))
    assert opened.targets["kto"].query.ids() == queries
