"""Varied records through TRL's own preparation and collator, and through the renderer, under the same template."""

import json
import random
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import torch
from datasets import Dataset
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from handpick.data.chat_template import FIXED_DATE
from handpick.data.formats import parse_record
from handpick.data.render import IGNORED, Renderer
from handpick.errors import DataError
from tests.data.chat_templates.families import FAMILIES, Family
from tests.data.learnt import tokenizer

# TRL's training templates, which say themselves what is generated, by the family that they belong to.
TEMPLATES = {
    "qwen2.5": "qwen2_5", "qwen3": "qwen3", "qwen3.5": "qwen3_5_think", "llama3": "llama3", "gemma3": "gemma3",
    "gpt-oss": "gptoss", "glm4-moe": "glm4moe", "deepseek-v3": "deepseekv3", "phi3": "phi3", "cohere2": "cohere2",
}  # fmt: skip
LONG = 100_000
# The differences that there are.
KNOWN = {
    "weights": "a turn of weight 0, which TRL does not read: it learns it",
    "call": "an answer that is a call alone, which the template leaves out: TRL learns the end of the turn, handpick "
    "refuses the record",
}
KINDS = ("plain", "several turns", "system", "thought", "thought in the text", "call", "result", "spaces", "weights")

_WORDS = ("the", "lamp", "is bright", "Paris", "because", "über", "日本", "def add(a):", "12.5", "🙂", "not\n\tyet")
_TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": f"Does {name}.",
            "parameters": {"type": "object", "properties": {"where": {"type": "string"}}, "required": ["where"]},
        },
    }
    for name in ("set_lamp", "get_weather")
]


class Compared(NamedTuple):
    """A record under a template: whether tokens and labels are TRL's, and of which kind it is."""

    family: str
    kind: str
    equal: bool
    why: str


def make_record(kind: str, seed: int) -> dict[str, Any]:
    """Make a conversation of a kind."""
    draw = random.Random(f"{kind} {seed}")

    def say() -> str:
        return " ".join(draw.choices(_WORDS, k=draw.randint(1, 12)))

    user, answer = ({"role": role, "content": say()} for role in ("user", "assistant"))
    name = draw.choice(("set_lamp", "get_weather"))
    call = {"type": "function", "function": {"name": name, "arguments": {"where": say()}}}
    record: dict[str, Any] = {"messages": [user, answer]}
    if kind == "several turns":
        record["messages"] += [{"role": r, "content": say()} for r in ("user", "assistant") * draw.randint(1, 3)]
    elif kind == "system":
        record["messages"].insert(0, {"role": "system", "content": say()})
    elif kind == "thought":
        answer["reasoning_content"] = say()
    elif kind == "thought in the text":
        answer["content"] = f"<think>\n{say()}\n</think>\n\n{answer['content']}"
    elif kind in ("call", "result"):
        answer |= {"content": say() if seed % 3 else "", "tool_calls": [call]}
        record["tools"] = _TOOLS
        if kind == "result":
            record["messages"] += [{"role": "tool", "name": name, "content": say()}]
            record["messages"] += [{"role": "assistant", "content": say()}]
    elif kind == "spaces":
        user["content"], answer["content"] = f"  {say()} \n", f"\n {say()}  \n"
    elif kind == "weights":
        record["messages"] += [{"role": "user", "content": say()}, {"role": "assistant", "content": say(), "weight": 1}]
        answer["weight"] = min(seed % 3, 1)
    return record


def make_records(n: int) -> list[tuple[str, dict[str, Any]]]:
    """Make records of all kinds in turn."""
    return [(KINDS[i % len(KINDS)], make_record(KINDS[i % len(KINDS)], i // len(KINDS))) for i in range(n)]


def compare_family(family: Family, records: list[tuple[str, dict[str, Any]]], scratch: Path) -> list[Compared]:
    """Compare records under a family's training template."""
    told = _with_training_template(family)
    renderer = Renderer(told)
    theirs = _trl_rows(told, [record for _, record in records], scratch)
    found = []
    for (kind, record), row in zip(records, theirs, strict=True):
        try:
            rendered = renderer(parse_record(json.loads(json.dumps(record))).messages, LONG)
            ours = (rendered.input_ids, rendered.labels)
            why = "" if row == ours else "tokens" if row is None or row[0] != ours[0] else "labels"
        except DataError as error:
            why = "" if row is None else str(error)
        found.append(Compared(family.name, kind, not why, why))
    return found


def training_families() -> list[Family]:
    """Return the families that TRL has a training template of."""
    return [family for family in FAMILIES if family.name in TEMPLATES]


def _with_training_template(family: Family) -> PreTrainedTokenizerBase:
    told = tokenizer(family)
    text = (files("trl") / "chat_templates" / f"{TEMPLATES[family.name]}_training.jinja").read_text(encoding="utf-8")
    told.chat_template = (FIXED_DATE if "strftime_now" in text else "") + text
    told.pad_token = told.eos_token
    return told


def _trl_rows(
    told: PreTrainedTokenizerBase, records: list[dict[str, Any]], scratch: Path
) -> list[tuple[list[int], list[int]] | None]:
    """Return tokens and labels of TRL's collator; None where its preparation fails, as it does for a whole data set."""
    from trl import SFTConfig, SFTTrainer

    small = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(told), **small))
    args = SFTConfig(
        str(scratch), assistant_only_loss=True, max_length=None, report_to="none", use_cpu=True, bf16=False
    )
    rows: list[tuple[list[int], list[int]] | None] = []
    prepared = [record if _is_written(told, record) else None for record in records]
    # `from_list` takes the columns of the first record
    data = Dataset.from_list([{"tools": None} | record for record in prepared if record is not None])
    trainer = SFTTrainer(model, args, train_dataset=data, processing_class=told)
    trained = iter(trainer.train_dataset)
    for record in prepared:
        if record is None:
            rows.append(None)
            continue
        batch: dict[str, torch.Tensor] = trainer.data_collator([next(trained)])
        rows.append((batch["input_ids"][0].tolist(), batch["labels"][0].tolist()))
    assert IGNORED == -100
    return rows


def _is_written(told: PreTrainedTokenizerBase, record: dict[str, Any]) -> bool:
    try:
        found = told.apply_chat_template(
            record["messages"],
            tools=record.get("tools"),
            tokenize=True,
            return_dict=True,
            return_assistant_tokens_mask=True,
        )
    except Exception:  # whatever a template raises: TRL would end there
        return False
    return 1 in found["assistant_masks"]
