#!/usr/bin/env bash
# Templates of Mistral v0.3 and Nemo write no system prompt into training texts; Mistral's own library does.
#
# axolotl 0.19.0's template, transformers 5.23.0, mistral-common 1.13.1. The template puts the system prompt into a
# question that is the last turn: where an answer follows, as in all training, it is left out, though the model is to
# heed it when it generates. mistral-common, in its mode for fine-tuning, has it in the last question. So one record
# gives two training texts.
#
# Seen (system "Be terse."; two questions and answers):
#   template, training         '<s>[INST]Q1[/INST]A1</s>[INST]Q2[/INST]A2</s>'
#   template, generating       '<s>[INST]Q1[/INST]A1</s>[INST]Be terse.\n\nQ2[/INST]'
#   mistral-common, training   '<s>[INST]Q1[/INST]A1</s>[INST]Be terse.\n\nQ2[/INST]A2</s>'
#
# handpick renders by the template and says what it leaves out (docs/templates.md).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
export HF_HOME="$work/hf" HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error PIP_DISABLE_PIP_VERSION_CHECK=1
"${PYTHON:-python3}" -m venv venv
venv/bin/pip install -qq transformers==5.23.0 tokenizers==0.23.3 jinja2==3.1.6 mistral-common==1.13.1
venv/bin/pip install -qq --no-deps axolotl==0.19.0
venv/bin/pip freeze --all | grep -iE '^(transformers|axolotl|mistral_common)=='
venv/bin/python -W ignore - <<'EOF'
import sys
import sysconfig
from importlib.resources import files
from pathlib import Path

from mistral_common.protocol.instruct.request import ChatCompletionRequest
from mistral_common.protocol.instruct.validator import ValidationMode
from mistral_common.tokens.tokenizers.mistral import MistralTokenizer
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


messages = [
    {"role": "system", "content": "Be terse."},
    {"role": "user", "content": "Q1"},
    {"role": "assistant", "content": "A1"},
    {"role": "user", "content": "Q2"},
    {"role": "assistant", "content": "A2"},
]
TEMPLATE = "axolotl/utils/chat_templates/templates/mistral_v3_tekken.jinja"
own = MistralTokenizer.from_file(
    str(files("mistral_common") / "data/tekken_240718.json"), mode=ValidationMode.finetuning
)
facts = [
    ("template, training", render(TEMPLATE, messages), "<s>[INST]Q1[/INST]A1</s>[INST]Q2[/INST]A2</s>"),
    (
        "template, generating",
        render(TEMPLATE, messages[:-1], add_generation_prompt=True),
        "<s>[INST]Q1[/INST]A1</s>[INST]Be terse.\n\nQ2[/INST]",
    ),
    (
        "mistral-common, training",
        own.encode_chat_completion(ChatCompletionRequest(messages=messages)).text,
        "<s>[INST]Q1[/INST]A1</s>[INST]Be terse.\n\nQ2[/INST]A2</s>",
    ),
]

for what, now, _ in facts:
    print(f"{what}: {now!r}")
changed = [f"{what}\n  found {found!r}\n  now   {now!r}" for what, now, found in facts if now != found]
if changed:
    sys.exit("CHANGED: " + "\n".join(changed))
print("as found")
EOF
