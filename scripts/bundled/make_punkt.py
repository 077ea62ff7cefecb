"""Write the parameters of punkt that ship with handpick, from nltk's `punkt_tab`.

    python scripts/bundled/make_punkt.py FOLDER

FOLDER is `tokenizers/punkt_tab/english` of nltk_data (`python -m nltk.downloader punkt_tab`). Nothing is left out of it
or changed: it is four tables made into one file. Where it comes from stands in src/handpick/bundled/LICENSES.md.
"""

import argparse
import gzip
import json
from pathlib import Path

OUT = Path(__file__).parents[2] / "src" / "handpick" / "bundled" / "punkt" / "english.json.gz"


def rows(path: Path) -> list[list[str]]:
    return sorted(line.split("\t") for line in path.read_text(encoding="utf-8").splitlines() if line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    parameters = {
        "abbreviations": [word for (word,) in rows(folder / "abbrev_types.txt")],
        "collocations": rows(folder / "collocations.tab"),
        "starters": [word for (word,) in rows(folder / "sent_starters.txt")],
        "contexts": {word: int(flags) for word, flags in rows(folder / "ortho_context.tab")},
    }
    OUT.parent.mkdir(exist_ok=True)
    content = json.dumps(parameters, ensure_ascii=False, separators=(",", ":")).encode()
    OUT.write_bytes(gzip.compress(content, 9, mtime=0))
    print(f"{OUT}: {OUT.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
