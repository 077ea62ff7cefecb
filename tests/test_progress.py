"""What a bar took is kept by who wants to know it."""

import subprocess
import sys
import time

import pytest

from handpick.progress import collect_timings, log, log_once, progress, saying_once


def test_seconds_go_by_what_had_a_bar_and_the_whole() -> None:
    with collect_timings() as seconds:
        for _ in range(2):
            with progress("features", total=1) as advance:
                time.sleep(0.02)
                advance(1)
        time.sleep(0.02)
    assert list(seconds) == ["features", "total"]
    assert 0.04 <= seconds["features"] <= seconds["total"] - 0.02


def test_clocks_may_stand_inside_each_other_and_stop_on_an_error() -> None:
    with collect_timings() as outer:
        with pytest.raises(ZeroDivisionError), collect_timings() as inner:
            raise ZeroDivisionError
        with progress("after", total=1):
            pass
    assert list(inner) == ["total"]
    assert list(outer) == ["after", "total"]


def test_a_line_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    log("folder:train: its split [red]a[/red] :a:")
    assert capsys.readouterr().err == "folder:train: its split [red]a[/red] :a:\n"


@pytest.mark.parametrize("first", ["", "import datasets; "])
def test_datasets_shows_no_bars_and_is_not_loaded_for_that(first: str) -> None:
    after = "print('datasets' in sys.modules); import datasets; print(datasets.utils.are_progress_bars_disabled())"
    code = f"import sys; {first}from handpick.progress import quiet_libraries; quiet_libraries(); {after}"
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert said.split() == [str(bool(first)), "True"]


def test_a_line_that_comes_again_is_printed_once_in_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    log_once("loaded")
    with saying_once():
        log_once("loaded")
        log_once("loaded")
        log_once("other")
    with saying_once():
        log_once("loaded")
    assert capsys.readouterr().err.split() == ["loaded", "loaded", "other", "loaded"]
