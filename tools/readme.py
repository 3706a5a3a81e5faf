"""README.md from nbs/index.ipynb, without Quarto.

Markdown cells are taken as they are, code cells become fenced code with their text outputs, and images (files that the
notebook names, and pictures that its cells drew) are linked so that they show from the root of the repository.

    python tools/readme.py            # writes README.md
"""

import base64
import json
import os
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

NOTICE = "<!-- Made from nbs/index.ipynb by `make prepare`: edit that notebook, not this file. -->"
FENCE = re.compile(r"^(\s*)(```|~~~)")
LINK = re.compile(r"(!?\[[^\]]*\]\()([^)\s]+)((?:\s+\"[^\"]*\")?\))")
SRC = re.compile(r"((?:src|href)=[\"'])([^\"']+)")
CALLOUT = re.compile(r"^:::+\s*(\{.*\})?\s*$")
DIRECTIVE = re.compile(r"^\s*#\s*\|")
ELSEWHERE = re.compile(r"^(?:[a-z][a-z0-9+.-]*:|#|/)", re.IGNORECASE)


def text_of(value):
    """A notebook's string or list of lines as one string."""
    return value if isinstance(value, str) else "".join(value)


def from_root(target, folder):
    """A link in a notebook of `folder` as a link from the root of the repository."""
    if ELSEWHERE.match(target):
        return target
    path, hash_, fragment = target.partition("#")
    return os.path.normpath(os.path.join(folder, path)).replace(os.sep, "/") + hash_ + fragment


def markdown(source, folder):
    """A markdown cell with its links rewritten; code blocks in it, and in-line code, stay as they are."""
    lines, fence = [], None
    for line in source.split("\n"):
        mark = FENCE.match(line)
        if mark and fence in (None, mark[2]):
            fence = None if fence else mark[2]
        elif fence is None:
            if CALLOUT.match(line):
                continue
            pieces = re.split(r"(`[^`]*`)", line)
            for i in range(0, len(pieces), 2):
                piece = LINK.sub(lambda m: m[1] + from_root(m[2], folder) + m[3], pieces[i])
                pieces[i] = SRC.sub(lambda m: m[1] + from_root(m[2], folder), piece)
            line = "".join(pieces)
        lines.append(line)
    return "\n".join(lines).strip("\n")


def fenced(text, language=""):
    """`text` as a fenced block, with a fence longer than any inside."""
    longest = max((len(run) for run in re.findall(r"`{3,}", text)), default=2)
    mark = "`" * max(3, longest + 1)
    return f"{mark}{language}\n{text.rstrip()}\n{mark}"


def output(out, picture):
    """One output of a code cell as markdown, or None; `picture(bytes, suffix)` stores an image and returns its link."""
    if out["output_type"] == "stream":
        return fenced(text_of(out["text"]), "text") if out["name"] == "stdout" else None
    data = out.get("data", {})
    for mime, suffix in (("image/png", "png"), ("image/jpeg", "jpg")):
        if mime in data:
            return f"![]({picture(base64.b64decode(text_of(data[mime])), suffix)})"
    if "image/svg+xml" in data:
        return f"![]({picture(text_of(data['image/svg+xml']).encode(), 'svg')})"
    if "text/markdown" in data:
        return text_of(data["text/markdown"]).strip("\n")
    if "text/plain" in data:
        return fenced(text_of(data["text/plain"]), "text")
    return None


def readme(root=ROOT, notebook="nbs/index.ipynb", pictures="nbs/images"):
    """The text of README.md and the pictures it shows, as (text, {path from the root: bytes})."""
    nb = json.loads((Path(root) / notebook).read_text(encoding="utf-8"))
    folder = os.path.dirname(notebook)
    blocks, images = [NOTICE], {}

    def picture(content, suffix):
        path = f"{pictures}/index-{len(images) + 1}.{suffix}"
        images[path] = content
        return path

    for cell in nb["cells"]:
        source = text_of(cell["source"])
        if cell["cell_type"] == "raw" or (cell["cell_type"] == "markdown" and source.startswith("---\n")):
            continue  # front matter of the site
        if cell["cell_type"] == "markdown":
            blocks.append(markdown(source, folder))
            continue
        if cell["cell_type"] != "code":
            continue
        lines = source.split("\n")
        flags = {re.sub(r"\s+", "", line.split("|", 1)[1]) for line in lines if DIRECTIVE.match(line)}
        if flags & {"hide", "include:false", "exec_doc"}:
            continue
        code = "\n".join(line for line in lines if not DIRECTIVE.match(line)).strip("\n")
        if code and not flags & {"echo:false", "hide_input"}:
            blocks.append(fenced(code, "python"))
        if not flags & {"output:false", "hide_output"}:
            blocks += [block for out in cell.get("outputs", []) if (block := output(out, picture))]
    return "\n\n".join(block for block in blocks if block) + "\n", images


def write(root=ROOT):
    """Write README.md and its pictures under `root`; returns the paths written."""
    root = Path(root)
    text, images = readme(root)
    for path in (root / "nbs/images").glob("index-*.*"):
        if f"nbs/images/{path.name}" not in images:
            path.unlink()
    files = {"README.md": text.encode(), **images}
    for path, content in files.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists() or target.read_bytes() != content:
            temporary = target.with_name(target.name + ".tmp")
            temporary.write_bytes(content)
            os.replace(temporary, target)
    return sorted(files)


if __name__ == "__main__":
    print("wrote", ", ".join(write()))
