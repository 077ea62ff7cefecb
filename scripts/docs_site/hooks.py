"""What MkDocs does beside rendering docs/: it brings in files from elsewhere in the repository, pictures and tables.

- A link out of docs/ (``../findings/x.sh``, ``../benchmarks/results/y.md``) leads to a page that is made of that file,
  so that the same link works in the repository and on the site, also where the site is read from a disk.
- README.md is the first page.
- Mermaid's diagrams become the pictures that ``diagrams.py`` drew of them.
- Each tutorial has a notebook beside it (``notebooks.py``).
- The pages under reference/, and the lists of findings and benchmarks, are made of the code (``made_pages.py``).
"""

import logging
import posixpath
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

sys.path.insert(0, str(Path(__file__).parents[2]))

from mkdocs.structure.files import File

from scripts.docs_site import diagrams, made_pages, notebooks

ROOT = Path(__file__).parents[2]
log = logging.getLogger("mkdocs.plugins.handpick")

_CODE = re.compile(r"^(```+|~~~+).*?^\1[`~]*$|`[^`\n]+`", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(\]\()([^)\s#]*)(#[^)\s]*)?(\))")
_TEXTS = {".sh": "bash", ".py": "python", ".csv": "text", ".json": "json"}
_stands_for: dict[str, str] = {}  # pages of the site by the file of the repository that they are made of


def on_files(files: Any, config: Any, **_: Any) -> Any:
    """Add the first page, the made pages, and a page for everything that is linked to outside docs/."""
    _stands_for.clear()
    for name, text in made_pages.make_pages().items():
        files.append(File.generated(config, name, content=text))
    for page in notebooks.tutorials():
        files.append(File.generated(config, _notebook_of(page), content=notebooks.make_notebook(page)))
    texts = {f"docs/{file.src_uri}": file.content_string for file in files if file.src_uri.endswith(".md")}
    texts |= {
        name: (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
    }
    _stands_for.update({"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"})
    to_read = list(texts.items())
    for name, site_name in _stands_for.items():
        files.append(File.generated(config, site_name, content=texts[name]))
    while to_read:
        name, text = to_read.pop()
        for linked in sorted(set(_links_out(name, text)) - set(_stands_for)):
            to_read += _add(linked, files, config)
    return files


def _notebook_of(page: str) -> str:
    return f"notebooks/{page.removesuffix('.md')}.ipynb"


def _links_out(name: str, text: str) -> Iterator[str]:
    """Yield the files outside docs/ that a file links to."""
    for link in _LINK.finditer(_CODE.sub("", text)):
        target = posixpath.normpath(posixpath.join(posixpath.dirname(name), link[2]))
        if link[2] and ":" not in link[2] and not target.startswith("docs/") and (ROOT / target).exists():
            yield target


def _add(name: str, files: Any, config: Any) -> list[tuple[str, str]]:
    """Add what stands for a file of the repository; return it if it may have links of its own."""
    path = ROOT / name
    if path.suffix == ".md":
        text = path.read_text(encoding="utf-8")
    elif path.is_dir():
        text = "\n".join([f"# {name}", "", *(f"- `{each.name}`" for each in sorted(path.iterdir()))])
    elif name.startswith("findings/"):
        text = made_pages.finding_page(path)
    elif path.suffix in _TEXTS:
        text = f"# {name}\n\n````{_TEXTS[path.suffix]}\n{path.read_text(encoding='utf-8')}\n````\n"
    else:
        _stands_for[name] = f"repository/{name}"
        files.append(File.generated(config, _stands_for[name], abs_src_path=str(path)))
        return []
    _stands_for[name] = f"repository/{name.removesuffix('.md')}.md"
    files.append(File.generated(config, _stands_for[name], content=text))
    return [(name, text)] if path.suffix == ".md" else []


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn links between files of the repository into links between pages, and diagrams into pictures."""
    uri = page.file.src_uri
    name = next((name for name, own in _stands_for.items() if own == uri), f"docs/{uri}")
    markdown = _with_pictures(markdown, name)
    if uri in notebooks.tutorials():
        title, _, rest = markdown.partition("\n")
        markdown = f"{title}\n\n[This page as a notebook]({_notebook_of(uri)}){{ download }}\n{rest}"
    pieces, place = [], 0
    for code in _CODE.finditer(markdown):
        pieces += [_LINK.sub(lambda link: _led(link, name, uri), markdown[place : code.start()]), code[0]]
        place = code.end()
    return "".join([*pieces, _LINK.sub(lambda link: _led(link, name, uri), markdown[place:])])


def _led(link: re.Match[str], name: str, uri: str) -> str:
    if not link[2] or ":" in link[2]:
        return link[0]
    target = posixpath.normpath(posixpath.join(posixpath.dirname(name), link[2]))
    led = _stands_for.get(target) or (target.removeprefix("docs/") if target.startswith("docs/") else None)
    if led is None:
        return link[0]  # the strict build names it
    return f"{link[1]}{posixpath.relpath(led, posixpath.dirname(uri) or '.')}{link[3] or ''}{link[4]}"


def _with_pictures(markdown: str, name: str) -> str:
    for number, diagram in enumerate(diagrams.BLOCK.findall(markdown), start=1):
        path = diagrams.picture_of(name, number)
        if not path.exists() or diagrams.mark_of(diagram) not in path.read_text(encoding="utf-8"):
            log.warning("%s has a diagram without its picture: run python scripts/docs_site/diagrams.py", name)
            continue
        picture = f'<div class="diagram">\n{path.read_text(encoding="utf-8")}</div>'
        markdown = markdown.replace(f"```mermaid\n{diagram}```", picture, 1)
    return markdown


_SEARCH = 'data-md-component="search" role="dialog"'


def on_post_page(output: str, **_: Any) -> str:
    """Name the search, which the theme leaves without a name, for those who hear a page."""
    return output.replace(_SEARCH, f'{_SEARCH} aria-label="Search"')


_LOADED = re.compile(r"<(?:script|img|link|source|iframe)\b[^>]*?\b(?:src|href)=\"?([^\"\s>]+)")
_LED_TO = re.compile(r"<a\b[^>]*?\bhref=\"?([^\"\s>]+)")


def on_post_build(config: Any, **_: Any) -> None:
    """Warn of whatever a page would load from elsewhere, and of links to files that are not there."""
    site = Path(config.site_dir)
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        loaded = _LOADED.findall(text)
        for url in loaded:
            if re.match(r"(https?:)?//", url):
                log.warning("%s loads %s, which a page that is read from disk does not have", page.name, url)
        for url in {*loaded, *_LED_TO.findall(text)}:
            path = unquote(url.partition("#")[0].partition("?")[0])
            if path and not re.match(r"\w+:|//|/", path) and not (page.parent / path).exists():
                log.warning("%s links to %s, which is not there", page.relative_to(site), path)
