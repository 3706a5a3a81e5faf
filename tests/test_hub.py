"""Out and in: nothing is lost on the way, nothing is sent that should not be, and what goes wrong is told."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from chronos_dysts import hub
from chronos_dysts.generation import generate
from chronos_dysts.store import Trajectory, open_store, verify, write_trajectory

datasets = pytest.importorskip("datasets", reason="the extra hub is not installed")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A small data set with two splits: flows of three and four coordinates, and one with a delay."""
    from rich.console import Console

    folder = tmp_path_factory.mktemp("hub") / "data"
    generate(dict(data_dir=str(folder), systems=["Lorenz", "HyperRossler", "MackeyGlass"], split="train", n_params=2, length=96, workers=1, seed=3), Console(quiet=True))
    assert verify(folder) == [] and {t.target.shape[0] for t in open_store(folder)} == {1, 3, 4}
    return folder


@pytest.fixture(scope="module")
def count(data):
    return len(open_store(data))


def same(a, b):
    return (np.array_equal(a.target, b.target) and a.target.dtype == b.target.dtype and dict(a.params) == dict(b.params) and np.array_equal(np.ravel(a.ic), np.ravel(b.ic))
            and all(getattr(a, name) == getattr(b, name) for name in ("item_id", "system", "dt", "period", "seed", "t0", "start")))


def test_parquet_out_and_in_loses_nothing(data, count, tmp_path):
    assert hub.export_parquet(data, tmp_path / "parquet") == {"train": count}
    assert hub.import_rows(hub.fetch_rows(str(tmp_path / "parquet"), "train"), tmp_path / "again") == count
    before, after = open_store(data / "train"), open_store(tmp_path / "again/train")
    assert len(before) == len(after) and all(same(a, b) for a, b in zip(before, after))


def test_datasets_reads_it_and_what_it_reads_comes_back(data, count, tmp_path):
    hub.export_parquet(data, tmp_path / "parquet")
    loaded = datasets.load_dataset("parquet", data_files=str(tmp_path / "parquet/train/data.parquet"), split="train", cache_dir=str(tmp_path / "cache"))
    direct = hub.to_datasets(data / "train")
    assert loaded.num_rows == direct.num_rows == count and set(loaded.column_names) == set(direct.column_names)
    for k, rows in enumerate((loaded, direct, loaded.with_format("numpy"))):
        hub.import_rows(rows, tmp_path / f"again{k}")
        found = open_store(tmp_path / f"again{k}/train")
        for a, b in zip(open_store(data / "train"), found):
            assert np.array_equal(a.target, b.target.astype(a.target.dtype)) and dict(a.params) == dict(b.params) and a.dt == b.dt and a.system == b.system
    frame = pd.read_parquet(tmp_path / "parquet/train/data.parquet")
    assert [np.stack(target).shape for target in frame.target] == [t.target.shape for t in open_store(data / "train")]


def test_rows_of_other_people_need_a_target_only(tmp_path):
    assert hub.import_rows([{"target": [1.0, 2.0, 4.0]}, {"target": np.ones((2, 5)), "system": "my/lab: a", "item_id": "first"}], tmp_path) == 2
    store = open_store(tmp_path / "train")
    assert {t.target.shape for t in store} == {(1, 3), (2, 5)} and {t.system for t in store} == {"unknown", "my/lab: a"}


@pytest.mark.parametrize("row, said", [({}, "row 0 has no target"), ({"target": "text"}, "row 0"), ({"target": [[1.0], [1.0, 2.0]]}, "row 0"), ({"target": []}, "row 0")])
def test_a_row_without_a_target_is_named(row, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        hub.import_rows([row], tmp_path)
    assert not list(tmp_path.rglob("*.arrow"))


def test_the_card_says_what_is_in_it_and_its_head_is_yaml(data, count):
    import yaml

    card = hub.data_card(data)
    head, body = card.split("---\n", 2)[1:]
    front = yaml.safe_load(head)
    assert front["license"] == "cc-by-4.0" and front["size_categories"] == ["n<1K"]
    assert front["configs"][0]["data_files"] == [{"split": "train", "path": "train/*.parquet"}]
    assert f"{count} trajectories of 3 flows" in body and "MackeyGlass" in body and f"| train | 3 | {count} |" in body


class Hub:
    """A hub that keeps what it is given, or fails as it is told."""

    def __init__(self, error=None):
        self.calls, self.files, self.error = [], {}, error

    def create_repo(self, repo_id, **settings):
        self.calls.append(("create", repo_id, settings))
        if self.error:
            raise self.error

    def create_commit(self, repo_id, operations, **settings):
        self.calls.append(("commit", repo_id, settings))
        for operation in operations:
            with operation.as_file() as file:
                self.files[operation.path_in_repo] = file.read()


@pytest.fixture
def checkpoint(tmp_path):
    folder = tmp_path / "final"
    folder.mkdir()
    for name, content in {"config.json": "{}", "model.safetensors": "w", "README.md": "# card", "optimizer.pt": "x", "training_args.bin": "x", "train.yaml": "a: 1", ".hidden": "x"}.items():
        (folder / name).write_text(content)
    return folder


def test_a_checkpoint_goes_in_one_commit_without_what_is_nobodys_business(checkpoint):
    there = Hub()
    answer = hub.push_to_hub(checkpoint, "me/nano", api=there)
    assert set(there.files) == {"config.json", "model.safetensors", "README.md", "train.yaml"} == set(answer["files"])
    assert [call[0] for call in there.calls] == ["create", "commit"] and all(call[2]["repo_type"] == "model" for call in there.calls)
    assert there.calls[0][2]["private"] is True and answer["url"] == "https://huggingface.co/me/nano" and answer["sent"]


def test_a_data_set_goes_as_parquet_with_its_card(data, count, tmp_path):
    there, before = Hub(), sorted(path.name for path in data.iterdir())
    answer = hub.push_to_hub(data, "me/flows", private=False, license="mit", api=there)
    assert set(there.files) == {"README.md", "train/data.parquet"} and b"license: mit" in there.files["README.md"]
    assert answer["url"] == "https://huggingface.co/datasets/me/flows"
    (tmp_path / "data.parquet").write_bytes(there.files["train/data.parquet"])
    assert hub.import_rows(hub.fetch_rows(str(tmp_path / "data.parquet")), tmp_path / "back") == count
    assert sorted(path.name for path in data.iterdir()) == before, "nothing is left in the data set"


def test_a_dry_run_sends_nothing(checkpoint, data):
    there = Hub(AssertionError("it was asked"))
    assert not hub.push_to_hub(checkpoint, "me/nano", dry_run=True, api=there)["sent"]
    assert hub.push_to_hub(data, "me/flows", dry_run=True, api=there)["files"] == ["README.md", "train/data.parquet"] and not there.calls


def refusal(status):
    import httpx
    from huggingface_hub.errors import HfHubHTTPError

    return HfHubHTTPError("no", response=httpx.Response(status, request=httpx.Request("POST", "https://huggingface.co")))


@pytest.mark.parametrize("error, kind, said", [(lambda: refusal(401), PermissionError, "hf auth login"), (lambda: refusal(403), PermissionError, "may write"), (lambda: refusal(500), ConnectionError, "did not take"),
                                               (lambda: OSError("no route"), ConnectionError, "no route")])
def test_a_hub_that_refuses_is_one_sentence(error, kind, said, checkpoint):
    with pytest.raises(kind, match=said):
        hub.push_to_hub(checkpoint, "me/nano", api=Hub(error()))


def test_what_is_no_checkpoint_no_data_set_no_name_or_not_whole_is_refused(checkpoint, data, tmp_path):
    import shutil

    there = Hub()
    with pytest.raises(ValueError, match="user/name"):
        hub.push_to_hub(checkpoint, "nano", api=there)
    with pytest.raises(FileNotFoundError, match="runs/first/final"):
        hub.push_to_hub(tmp_path / "nowhere", "me/nano", api=there)
    with pytest.raises(ValueError, match="did you mean .*final"):
        hub.push_to_hub(checkpoint.parent, "me/nano", api=there)
    (checkpoint / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="no weights"):
        hub.push_to_hub(checkpoint, "me/nano", api=there)
    broken = shutil.copytree(data, tmp_path / "broken")
    next(broken.rglob("*.arrow")).unlink()
    with pytest.raises(ValueError, match="not whole"):
        hub.push_to_hub(broken, "me/flows", api=there)
    assert not there.calls


def test_the_commands(data, count, tmp_path, capsys, monkeypatch):
    from chronos_dysts import cli

    monkeypatch.chdir(tmp_path)
    assert cli.main(["export", f"data_dir={data}"]) == 0 and f"{count} train trajectories as Parquet" in capsys.readouterr().out
    assert cli.main(["import", "parquet", "output_dir=again"]) == 0 and f"Made {count} trajectories" in capsys.readouterr().out
    assert cli.main(["import", "parquet", "output_dir=again"]) == 1 and "has trajectories already" in capsys.readouterr().err
    assert cli.main(["import", "parquet", "output_dir=other", "split=test"]) == 1 and "no Parquet of the split 'test'" in capsys.readouterr().err
    assert cli.main(["push", str(data), "repo_id=me/flows", "dry_run=true"]) == 0
    out = capsys.readouterr().out
    assert "Would send 2 files of a dataset" in out and "Next: the same without dry_run" in out
    assert cli.main(["push"]) == 1 and "repo_id=user/name" in capsys.readouterr().err


def test_a_hub_data_set_is_asked_for_by_name(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(hub, "_datasets", lambda: SimpleNamespace(load_dataset=lambda *a, **k: asked.append((a, k)) or [{"target": [1.0, 2.0]}], exceptions=datasets.exceptions))
    assert hub.import_rows(hub.fetch_rows("me/flows", "test"), tmp_path) == 1
    assert asked == [(("me/flows",), {"split": "test", "streaming": True})]
    with pytest.raises(FileNotFoundError, match="user/name"):
        hub.fetch_rows("nowhere")


def test_float64_stays_float64(tmp_path):
    item = Trajectory(np.random.default_rng(0).normal(size=(2, 32)), "a", "X", {"p": 0.1}, np.zeros(2), 0.1, 1.0, 0)
    write_trajectory(item, tmp_path / "flows/train/X/0_T-32.arrow")
    hub.export_parquet(tmp_path / "flows", tmp_path / "parquet")
    hub.import_rows(hub.fetch_rows(str(tmp_path / "parquet")), tmp_path / "again")
    assert same(item, open_store(tmp_path / "again/train")[0])
    assert json.loads(pd.read_parquet(tmp_path / "parquet/train/data.parquet").params[0]) == {"p": 0.1}
