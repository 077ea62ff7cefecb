#!/usr/bin/env bash
# A date as an answer, or a list that pandas read, stands in the training text as the name of a Python type.
#
# transformers 5.23.0, datasets 5.2.0, pandas 3.1.1. apply_chat_template puts "<TYPE>" in place of what JSON has no word
# for, without a warning. Two ways lead there from files that hold nothing but text:
# - load_dataset("json") makes a column of texts that all look like dates one of timestamps, in turns as well. Every
#   answer then reads `<datetime>`. One answer that is no date leaves the column text.
# - pandas.read_parquet gives lists as arrays of NumPy. A content in parts becomes `<ndarray>`, and so do the lists in a
#   tool's schema.
#
# Seen:
#   type of the answers        timestamp[s]
#   Gemma 3, of the answer     '<start_of_turn>model\n<datetime><end_of_turn>\n'
#   Gemma 3, parts as lists    '<start_of_turn>model\nHello.<end_of_turn>\n'
#   Gemma 3, parts by pandas   '<start_of_turn>model\n<ndarray><end_of_turn>\n'
#   Qwen3, a tool by pandas    '"required": "<ndarray>"'
#
# handpick reads the file itself: text stays text, and lists are lists.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
export HF_HOME="$work/hf" HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error PIP_DISABLE_PIP_VERSION_CHECK=1
"${PYTHON:-python3}" -m venv venv
venv/bin/pip install -qq transformers==5.23.0 tokenizers==0.23.3 jinja2==3.1.6
venv/bin/pip install -qq datasets==5.2.0 pyarrow==26.0.1 pandas==3.1.1
venv/bin/pip install -qq --no-deps trl==1.16.0
venv/bin/pip freeze --all | grep -iE '^(transformers|datasets|pandas|trl)=='
venv/bin/python -W ignore - <<'EOF'
import json
import re
import sys
import sysconfig
from pathlib import Path

import datasets
import pandas
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


datasets.disable_progress_bars()
GEMMA, QWEN = "trl/chat_templates/gemma3.jinja", "trl/chat_templates/qwen3.jinja"


def answer(text):
    return text[text.index("<start_of_turn>model") :]


dated = [
    {
        "prompt": [{"role": "user", "content": question}],
        "completion": [{"role": "assistant", "content": day}],
    }
    for question, day in (("When did the war end?", "1945-05-08"), ("When did the Wall open?", "1989-11-09"))
]
Path("dated.jsonl").write_text("".join(json.dumps(record) + "\n" for record in dated))
loaded = datasets.load_dataset("json", data_files="dated.jsonl", split="train")
parts = [
    {"role": role, "content": [{"type": "text", "text": text}]}
    for role, text in (("user", "Hi"), ("assistant", "Hello."))
]
schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
tools = [{"type": "function", "function": {"name": "weather", "parameters": schema}}]
pandas.DataFrame([{"messages": parts, "tools": tools}]).to_parquet("parts.parquet")
row = pandas.read_parquet("parts.parquet").iloc[0]
tooled = render(QWEN, [{"role": "user", "content": "Hi"}], tools=list(row["tools"]))
facts = [
    ("type of the answers", loaded.features["completion"].feature["content"].dtype, "timestamp[s]"),
    (
        "Gemma 3, of the answer",
        answer(render(GEMMA, loaded[0]["prompt"] + loaded[0]["completion"])),
        "<start_of_turn>model\n<datetime><end_of_turn>\n",
    ),
    ("Gemma 3, parts as lists", answer(render(GEMMA, parts)), "<start_of_turn>model\nHello.<end_of_turn>\n"),
    (
        "Gemma 3, parts by pandas",
        answer(render(GEMMA, list(row["messages"]))),
        "<start_of_turn>model\n<ndarray><end_of_turn>\n",
    ),
    ("Qwen3, a tool by pandas", re.findall('"required": [^}]*', tooled), ['"required": "<ndarray>"']),
]

for what, now, _ in facts:
    print(f"{what}: {now!r}")
changed = [f"{what}\n  found {found!r}\n  now   {now!r}" for what, now, found in facts if now != found]
if changed:
    sys.exit("CHANGED: " + "\n".join(changed))
print("as found")
EOF
