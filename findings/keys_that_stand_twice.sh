#!/usr/bin/env bash
# Of a key that stands twice in an object polars takes the first value, json, orjson and pandas the last; others refuse.
#
# polars 2.1.0, pandas 3.1.1, orjson 3.13.0, pyarrow 26.0.1, duckdb 2.0.0, Python's own json. RFC 8259 (section 4) leaves
# open what such an object means. So a record may be looked at with one text and trained on with another. Inside another
# object polars refuses it too. A number that no float64 holds (section 6) is infinity to json, pandas and duckdb, and
# refused by the others.
#
# Seen of {"text": "one", "text": "two"}:
#   json, orjson, pandas       'two'
#   polars                     'one'
#   pyarrow, duckdb            an error
# of {"turn": {"text": "one", "text": "two"}}:
#   json, orjson, pandas       'two'
#   polars, pyarrow, duckdb    an error
# of {"n": 1e400}:
#   json, pandas, duckdb       inf
#   orjson, polars, pyarrow    an error
#
# handpick sets such a record aside, with the key or the number.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
export PIP_DISABLE_PIP_VERSION_CHECK=1
"${PYTHON:-python3}" -m venv venv
venv/bin/pip install -qq polars==2.1.0 pandas==3.1.1 orjson==3.13.0 pyarrow==26.0.1 duckdb==2.0.0
venv/bin/pip freeze --all | grep -iE '^(polars|pandas|orjson|pyarrow|duckdb)=='
venv/bin/python -W ignore - <<'EOF'
import json
import sys
from pathlib import Path

import duckdb
import orjson
import pandas
import polars
import pyarrow.json

READERS = {
    "json": lambda file: json.loads(Path(file).read_bytes()),
    "orjson": lambda file: orjson.loads(Path(file).read_bytes()),
    "pandas": lambda file: pandas.read_json(file, lines=True).to_dict("records")[0],
    "polars": lambda file: polars.read_ndjson(file).to_dicts()[0],
    "pyarrow": lambda file: pyarrow.json.read_json(file).to_pylist()[0],
    "duckdb": lambda file: duckdb.sql(f"select * from read_json('{file}')").to_df().to_dict("records")[0],
}
RECORDS = {
    "twice": ('{"text": "one", "text": "two"}', lambda record: record["text"]),
    "inside": ('{"turn": {"text": "one", "text": "two"}}', lambda record: record["turn"]["text"]),
    "large": ('{"n": 1e400}', lambda record: record["n"]),
}
FOUND = {
    "twice": ["two", "two", "two", "one", "an error", "an error"],
    "inside": ["two", "two", "two", "an error", "an error", "an error"],
    "large": [float("inf"), "an error", float("inf"), "an error", "an error", float("inf")],
}
changed = []
for name, (line, value) in RECORDS.items():
    file = f"{name}.jsonl"
    Path(file).write_text(line + "\n")
    for (reader, read), found in zip(READERS.items(), FOUND[name], strict=True):
        try:
            now = value(read(file))
        except (ValueError, polars.exceptions.PolarsError, duckdb.Error):
            now = "an error"
        print(f"{line} by {reader}: {now!r}")
        if now != found:
            changed.append(f"{line} by {reader}\n  found {found!r}\n  now   {now!r}")
if changed:
    sys.exit("CHANGED: " + "\n".join(changed))
print("as found")
EOF
