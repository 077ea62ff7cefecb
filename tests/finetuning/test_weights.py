"""A model is finished while its weights are there and are those of ``train.yaml``."""

import shutil
from pathlib import Path

import pytest
import yaml

from handpick.errors import ModelError
from handpick.finetuning.finetune import load_finetuned
from handpick.finetuning.record import is_finished
from tests.finetuning.finetunings import run

WEIGHTS = "adapter_model.safetensors"


@pytest.fixture(scope="module")
def trained(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(tiny_model, tmp_path_factory.mktemp("tuned") / "adapter")


@pytest.fixture
def out(trained: Path, tmp_path: Path) -> Path:
    return shutil.copytree(trained, tmp_path / "adapter")


def made_from(folder: Path) -> dict[str, object]:
    found: dict[str, object] = yaml.safe_load((folder / "train.yaml").read_text())["made_from"]
    return found


def forget_weights(folder: Path) -> None:
    """Make the record one of before, which does not say what the weights are."""
    record = yaml.safe_load((folder / "train.yaml").read_text())
    del record["weights"], record["digest"]
    (folder / "train.yaml").write_text(yaml.safe_dump(record))


@pytest.mark.parametrize("is_of_before", [False, True])
@pytest.mark.parametrize("how", ["gone", "empty"])
def test_weights_that_are_not_there_are_trained_again(
    how: str, is_of_before: bool, out: Path, trained: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if is_of_before:
        forget_weights(out)
    assert is_finished(out, made_from(out))
    (out / WEIGHTS).unlink() if how == "gone" else (out / WEIGHTS).write_bytes(b"")
    assert not is_finished(out, made_from(out))
    assert f"{out / WEIGHTS} is gone or cut short" in capsys.readouterr().err.replace("\n", " ").replace("  ", " ")
    if how == "empty" and not is_of_before:
        run(tiny_model, out)
        assert {p.name: p.read_bytes() for p in out.iterdir()} == {p.name: p.read_bytes() for p in trained.iterdir()}


def test_weights_that_were_cut_are_trained_again(out: Path) -> None:
    (out / WEIGHTS).write_bytes((out / WEIGHTS).read_bytes()[:-1])
    assert not is_finished(out, made_from(out))


def test_other_weights_are_refused(out: Path, tiny_model: Path) -> None:
    data = bytearray((out / WEIGHTS).read_bytes())
    data[-1] ^= 1
    (out / WEIGHTS).write_bytes(data)
    for use in (lambda: is_finished(out, made_from(out)), lambda: load_finetuned(out, base=str(tiny_model))):
        with pytest.raises(ModelError, match=rf"{WEIGHTS} is damaged: .*train\.yaml; remove it and run the same"):
            use()


@pytest.mark.parametrize("change", [("finished: true", "finished: trus"), ("made_from", "made_frum"), ("seed", "seid")])
def test_a_changed_record_is_refused(change: tuple[str, str], out: Path) -> None:
    text = (out / "train.yaml").read_text()
    (out / "train.yaml").write_text(text.replace(*change, 1))
    with pytest.raises(ModelError, match=r"train\.yaml is damaged \(its digest has changed\); remove it"):
        is_finished(out, {})
