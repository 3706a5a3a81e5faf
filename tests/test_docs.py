"""The site: built from the notebooks without a warning, and every link inside it leads somewhere."""

import importlib.util
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).resolve().parent.parent
MISSING = [name for name in ("furo", "myst_nb", "nbdev", "sphinx") if importlib.util.find_spec(name) is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)} (the extras docs and dev)")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, str(ROOT / "docs/build.py"), "--no-npm", "--output", str(folder / "html")]
    done = subprocess.run([*command, "--work", str(folder / "work")], text=True, capture_output=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "html"


class Page(HTMLParser):
    """The links of a page and the places in it that a link can lead to."""

    def __init__(self, path):
        super().__init__()
        self.links, self.ids = [], {""}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.ids.add(attrs.get("id", ""))
        link = attrs.get("href" if tag in {"a", "link"} else "src")
        if link:
            self.links.append(link)


def test_every_internal_link_leads_somewhere(site):
    pages = {path: Page(path) for path in site.rglob("*.html")}
    broken = []
    for path, page in pages.items():
        for link in page.links:
            if re.match(r"[a-z][a-z0-9+.-]*:|//", link):
                continue
            name, _, fragment = link.partition("#")
            target = (path.parent / unquote(name.split("?")[0])).resolve() if name else path
            if not target.exists() or (target in pages and unquote(fragment) not in pages[target].ids):
                broken.append(f"{path.relative_to(site)}: {link}")
    assert broken == []


def test_every_notebook_has_its_page_and_every_room_its_symbols(site):
    for notebook in (ROOT / "nbs").glob("[0-9]*.ipynb"):
        name = re.sub(r"^\d+[a-z]?_", "", notebook.stem)
        assert (site / f"{name}.html").exists(), f"{notebook.name} has no page"
    forecasting = (site / "forecasting.html").read_text(encoding="utf-8")
    assert 'id="api-forecasting-forecast"' in forecasting
    # what nbdev would lose: the words behind the title, in the first cell
    assert "ruler" in forecasting
    api = (site / "api.html").read_text(encoding="utf-8")
    assert 'href="forecasting.html#api-forecasting-forecast"' in api


def test_the_front_page_is_the_index(site):
    index = (site / "index.html").read_text(encoding="utf-8")
    assert "make demo" in re.sub(r"<[^>]+>", "", index)
    for name in ("systems", "forecasting", "api"):
        assert f'href="{name}.html"' in index


# ---- the adapter ----


@pytest.fixture(scope="module")
def adapter():
    spec = importlib.util.spec_from_file_location("docs_adapter", ROOT / "docs/adapter.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def small_site(adapter, tmp_path):
    (tmp_path / "nbs/tutorials").mkdir(parents=True)
    for name in ("index", "22_metrics", "45_forecasting", "tutorials/00_start"):
        (tmp_path / f"nbs/{name}.ipynb").write_text('{"cells": []}')
    settings = {"lib_name": "lib", "nbs_path": "nbs", "doc_host": "https://x.org", "doc_baseurl": "/p"}
    site = adapter.Site(tmp_path, settings)
    site.label("metrics", "Errors")
    return site


@pytest.mark.parametrize(
    ("page", "quarto", "myst"),
    [
        ("metrics", "[a](https://x.org/p/metrics.html#errors)", "[a](#api-metrics-errors)"),
        ("metrics", "[a](https://x.org/p/metrics.html#errors.mean)", "[a](#api-metrics-errors)"),
        ("metrics", "[a](https://x.org/p/forecasting.html#nothing)", "[a](forecasting.ipynb)"),
        ("metrics", "[a](45_forecasting.ipynb#units)", "[a](forecasting.ipynb#units)"),
        ("tutorials/start", "[a](../22_metrics.ipynb)", "[a](../metrics.ipynb)"),
        ("metrics", "[a](https://y.org){target=\"_blank\"}", "[a](https://y.org)"),
        ("metrics", "`[a](45_forecasting.ipynb)`{.python}", "`[a](forecasting.ipynb)`{.python}"),
        ("metrics", "## Units {#sec-units}", "(sec-units)=\n## Units"),
        ("metrics", "see @fig-a, @sec-units.", "see {numref}`fig-a`, [](#sec-units)."),
        ("metrics", "::: {.callout-tip}\nhm\n:::", ":::{tip}\nhm\n:::"),
        ("metrics", '::: {.callout-note title="So"}\nhm\n:::', ":::{admonition} So\n:class: note\nhm\n:::"),
        ("metrics", "::: {.panel}\nhm\n:::", "hm\n"),
        ("metrics", "```\n::: {.callout-tip}\n```", "```\n::: {.callout-tip}\n```"),
    ],
)
def test_quarto_becomes_myst(adapter, small_site, page, quarto, myst):
    assert adapter.markdown(quarto, small_site, page) == myst


def test_a_notebook_that_the_navigation_forgets_is_named(adapter, small_site):
    path = small_site.tree / "nbs/sidebar.yml"
    path.write_text("website: {sidebar: {contents: [index.ipynb, {section: A, contents: [22_metrics.ipynb]}]}}")
    with pytest.raises(SystemExit, match="does not name 45_forecasting.ipynb, tutorials/00_start.ipynb"):
        adapter.sidebar(small_site)
    path.write_text("website: {sidebar: {contents: [no.ipynb]}}")
    with pytest.raises(SystemExit, match="names no.ipynb, which is no notebook"):
        adapter.sidebar(small_site)
    path.write_text(
        "website: {sidebar: {contents: [{section: A, contents: [22_metrics.ipynb, 45_forecasting.ipynb]}, {auto: 'tutorials/*'}]}}"
    )
    assert adapter.sidebar(small_site) == [("A", ["metrics", "forecasting"]), (None, ["tutorials/start"])]


def test_the_words_behind_a_title_are_kept(adapter, tmp_path):
    path = tmp_path / "a.ipynb"
    cell = {"cell_type": "markdown", "id": "x", "metadata": {}, "source": ["# T\n", "\n", "> sub\n", "\n", "The rest.\n", "More."]}
    path.write_text(json.dumps({"cells": [cell]}))
    adapter.split_title(path)
    sources = [cell["source"] for cell in json.loads(path.read_text())["cells"]]
    assert sources == ["# T\n\n> sub", "The rest.\nMore."]
