"""What settings are refused, and what is said."""

from typing import Any

import pytest

from handpick.errors import SettingsError
from handpick.judge import JudgeSettings


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"max_cost": 1}, "max_cost needs price_in and price_out"),
        ({"max_cost": 1, "price_in": 1}, "max_cost needs price_in and price_out"),
        ({"url": "localhost:8000"}, "the judge's url is no http or https address such as http://localhost:8000/v1"),
        ({"url": "http://"}, "is no http or https address"),
        ({"url": "http://[::1"}, "is no http or https address"),
        ({"url": "http://host:port/v1"}, "is no http or https address"),
        ({"url": "http://me@host/v1"}, "must hold no user, password or query; .* environment variable OPENAI_API_KEY"),
        ({"url": "http://host/v1?v=2"}, "must hold no user, password or query"),
        ({"key_env": "sk-1"}, "key_env must be the name of an environment variable"),
        ({"max_call": 1}, "a judge has no setting 'max_call'; it has url, key_env, "),
        ({"workers": 0}, "the judge's setting workers: Input should be greater than or equal to 1; change it"),
        ({"max_cost": float("nan")}, "the judge's setting max_cost: Input should be a finite number"),
        ({"model": ""}, "the judge's setting model: "),
        ({"max_calls": 0}, "the judge's setting max_calls: Input should be greater than or equal to 1"),
        ({"max_tokens_total": 0}, "the judge's setting max_tokens_total: Input should be greater than or equal to 1"),
        (
            {"max_cost": 0, "price_in": 1, "price_out": 1},
            "the judge's setting max_cost: Input should be greater than 0",
        ),
        ({"temperature": -1}, "the judge's setting temperature: Input should be greater than or equal to 0"),
        ({"temperature": float("inf")}, "the judge's setting temperature: Input should be a finite number"),
    ],
)
def test_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        JudgeSettings.from_values({"model": "m", **values})


def test_all_settings_survive_being_written() -> None:
    settings = JudgeSettings(model="m", url="https://host:8000/v1", max_cost=1, price_in=0.5, price_out=2)
    assert JudgeSettings.from_values(settings.model_dump(mode="json")) == settings
