"""The command line: what each mistake is answered with, how a setting travels, and that it starts at once."""

import importlib.metadata
import json
import logging
import os
import signal
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from chronos_dysts import cli

ROOT = Path(__file__).resolve().parent.parent
COMMAND = [sys.executable, "-c", "import sys; from chronos_dysts.cli import main; sys.exit(main())"]


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def run(capsys):
    """Run `chronos-dysts` in this process: (exit code, stdout, stderr)."""

    def run(*words):
        code = cli.main([str(word) for word in words])
        return code, *capsys.readouterr()

    return run


def shell(*command, **options):
    """Run a command in a process of its own, where only `PYTHONPATH` tells where the package is."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100", **options.pop("env", {})}
    return subprocess.run([str(word) for word in command], text=True, capture_output=True, stdin=subprocess.DEVNULL, env=environment, timeout=300, **options)


def one_error(code, out, err):
    """The message of a command that failed: one line, no traceback, the configuration not reached."""
    assert code in (1, 2, 3)
    assert err.startswith("error: ") and err.endswith("\n") and err.count("\n") == 1
    return err.removeprefix("error: ").rstrip("\n")


# ---- start ----


def test_help_starts_at_once_and_loads_nothing_heavy():
    code = "import json, sys; from chronos_dysts.cli import main; main(['--help']); print(json.dumps(sorted(sys.modules)))"
    loaded = set(json.loads(shell(sys.executable, "-c", code).stdout.splitlines()[-1]))
    assert not loaded & {"torch", "transformers", "dysts", "numpy", "hydra", "omegaconf", "rich", "yaml", "matplotlib"}

    def seconds():
        start = time.perf_counter()
        assert shell(*COMMAND, "--help").returncode == 0
        return time.perf_counter() - start

    assert statistics.median(seconds() for _ in range(3)) < 1


def test_the_console_command_is_declared():
    try:
        distribution = importlib.metadata.distribution("chronos-dysts")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("the package is not installed")
    scripts = {point.name: point.value for point in distribution.entry_points if point.group == "console_scripts"}
    assert scripts == {"chronos-dysts": "chronos_dysts.cli:main"}


def test_version(run):
    import chronos_dysts

    assert run("--version") == (0, f"chronos-dysts {chronos_dysts.__version__}\n", "")


# ---- help ----


def test_the_overview_names_every_command_and_option(run):
    code, out, err = run("--help")
    assert (code, err) == (0, "")
    assert all(f"  {name} " in out and command.summary.split()[0] in out for name, command in cli.COMMANDS.items())
    assert all(option in out for option, _ in cli.OPTIONS)
    assert set(cli.COMMANDS) == {"generate", "certify", "reproduce", "verify", "pack", "unpack", "discover", "train", "evaluate", "forecast", "probe embeddings", "probe koopman", "probe tokens", "probe error_growth", "probe forgetting", "benchmark", "push", "export", "import", "demo"}


def test_without_a_command_the_overview_is_an_error(run):
    code, out, err = run()
    assert (code, out) == (2, "") and "generate" in err


@pytest.mark.parametrize("width", [60, 80, 200])
@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_of_every_command_is_complete_and_fits(name, width):
    text = cli.help_text(name, width)
    assert text.startswith(f"chronos-dysts {name}")
    assert all(example in text for example in cli.COMMANDS[name].examples)
    above = text.partition("\nExample")[0]
    keys = {setting.key for setting in cli.read_settings(cli._file_text(cli.COMMANDS[name]))[1]}
    for line in above.splitlines():
        assert len(line) <= width or line.strip().partition("=")[0] in keys, "only a long key may stand out"
    _, settings = cli.read_settings(cli._file_text(cli.COMMANDS[name]))
    flat = " ".join(text.split())
    for setting in settings:
        assert setting.key in text and setting.default in flat
        if width == 200:
            assert setting.comment in text


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_key_of_a_file_is_explained(name):
    head, settings = cli.read_settings(cli._file_text(cli.COMMANDS[name]))
    assert head.startswith(f"{name}: ") and len(head) < 200
    for setting in settings:
        assert setting.comment, f"{setting.key} has no comment"
    assert {f"{section}.*" for section in cli.COMMANDS[name].open} <= {setting.key for setting in settings}
    leaves = list(cli._leaves(cli._compose_file(cli.COMMANDS[name].config)))
    assert leaves == [setting.key for setting in settings if not setting.key.endswith(".*")]


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_a_file_has_the_keys_of_the_room_and_its_defaults(name):
    """One who calls the room from a notebook gets what one gets who calls the command."""
    kind = cli._load(cli.COMMANDS[name].schema)
    plain = json.loads(json.dumps(asdict(kind()), default=str))
    tree = cli._compose_file(cli.COMMANDS[name].config)
    assert tree.keys() == plain.keys()
    sections = {key for key, value in tree.items() if isinstance(value, dict)}
    assert {key: tree[key] for key in tree.keys() - sections} == {key: plain[key] for key in plain.keys() - sections}
    kind.from_mapping(tree)


def test_the_defaults_of_train_are_those_of_its_file():
    from chronos_dysts.training import TrainConfig

    assert TrainConfig.from_mapping(cli._compose_file("train")).resolved()["train"] == TrainConfig().resolved()["train"]


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_examples_are_valid(name):
    for example in cli.COMMANDS[name].examples:
        import shlex

        words = shlex.split(example)
        first = name.split()
        assert words[:1 + len(first)] == ["chronos-dysts", *first]
        cli.compose(name, words[1 + len(first):])


def test_a_command_of_two_words(run):
    """One word of it names the others, and its help too; a wrong second one gets the nearest."""
    for words, said in ((("probe",), "probe what? chronos-dysts probe embeddings | koopman"), (("probe", "seed=1"), "probe what?"),
                        (("probe", "kopman"), "did you mean 'probe koopman'?")):
        result = run(*words)
        assert result[0] == 2 and said in one_error(*result)
    code, out, _ = run("probe", "--help")
    assert code == 0 and all(f"  {name.split()[1]} " in out for name in cli.COMMANDS if name.startswith("probe "))
    assert run("probe", "koopman", "--help")[1].startswith("chronos-dysts probe koopman [key=value")
    assert run("--json", "probe", "koopman", "seed=x")[0] == 2


# ---- how a setting travels ----


def test_the_command_line_goes_over_the_users_file_over_ours(tmp_path):
    (tmp_path / "generate.yaml").write_text("n_params: 3\nseed: 5\n")
    config = cli.compose("generate", ["seed=6", "seed=7"], tmp_path)
    assert (config.n_params, config.seed, config.length) == (3, 7, 1024)
    assert cli.compose("generate").n_params == 8


def test_a_mapping_for_a_section_changes_what_it_names(tmp_path):
    (tmp_path / "train.yaml").write_text("wandb:\n  project: mine\ntrain:\n  optim: adafactor\n")
    config = cli.compose("train", ["train={max_steps: 7, adam_beta2: 0.95}"], tmp_path)
    assert (config.train.max_steps, config.train.adam_beta2, config.train.optim) == (7, 0.95, "adafactor")
    assert (config.train.log_steps, config.wandb.log, config.wandb.project) == (50, False, "mine")


def test_every_field_of_training_arguments_is_a_key():
    from dataclasses import fields

    from transformers import TrainingArguments

    for field in fields(TrainingArguments):
        if "None" in str(field.type):
            assert field.name in cli.compose("train", [f"train.{field.name}=null"]).train
    config = cli.compose("train", ["train.bf16=true", "train.dataloader_num_workers=2", "train.lr_scheduler_kwargs={num_cycles: 2}"])
    assert config.train.bf16 is True and config.train.lr_scheduler_kwargs == {"num_cycles": 2}


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("systems=Lorenz", "systems", ["Lorenz"]),
        ("systems=[Lorenz, Rossler]", "systems", ["Lorenz", "Rossler"]),
        ("systems=null", "systems", None),
        ("n_params=1e2", "n_params", 100),
        ("++n_params=4", "n_params", 4),
        ("points_per_period=12.5", "points_per_period", 12.5),
        ("perturbation=0", "perturbation", 0),
        ("data_dir=2026_07", "data_dir", "2026_07"),
        ("data_dir=007", "data_dir", "007"),
        ("data_dir=1e3", "data_dir", "1e3"),
        ("data_dir=true", "data_dir", "true"),
        ("data_dir=a b/c", "data_dir", "a b/c"),
        ("data_dir='a,b'", "data_dir", "a,b"),
        ("data_dir=run=3/x", "data_dir", "run=3/x"),
        ("data_dir=/señales/[1]", "data_dir", "/señales/[1]"),
        ("data_dir=~/x", "data_dir", os.path.expanduser("~/x")),
        ("data_dir=set-${seed}", "data_dir", "set-0"),
    ],
)
def test_values_arrive_as_what_the_key_wants(override, key, value):
    config = cli.compose("generate", [override])
    assert config[key] == value and isinstance(config[key], type(value) if not isinstance(value, list) else object)


def test_composing_leaves_no_trace(tmp_path, in_an_empty_folder):
    import hydra
    from hydra.core.global_hydra import GlobalHydra

    (tmp_path / "other.yaml").write_text("x: 1\n")
    handlers, level = list(logging.root.handlers), logging.root.level
    with hydra.initialize_config_dir(str(tmp_path), version_base="1.3"):
        cli.compose("generate", ["seed=1"])
        assert hydra.compose("other").x == 1, "a Hydra application of the user goes on"
    assert not GlobalHydra.instance().is_initialized()
    assert Path.cwd() == in_an_empty_folder and list(in_an_empty_folder.iterdir()) == []
    assert (logging.root.handlers, logging.root.level) == (handlers, level)


def test_a_configuration_refuses_other_keys_later():
    config = cli.compose("generate")
    with pytest.raises(AttributeError):
        config.n_param = 3


# ---- mistakes ----


@pytest.mark.parametrize(
    ("command", "words", "parts"),
    [
        ("train", ["train.max_step=3"], ["train.yaml", "'train.max_step'", "did you mean 'train.max_steps'?"]),
        ("train", ["max_steps=3"], ["train.yaml", "'max_steps'", "did you mean 'train.max_steps'?"]),
        ("train", ["train.gradient_checkpoint=true"], ["train.yaml", "did you mean 'train.gradient_checkpointing'?"]),
        ("train", ["modelid=x"], ["train.yaml", "'modelid'", "did you mean 'model_id'?"]),
        ("train", ["size.d_model=32"], ["train.yaml", "'size.d_model'", "size={d_model: …}"]),
        ("train", ["train=3"], ["train.yaml", "'train' is a section", "train.max_steps"]),
        ("train", ["train.learning_rate=fast"], ["train.yaml", "'train.learning_rate'", "a number", "'fast'"]),
        ("train", ["wandb.log=yes"], ["train.yaml", "'wandb.log'", "true or false", "'yes'"]),
        ("train", ["train={max_steps: ten}"], ["train.yaml", "'train.max_steps'", "a whole number", "'ten'"]),
        ("generate", ["n_params=eight"], ["generate.yaml", "'n_params'", "a whole number", "'eight'"]),
        ("generate", ["n_params=2.5"], ["generate.yaml", "'n_params'", "a whole number", "'2.5'"]),
        ("generate", ["length=null"], ["generate.yaml", "'length'", "a whole number", "'null'"]),
        ("generate", ["systems={Lorenz: 1}"], ["generate.yaml", "'systems'", "a list", "null"]),
        ("generate", ["systems=Lorenz,Rossler"], ["generate.yaml", "systems=[Lorenz,Rossler]"]),
        ("generate", ["seed=range(3)"], ["generate.yaml", "'seed=range(3)'", "give seed one value"]),
        ("generate", ["systems=[Lorenz"], ["generate.yaml", "'systems'", "[Lorenz"]),
        ("generate", ["Lorenz"], ["generate.yaml", "'Lorenz'", "key=value"]),
        ("generate", ["=3"], ["generate.yaml", "'=3'", "key=value"]),
        ("generate", ["~seed"], ["generate.yaml", "'~seed'", "seed=null"]),
        ("generate", ["+colour=red"], ["generate.yaml", "'colour'"]),
        ("generate", ["hydra.run.dir=x"], ["generate.yaml", "'hydra.run.dir'"]),
        ("generate", ["data_dir=${nothing}"], ["generate.yaml", "nothing"]),
        ("evaluate", ["horizon=[16]"], ["evaluation.yaml", "'horizon'", "did you mean 'horizons'?"]),
        ("evaluate", ["metrics=3"], ["evaluation.yaml", "metrics"]),
        ("demo", ["train.max_stepz=3"], ["demo.yaml", "did you mean 'train.max_steps'?"]),
        ("generate", ["--n-params", "4"], ["'--n-params'", "n_params=", "--config-dir"]),
        ("generate", ["--config-dir"], ["--config-dir", "expected one argument"]),
        ("generat", ["seed=1"], ["'generat'", "did you mean 'generate'?"]),
        ("seed=1", ["generate"], ["the command comes first"]),
    ],
)
def test_a_mistake_names_the_thing_the_file_and_the_mend(command, words, parts, run, in_an_empty_folder):
    result = run(command, *words)
    if words == ["metrics=3"]:  # readable as text: that there is no metric 3, the room knows
        assert result[0] == 1 and "metrics" in result[1] and "'3'" in one_error(*result)
        return
    message = one_error(*result)
    assert result[0] == 2 and result[1] == ""
    assert all(part in message for part in parts), message
    assert list(in_an_empty_folder.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("sistems: [Lorenz]\n", ["'sistems'", "did you mean 'systems'?"]),
        ("n_params: many\n", ["'n_params'", "a whole number", "'many'"]),
        ("n_params: [1\n", ["cannot be read"]),
        ("- a\n- b\n", ["cannot be read"]),
        ("defaults: [nowhere]\n", ["cannot be read", "nowhere"]),
    ],
)
def test_a_mistake_in_a_users_file_names_that_file(text, parts, tmp_path, run):
    (tmp_path / "generate.yaml").write_text(text)
    result = run("generate", "--config-dir", tmp_path)
    message = one_error(*result)
    assert result[0] == 2 and all(part in message for part in [str(tmp_path / "generate.yaml"), *parts]), message


def test_a_folder_without_the_file_of_the_command_is_refused(tmp_path, run):
    (tmp_path / "evaluate.yaml").write_text("seed: 1\n")
    message = one_error(*run("evaluate", f"--config-dir={tmp_path}"))
    assert "no evaluation.yaml" in message and "evaluate.yaml" in message.partition("only")[2]
    assert "no such folder" in one_error(*run("evaluate", "--config-dir", tmp_path / "nowhere"))


def test_what_a_room_refuses_is_one_line(run):
    result = run("generate", "systems=[Lorentz]")
    assert result[0] == 1
    assert one_error(*result) == "unknown system 'Lorentz'; did you mean 'Lorenz' or 'Lorenz96' or 'Lorenz84'?"
    assert "systems: [Lorentz]" in result[1], "the configuration was printed"
    assert "chronos-dysts generate" in one_error(*run("train", "data_dir=nowhere"))
    with pytest.raises(ValueError, match="unknown system"):
        run("generate", "systems=[Lorentz]", "--traceback")


def raising(error):
    def room(config, console):
        raise error

    return room


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (FileExistsError("data holds another data set:\nchoose another"), 1, "data holds another data set: choose another"),
        (PermissionError(13, "Permission denied", "/x/y"), 1, "/x/y: Permission denied"),
        (ConnectionError("the hub cannot be reached"), 1, "the hub cannot be reached"),
        (FloatingPointError("the loss is nan at step 3"), 1, "the loss is nan at step 3"),
        (ModuleNotFoundError("pip install 'chronos-dysts[wandb]'"), 1, "pip install 'chronos-dysts[wandb]'"),
        (ValueError(), 1, "ValueError"),
    ],
)
def test_errors_of_rooms(error, code, message, run, monkeypatch):
    monkeypatch.setattr(cli, "_load", lambda reference: raising(error) if reference == "fake" else None)
    monkeypatch.setitem(cli.COMMANDS, "generate", replace(cli.COMMANDS["generate"], runs="fake"))
    result = run("generate")
    assert result[0] == code and one_error(*result) == message


def test_a_bug_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr(cli, "_load", lambda reference: raising(KeyError("ours")))
    with pytest.raises(KeyError):
        cli.main(["generate"])


def test_interrupted(run, monkeypatch):
    monkeypatch.setattr(cli, "_load", lambda reference: raising(KeyboardInterrupt()))
    code, _, err = run("generate")
    assert code == 130 and err == "interrupted; the same command again goes on where it stopped\n"


# ---- what rooms are given ----


@pytest.fixture
def seen(monkeypatch):
    """The configurations and consoles that the room of `generate` was called with."""
    calls = []
    load = cli._load

    def room(config, console):
        console.print("made [bold]it[/]")
        calls.append((config, console))

    monkeypatch.setattr(cli, "_load", lambda reference: room if reference == "fake" else load(reference))
    monkeypatch.setitem(cli.COMMANDS, "generate", replace(cli.COMMANDS["generate"], runs="fake"))
    return calls


def test_a_room_gets_a_plain_dict_and_the_configuration_is_printed(run, seen):
    import yaml

    code, out, err = run("generate", "systems=[Lorenz,Rossler]", "n_params=3")
    (config, _), = seen
    assert (code, err) == (0, "")
    assert type(config) is dict and type(config["systems"]) is list and config["n_params"] == 3
    first, *printed, made, after = out.splitlines()
    assert (first, made, after) == ("chronos-dysts generate", "made it", "Next: chronos-dysts train data_dir=data run_name=first")
    assert yaml.safe_load("\n".join(printed)) == config


def test_quiet_is_quiet(run, seen):
    assert run("--quiet", "generate") == (0, "", "") and run("generate", "-q", "seed=3") == (0, "", "")
    assert [config["seed"] for config, _ in seen] == [0, 3]


def test_of_several_processes_the_first_speaks(run, seen, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    assert run("generate") == (0, "", "")
    monkeypatch.setenv("RANK", "0")
    assert "made it" in run("generate")[1]


# ---- for scripts ----


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_what_comes_next_is_said_with_keys_that_there_are(name):
    """And where it is a command, one that there is, with settings that it takes."""
    import shlex

    command = cli.COMMANDS[name]
    if not command.then:
        assert name in ("train", "push", "demo"), "these say it themselves"
        return
    said = command.then.format_map(cli._compose_file(command.config))
    if said.startswith("chronos-dysts "):
        _, other, *settings = shlex.split(said.partition(" (")[0])
        cli.compose(other, settings)


def test_what_comes_next_depends_on_what_was_made(run):
    """Test trajectories are judged on, not learnt from; a forecast without a backtest has none to look at."""
    from types import SimpleNamespace

    assert cli._next("generate", {"data_dir": "unseen", "split": "test"}, None) == "chronos-dysts evaluate data_dir=unseen split=test"
    assert cli._next("generate", {"data_dir": "flows", "split": "train"}, None) == "chronos-dysts train data_dir=flows run_name=first"
    assert "backtest.png" in cli._next("forecast", {"output_dir": "f"}, SimpleNamespace(past=object()))
    assert cli._next("forecast", {"output_dir": "f"}, SimpleNamespace(past=None)).startswith("read f/summary.txt")


class Report:
    name, status, files, trajectories = "Lorenz", "complete", {"a": "b"}, 2


def test_json_is_one_object_and_nothing_else(run, monkeypatch):
    def room(config, console):
        console.print("chatter")
        print("a library prints")
        return [Report(), Report()]

    load = cli._load
    monkeypatch.setattr(cli, "_load", lambda reference: room if reference == "fake" else load(reference))
    monkeypatch.setitem(cli.COMMANDS, "generate", replace(cli.COMMANDS["generate"], runs="fake"))
    code, out, err = run("generate", "--json", "seed=5", "data_dir=flows")
    answer = json.loads(out)
    assert (code, answer["exit_code"], answer["command"]) == (0, 0, "generate")
    assert answer["made"] == {"data_dir": "flows", "systems": 2, "trajectories": 4, "short": {}}
    assert answer["next"] == "chronos-dysts train data_dir=flows run_name=first" and answer["configuration"]["seed"] == 5 and answer["seconds"] >= 0
    assert "a library prints" in err and "chatter" not in out + err


@pytest.mark.parametrize(
    ("words", "code"),
    [(["generat"], 2), (["generate", "n_param=3"], 2), (["probe"], 2), (["probe", "embedings"], 2), (["verify", "data_dir=nowhere"], 1), (["certify", "data_dir=nowhere"], 1), (["reproduce", "nowhere.parquet"], 1), (["generate", "systems=[Lorentz]"], 1), (["forecast", "no.csv"], 1)],
)
def test_errors_in_json_have_the_message_and_the_code(words, code, run):
    found, out, err = run("--json", *words)
    answer = json.loads(out)
    assert (found, answer["exit_code"], answer["meaning"]) == (code, code, cli.EXIT_CODES[code])
    assert answer["command"] == words[0] and err == f"error: {answer['error']}\n"


def test_json_of_real_commands_names_files_that_are_there(run):
    """And is strict: numbers that are none are null."""
    made = json.loads(run("generate", "--json", "systems=Lorenz", "split=train", "n_params=2", "length=128", "workers=1")[1])["made"]
    assert made == {"data_dir": "data", "systems": 1, "trajectories": 2, "short": {}} and len(list(Path("data").rglob("*.arrow"))) == 2
    assert json.loads(run("verify", "--json")[1])["made"]["whole"] is True
    assert json.loads(run("pack", "--json")[1])["made"] == {"data_dir": "data", "shards": 1}
    assert json.loads(run("unpack", "--json")[1])["made"] == {"data_dir": "data", "files": 2}
    assert Path(json.loads(run("certify", "--json", "output=c.parquet")[1])["made"]["certificates"]).exists()
    assert json.loads(run("reproduce", "c.parquet", "--json", "data_dir=once-more", "workers=1")[1])["made"] == {"data_dir": "once-more", "systems": 1, "trajectories": 2, "short": {}}
    assert [path.read_bytes() for path in sorted(Path("once-more").rglob("*.arrow"))] == [path.read_bytes() for path in sorted(Path("data").rglob("*.arrow"))]
    assert json.loads(run("export", "--json")[1])["made"] == {"output_dir": "parquet", "trajectories": {"train": 2}}
    assert json.loads(run("import", "parquet", "--json", "output_dir=again")[1])["made"]["trajectories"] == 2
    Path("x.csv").write_text("\n".join(f"{(k * k) % 17}" for k in range(120)))
    made = json.loads(run("forecast", "--json", "x.csv", "prediction_length=8", "n_windows=3", "baselines=[persistence]")[1], parse_constant=lambda name: pytest.fail(name))["made"]
    assert Path(made["forecast"]).exists() and made["backtest"][0]["coverage80"] is None, "a point forecast covers nothing: null, not NaN"
    answer = json.loads(run("verify", "--json", "data_dir=again")[1])
    assert answer["exit_code"] == 1 and "manifest" in answer["error"]


@pytest.mark.parametrize("code", [code for code in cli.EXIT_CODES if code not in (0, 141)])
def test_the_help_names_the_exit_codes(code):
    assert f"{code} {cli.EXIT_CODES[code]}" in " ".join(cli.help_text(None, 200).split())


# ---- completion ----


def completed(line, before="", folder=None):
    """What bash offers for a line with the cursor at its end."""
    script = f"""
    {before}
    source /dev/stdin <<'SCRIPT'
{cli.completion("bash")}
SCRIPT
    COMP_LINE='{line}'; COMP_POINT={len(line)}
    compopt() {{ :; }}
    _chronos_dysts; printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "--norc", "-c", script], text=True, capture_output=True, cwd=folder)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return [word for word in done.stdout.splitlines() if word]


def test_bash_completes_commands_keys_and_values(in_an_empty_folder):
    (in_an_empty_folder / "mine.csv").write_text("1\n")
    assert completed("chronos-dysts gen") == ["generate"]
    assert {name.split()[0] for name in cli.COMMANDS} <= {*completed("chronos-dysts ")}
    assert {"embeddings", "koopman"} <= {*completed("chronos-dysts probe ")} and completed("chronos-dysts probe koop") == ["koopman"]
    assert completed("chronos-dysts probe koopman str") == ["stride="] and completed("chronos-dysts probe embeddings per_token=t") == ["true"]
    assert completed("chronos-dysts generate n_p") == ["n_params="]
    assert "train.max_steps=" in completed("chronos-dysts train train.")
    assert completed("chronos-dysts push dry_run=t") == ["true"]
    assert completed("chronos-dysts forecast mi", folder=in_an_empty_folder) == ["mine.csv"]
    assert completed("chronos-dysts forecast data=mi", folder=in_an_empty_folder) == ["mine.csv"]
    assert completed("chronos-dysts forecast data=mi", "COMP_WORDBREAKS=' '", in_an_empty_folder) == ["data=mine.csv"]
    assert completed("chronos-dysts generate seed=1 --q") == ["--quiet"]
    assert completed("chronos-dysts --completion z") == ["zsh"]


# What makes an interactive shell tell its line at control-G, in its own words.
TELLS = {
    "bash": (["--norc", "--noprofile", "-i"], """PS1='ready> '
        tell() { printf '<<%s>>\\n' "$READLINE_LINE"; READLINE_LINE=; READLINE_POINT=0; }
        bind 'set bell-style none'; bind -x '"\\C-g": tell'"""),
    "zsh": (["-f", "-i"], """PS1='ready> '; unsetopt beep
        autoload -U compinit; compinit -D -u
        tell() { print -r -- "<<$BUFFER>>"; BUFFER=; zle reset-prompt }; zle -N tell; bindkey '^G' tell"""),
    "fish": (["--no-config", "-i"], """function fish_greeting; end
        function fish_prompt; echo 'ready> '; end
        function tell; printf '<<%s>>\\n' (commandline | string collect); commandline ''; commandline -f repaint; end
        bind \\cg tell"""),
}
TYPED = {
    "gener": "generate ",
    "generate n_p": "generate n_params=",
    "generate seed=1 --qu": "generate seed=1 --quiet ",
    "push dry_run=t": "push dry_run=true ",
    "probe koop": "probe koopman ",
    "probe koopman str": "probe koopman stride=",
    "train train.max_s": "train train.max_steps=",
    "forecast mi": "forecast mine.csv ",
    "forecast data=mi": "forecast data=mine.csv ",
    "forecast mine.csv predict": "forecast mine.csv prediction_length=",
    "evaluate data_dir=a": "evaluate data_dir=a\\ folder/",
    "generate --config-dir pan": "generate --config-dir panda-like ",
    "--completion z": "--completion zsh ",
}


@pytest.mark.parametrize("name", cli.SHELLS)
def test_a_real_shell_completes_what_is_typed(name, in_an_empty_folder):
    """The keys are pressed in an interactive shell on a terminal of its own: what stands in the line after TAB."""
    import shutil

    pexpect = pytest.importorskip("pexpect")
    if not shutil.which(name):
        pytest.skip(f"{name} is not installed: nobody typed in it")
    (in_an_empty_folder / "mine.csv").write_text("1\n")
    (in_an_empty_folder / "a folder").mkdir()
    flags, tells = TELLS[name]
    script = in_an_empty_folder / "startup"
    script.write_text(f"{tells}\n{cli.completion(name)}\n")
    home = {key: str(in_an_empty_folder) for key in ("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME")}
    environment = {**os.environ, **home, "TERM": "xterm" if name == "fish" else "dumb", "LC_ALL": "C.UTF-8"}
    child = pexpect.spawn(name, flags, cwd=str(in_an_empty_folder), env=environment, encoding="utf-8", timeout=30, dimensions=(60, 200))
    try:
        child.sendline(f"source {script}")
        child.expect("ready> ")
        found = {}
        for line in TYPED:
            child.send(f"chronos-dysts {line}\t\x07")
            child.expect("<<chronos-dysts (.*?)>>")
            found[line] = child.match.group(1)
    finally:
        child.close(force=True)
    assert found == TYPED


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_completion_knows_every_key_and_its_shell_can_read_it(name, run):
    import shutil

    code, out, err = run("--completion", name)
    assert (code, err) == (0, "")
    for command in cli.COMMANDS:
        for key in cli._words_of(command):
            assert key in out
    if not shutil.which(name):
        pytest.skip(f"{name} is not installed: its script was not read by it")
    assert subprocess.run([name, "-n"], input=out, text=True, capture_output=True).stderr == ""


def test_completion_of_another_shell_is_refused(run):
    code, out, err = run("--completion", "tcsh")
    assert code == 2 and "tcsh" in err and "bash" in err


# ---- whole processes ----


def test_a_missing_extra_is_told_before_anything_is_computed(in_an_empty_folder):
    code = "import sys; sys.modules['wandb'] = None; from chronos_dysts.cli import main; sys.exit(main())"
    done = shell(sys.executable, "-c", code, "train", "wandb.log=True", cwd=in_an_empty_folder)
    message = one_error(done.returncode, done.stdout, done.stderr)
    assert done.returncode == 1 and "pip install 'chronos-dysts[wandb]'" in message
    assert list(in_an_empty_folder.iterdir()) == []


def test_a_reader_that_goes_away_is_no_error():
    process = subprocess.Popen([*COMMAND, "train", "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)})
    process.stdout.close()
    assert process.stderr.read() == b"" and process.wait(60) == 141
    process.stderr.close()


def test_control_c_ends_a_long_job_and_the_same_command_goes_on(in_an_empty_folder):
    words = ["generate", "split=train", "systems=[Lorenz,Rossler,Thomas,Halvorsen,Chua,Dadras]", "n_params=500", "length=256", "workers=1"]
    process = subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    for _ in range(2400):
        if list(in_an_empty_folder.rglob("*.piece")) or process.poll() is not None:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err.splitlines()[-1].startswith("interrupted") and "Traceback" not in err
    assert len(list(in_an_empty_folder.rglob("*.arrow"))) < 3000
    done = shell(*COMMAND, *words, cwd=in_an_empty_folder)
    assert done.returncode == 0, done.stderr
    assert len(list(in_an_empty_folder.rglob("*.arrow"))) == 3000
    assert not list(in_an_empty_folder.rglob("*.tmp"))


# ---- scripts ----


def test_the_first_versions_road_by_its_scripts(tmp_path, in_an_empty_folder):
    """Data, a model, an evaluation, from another directory and without an installed package."""
    nowhere = {"PYTHONPATH": ""}

    def script(name, *words):
        done = shell(sys.executable, ROOT / "scripts" / name, *words, env=nowhere, cwd=in_an_empty_folder)
        assert done.returncode == 0, done.stderr
        return done.stdout

    script("dyst_data.py", "split=train", "systems=[Lorenz,Thomas]", "n_params=2", "length=192")
    assert sorted(path.as_posix() for path in Path("data/train").rglob("*.arrow")) == [
        f"data/train/{system}/{i}_T-192.arrow" for system in ("Lorenz", "Thomas") for i in (0, 1)]
    out = script("train.py", "run_name=finetune_1", "size={size: nano}", "context_length=64", "prediction_length=16", "train.max_steps=2", "train.save_steps=2",
                 "train.log_steps=1", "train.per_device_train_batch_size=4", "train.use_cpu=true")
    assert "max_steps: 2" in out and Path("runs/finetune_1/final/config.json").exists() and list(Path("runs/finetune_1/final").glob("*.safetensors"))
    script("evaluate.py", "model_id=runs/finetune_1/final", "split=train", "context_length=64", "prediction_length=16", "n_windows=1", "n_bootstrap=50")
    assert {path.name for path in Path("evaluation").iterdir()} >= {"rows.parquet", "summary.csv", "report.html", "config.yaml"}
    assert "finetune_1" in Path("evaluation/summary.csv").read_text()


@pytest.mark.parametrize("name", ["dyst_data.py", "train.py", "evaluate.py"])
def test_scripts_answer_help_and_refuse_mistakes(name, in_an_empty_folder):
    script = [sys.executable, ROOT / "scripts" / name]
    helped = shell(*script, "--help", env={"PYTHONPATH": ""}, cwd=in_an_empty_folder)
    assert helped.returncode == 0 and helped.stdout.startswith("chronos-dysts ")
    wrong = shell(*script, "sead=1", env={"PYTHONPATH": ""}, cwd=in_an_empty_folder)
    assert wrong.returncode == 2 and "did you mean 'seed'?" in one_error(wrong.returncode, wrong.stdout, wrong.stderr)


def test_the_script_of_skew_products_draws_ten_pairs_or_as_many_as_it_is_told(in_an_empty_folder):
    words = ["systems=[Lorenz,Chen,Thomas]", "split=train", "skew.n_pairs=2", "n_params=1", "length=64", "data_dir=pairs"]
    done = shell(sys.executable, ROOT / "scripts/skew_product.py", *words, env={"PYTHONPATH": ""}, cwd=in_an_empty_folder)
    assert done.returncode == 0, done.stderr
    made = sorted(path.parent.name for path in (in_an_empty_folder / "pairs/train").rglob("*.arrow"))
    assert len(made) == 2 and all("_drives_" in name for name in made)
    wrong = shell(sys.executable, ROOT / "scripts/skew_product.py", "skew.kind=flows", env={"PYTHONPATH": ""}, cwd=in_an_empty_folder)
    assert wrong.returncode == 1 and "did you mean 'flow'?" in one_error(wrong.returncode, wrong.stdout, wrong.stderr)


def test_run_finetune_passes_on_what_it_is_given(in_an_empty_folder):
    """Its own settings are those that users know, and the ones given on the command line go over them."""
    (in_an_empty_folder / "data/train").mkdir(parents=True)
    words = ["model_id=nowhere/at_all", "wandb.log=False", "train.save_steps=7"]
    done = shell(ROOT / "scripts/run_finetune.sh", *words, env={"PYTHON": sys.executable, "PYTHONPATH": ""}, cwd=in_an_empty_folder)
    assert done.returncode == 1 and "no trajectory files under data/train" in one_error(done.returncode, done.stdout, done.stderr)
    printed = done.stdout.split()
    for key, value in {"run_name": "finetune_1", "model_id": "nowhere/at_all", "max_steps": "1000", "save_steps": "7", "log_steps": "50", "log": "false"}.items():
        assert printed[printed.index(f"{key}:") + 1] == value


def test_experiments_are_recipes_by_name(run):
    named, by_folder = (cli.compose("train", overrides, folder) for overrides, folder in ((["experiment=generic", "seed=3"], None), (["seed=3"], "generic")))
    assert named == by_folder and named.source == "generic" and named.seed == 3 and named.train.max_steps == 16000
    assert cli.compose("generate", ["experiment=seed-100-30"]).scheme == "seed-100-30" and cli.compose("train", ["experiment=seed-100-30"]).model_id == "chronos-dysts-generic-bolt"
    assert "did you mean 'generic'" in one_error(*run("train", "experiment=genric"))
    assert "a command has one recipe" in one_error(*run("train", "experiment=generic", "--config-dir", "seed"))
    assert "there are: nano" in one_error(*run("discover", "experiment=zzz"))
