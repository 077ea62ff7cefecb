#!/usr/bin/env bash
# Keys that the first records do not have are dropped without a word by Dataset.from_list and by polars.read_ndjson.
#
# datasets 5.2.0, polars 2.1.0. `Dataset.from_list` takes its columns from the first record alone: `tools` of later ones
# is gone. `polars.read_ndjson` infers its schema from the first hundred records: `tools`, and inside the turns also
# `weight`, vanish if they first stand in the 101st. load_dataset("json") keeps both.
#
# Seen (a record with `tools` and a turn of `weight: 0` behind a number of plain ones):
#   from_list, behind 1        ['messages']
#   polars, behind 99          ['messages', 'tools'], and 'weight' is in the turns
#   polars, behind 100         ['messages'], and 'weight' is not
#   load_dataset, behind 100   ['messages', 'tools'], and 'weight' is in the turns
#
# handpick reads every record for itself; a Dataset made by from_list has lost the keys before handpick sees it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
export HF_HOME="$work/hf" HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error PIP_DISABLE_PIP_VERSION_CHECK=1
"${PYTHON:-python3}" -m venv venv
venv/bin/pip install -qq datasets==5.2.0 pyarrow==26.0.1 polars==2.1.0
venv/bin/pip freeze --all | grep -iE '^(datasets|polars)=='
venv/bin/python -W ignore - <<'EOF'
import json
import sys
from pathlib import Path

import datasets
import polars

datasets.disable_progress_bars()
turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]
plain = {"messages": turns}
rich = {"messages": [turns[0], {**turns[1], "weight": 0}], "tools": '[{"name": "look_up"}]'}


def lines(count):
    """A JSON Lines file: so many plain records, and the rich one behind them."""
    path = f"{count}.jsonl"
    Path(path).write_text("".join(json.dumps(record) + "\n" for record in [plain] * count + [rich]))
    return path


def by_polars(count):
    frame = polars.read_ndjson(lines(count))
    return frame.columns, "weight" in frame["messages"][-1][-1]


loaded = datasets.load_dataset("json", data_files=lines(100), split="train")
facts = [
    ("from_list, behind 1", datasets.Dataset.from_list([plain, rich]).column_names, ["messages"]),
    ("polars, behind 99", by_polars(99), (["messages", "tools"], True)),
    ("polars, behind 100", by_polars(100), (["messages"], False)),
    (
        "load_dataset, behind 100",
        (loaded.column_names, "weight" in loaded[-1]["messages"][-1]),
        (["messages", "tools"], True),
    ),
]

for what, now, _ in facts:
    print(f"{what}: {now!r}")
changed = [f"{what}\n  found {found!r}\n  now   {now!r}" for what, now, found in facts if now != found]
if changed:
    sys.exit("CHANGED: " + "\n".join(changed))
print("as found")
EOF
