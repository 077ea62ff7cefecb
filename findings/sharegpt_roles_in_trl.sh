#!/usr/bin/env bash
# TRL renames the keys of ShareGPT records, not their roles, and templates leave out turns whose role they do not know.
#
# trl 1.16.0, transformers 5.23.0. `maybe_convert_to_chatml`, which SFTTrainer runs over every such record, makes
# {"from": "human", "value": …} into {"role": "human", "content": …}. Of a conversation of human and gpt the templates
# of Qwen3, GLM 4.5, DeepSeek V3 and gpt-oss then write the system turn and neither question nor answer; Llama 3's
# writes headers of roles that it has no other word for. None of them raises.
#
# Seen (of a system turn "Be terse.", a question "Hi" and an answer "Hello."):
#   roles                ['system', 'human', 'gpt']
#   Qwen3                '<|im_start|>system\nBe terse.<|im_end|>\n'
#   GLM 4.5              '[gMASK]<sop><|system|>\nBe terse.'
#   DeepSeek V3          '<s>Be terse.'
#   gpt-oss              neither the question nor the answer
#   Llama 3              '…<|start_header_id|>gpt<|end_header_id|>\n\nHello.<|eot_id|>'
#
# handpick maps the roles when it reads the record (docs/data.md, "Turns").
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
export HF_HOME="$work/hf" HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error PIP_DISABLE_PIP_VERSION_CHECK=1
"${PYTHON:-python3}" -m venv venv
venv/bin/pip install -qq transformers==5.23.0 tokenizers==0.23.3 jinja2==3.1.6 datasets==5.2.0 pyarrow==26.0.1
venv/bin/pip install -qq --no-deps trl==1.16.0
venv/bin/pip freeze --all | grep -iE '^(trl|transformers)=='
venv/bin/python -W ignore - <<'EOF'
import sys
import sysconfig
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast
from trl import maybe_convert_to_chatml

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


record = {
    "conversations": [
        {"from": "system", "value": "Be terse."},
        {"from": "human", "value": "Hi"},
        {"from": "gpt", "value": "Hello."},
    ]
}
messages = maybe_convert_to_chatml(record)["messages"]
texts = {
    name: render(f"trl/chat_templates/{name}.jinja", messages)
    for name in ("qwen3", "glm4moe", "deepseekv3", "gptoss", "llama3")
}
llama = "<s>" + "".join(
    f"<|start_header_id|>{role}<|end_header_id|>\n\n{text}<|eot_id|>"
    for role, text in (("system", "Be terse."), ("human", "Hi"), ("gpt", "Hello."))
)
facts = [
    ("roles", [message["role"] for message in messages], ["system", "human", "gpt"]),
    ("Qwen3", texts["qwen3"], "<|im_start|>system\nBe terse.<|im_end|>\n"),
    ("GLM 4.5", texts["glm4moe"], "[gMASK]<sop><|system|>\nBe terse."),
    ("DeepSeek V3", texts["deepseekv3"], "<s>Be terse."),
    (
        "gpt-oss writes the turns",
        [turn in texts["gptoss"] for turn in ("Be terse.", "<|message|>Hi", "Hello.")],
        [True, False, False],
    ),
    ("Llama 3", texts["llama3"], llama),
]

for what, now, _ in facts:
    print(f"{what}: {now!r}")
changed = [f"{what}\n  found {found!r}\n  now   {now!r}" for what, now, found in facts if now != found]
if changed:
    sys.exit("CHANGED: " + "\n".join(changed))
print("as found")
EOF
