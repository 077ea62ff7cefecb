"""The judge's options as settings of a run: what is written down, letter by letter, and what is refused."""

from typing import Any

import pytest

from handpick.errors import SettingsError
from handpick.judge import JudgeOptions
from handpick.objectives.judge_fields import judge_options
from handpick.settings import Settings, parse_settings

# What a run has written since the first release candidate. Other text would be other settings to who compares files.
WRITTEN = """\
columns: {}
turn_weights: refuse
balanced: false
max_share: {}
min_share: {}
exclude_overlap: []
overlap_threshold: 0.75
knn_alpha: 0.01
knn_scale: 5.0
knn_neighbours: 5000
kde_width: 0.75
kde_neighbours: 1000
uot_epsilon: 0.01
uot_relaxation: 0.0001
importance_temperature: 1.0
preference_loss: dpo
gamma: 1.0
reward: judge:m
advantage: raw
variants: []
log_prob: sum
sampler: transformers
samples: 20
top_k: 50
top_p: 0.95
max_new_tokens: 256
stop: []
allow_code_execution: false
allow_weak_sandbox: false
judge_url: http://localhost:1/v1
judge_key_env: OPENAI_API_KEY
judge_temperature: none
judge_seed: 0
max_answer_tokens: 1024
max_judge_calls: 5
max_judge_cost: 1.5
judge_price_in: 1.0
judge_price_out: 2.0
judge_timeout: 120.0
judge_retries: 6
prefilter: []
prefilter_share: []
encoder: sentence-transformers/gtr-t5-base
dsir_smoothing: 1.0e-08
gist_dim: 150
tacs_paths: one
whitening_damping: 10.0
landmarks: '4096'
landmark_draw: random
landmark_features: rds+
refine: '0'
seed: 0
max_length: 2048
template_args: {}
eps_mode: less
projection: sparse
projection_dim: 8192
projection_nonzeros: 1
layers: all
dtype: auto
quantization: none
gradient_checkpointing: false
pool:
- p
query:
- q
target: {}
split: equal
target_weight: {}
checkpoints: []
method: nice
budget: '1000'
storage: float32
shard_rows: 1024
warmup: auto
score_only: false
"""
GIVEN: dict[str, Any] = {
    "pool": ["p"],
    "query": ["q"],
    "method": "nice",
    "reward": "judge:m",
    "judge_temperature": "none",
    "judge_url": "http://localhost:1/v1",
    "max_judge_calls": "5",
    "max_judge_cost": "1.5",
    "judge_price_in": 1,
    "judge_price_out": "2",
}


def test_the_text_of_settings_yaml() -> None:
    assert parse_settings(GIVEN).to_yaml() == WRITTEN


def test_the_text_of_the_defaults() -> None:
    lines = Settings().to_yaml().splitlines()
    assert [line for line in lines if "judge" in line or "answer" in line] == [
        "judge_key_env: OPENAI_API_KEY",
        "judge_temperature: 0.0",
        "judge_seed: 0",
        "max_answer_tokens: 1024",
        "judge_timeout: 120.0",
        "judge_retries: 6",
    ]


def test_what_is_written_is_read_back_the_same() -> None:
    settings = parse_settings(GIVEN)
    assert parse_settings(settings.model_dump(mode="json", exclude_none=True)) == settings


def test_flat_settings_are_the_judges_options() -> None:
    options = judge_options(parse_settings(GIVEN))
    assert options.model_dump(exclude={"workers", "backoff_s"}) == {
        "url": "http://localhost:1/v1", "key_env": "OPENAI_API_KEY", "prompt": None, "temperature": None,
        "seed": 0, "timeout_s": 120, "retries": 6,
        "max_answer_tokens": 1024, "max_calls": 5, "max_tokens_total": None, "max_cost": 1.5, "price_in": 1,
        "price_out": 2,
    }  # fmt: skip
    assert judge_options(Settings()) == JudgeOptions()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"judge_temperature": -1}, "judge_temperature.* should be greater than or equal to 0"),
        ({"max_judge_calls": 0}, "max_judge_calls should be greater than or equal to 1"),
        ({"max_judge_cost": 1}, "max_cost needs price_in and price_out"),
        ({"judge_url": "localhost"}, "the judge's url is no http or https address"),
        ({"judge_key_env": "sk-1"}, "the judge's key_env must be the name of an environment variable"),
        ({"max_judge_calls": "sk-secret"}, "max_judge_calls should be a valid integer"),
    ],
)
def test_a_judge_that_cannot_be_asked_is_refused_before_any_work(values: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message) as told:
        parse_settings({"method": "nice", "reward": "judge:m", **values})
    assert "secret" not in str(told.value)
    assert "sk-1" not in str(told.value)
