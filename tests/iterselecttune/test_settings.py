"""What is written down of the settings, letter by letter, and what is read back."""

import json
from typing import Any

from handpick.iterselecttune.settings import IterSelectSettings, written_settings

ADDRESS = {"url": "http://secret-host/v1", "key_env": "SECRET_KEY"}


def settings(judging: dict[str, Any]) -> IterSelectSettings:
    return IterSelectSettings.from_values({"pool": "p", "model": "m", "judge": "j", "judging": judging})


def test_what_is_written_of_a_judge_is_what_was_given_but_its_address() -> None:
    given = {**ADDRESS, "temperature": "none", "max_calls": "5", "backoff_s": 0.5}
    assert json.dumps(written_settings(settings(given))) == (
        '{"columns": {}, "turn_weights": "refuse", '
        '"pool": ["p"], "model": "m", "judge": "j", "budget": "20%", "out": "runs/iterselect", "seed": 0, '
        '"rounds": 3, "batch": 1500, "alpha": 0.6, "clusters": 100, "patience": 1, "verdict": "pairwise", '
        '"hard_below": 0.5, "judging": {"temperature": null, "max_calls": 5, "backoff_s": 0.5}, '
        '"allow_code_execution": false, "allow_weak_sandbox": false, "max_new_tokens": 512, '
        '"template_args": {}, "dtype": "auto", "reads": "prompt", '
        '"encoder": "sentence-transformers/gtr-t5-base", "classifier": {"model": "google-bert/bert-base-uncased", '
        '"epochs": 3, "learning_rate": 2e-05, "batch": 16, "max_length": 512, "held_out": 0.2}}'
    )
    assert written_settings(settings({}))["judging"] == {}


def test_settings_survive_being_written() -> None:
    whole = settings({**ADDRESS, "temperature": None})
    again = IterSelectSettings.model_validate_json(whole.model_dump_json())
    assert again.judging == whole.judging
    assert again.judging.model_fields_set == whole.judging.model_fields_set
