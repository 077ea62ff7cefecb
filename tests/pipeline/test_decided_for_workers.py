"""What a run leaves to the device is decided once, by the smallest that computes."""

import pytest

from handpick.executors import DeviceReport, ThisProcess
from handpick.model import has_bfloat16
from handpick.pipeline.prepare import decide_for_workers
from handpick.scorers.gradient_encoder import tokens_per_batch
from handpick.settings import Settings


class Elsewhere(ThisProcess):
    """Workers on devices that are not here; ``asked`` says whether anybody wanted to know."""

    is_here = False

    def __init__(self, *devices: DeviceReport) -> None:
        super().__init__()
        self._devices, self.asked = list(devices), False

    def devices(self) -> list[DeviceReport]:
        self.asked = True
        return self._devices


def gpu(bfloat16: bool = True) -> DeviceReport:
    return DeviceReport("cuda", bfloat16, 80 << 30)


LIKE_HERE = DeviceReport("cpu", has_bfloat16(), 8 << 30)


def test_the_batches_are_those_of_the_smallest_device(capsys: pytest.CaptureFixture[str]) -> None:
    settings = Settings(dtype="float32")
    assert decide_for_workers(settings, ThisProcess()) == settings
    assert decide_for_workers(settings, Elsewhere(LIKE_HERE)) == settings
    assert decide_for_workers(settings, Elsewhere(gpu(), LIKE_HERE)) == settings
    assert not capsys.readouterr().err
    found = decide_for_workers(settings, Elsewhere(gpu(), gpu()))
    assert (found.batch_tokens, found.dtype) == (4096, "float32")
    assert tokens_per_batch(found) == tokens_per_batch(settings, "cuda")
    assert "the workers compute on other devices than this process, and have batch_tokens 4096" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize("here", [True, False])
def test_the_type_is_one_that_all_have_instructions_for(here: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handpick.pipeline.prepare.has_bfloat16", lambda: here)
    settings = Settings(batch_tokens=512)
    both, one = Elsewhere(gpu(), gpu()), Elsewhere(gpu(), gpu(bfloat16=False))
    assert decide_for_workers(settings, both).dtype == ("auto" if here else "bfloat16")
    assert decide_for_workers(settings, one).dtype == ("float32" if here else "auto")


def test_nobody_is_waited_for_where_nothing_is_open() -> None:
    for settings in (Settings(dtype="float32", batch_tokens=512), Settings(method="bm25")):
        executor = Elsewhere(gpu())
        assert decide_for_workers(settings, executor) == settings
        assert not executor.asked
