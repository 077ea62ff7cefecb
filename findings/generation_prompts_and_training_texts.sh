#!/usr/bin/env bash
# The prompt that a model generates behind is not what its training text has before the answer, in several families.
#
# transformers 5.23.0 with the templates that trl 1.16.0 and axolotl 0.19.0 carry. add_generation_prompt=True opens the
# answer in another way than the template writes an answer that is there: Qwen3 trains an answer without a thought
# behind an empty think block that the prompt does not have; DeepSeek R1 and Nemotron 3 generate behind an open think
# tag, with which no such answer was trained; Gemma 4 (axolotl's) generates behind an empty thought that the training
# text does not have. Command A's template for tools ends every text in a generation prompt, also where
# add_generation_prompt is False, so the last tokens of a training text open an answer that does not come.
#
# Seen (what follows the question: in the prompt | in the training text of the answer "A"):
#   Qwen3          ''                                | '<think>\n\n</think>\n\nA<|im_end|>\n'
#   DeepSeek R1    '<think>\n'                       | 'A<｜end▁of▁sentence｜>'
#   Nemotron 3     '<think>\n'                       | '<think></think>A<|im_end|>\n'
#   Gemma 4        '<|channel>thought\n<channel|>'   | 'A<turn|>\n'
#   Command A      the training text ends in '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>'
#
# handpick draws answers behind the text that they are trained behind, unless --template-arg is given.
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


question, answer = {"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}
AXOLOTL, TRL = "axolotl/utils/chat_templates/templates", "trl/chat_templates"


def both(template, header):
    prompt = render(template, [question], add_generation_prompt=True)
    text = render(template, [question, answer])
    return prompt.partition(header)[2], text.partition(header)[2]


CHATML = "<|im_start|>assistant\n"
command = render(f"{AXOLOTL}/command_a_tool_use.jinja", [question, answer], add_generation_prompt=False)
facts = [
    ("Qwen3", both(f"{TRL}/qwen3.jinja", CHATML), ("", "<think>\n\n</think>\n\nA<|im_end|>\n")),
    (
        "DeepSeek R1",
        both(f"{TRL}/deepseek_r1_distill.jinja", "<｜Assistant｜>"),
        ("<think>\n", "A<｜end▁of▁sentence｜>"),
    ),
    ("Nemotron 3", both(f"{TRL}/nemotron_3_nano.jinja", CHATML), ("<think>\n", "<think></think>A<|im_end|>\n")),
    ("Gemma 4", both(f"{AXOLOTL}/gemma4.jinja", "<|turn>model\n"), ("<|channel>thought\n<channel|>", "A<turn|>\n")),
    (
        "Command A",
        command.partition("<|START_RESPONSE|>")[2],
        "A<|END_RESPONSE|><|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
    ),
]

for what, now, _ in facts:
    print(f"{what}: {now!r}")
changed = [f"{what}\n  found {found!r}\n  now   {now!r}" for what, now, found in facts if now != found]
if changed:
    sys.exit("CHANGED: " + "\n".join(changed))
print("as found")
EOF
