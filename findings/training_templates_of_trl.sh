#!/usr/bin/env bash
# With assistant_only_loss, TRL trains on another text than the model's template writes, and on headers of some models.
#
# trl 1.16.0, transformers 5.23.0. `get_training_chat_template` replaces the template of a model that it knows. For
# Qwen3 the replacement writes a think block in every answer, where the model's own drops it from all turns before the
# last question; for the distilled DeepSeek R1 it keeps thoughts that the model's own writes in no turn. So the setting
# changes what an example teaches, and not only which tokens count. And the marks of DeepSeek V3, gpt-oss and Muse
# Glimmer begin in front of the header of the answer, where Llama 3's begin behind it.
#
# Seen:
#   Qwen3, its own        think blocks in 1 of 2 answers
#   Qwen3, TRL's          think blocks in 2 of 2 answers
#   R1, its own           '<s><｜User｜>Q<｜Assistant｜>A<｜end▁of▁sentence｜>' (the answer is '<think>T</think>A')
#   R1, TRL's             '<s><｜User｜>Q<｜Assistant｜><think>T</think>A<｜end▁of▁sentence｜>'
#   Llama 3, learnt       ['A<|eot_id|>']
#   DeepSeek V3, learnt   ['<｜Assistant｜>A<｜end▁of▁sentence｜>']
#   gpt-oss, learnt       ['<|start|>assistant<|channel|>final<|message|>A<|return|>']
#   Muse Glimmer, learnt  ['<|start|>assistant to=user<|message|>A<|eot|>']
#
# handpick keeps the model's own text, and labels as TRL's marks do (docs/templates.md, "What is learnt").
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
from transformers.utils.chat_template_utils import render_jinja_template
from trl.chat_template_utils import get_training_chat_template

FOLDER = Path(sysconfig.get_path("purelib")) / "trl/chat_templates"


def texts(name, *turns):
    """The text of the model's own template, TRL's, and what of the latter stands in its marks."""
    messages = [{"role": ("user", "assistant")[place % 2], "content": turn} for place, turn in enumerate(turns)]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel({"?": 0}, unk_token="?")), bos_token="<s>", eos_token="</s>"
    )
    tokenizer.chat_template = (FOLDER / f"{name}.jinja").read_text(encoding="utf-8")
    own = tokenizer.apply_chat_template(messages, tokenize=False)
    [text], [marks] = render_jinja_template(
        [messages],
        chat_template=get_training_chat_template(tokenizer),
        return_assistant_tokens_mask=True,
        bos_token="<s>",
        eos_token="</s>",
    )
    return own, text, [text[start:end] for start, end in marks]


qwen, qwen_trl, _ = texts("qwen3", "Q1", "A1", "Q2", "A2")
r1, r1_trl, _ = texts("deepseek_r1_distill", "Q", "<think>T</think>A")
facts = [
    ("Qwen3, its own", qwen.count("<think>"), 1),
    ("Qwen3, TRL's", qwen_trl.count("<think>"), 2),
    ("R1, its own", r1, "<s><｜User｜>Q<｜Assistant｜>A<｜end▁of▁sentence｜>"),
    ("R1, TRL's", r1_trl, "<s><｜User｜>Q<｜Assistant｜><think>T</think>A<｜end▁of▁sentence｜>"),
    ("Llama 3, learnt", texts("llama3", "Q", "A")[2], ["A<|eot_id|>"]),
    ("DeepSeek V3, learnt", texts("deepseekv3", "Q", "A")[2], ["<｜Assistant｜>A<｜end▁of▁sentence｜>"]),
    ("gpt-oss, learnt", texts("gptoss", "Q", "A")[2], ["<|start|>assistant<|channel|>final<|message|>A<|return|>"]),
    ("Muse Glimmer, learnt", texts("muse_glimmer", "Q", "A")[2], ["<|start|>assistant to=user<|message|>A<|eot|>"]),
]

for what, now, _ in facts:
    print(f"{what}: {now!r}")
changed = [f"{what}\n  found {found!r}\n  now   {now!r}" for what, now, found in facts if now != found]
if changed:
    sys.exit("CHANGED: " + "\n".join(changed))
print("as found")
EOF
