#!/usr/bin/env bash
# TRL's implicit prompt of a text preference ends where the two answers part, also within a word.
#
# trl 1.16.0. Where a preference has `chosen` and `rejected` as texts and no `prompt` (HH-RLHF), `extract_prompt` takes
# as the prompt all that the two have in common. What the answers begin with alike is then given and not learnt, and
# they may begin in the middle of a word or a number, with other tokens than the model would write there. As lists of
# turns the same two answers stay whole.
#
# Seen:
#   prompt                '\n\nHuman: What colour is a leaf?\n\nAssistant: It is gre'
#   answers               ['en.', 'y.']
#   answers, of numbers   ['44', '4'] of 144 and 14
#   answers, as turns     ['It is green.', 'It is grey.']
#
# handpick reads such texts as turns (docs/data.md, "Shapes").
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

from trl.data_utils import extract_prompt

def texts(question, *answers):
    chosen, rejected = (f"\n\nHuman: {question}\n\nAssistant: {answer}" for answer in answers)
    return extract_prompt({"chosen": chosen, "rejected": rejected})


def turns(question, answer):
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


leaf = texts("What colour is a leaf?", "It is green.", "It is grey.")
dozen = texts("What is a dozen dozens?", "144", "14")
question = "What colour is a leaf?"
as_turns = extract_prompt({"chosen": turns(question, "It is green."), "rejected": turns(question, "It is grey.")})
facts = [
    ("prompt", leaf["prompt"], "\n\nHuman: What colour is a leaf?\n\nAssistant: It is gre"),
    ("answers", [leaf["chosen"], leaf["rejected"]], ["en.", "y."]),
    ("answers, of numbers", [dozen["chosen"], dozen["rejected"]], ["44", "4"]),
    (
        "answers, as turns",
        [as_turns[side][0]["content"] for side in ("chosen", "rejected")],
        ["It is green.", "It is grey."],
    ),
]

for what, now, _ in facts:
    print(f"{what}: {now!r}")
changed = [f"{what}\n  found {found!r}\n  now   {now!r}" for what, now, found in facts if now != found]
if changed:
    sys.exit("CHANGED: " + "\n".join(changed))
print("as found")
EOF
