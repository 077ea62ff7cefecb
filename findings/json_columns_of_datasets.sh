#!/usr/bin/env bash
# A Parquet file that datasets wrote gives answers with quotes around them, unless datasets reads it.
#
# datasets 5.2.0, pyarrow 26.0.1, pandas 3.1.1, polars 2.1.0. Where the values of a column differ in type (here an
# answer that is a number in one record), load_dataset("json") makes the column `Json`, which stands in Parquet as JSON
# text of the type arrow.json. pyarrow, pandas and polars give that text: "Yes." comes out as six characters and not
# four. The same holds for `messages` whose turns have unequal fields: a list of texts, not of objects.
#
# Seen:
#   datasets             ['Yes.', 3]
#   pyarrow              ['"Yes."', '3']
#   pandas               ['"Yes."', '3']
#   polars               ['"Yes."', '3']
#   pyarrow, of messages ['{"role":"user","content":"Hi"}', '{"role":"assistant","content":"Hello.","weight":0}']
#
# handpick decodes by the features in the file (docs/containers.md, "Columns that JSON has no word for").
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
export HF_HOME="$work/hf" HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error PIP_DISABLE_PIP_VERSION_CHECK=1
"${PYTHON:-python3}" -m venv venv
venv/bin/pip install -qq datasets==5.2.0 pyarrow==26.0.1 pandas==3.1.1 polars==2.1.0
venv/bin/pip freeze --all | grep -iE '^(datasets|pyarrow|pandas|polars)=='
venv/bin/python -W ignore - <<'EOF'
import json
import sys
from pathlib import Path

import datasets
import pandas
import polars
import pyarrow.parquet as parquet

datasets.disable_progress_bars()


def stored(records):
    """A Parquet file that datasets made of JSON Lines."""
    Path("records.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    datasets.load_dataset("json", data_files="records.jsonl", split="train").to_parquet("records.parquet")
    return "records.parquet"


answers = stored([{"question": "Is it?", "answer": "Yes."}, {"question": "How many?", "answer": 3}])
facts = [
    ("datasets", datasets.Dataset.from_parquet(answers)["answer"][:], ["Yes.", 3]),
    ("pyarrow", parquet.read_table(answers)["answer"].to_pylist(), ['"Yes."', "3"]),
    ("pandas", pandas.read_parquet(answers)["answer"].tolist(), ['"Yes."', "3"]),
    ("polars", polars.read_parquet(answers)["answer"].ext.storage().to_list(), ['"Yes."', "3"]),
]
turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello.", "weight": 0}]
facts.append(
    (
        "pyarrow, of messages",
        parquet.read_table(stored([{"messages": turns}]))["messages"].to_pylist()[0],
        ['{"role":"user","content":"Hi"}', '{"role":"assistant","content":"Hello.","weight":0}'],
    )
)

for what, now, _ in facts:
    print(f"{what}: {now!r}")
changed = [f"{what}\n  found {found!r}\n  now   {now!r}" for what, now, found in facts if now != found]
if changed:
    sys.exit("CHANGED: " + "\n".join(changed))
print("as found")
EOF
