"""What a stored notebook must be like. That its cells run is `nbdev_test`'s part, and with `--slow` tested here as well,
each notebook in an interpreter of its own, where what it shows must be what is stored."""

import ast
import importlib.util
import json
import re
import shutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NBS = ROOT / "nbs"
NOTEBOOKS = sorted(p for p in NBS.rglob("*.ipynb") if not any(part[0] in "._" for part in p.relative_to(NBS).parts))
MACHINE = re.compile(r"(?<![\w.])/(?:home|Users|root|tmp|work|var/folders)/|site-packages/|\bat 0x[0-9a-f]{6,}")
PROGRESS = re.compile(r"\d+%\|[█▏▎▍▌▋▊▉ ]")

each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.relative_to(NBS).as_posix())


def text_of(value):
    return value if isinstance(value, str) else "".join(value)


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def code_cells(nb):
    return [cell for cell in nb["cells"] if cell["cell_type"] == "code"]


def flags(cell):
    return {line.split()[0].rstrip(":") for line in re.findall(r"^\s*#\s*\|\s*(.+)$", text_of(cell["source"]), re.MULTILINE)}


def shown(output):
    """The text that an output shows."""
    texts = [output.get("text", "")] + [v for k, v in output.get("data", {}).items() if k.startswith("text/")]
    return "\n".join(map(text_of, texts))


@each
def test_opens_with_a_title_and_one_line_about_it(path):
    first = read(path)["cells"][0]
    assert first["cell_type"] == "markdown"
    assert re.match(r"# \S.*\n\n> \S", text_of(first["source"])), "the first cell opens with '# Title' and '> one line'"


@each
def test_is_stored_clean(path):
    nb = read(path)
    ids = [cell["id"] for cell in nb["cells"]]
    assert len(set(ids)) == len(ids)
    assert set(nb["metadata"]) <= {"kernelspec", "widgets"}
    for cell in code_cells(nb):
        assert cell["execution_count"] is None
        assert all(output.get("execution_count") is None for output in cell["outputs"])


@each
def test_shows_no_error_no_warning_and_nothing_of_the_machine(path):
    for cell in code_cells(read(path)):
        for output in cell["outputs"]:
            assert output["output_type"] != "error", text_of(cell["source"])
            assert output.get("name") != "stderr", f"this cell writes to stderr:\n{text_of(cell['source'])}\n{shown(output)}"
            assert not MACHINE.search(shown(output)), f"an output names this machine:\n{shown(output)}"
            assert not PROGRESS.search(shown(output)), "an output holds a progress bar"


@each
def test_is_small(path):
    nb = read(path)
    assert path.stat().st_size < 500_000
    assert len(nb["cells"]) <= 80, "split the room"
    for cell in code_cells(nb):
        for output in cell["outputs"]:
            assert len(json.dumps(output)) < 200_000, text_of(cell["source"])


@each
def test_hides_little(path):
    hidden = sum("hide" in flags(cell) for cell in code_cells(read(path)))
    assert hidden <= 3, "what a reader does not need is in tests/"


@each
def test_imports_stand_alone(path):
    """The documentation runs every cell that imports, so such a cell holds nothing else."""
    for cell in code_cells(read(path)):
        if flags(cell) & {"export", "exports", "exporti", "exec_doc"}:
            continue
        source = text_of(cell["source"])
        tree = ast.parse(re.sub(r"^\s*[%!].*$", "", source, flags=re.MULTILINE))
        if any(isinstance(node, ast.Import | ast.ImportFrom) for node in ast.walk(tree)):
            alone = all(isinstance(node, ast.Import | ast.ImportFrom) for node in tree.body)
            assert alone, f"imports and other code in one cell:\n{source}"


# ---- the tool that stores them ----


@pytest.fixture(scope="module")
def tool():
    """tools/notebooks.py as a module."""
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        spec = importlib.util.spec_from_file_location("tools_notebooks", ROOT / "tools" / "notebooks.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.pop(0)
    return module


def notebook(*sources):
    cells = [
        {"cell_type": "code", "execution_count": 3, "id": f"cell{i}", "metadata": {"x": 1}, "outputs": [], "source": source}
        for i, source in enumerate(sources)
    ]
    return {"cells": cells, "metadata": {"language_info": {"name": "x"}}, "nbformat": 4, "nbformat_minor": 5}


@pytest.fixture
def project(tmp_path):
    """An empty project with a notebook folder."""
    (tmp_path / "nbs").mkdir()
    shutil.copyfile(ROOT / "settings.ini", tmp_path / "settings.ini")
    return tmp_path


def test_a_second_execution_leaves_no_difference(tool, project):
    sources = [
        "import ipywidgets, matplotlib.pyplot as plt",
        "print('a'); print('b'); object()",
        "plt.plot([1, 3, 2]);",
        "ipywidgets.VBox([ipywidgets.IntSlider(3), ipywidgets.Text('x')])",
        "#| slow\nraise RuntimeError('is not run')",
    ]
    path = project / "nbs" / "00_thing.ipynb"
    path.write_text(json.dumps(notebook(*sources)))
    assert tool.run(root=project, jobs=1) == []
    first = path.read_text()
    assert tool.run(root=project, jobs=1) == []
    assert path.read_text() == first
    stored = json.loads(first)
    assert [cell["id"] for cell in stored["cells"]] == [f"cell{i}" for i in range(5)]
    outputs = [cell["outputs"] for cell in stored["cells"]]
    assert text_of(outputs[1][0]["text"]) == "a\nb\n" and "0x" not in json.dumps(outputs[1])
    assert "image/png" in outputs[2][0]["data"]
    view = outputs[3][0]["data"]["application/vnd.jupyter.widget-view+json"]["model_id"]
    assert view in stored["metadata"]["widgets"]["application/vnd.jupyter.widget-state+json"]["state"]
    assert outputs[4] == []


def test_stored_frames_are_small_and_the_same(tool):
    import base64
    import io

    import numpy as np
    from PIL import Image

    frame = (np.add.outer(np.arange(300) // 20, np.arange(400) // 30) % 7 * 40).astype(np.uint8)
    Image.fromarray(frame).convert("P").save(file := io.BytesIO(), format="png", compress_level=3)
    model = {"model_name": "ImageModel", "state": {"format": "png"}, "buffers": [{"path": ["value"], "encoding": "base64", "data": base64.b64encode(file.getvalue()).decode()}]}
    tool.small_picture(model)
    stored = base64.b64decode(model["buffers"][0]["data"])
    image = Image.open(io.BytesIO(stored))
    assert model["state"]["format"] == "webp" == image.format.lower() and len(stored) < len(file.getvalue())
    assert np.array_equal(np.asarray(image.convert("L")), frame)
    before = dict(model["buffers"][0])
    tool.small_picture(model)
    assert model["buffers"][0] == before, "once"


def test_a_notebook_that_fails_is_named_and_left_as_it_was(tool, project, capsys):
    path = project / "nbs" / "00_thing.ipynb"
    path.write_text(json.dumps(notebook("1 / 0")))
    before = path.read_bytes()
    assert [str(name) for name in tool.run(root=project, jobs=1)] == ["nbs/00_thing.ipynb"]
    assert "ZeroDivisionError" in capsys.readouterr().err
    assert path.read_bytes() == before
    with pytest.raises(SystemExit, match="no notebook in nbs/ has nothing in its name"):
        tool.run(["nothing"], root=project)


@pytest.mark.slow
@each
def test_runs_in_its_own_interpreter_and_shows_what_is_stored(path, tool, tmp_path):
    target = tmp_path / "nbs" / path.relative_to(NBS)
    shutil.copytree(NBS, tmp_path / "nbs")
    shutil.copyfile(ROOT / "settings.ini", tmp_path / "settings.ini")
    assert tool.run([path.name], root=tmp_path, jobs=1) == []
    for before, after in zip(read(path)["cells"], read(target)["cells"], strict=True):
        if before["cell_type"] == "code":
            texts = [[shown(output) for output in cell["outputs"]] for cell in (before, after)]
            assert texts[0] == texts[1], text_of(before["source"])


# ---- README.md ----


@pytest.fixture(scope="module")
def readme(tool):
    return tool.readme


def test_readme_links_work_from_the_root(readme):
    source = (
        "![plot](images/a.png) [room](22_metrics.ipynb#mae) [up](../LICENSE) [net](https://x.org/y) [here](#top)\n"
        '<img src="images/b.png"> `[code](images/c.png)`\n\n```\n[fenced](images/d.png)\n```'
    )
    assert readme.markdown(source, "nbs") == (
        "![plot](nbs/images/a.png) [room](nbs/22_metrics.ipynb#mae) [up](LICENSE) [net](https://x.org/y) [here](#top)\n"
        '<img src="nbs/images/b.png"> `[code](images/c.png)`\n\n```\n[fenced](images/d.png)\n```'
    )


def test_readme_shows_code_and_its_outputs(readme, project):
    nb = notebook("1 + 1", "#| hide\nsecret", "#| echo: false\nplot()", "print('x')")
    nb["cells"][0]["outputs"] = [{"output_type": "execute_result", "data": {"text/plain": ["2"]}}]
    nb["cells"][2]["outputs"] = [{"output_type": "display_data", "data": {"image/png": "AAAA", "text/plain": "<Figure>"}}]
    nb["cells"][3]["outputs"] = [
        {"output_type": "stream", "name": "stdout", "text": "x\n"},
        {"output_type": "stream", "name": "stderr", "text": "careful\n"},
    ]
    (project / "nbs/index.ipynb").write_text(json.dumps(nb))
    text, images = readme.readme(project)
    assert images == {"nbs/images/index-1.png": b"\x00\x00\x00"}
    assert text.split("\n\n")[1:] == [
        "```python\n1 + 1\n```",
        "```text\n2\n```",
        "![](nbs/images/index-1.png)",
        "```python\nprint('x')\n```",
        "```text\nx\n```\n",
    ]


def test_readme_links_lead_somewhere():
    text = re.sub(r"```.*?```", "", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    links = re.findall(r"\]\(([^)\s]+)|(?:src|href)=\"([^\"]+)\"", text)
    local = [link.split("#")[0] for pair in links for link in pair if link and not re.match(r"[a-z]+:|#", link)]
    assert [link for link in local if not (ROOT / link).exists()] == []
