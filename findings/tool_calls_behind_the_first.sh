#!/usr/bin/env bash
# Tool calls behind the first: gpt-oss' template drops them, DeepSeek V3's drops the text beside them and their header.
#
# transformers 5.23.0 with the templates that trl 1.16.0 holds as the models' own. Of two calls in one turn gpt-oss'
# template writes the first, and Llama 3.1's raises. DeepSeek V3's writes a later turn with calls otherwise than a
# conversation's first: its text, its <｜Assistant｜> and the token that opens the calls are missing.
#
# Seen:
#   gpt-oss, two calls in a turn           the first is written, the second is not
#   Llama 3.1, two calls in a turn         'TemplateError: This model only supports single tool-calls at once!'
#   Qwen3, two calls in a turn             both are written
#   DeepSeek V3, the first turn of calls   '<｜Assistant｜>One moment.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>'
#   DeepSeek V3, the second                '<｜User｜>Rome?\n<｜tool▁call▁begin｜>' ("Again." is gone)
#
# handpick refuses or names what a template leaves out of a turn (docs/templates.md).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
export HF_HOME="$work/hf" HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error PIP_DISABLE_PIP_VERSION_CHECK=1
"${PYTHON:-python3}" -m venv venv
venv/bin/pip install -qq transformers==5.23.0 tokenizers==0.23.3 jinja2==3.1.6
venv/bin/pip install -qq --no-deps trl==1.16.0
venv/bin/pip freeze --all | grep -iE '^(transformers|jinja2|trl)=='
venv/bin/python -W ignore - <<'EOF'
import re
import sys
import sysconfig
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

SITE = Path(sysconfig.get_path("purelib"))


def render(template, messages, **arguments):
    """The text of a template, or the error that it raises."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel({"?": 0}, unk_token="?")), bos_token="<s>", eos_token="</s>"
    )
    tokenizer.chat_template = (SITE / template).read_text(encoding="utf-8")
    try:
        return tokenizer.apply_chat_template(messages, tokenize=False, **arguments)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def turn(text, *cities):
    calls = [
        {"type": "function", "function": {"name": "weather", "arguments": f'{{"city": "{city}"}}'}} for city in cities
    ]
    return {"role": "assistant", "content": text, "tool_calls": calls}


def written(name):
    text = render(f"trl/chat_templates/{name}.jinja", [{"role": "user", "content": "?"}, turn("", "Oslo", "Bern")])
    return [city in text for city in ("Oslo", "Bern")] if "Error" not in text else text


two_turns = [
    {"role": "user", "content": "Oslo?"},
    turn("One moment.", "Oslo"),
    {"role": "tool", "content": "Snow"},
    {"role": "assistant", "content": "It snows."},
    {"role": "user", "content": "Rome?"},
    turn("Again.", "Rome"),
]
deepseek = render("trl/chat_templates/deepseekv3.jinja", two_turns)
opened = [part + "<｜tool▁call▁begin｜>" for part in deepseek.split("<｜tool▁call▁begin｜>")[:-1]]
facts = [
    ("gpt-oss, two calls in a turn", written("gptoss"), [True, False]),
    (
        "Llama 3.1, two calls in a turn",
        written("llama3_1"),
        "TemplateError: This model only supports single tool-calls at once!",
    ),
    ("Qwen3, two calls in a turn", written("qwen3"), [True, True]),
    (
        "DeepSeek V3, the first turn of calls",
        opened[0],
        "<s><｜User｜>Oslo?<｜Assistant｜>One moment.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>",
    ),
    (
        "DeepSeek V3, the second",
        opened[1][opened[1].rindex("<｜User｜>") :],
        "<｜User｜>Rome?\n<｜tool▁call▁begin｜>",
    ),
    ("DeepSeek V3 writes the text of the second", "Again." in deepseek, False),
]

for what, now, _ in facts:
    print(f"{what}: {now!r}")
changed = [f"{what}\n  found {found!r}\n  now   {now!r}" for what, now, found in facts if now != found]
if changed:
    sys.exit("CHANGED: " + "\n".join(changed))
print("as found")
EOF
