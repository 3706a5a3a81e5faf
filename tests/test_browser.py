"""What a person sees, in a real browser: the explorers in JupyterLab, and the pages of the site.

    python -m pytest tests/test_browser.py --browser [--site _docs] [--pictures folder]

Takes Chromium as it is installed (chromium, google-chrome), and the package playwright; `--pictures` keeps screenshots to look at.
"""

import contextlib
import functools
import http.server
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from chronos_dysts.evaluation import Protocol, write_report
from chronos_dysts.integration import integrate_ensemble
from chronos_dysts.probing.embeddings import run_embeddings
from chronos_dysts.store import Trajectory, write_trajectory
from chronos_dysts.systems import get_system

ROOT = Path(__file__).resolve().parent.parent
CHROMIUM = next((found for name in ("chromium", "chromium-browser", "google-chrome", "chrome") if (found := shutil.which(name))), None)
pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is found on the PATH")]
EXPLORERS = {  # the module, the call, and the slider to be moved
    "explore_system": ("explorer", 'explore_system("Lorenz")', "rho"),
    "explore_augmentations": ("explorer", 'explore_augmentations("Lorenz", "RandomTakensEmbedding")', "embedding_dim"),
    "explore_forecast": ("explorer", 'explore_forecast("Lorenz")', "start (step)"),
    "explore_embeddings": ("embedding_explorer", 'explore_embeddings("probe")', "across the map"),
}


@pytest.fixture(scope="session")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
    with playwright.sync_playwright() as run:
        browser = run.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def picture(request):
    """A function that keeps a screenshot, if somebody wants to look."""
    folder = request.config.getoption("--pictures")

    def keep(page, name, **how):
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            page.screenshot(path=str(Path(folder) / f"{name}.png"), **how)

    return keep


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


# ---- JupyterLab ----


def map_of_embeddings(folder):
    """What `chronos-dysts probe embeddings` writes, of four flows, in the folder `probe`."""
    for name in ("Lorenz", "Rossler", "Thomas", "Halvorsen"):
        flow = get_system(name)
        made = integrate_ensemble(flow, length=1024, points_per_period=30, transient=20)
        write_trajectory(Trajectory(made.observed()[0].astype(np.float32), f"{name}/0", name, flow.params, made.states[0, :, 0], flow.period / 30, flow.period, 0), folder / "data" / name / "0_T-1024.arrow")
    run_embeddings(dict(model_id="chronos-dysts-generic-bolt", data_dir=str(folder / "data"), split=None, output_dir=str(folder / "probe"), context_length=256, n_windows=12, probes=[], maps=["pca"]), Console(quiet=True))


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    """A JupyterLab with a notebook for each explorer: its address, to be filled with a name."""
    folder, port = tmp_path_factory.mktemp("lab"), free_port()
    map_of_embeddings(folder)
    for name, (module, call, _) in EXPLORERS.items():
        cells = [f"from chronos_dysts.{module} import {name}", f"state = {call}", "print('chosen:', state)"]
        notebook = {"cells": [{"cell_type": "code", "id": f"c{i}", "metadata": {}, "execution_count": None, "outputs": [], "source": source} for i, source in enumerate(cells)],
                    "metadata": {"kernelspec": {"display_name": "python3", "language": "python", "name": "python3"}}, "nbformat": 4, "nbformat_minor": 5}
        (folder / f"{name}.ipynb").write_text(json.dumps(notebook))
    environment = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"} | {"PYTHONPATH": str(ROOT), "JUPYTER_CONFIG_DIR": str(folder / "config")}
    command = [sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root", f"--port={port}", "--ip=127.0.0.1", "--IdentityProvider.token=t", f"--ServerApp.root_dir={folder}",
               "--LabApp.news_url=", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    with open(folder / "log", "w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT, cwd=folder)
    try:
        for _ in range(240):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api/status?token=t", timeout=1)
                break
            assert process.poll() is None, (folder / "log").read_text()[-2000:]
            time.sleep(0.25)
        yield f"http://127.0.0.1:{port}/doc/tree/{{}}.ipynb?token=t"
    finally:
        process.terminate()
        process.wait(20)


@pytest.mark.parametrize("name", EXPLORERS)
def test_an_explorer_follows_a_slider(name, lab, browser, picture):
    page = browser.new_page(viewport={"width": 1400, "height": 1100})
    page.goto(lab.format(name))
    page.wait_for_function("() => /\\| Idle/.test(document.body.innerText)", timeout=90_000)
    page.click("text=Run >> visible=true")
    page.click("text=Run All Cells")
    image = page.locator(".jp-OutputArea .widget-image, .jp-OutputArea img.jupyter-widgets").first
    image.wait_for(state="visible", timeout=90_000)
    page.wait_for_function("() => /chosen:/.test(document.body.innerText)", timeout=60_000)
    assert image.evaluate("each => each.naturalWidth") > 1000
    picture(page, f"{name}-first")
    before = image.get_attribute("src")
    slider = page.locator(".widget-hslider", has_text=EXPLORERS[name][2]).first
    handle = slider.locator(".noUi-handle")
    handle.scroll_into_view_if_needed()
    handle.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    page.wait_for_function("before => [...document.querySelectorAll('.jp-OutputArea img')].every(each => each.src !== before)", arg=before, timeout=20_000)
    if name == "explore_system":
        page.wait_for_function("() => /accepted|rejected/.test(document.querySelector('[role=status]').innerText)", timeout=20_000)
        search = page.locator("input[placeholder*='part of a name']")
        search.fill("hyperro")
        page.wait_for_function("() => [...document.querySelectorAll('.widget-select option')].every(each => /hyperro/i.test(each.innerText))", timeout=10_000)
        page.locator(".widget-select select").select_option(label="HyperRossler")
        page.wait_for_function("() => /HyperRossler/.test([...document.querySelectorAll('.widget-html')].map(each => each.innerText).join())", timeout=20_000)
    if name == "explore_embeddings":
        follow_the_pointer(page, image, picture)
    azimuth = page.locator(".widget-hslider", has_text="azimuth").locator(".widget-readout")
    angle = azimuth.inner_text()
    page.locator(".widget-play button").first.click()
    page.wait_for_function("([angle]) => [...document.querySelectorAll('.widget-hslider')].find(each => /azimuth/.test(each.innerText)).querySelector('.widget-readout').innerText !== angle",
                           arg=[angle], timeout=20_000)
    page.locator(".widget-play button").first.click()
    picture(page, f"{name}-moved")
    assert page.locator(".jp-OutputArea-output[data-mime-type*='stderr'], .jp-RenderedText[data-mime-type*='error']").count() == 0
    page.close()


PLACE = """(svg, i) => { const [x, y] = JSON.parse(svg.dataset.points).places[i]; const at = new DOMPoint(x, y).matrixTransform(svg.getScreenCTM()); return [at.x, at.y, JSON.parse(svg.dataset.points).about[i][1]]; }"""


def hover(page, number):
    """Move the pointer to a point of the map; returns what is said there. Points lie on each other: that of another may be nearer."""
    layer = page.locator("svg.chronos-dysts-pointer").first
    layer.scroll_into_view_if_needed()
    x, y, _ = layer.evaluate(PLACE, number)
    page.mouse.move(x, y)
    page.wait_for_function("() => Number(document.querySelector('svg.chronos-dysts-pointer').dataset.shown) >= 0", timeout=10_000)
    shown = int(layer.get_attribute("data-shown"))
    nearest = layer.evaluate(PLACE, shown)
    assert abs(nearest[0] - x) < 8 and abs(nearest[1] - y) < 8, "the drawing lies where the picture does"
    assert layer.locator("polyline").count() == 3 and layer.locator("text").text_content() == nearest[2]
    return shown, nearest[2]


def follow_the_pointer(page, image, picture):
    """Hovering shows the window behind a point, a click chooses it, and the controls follow; the number can be typed as well."""
    box, layer = image.bounding_box(), page.locator("svg.chronos-dysts-pointer").first.bounding_box()
    assert all(abs(box[key] - layer[key]) < 1.5 for key in ("x", "y", "width", "height")), (box, layer)
    field = page.locator(".chronos-dysts-point input")
    for number in (3, 40):
        shown, words = hover(page, number)
        picture(page, f"explore_embeddings-hover-{number}")
        before = image.get_attribute("src")
        page.mouse.down()
        page.mouse.up()
        page.wait_for_function("words => document.querySelector('[role=status]').innerText.includes(words.split(',')[0])", arg=words, timeout=20_000)
        page.wait_for_function("before => document.querySelector('.jp-OutputArea .widget-image').src !== before", arg=before, timeout=20_000)
        assert field.input_value() == str(shown) and page.locator(".widget-select select").input_value() != "" and words.split("step ")[1] in page.locator("[role=status]").inner_text()
    page.mouse.move(2, 2)
    assert page.locator("svg.chronos-dysts-pointer polyline").count() == 0
    field.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Tab")
    wanted = page.locator("svg.chronos-dysts-pointer").first.evaluate(PLACE, shown - 1)[2]
    page.wait_for_function("words => { const told = document.querySelector('[role=status]').innerText; return told.includes(words.split(',')[0]) && told.includes(words.split('from ')[1]); }", arg=wanted, timeout=20_000)


# ---- the site ----


@pytest.fixture(scope="session")
def site(request, tmp_path_factory):
    """The built site on a server of its own: its address."""
    folder = request.config.getoption("--site")
    if not folder:
        folder = tmp_path_factory.mktemp("site") / "html"
        done = subprocess.run([sys.executable, str(ROOT / "docs/build.py"), "--output", str(folder), "--work", str(folder.parent / "work")], text=True, capture_output=True, cwd=ROOT)
        assert done.returncode == 0, done.stdout + done.stderr

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    server.pages = sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*.html"))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


@pytest.fixture
def visit(site, browser):
    """Open a page at a width; returns it with what its console said and whom else it asked."""
    opened = []

    def visit(name, width=1280, theme="light"):
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=theme)
        page.said, page.asked = [], []
        page.on("console", lambda message: page.said.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: page.said.append(str(error)))
        page.on("request", lambda request: page.asked.append(request.url) if not request.url.startswith((f"http://127.0.0.1:{site.server_port}/", "data:", "blob:")) else None)
        page.goto(f"http://127.0.0.1:{site.server_port}/{name}", wait_until="networkidle")
        opened.append(page)
        return page

    yield visit
    for page in opened:
        page.close()


def test_every_page_loads_without_errors_or_other_hosts(site, visit):
    for name in site.pages:
        page = visit(name)
        assert not page.said, f"{name}: {page.said}"
        assert not page.asked, f"{name} asks {page.asked}"
        assert page.title()
        page.close()


@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (1280, "dark"), (375, "light")])
def test_pages_fit_the_window(width, theme, visit, picture):
    for name in ("index.html", "explorer.html", "cli.html"):
        page = visit(name, width, theme)
        assert page.evaluate("() => document.documentElement.scrollWidth") <= width + 1, f"{name} is wider than {width}"
        background = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
        assert sum(map(int, re.findall(r"\d+", background)[:3])) < 200 if theme == "dark" else sum(map(int, re.findall(r"\d+", background)[:3])) > 600
        picture(page, f"{name.removesuffix('.html')}-{width}-{theme}")


def test_search_finds_a_function(visit):
    page = visit("search.html?q=explore_system")
    page.wait_for_selector("#search-results li", timeout=20_000)
    assert "xplorer" in page.locator("#search-results").inner_text()


def test_a_widget_shows_on_its_page(visit, picture):
    page = visit("explorer.html")
    page.wait_for_selector(".widget-image, img.jupyter-widgets", timeout=20_000)
    assert page.locator(".widget-hslider").count() >= 5
    picture(page, "explorer-widgets", full_page=True)


def test_a_map_of_the_site_follows_the_pointer(visit, picture):
    page = visit("embedding_explorer.html")
    page.wait_for_selector("svg.chronos-dysts-pointer", timeout=20_000)
    hover(page, 100)
    picture(page, "embedding_explorer-hover")
    assert not page.said and not page.asked


# ---- a report ----


def test_the_comparison_of_a_report_fits_into_a_window_and_wider_tables_scroll(browser, picture, tmp_path):
    rng, horizons = np.random.default_rng(0), tuple(range(64, 513, 64))
    rows = pd.DataFrame([(name, system, f"{system}/0", 0, horizon, metric, skill * scale * rng.uniform(0.5, 1.5)) for name, skill in (("chronos-dysts-nano", 1.0), ("parroting", 2.0), ("persistence", 4.0), ("mean", 6.0))
                         for system in (f"flow {k}" for k in range(20)) for horizon in horizons for metric, scale in (("smape100", 10.0), ("mae", 1234.5))], columns=["forecaster", "system", "trajectory", "window", "horizon", "metric", "value"])
    report = write_report(tmp_path / "report.html", rows, protocol=Protocol(512, 512, horizons=horizons, metrics=("smape100", "mae")))
    page = browser.new_page(viewport={"width": 1100, "height": 900})
    page.goto(report.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    wide, shown = page.evaluate("() => [[...document.querySelectorAll('.scroll')].filter(each => /better|worse/.test(each.innerText)).map(each => each.scrollWidth - each.clientWidth), [...document.querySelectorAll('table')].every(each => each.closest('.scroll'))]")
    assert len(wide) == 1 and max(wide) <= 0 and shown
    picture(page, "report", full_page=True)
