"""From nbdev's processed notebooks, which are written for Quarto, to notebooks for MyST and Sphinx."""

import ast
import json
import re
import shutil

import yaml

DIRECTIVE = re.compile(r"^\s*#\s*\|\s*([\w-]+)\s*:?\s*(.*?)\s*$")
CALLOUT = re.compile(r"^(:{3,})\s*\{\s*\.callout-(\w+)([^}]*)\}\s*$")
DIV = re.compile(r"^:{3,}\s*(\{.*\})?\s*$")
HEADING = re.compile(r"^(#{1,6})\s+(.*?)\s*$")
NAMED = re.compile(r"^(#{1,6}\s.*?)\s*\{([#.][^}]*)\}\s*$")
FENCE = re.compile(r"^\s*(```+|~~~+)")
LINK = re.compile(r"(\]\()([^)\s]+)((?:\s+\"[^\"]*\")?\))")
SOURCE = re.compile(r"^\[source\]\(([^)]*)\)\{[^}]*\}\s*$", re.MULTILINE)
ATTRIBUTES = re.compile(r"(\]\([^)]*\))\{[^}`]*\}")
FIGURE = re.compile(r"(?<![\w@])@((?:fig|tbl)-[\w-]*\w)")
SECTION = re.compile(r"(?<![\w@])@(sec-[\w-]*\w)")
ADMONITIONS = {"note": "note", "tip": "tip", "warning": "warning", "important": "important", "caution": "caution"}
NUMBER = re.compile(r"^\d+[a-z]?_")


def text_of(value):
    return value if isinstance(value, str) else "".join(value)


def split_title(path):
    """Give the title and the subtitle a cell of their own: nbdev makes front matter of the whole first cell, and what else
    stands in it would be lost from the page."""
    nb = json.loads(path.read_text(encoding="utf-8"))
    if not nb["cells"] or nb["cells"][0]["cell_type"] != "markdown":
        return
    first = nb["cells"][0]
    match = re.match(r"\s*#\s+[^\n]+\n(\s*>[^\n]*\n?)*", text_of(first["source"]) + "\n")
    if not match:
        return
    rest = text_of(first["source"])[match.end() :].strip("\n")
    if rest:
        first["source"] = match[0].strip("\n")
        nb["cells"].insert(1, {**first, "id": f"{first.get('id', '')}-rest", "source": rest})
        path.write_text(json.dumps(nb), encoding="utf-8")


def page_name(name):
    """`tutorials/00_start.ipynb` → `tutorials/start`: the name that nbdev gives a notebook's page."""
    folder, _, file = name.rpartition("/")
    stem = NUMBER.sub("", file.rsplit(".", 1)[0])
    return f"{folder}/{stem}" if folder else stem


class Site:
    """What the pages have to know of each other: their names, and the labels of the documented symbols."""

    def __init__(self, tree, settings):
        self.tree = tree
        self.package = settings["lib_name"]
        self.notebooks_folder = settings["nbs_path"]
        self.url = f"{settings['doc_host']}{settings['doc_baseurl']}/"
        folder = tree / self.notebooks_folder
        names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.ipynb"))
        self.pages = {name: page_name(name) for name in names if not any(part[0] in "._" for part in name.split("/"))}
        if len(set(self.pages.values())) < len(self.pages):
            raise SystemExit(f"two notebooks have the same page: {sorted(self.pages.values())}")
        self.labels = {}  # (page, symbol) → label
        self.modules = {}  # module file → page, in the order of the notebooks
        self.order = {}  # page → {name defined at the top of its module: line}
        for name, page in self.pages.items():
            nb = json.loads((folder / name).read_text(encoding="utf-8"))
            code = "\n".join(text_of(cell["source"]) for cell in nb["cells"] if cell["cell_type"] == "code")
            target = re.search(r"^\s*#\|\s*default_exp\s+(\S+)", code, re.MULTILINE)
            module = target[1].replace(".", "/") + ".py" if target else ""
            if module and (tree / self.package / module).exists():
                self.modules[module] = page
                self.order[page] = {name: node.lineno for name, node in self.definitions(module).items()}

    def definitions(self, module):
        """The classes and functions at the top of a module, by name."""
        kinds = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        return {node.name: node for node in self.syntax(module).body if isinstance(node, kinds)}

    def syntax(self, module):
        return ast.parse((self.tree / self.package / module).read_text(encoding="utf-8"))

    def label(self, page, symbol):
        label = f"api-{page}-{symbol}".replace("/", "-").replace(".", "-").replace("_", "-").lower()
        while label in self.labels.values():  # a class and a function that differ in case only
            label += "-2"
        self.labels[page, symbol] = label
        return label

    def target(self, link, page):
        """A link in the notebook behind `page`, for Sphinx."""
        if link.startswith(self.url):
            # nbdev's links to symbols: host/page.html#module.symbol
            name, _, fragment = link[len(self.url) :].partition("#")
            other = name.removesuffix(".html")
            if other not in self.pages.values():
                return link
            for (known, symbol), label in self.labels.items():
                if known == other and fragment in {symbol.lower(), symbol.rpartition(".")[2].lower()}:
                    return f"#{label}"
            owner = fragment.rpartition(".")[0]
            for (known, symbol), label in self.labels.items():
                if known == other and owner and symbol.lower() == owner:
                    return f"#{label}"
            return self.relative(other, page)
        if re.match(r"[a-z][a-z0-9+.-]*:|#|/", link, re.IGNORECASE):
            return link
        name, hash_, fragment = link.partition("#")
        folder = page.rpartition("/")[0]
        parts = []
        for part in (f"{folder}/{name}" if folder else name).split("/"):
            parts = parts[:-1] if part == ".." and parts else [*parts, part] if part not in {"", "."} else parts
        full = "/".join(parts)
        if full in self.pages:
            return self.relative(self.pages[full], page) + hash_ + fragment
        return link

    @staticmethod
    def relative(other, page):
        return "../" * page.count("/") + other + ".ipynb"


def markdown(source, site, page):
    """Quarto's markdown as MyST: callouts, divs, attributes behind links, links between notebooks."""
    lines, fence, closing = [], None, []
    for line in source.split("\n"):
        mark = FENCE.match(line)
        if mark:
            if fence is None:
                fence = mark[1]
            elif line.strip().startswith(fence):
                fence = None
            lines.append(line)
            continue
        if fence is not None:
            lines.append(line)
            continue
        callout = CALLOUT.match(line)
        if callout:
            kind = ADMONITIONS.get(callout[2], "note")
            title = re.search(r"title=\"([^\"]*)\"", callout[3])
            lines.append(f":::{{admonition}} {title[1]}\n:class: {kind}" if title else f":::{{{kind}}}")
            closing.append(":::")
            continue
        if DIV.match(line):
            # An opening div has attributes; one that is not a callout leaves its content alone.
            if "{" in line:
                closing.append("")
            elif closing:
                lines.append(closing.pop())
            continue
        named = NAMED.match(line)
        if named:
            label = re.search(r"#([\w-]+)", named[2])
            line = (f"({label[1]})=\n" if label else "") + named[1]
        pieces = re.split(r"(`+[^`]*`+)", line)
        joined = []
        for i, piece in enumerate(pieces):
            if i % 2 == 0:
                piece = ATTRIBUTES.sub(r"\1", piece)
                piece = FIGURE.sub(r"{numref}`\1`", piece)
                piece = SECTION.sub(r"[](#\1)", piece)
            joined.append(piece)
        line = LINK.sub(lambda m: m[1] + site.target(m[2], page) + m[3], "".join(joined))
        lines.append(line)
    return "\n".join(lines)


def one_per_line(line):
    """A line of parameters, one parameter a line: split at the commas outside of brackets."""
    if "#" in line or not line.startswith("    "):
        return line
    parts, depth, quote = [""], 0, ""
    for character in line.strip():
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        depth += (not quote) * ((character in "([{") - (character in ")]}"))
        parts[-1] += character
        if character == "," and depth == 0 and not quote:
            parts.append("")
    return "\n".join(f"    {part.strip()}" for part in parts if part.strip())


def signature(text):
    """The signature in a `show_doc` as a code block of its own class; a class is called one."""
    head, fence, tail = text.partition("\n```\n")
    if any(len(line) > 88 for line in head.split("\n")):
        head = "\n".join(map(one_per_line, head.split("\n")))
    text = head + fence + tail
    text = re.sub(r"```python\ndef ([A-Z]\w*)\(", r"```python\nclass \1(", text)
    text = re.sub(r"(```python\nclass [^`]*?\))->None:", r"\1:", text)
    return text.replace("```python\n", "```{code-block} python\n:class: signature\n\n", 1)


def show_doc(text, level, site, page):
    """The markdown that nbdev renders for a symbol: its label, a heading at `level`, a link to the source, the rest."""
    text = re.sub(r"^---\s*\n", "", text.strip("\n")).strip("\n")
    link = SOURCE.search(text)
    text = SOURCE.sub("", text).strip("\n")
    heading = re.match(r"#+\s+(.+)\n", text + "\n")
    if not heading:
        return text
    symbol = heading[1].strip()
    body = text[heading.end() :].strip("\n")
    # nbdev sets the first paragraph in italics; the style sheet knows better.
    body = re.sub(r"(```\n\n)\*(.+?)\*(\n\n|\Z)", r"\1\2\3", body, count=1, flags=re.DOTALL)
    source = f"{{.source-link}}\n[source]({link[1]})\n\n" if link and not link[1].endswith("#LNone") else ""
    label = site.labels.get((page, symbol)) or site.label(page, symbol)
    return f"({label})=\n{'#' * level} {symbol}\n\n{source}{signature(body)}"


def symbols(nb):
    """The symbols that a processed notebook documents, in order."""
    for cell in nb["cells"]:
        if cell["cell_type"] == "code" and "show_doc(" in text_of(cell["source"]):
            for out in cell.get("outputs", []):
                found = re.search(r"^#+\s+(.+)$", text_of(out.get("data", {}).get("text/markdown", "")), re.MULTILINE)
                if found:
                    yield found[1].strip()


def in_order(cells, order):
    """nbdev documents the definitions of one cell from the last to the first: put them in the order of the module."""

    def place(cell):
        name = re.search(r"show_doc\(\s*([\w.]+)", text_of(cell["source"])) if cell["cell_type"] == "code" else None
        return order.get(name[1]) if name else None

    found, run = [], []
    for cell in [*cells, None]:
        if cell is not None and place(cell) is not None:
            run.append(cell)
            continue
        found += sorted(run, key=place)
        run = []
        if cell is not None:
            found.append(cell)
    return found


def options(source):
    """The `#|` lines of a cell as a dict, and the source without them."""
    found, lines = {}, []
    for line in source.split("\n"):
        directive = DIRECTIVE.match(line)
        if directive:
            found[directive[1]] = directive[2]
        else:
            lines.append(line)
    return found, "\n".join(lines).strip("\n")


def adapt_notebook(nb, site, page):
    """One processed notebook for MyST; returns the new notebook."""
    cells, section, matter = [], 1, {}
    for cell in in_order(nb["cells"], site.order.get(page, {})):
        source = text_of(cell["source"])
        if cell["cell_type"] == "raw":
            if source.startswith("---"):
                matter |= yaml.safe_load(source.strip().strip("-")) or {}
            continue
        if cell["cell_type"] == "markdown":
            if source.startswith("<!-- WARNING: THIS FILE WAS AUTOGENERATED"):
                continue
            fence = False
            for line in source.split("\n"):
                fence ^= bool(FENCE.match(line))
                if not fence and (heading := HEADING.match(line)):
                    section = len(heading[1])
            cells.append(new_markdown(cell, markdown(source, site, page)))
            continue
        flags, code = options(source)
        if flags.get("include") == "false":
            continue
        outputs = cell.get("outputs", [])
        if flags.get("output") == "asis":
            for out in outputs:
                text = text_of(out.get("data", {}).get("text/markdown", "")) or text_of(out.get("text", ""))
                if "show_doc(" in code:
                    text = show_doc(text, min(section + 1, 6), site, page)
                if text:
                    cells.append(new_markdown(cell, markdown(text, site, page)))
            continue
        tags = [tag for tag in cell.get("metadata", {}).get("tags", []) if isinstance(tag, str)]
        if flags.get("echo") == "false":
            tags.append("remove-input")
        if flags.get("output") == "false":
            tags.append("remove-output")
        if flags.get("code-fold") == "true":
            tags.append("hide-input")
        if not code and not outputs:
            continue
        metadata = {"tags": sorted(set(tags))} if tags else {}
        if "fig-cap" in flags:
            figure = {"caption": flags["fig-cap"].strip("\"'")}
            if "label" in flags:
                figure["name"] = flags["label"]
            metadata["mystnb"] = {"figure": figure}
        outputs = [out for out in outputs if not (out["output_type"] == "stream" and out["name"] == "stderr")]
        cells.append({**cell, "source": code, "outputs": outputs, "metadata": metadata})
    title = f"# {matter.get('title', page)}"
    if matter.get("description"):
        title += f"\n\n{{.subtitle}}\n{matter['description']}"
    cells.insert(0, {"cell_type": "markdown", "id": "title", "metadata": {}, "source": markdown(title, site, page)})
    metadata = {k: v for k, v in nb.get("metadata", {}).items() if k == "widgets" and has_widgets(nb)}
    metadata |= {
        "kernelspec": {"display_name": "python3", "language": "python", "name": "python3"},
        "language_info": {"name": "python", "pygments_lexer": "ipython3"},
    }
    for i, cell in enumerate(cells):
        cell["id"] = f"cell-{i}"
    return {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def new_markdown(cell, source):
    return {"cell_type": "markdown", "id": cell.get("id", ""), "metadata": {}, "source": source}


def has_widgets(nb):
    return any(
        "application/vnd.jupyter.widget-view+json" in out.get("data", {})
        for cell in nb["cells"]
        for out in cell.get("outputs", [])
    )


# ---- navigation ----


def sidebar(site):
    """nbs/sidebar.yml (as Quarto reads it) as [(caption or None, [page, …]), …], the front page left out."""
    path = site.tree / site.notebooks_folder / "sidebar.yml"
    contents = yaml.safe_load(path.read_text(encoding="utf-8"))["website"]["sidebar"]["contents"]

    def flat(entries):
        for entry in entries:
            if isinstance(entry, str):
                entry = {"href": entry}
            if "contents" in entry:
                yield from flat(entry["contents"] if isinstance(entry["contents"], list) else [{"auto": entry["contents"]}])
            elif "auto" in entry:
                folder = site.tree / site.notebooks_folder
                pattern = entry["auto"] if "*" in entry["auto"] else entry["auto"].rstrip("/") + "/*.ipynb"
                yield from (p.relative_to(folder).as_posix() for p in sorted(folder.glob(pattern)))
            else:
                yield entry.get("href") or entry["file"]

    groups = [(None, [])]
    for entry in contents:
        section = isinstance(entry, dict) and entry.get("section")
        if section:
            groups.append((section, []))
        elif groups[-1][0] is not None:
            groups.append((None, []))
        for name in flat([entry]):
            if name not in site.pages:
                raise SystemExit(f"nbs/sidebar.yml names {name}, which is no notebook in nbs/")
            if site.pages[name] != "index":
                groups[-1][1].append(site.pages[name])
    listed = {page for _, pages in groups for page in pages} | {"index"}
    missing = sorted(name for name, page in site.pages.items() if page not in listed)
    if missing:
        raise SystemExit(f"nbs/sidebar.yml does not name {', '.join(missing)}: add it where a reader should find it")
    return [(caption, pages) for caption, pages in groups if pages]


def toctrees(groups):
    blocks = []
    for caption, pages in groups:
        head = "```{toctree}\n:hidden:\n" + (f":caption: {caption}\n" if caption else "")
        blocks.append(head + "\n" + "\n".join(pages) + "\n```")
    blocks.append("```{toctree}\n:hidden:\n:caption: Reference\n\napi\nchangelog\n```")
    return "\n\n".join(blocks)


# ---- the index of the API ----


def first_line(node):
    return (ast.get_docstring(node) or "").strip().split("\n\n")[0].replace("\n", " ")


def api(site):
    """A page that lists what the modules export, one line each."""
    lines = ["# API", "", "{.subtitle}", "Everything that the modules export, one line each.", ""]
    for module, page in site.modules.items():
        tree = site.syntax(module)
        exported = next(
            (
                ast.literal_eval(node.value)
                for node in tree.body
                if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__"
            ),
            [],
        )
        definitions = site.definitions(module)
        dotted = f"{site.package}.{module.removesuffix('.py').replace('/', '.')}"
        lines += [f"## {dotted}", "", first_line(tree) + f" ([the notebook]({page}.ipynb))", ""]

        def linked(name, shown, page=page):
            label = site.labels.get((page, name))
            return f"[`{shown}`]({'#' + label if label else page + '.ipynb'})"

        for name in exported:
            node = definitions.get(name)
            if node is None:
                continue
            lines.append(f"* {linked(name, name)}: {first_line(node) or 'no description'}")
            if isinstance(node, ast.ClassDef):
                for method in node.body:
                    if isinstance(method, ast.FunctionDef) and not method.name.startswith("_") and first_line(method):
                        full = f"{name}.{method.name}"
                        link = linked(full, full) if (page, full) in site.labels else f"`{full}`"
                        lines.append(f"  * {link}: {first_line(method)}")
        lines.append("")
    return "\n".join(lines)


def adapt(processed, source, tree, settings):
    """Write Sphinx' source folder from nbdev's `_proc`; returns whether any page has widgets."""
    site = Site(tree, settings)
    groups = sidebar(site)
    books = {name: json.loads((processed / name).read_text(encoding="utf-8")) for name in site.pages}
    for name, page in site.pages.items():
        for symbol in symbols(books[name]):
            if (page, symbol) not in site.labels:
                site.label(page, symbol)
    for name, page in site.pages.items():
        nb = adapt_notebook(books[name], site, page)
        if page == "index":
            nb["cells"].append({"cell_type": "markdown", "id": "navigation", "metadata": {}, "source": toctrees(groups)})
        target = source / f"{page}.ipynb"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(nb, indent=1), encoding="utf-8")
    (source / "api.md").write_text(api(site), encoding="utf-8")
    for path in processed.rglob("*"):
        if path.is_file() and path.suffix not in {".ipynb", ".yml", ".py"}:
            target = source / path.relative_to(processed)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    return any(has_widgets(nb) for nb in books.values())
