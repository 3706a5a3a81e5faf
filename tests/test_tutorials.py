"""The tutorials were followed as they are now, and their pages say how long it took."""

import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
import follow_tutorials as tool  # noqa: E402

sys.path.pop(0)
each = pytest.mark.parametrize("name", tool.TUTORIALS)


def cells(name):
    return json.loads((ROOT / f"nbs/tutorials/{name}.ipynb").read_text(encoding="utf-8"))["cells"]


@each
def test_a_page_was_followed_as_it_is(name):
    """Each command and each visible cell, in this order, with its time; what was left out has a reason."""
    record = json.loads(tool.RESULTS.read_text(encoding="utf-8"))[name]
    followed = [(step["kind"], step["source"], step.get("left_out")) for step in record["steps"]]
    assert followed == tool.steps(name), f"python tools/follow_tutorials.py --python … {name}"
    ran = [step for step in record["steps"] if "left_out" not in step]
    assert {step["kind"] for step in ran} >= ({"python"} if name == "first_forecast" else {"python", "sh"})
    assert all(step["seconds"] > 0 for step in ran if step["kind"] == "sh")
    assert record["seconds"] == pytest.approx(sum(step["seconds"] for step in ran), abs=0.1) and record["sentence"] == tool.sentence(record)


@each
def test_a_page_says_how_long_it_took(name):
    record = json.loads(tool.RESULTS.read_text(encoding="utf-8"))[name]
    shown = ["".join(output.get("data", {}).get("text/markdown", "")) for cell in cells(name) for output in cell.get("outputs", [])]
    assert record["sentence"] in shown
    assert record["cpu_seconds"] < 300, "the first hour is for more than one page"


@each
def test_what_a_page_shows_of_a_command_comes_from_that_command(name):
    """What runs behind the page is what stands on it."""
    written = {line for kind, source, _ in tool.steps(name) if kind == "sh" for line in source.splitlines()}
    for cell in cells(name):
        source = "".join(cell["source"])
        for run in re.findall(r'shell\(f?"([^"]+)"\)', source):
            if "{" not in run:
                assert run in written or run in {line.partition(" > ")[0] for line in written}, run


def page(folder, *sources):
    (folder / "nbs/tutorials").mkdir(parents=True)
    made = [{"cell_type": kind, "source": source} for kind, source in sources]
    (folder / "nbs/tutorials/story.ipynb").write_text(json.dumps({"cells": made}))


def test_steps_are_what_a_page_shows(tmp_path):
    page(tmp_path, ("markdown", "```sh\npip install it\n```\nthen\n\n```sh\nls\n```\n```python\nno\n```"), ("code", "#| echo: false\nno"), ("code", "#| hide\nno"), ("code", "#| slow\n1 + 1"))
    assert tool.steps("story", tmp_path) == [("sh", "pip install it", "the environment is there"), ("sh", "ls", None), ("python", "1 + 1", None)]


def test_a_story_is_followed_in_an_empty_folder_and_told(tmp_path):
    page(tmp_path, ("code", "from pathlib import Path\nprint(list(Path().iterdir()))\nPath('a').write_text('x')"), ("markdown", "```sh\nls\n```"), ("code", "'end'"))
    shown = [step["shown"] for step in tool.follow("story", Path(sys.executable), tmp_path)]
    assert shown == ["[]\n1", "a", "'end'"]


@pytest.mark.parametrize("source", [("markdown", "```sh\nfalse; true\n```"), ("code", "1 / 0")])
def test_where_a_newcomer_is_stuck_is_said(source, tmp_path, capfd):
    page(tmp_path, ("code", "x = 1"), source)
    with pytest.raises(SystemExit, match="a newcomer gets stuck at\n(false|1 / 0)"):
        tool.follow("story", Path(sys.executable), tmp_path)


@pytest.mark.slow
@each
def test_a_tutorial_can_be_followed(name):
    """In the environment of the tests; the tool itself is for a fresh one."""
    assert [step["kind"] for step in tool.follow(name, Path(sys.executable))] == [kind for kind, _, _ in tool.steps(name)]
