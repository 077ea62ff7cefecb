#!/usr/bin/env bash
# `tool_calls: []` beside an ordinary answer: some templates write the answer, some lose it, some raise.
#
# transformers 5.23.0 with the templates that trl 1.16.0 and axolotl 0.19.0 carry. Records have an empty list where what
# wrote them has the field in every turn. Some templates ask whether the field is there, and not whether anything is in
# it. A lost answer raises nothing: the model is taught to end calls that it never began, or nothing.
#
# Seen (of the answer "Hello."):
#   Qwen3, GLM 4.5, Gemma 4        written
#   DeepSeek V3                    '<｜User｜>Hi<｜tool▁calls▁end｜><｜end▁of▁sentence｜>'
#   Llama 4                        '<s><|header_start|>user<|header_end|>\n\nHi<|eot|>' (no answer at all)
#   Mistral Nemo                   '<s>[INST]Hi[/INST][TOOL_CALLS]['
#   Llama 3.1                      'TemplateError: This model only supports single tool-calls at once!'
#   gpt-oss                        'UndefinedError: list object has no element 0'
#
# handpick counts an empty list of calls as none (docs/data.md, "Turns").
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
export HF_HOME="$work/hf" HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error PIP_DISABLE_PIP_VERSION_CHECK=1
"${PYTHON:-python3}" -m venv venv
venv/bin/pip install -qq transformers==5.23.0 tokenizers==0.23.3 jinja2==3.1.6
venv/bin/pip install -qq --no-deps trl==1.16.0 axolotl==0.19.0
venv/bin/pip freeze --all | grep -iE '^(transformers|jinja2|trl|axolotl)=='
venv/bin/python -W ignore - <<'EOF'
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


messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello.", "tool_calls": []}]


def of_trl(name):
    return render(f"trl/chat_templates/{name}.jinja", messages)


def of_axolotl(name):
    return render(f"axolotl/utils/chat_templates/templates/{name}.jinja", messages)


facts = [(name, "Hello." in of_trl(name), True) for name in ("qwen3", "glm4moe", "gemma4")] + [
    ("DeepSeek V3", of_trl("deepseekv3"), "<s><｜User｜>Hi<｜tool▁calls▁end｜><｜end▁of▁sentence｜>"),
    ("Llama 4", of_axolotl("llama4"), "<s><|header_start|>user<|header_end|>\n\nHi<|eot|>"),
    ("Mistral Nemo", of_axolotl("mistral_v3_tekken"), "<s>[INST]Hi[/INST][TOOL_CALLS]["),
    ("Llama 3.1", of_trl("llama3_1"), "TemplateError: This model only supports single tool-calls at once!"),
    ("gpt-oss", of_trl("gptoss"), "UndefinedError: list object has no element 0"),
]

for what, now, _ in facts:
    print(f"{what}: {now!r}")
changed = [f"{what}\n  found {found!r}\n  now   {now!r}" for what, now, found in facts if now != found]
if changed:
    sys.exit("CHANGED: " + "\n".join(changed))
print("as found")
EOF
