#!/usr/bin/env bash
# A content in text parts is written right by some templates; of others it is an empty turn, or Python's own notation.
#
# transformers 5.23.0 with the templates that trl 1.16.0 holds as the models' own. OpenAI's format allows a text to be
# [{"type": "text", "text": …}]. Qwen3's template makes empty turns of a question and an answer in this form, which
# teach the model to end at once; Llama 3's and Nemotron 3's write the list as Python prints it; those of Qwen2.5 and
# gpt-oss raise.
#
# Seen (the answer "Hello." as one part):
#   Gemma 3         '<start_of_turn>model\nHello.<end_of_turn>\n'
#   Qwen3           '<|im_start|>assistant\n<|im_end|>\n'
#   Llama 3         "<|start_header_id|>assistant<|end_header_id|>\n\n[{'type': 'text', 'text': 'Hello.'}]<|eot_id|>"
#   Nemotron 3      "<|im_start|>assistant\n[{'type': 'text', 'text': 'Hello.'}]<|im_end|>\n"
#   gpt-oss         'TypeError: can only concatenate str (not "list") to str'
#   Qwen2.5         'TypeError: can only concatenate str (not "list") to str'
#
# handpick joins text parts before a template sees them.
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


parts = [
    {"role": role, "content": [{"type": "text", "text": text}]}
    for role, text in (("user", "Hi"), ("assistant", "Hello."))
]


def last(name, header):
    text = render(f"trl/chat_templates/{name}.jinja", parts)
    return text[text.index(header) :] if header in text else text


REFUSED = 'TypeError: can only concatenate str (not "list") to str'
PRINTED = "[{'type': 'text', 'text': 'Hello.'}]"
CHATML, LLAMA = "<|im_start|>assistant\n", "<|start_header_id|>assistant<|end_header_id|>\n\n"
GEMMA = "<start_of_turn>model\n"
facts = [
    ("Gemma 3", last("gemma3", GEMMA), f"{GEMMA}Hello.<end_of_turn>\n"),
    ("Qwen3", last("qwen3", CHATML), f"{CHATML}<|im_end|>\n"),
    ("Llama 3", last("llama3", LLAMA), f"{LLAMA}{PRINTED}<|eot_id|>"),
    ("Nemotron 3", last("nemotron_3_nano", CHATML), f"{CHATML}{PRINTED}<|im_end|>\n"),
    ("gpt-oss", last("gptoss", "<|start|>assistant"), REFUSED),
    ("Qwen2.5", last("qwen2_5", CHATML), REFUSED),
]

for what, now, _ in facts:
    print(f"{what}: {now!r}")
changed = [f"{what}\n  found {found!r}\n  now   {now!r}" for what, now, found in facts if now != found]
if changed:
    sys.exit("CHANGED: " + "\n".join(changed))
print("as found")
EOF
