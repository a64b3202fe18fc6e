"""Hooks of mkdocs: pages that live outside docs/, and pages made from the code.

The site has the README as its start page, the model cards of weights/, the project's own pages, the model zoo, and
the executed notebooks of docs/.
"""

from __future__ import annotations

import base64
import json
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = {
    "index.md": "README.md",
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
}
# In documentation that is read in the repository, links lead to files beside docs/.
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that live outside docs/, the cards, and the model zoo."""
    for page, source in {**OUTSIDE, **{f"weights/{p.name}": f"weights/{p.name}" for p in cards()}}.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    files.append(File.generated(config, "zoo.md", content=zoo()))
    for path in sorted((ROOT / "docs").glob("*.ipynb")):
        files.remove(files.src_uris[path.name])
        text, pictures = notebook(path)
        files.append(File.generated(config, f"{path.stem}.md", content=text))
        for name, data in pictures.items():
            files.append(File.generated(config, name, content=data))
    return files


def on_page_markdown(markdown: str, page: Any, config: MkDocsConfig, files: Files) -> str:
    """Let links of the repository lead to the same place in the site; other files are named without a link."""
    here = {v: k for k, v in OUTSIDE.items()}
    source = OUTSIDE.get(page.file.src_uri) or (
        page.file.src_uri if page.file.src_uri.startswith("weights/") else f"docs/{page.file.src_uri}"
    )

    def replace(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), match[1]))
        place = here.get(target, target.removeprefix("docs/"))
        if files.get_file_from_path(place) is not None:
            start = posixpath.dirname(page.file.src_uri) or "."
            return f"]({posixpath.relpath(place, start)}{match[2] or ''})"
        if files.get_file_from_path(posixpath.normpath(match[1])) is not None:
            return match[0]  # a page that only the site has
        return f'](# "{target}, in the repository")'

    return LINK.sub(replace, markdown)


def cards() -> list[Path]:
    """Return the cards of the bundled weights."""
    return sorted((ROOT / "weights").glob("*.md"))


def notebook(path: Path) -> tuple[str, dict[str, bytes]]:
    """Return an executed notebook as a page, and its pictures by name."""
    parts: list[str] = []
    pictures: dict[str, bytes] = {}
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] != "code":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        for output in cell["outputs"]:
            data = output.get("data", {})
            if "image/png" in data:
                name = f"{path.stem}-{len(pictures) + 1}.png"
                pictures[name] = base64.b64decode(data["image/png"])
                parts.append(f"![Output]({name})")
            else:
                text = "".join(output.get("text") or data.get("text/plain", []))
                parts.append(f"```text\n{text.rstrip()}\n```")
    return "\n\n".join(parts) + "\n", pictures


def zoo() -> str:
    """Return the page of all models: sizes, and which weights there are."""
    from hear_audiomamba import list_models, model_info
    from hear_audiomamba.models.manifest import manifest

    lines = [
        "# Model zoo",
        "",
        "Every model by name. `load_model(variant=NAME)` builds it. Parameters are without heads.",
        "",
        "| name | parameters | embedding | rate | weights |",
        "|---|---|---|---|---|",
    ]
    weights = manifest()["weights"]
    for name in list_models():
        info = model_info(name)
        tags = ", ".join(tag.split(".", 1)[1] for tag in weights if tag.split(".", 1)[0] == name)
        millions, size = info["encoder_parameters"] / 1e6, info["scene_embedding_size"]
        rate = info["sample_rate"] // 1000
        lines.append(f"| `{name}` | {millions:.1f} M | {size} | {rate} kHz | {tags or '–'} |")
    lines += [
        "",
        "## Weights",
        "",
        "`load_model(NAME)` loads them. Those that come with the package work offline, and have a card.",
        "",
        "| name | where | licence | trained on |",
        "|---|---|---|---|",
    ]
    carded = {path.name.removesuffix(".md") for path in cards()}
    for name, entry in weights.items():
        where = "download" if entry.get("hub") or entry.get("url") else "by hand"
        if entry.get("file"):
            where = "in the package"
        shown = f"[`{name}`](weights/{name}.md)" if name in carded else f"`{name}`"
        lines.append(f"| {shown} | {where} | {entry['licence']} | {entry['recipe']} |")
    return "\n".join(lines) + "\n"
