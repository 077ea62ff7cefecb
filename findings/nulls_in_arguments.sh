#!/usr/bin/env bash
# Arguments of other tools, as null, stand in the training text of a data set that Dataset.from_list made.
#
# datasets 5.2.0, transformers 5.23.0. from_list gives every call one struct with the arguments of all calls, filled up
# with null. apply_chat_template takes null keys out of a message, but not out of what is in it, so that a call
# teaches arguments that its tool does not have; a call without arguments gets those of the others. The same records
# read by load_dataset("json") have no nulls.
#
# Seen (calls of `now`, without arguments, and of `weather`, with a city; the texts are Qwen3's):
#   as written      ['{"name": "now", "arguments": {}}', '{"name": "weather", "arguments": {"city": "Rome"}}']
#   from_list       ['{"name": "now", "arguments": {"city": null}}', …]
#   load_dataset    as written
#
# handpick counts null fields as missing, at any depth (docs/data.md, "Shapes").
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
export HF_HOME="$work/hf" HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error PIP_DISABLE_PIP_VERSION_CHECK=1
"${PYTHON:-python3}" -m venv venv
venv/bin/pip install -qq transformers==5.23.0 tokenizers==0.23.3 jinja2==3.1.6 datasets==5.2.0 pyarrow==26.0.1
venv/bin/pip install -qq --no-deps trl==1.16.0
venv/bin/pip freeze --all | grep -iE '^(datasets|transformers|trl)=='
venv/bin/python -W ignore - <<'EOF'
import json
import re
import sys
import sysconfig
from pathlib import Path

import datasets
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


def record(name, arguments):
    call = {"type": "function", "function": {"name": name, "arguments": arguments}}
    answer = {"role": "assistant", "content": "", "tool_calls": [call]}
    return {"messages": [{"role": "user", "content": "?"}, answer]}


def calls(records):
    """The calls that Qwen3's template writes, a record each."""
    texts = [render("trl/chat_templates/qwen3.jinja", record["messages"]) for record in records]
    return [re.search(r"<tool_call>\n(.*)\n</tool_call>", text)[1] for text in texts]


records = [record("now", {}), record("weather", {"city": "Rome"})]
Path("calls.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
now, weather = '{"name": "now", "arguments": {}}', '{"name": "weather", "arguments": {"city": "Rome"}}'
facts = [
    ("as written", calls(records), [now, weather]),
    ("from_list", calls(datasets.Dataset.from_list(records)), [now.replace("{}", '{"city": null}'), weather]),
    ("load_dataset", calls(datasets.load_dataset("json", data_files="calls.jsonl", split="train")), [now, weather]),
]

for what, now, _ in facts:
    print(f"{what}: {now!r}")
changed = [f"{what}\n  found {found!r}\n  now   {now!r}" for what, now, found in facts if now != found]
if changed:
    sys.exit("CHANGED: " + "\n".join(changed))
print("as found")
EOF
