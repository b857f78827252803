from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import EntryPoint, version
from types import ModuleType

import pytest
import typer

from oel_shared import cli
from oel_shared.cli import run
from oel_shared.errors import ReleaseRefused
from oel_shared.gguf_file import inspect

HEAVY = ("llama_cpp", "flwr", "textworld", "torch", "transformers", "sqlite_utils", "numpy", "matplotlib")


def one_line(text: str) -> str:
    """The only line of `text`, without `oel: `."""
    assert text.startswith("oel: ")
    assert text.count("\n") == 1
    assert text.endswith("\n")
    return text.removeprefix("oel: ").strip()


@pytest.fixture
def offer(monkeypatch):
    """offer(name, value): `oel NAME` is what the entry point VALUE leads to."""

    def put(name: str, value: str) -> None:
        def found(group: str) -> tuple[EntryPoint, ...]:
            return (EntryPoint(name, value, group),) if group == cli.COMMANDS else ()

        monkeypatch.setattr(cli, "entry_points", found)

    return put


@pytest.fixture
def does(offer, monkeypatch):
    """does(action): `oel demo` runs the action."""

    def put(action) -> None:
        module = ModuleType("a_group")
        module.app = typer.Typer()
        module.app.command()(action)
        monkeypatch.setitem(sys.modules, "a_group", module)
        offer("demo", "a_group:app")

    return put


def test_help_lists_every_group_and_loads_nothing_heavy():
    code = (
        "import sys; from oel_shared.cli import run; code = run(['--help'])\n"
        f"print('heavy:', [m for m in {HEAVY!r} if m in sys.modules], 'code:', code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("heavy: [] code: 0\n")
    for group in ("eval", "model", "client", "server", "demo"):
        assert f" {group} " in done.stdout


def test_the_version_is_the_packages(capsys):
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"edge-oel {version('edge-oel')}\n"


def test_an_expected_failure_is_one_line_with_its_exit_code(does, capsys):
    def refuse() -> None:
        raise ReleaseRefused("the file is not\nwhat the manifest says")

    does(refuse)
    assert run(["demo"]) == 1
    captured = capsys.readouterr()
    assert one_line(captured.err) == "the file is not what the manifest says"
    assert captured.out == ""


def test_a_full_disk_is_one_line(does, capsys):
    def fail() -> None:
        raise OSError(28, "No space left on device", "/data/device.db")

    does(fail)
    assert run(["demo"]) == 1
    assert one_line(capsys.readouterr().err) == "No space left on device: /data/device.db"


def test_ctrl_c_is_one_line_and_130(does, capsys):
    def stop() -> None:
        raise KeyboardInterrupt

    does(stop)
    assert run(["demo"]) == 130
    assert one_line(capsys.readouterr().err.lstrip("\n")) == "stopped"


def test_a_bug_is_not_hidden(does):
    def broken() -> None:
        raise ZeroDivisionError

    does(broken)
    with pytest.raises(ZeroDivisionError):
        run(["demo"])


def test_a_missing_extra_says_how_to_get_it(offer, capsys):
    offer("client", "package_that_is_not_there:app")
    assert run(["client", "play", "--home", "x"]) == 2
    assert one_line(capsys.readouterr().err) == (
        "'oel client' needs the extra: pip install 'edge-oel[client]' (no module package_that_is_not_there)"
    )
    assert run(["--help"]) == 0


def test_help_tells_what_an_argument_is(capsys):
    assert run(["experiment", "--help"]) == 0
    assert "Any name; its folder will be runs/experiment-NAME." in " ".join(capsys.readouterr().out.split())


def test_an_extra_that_is_missed_only_by_a_command_says_so_too(does, capsys):
    def play() -> None:
        import package_that_is_not_there  # noqa: F401

    does(play)
    assert run(["demo"]) == 2
    assert "pip install 'edge-oel[fleet]'" in one_line(capsys.readouterr().err)


def test_a_missing_module_of_our_own_is_a_bug(offer):
    offer("client", "oel_client.not_there:app")
    with pytest.raises(ModuleNotFoundError):
        run(["client"])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["modle"], "No such command 'modle'"),
        (["model", "inspct", "x"], "No such command 'inspct'"),
        (["model", "inspect"], "Missing argument 'FILE' (try: oel model inspect --help)"),
        (["eval", "default"], "Missing option '--env'"),
        (["eval", "default", "--env", "scripted", "--plays", "0"], "'--plays': 0 is not in the range"),
        (["eval", "default", "--env", "scripted", "--split", "all"], "'--split': 'all' is not one of"),
        (["eval", "default", "--env", "scriptd"], "Did you mean 'scripted'?"),
        (["eval", "absent.gguf", "--env", "scripted"], "no model file absent.gguf"),
        (["eval", "default", "--env", "scripted", "--adapter", "a.gguf"], "no adapter file a.gguf"),
        (["eval", "default", "--env", "scripted", "--lessons", "l.json"], "no lessons file l.json"),
        (["model", "inspect", "absent.gguf"], "no model file absent.gguf"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(arguments, says, capsys):
    assert run(arguments) == 2
    captured = capsys.readouterr()
    assert says in one_line(captured.err)
    assert captured.out == ""


def test_inspect_says_what_a_file_holds(tiny_llama, capsys):
    assert run(["model", "inspect", str(tiny_llama), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["architecture"], facts["sha256"]) == ("llama", inspect(tiny_llama).sha256)
    assert facts["types"]["Q4_1"] == 14
    assert run(["model", "inspect", str(tiny_llama)]) == 0
    assert inspect(tiny_llama).sha256 in capsys.readouterr().out


def test_quantize_writes_the_model_in_another_type(tiny_llama, tmp_path, capsys):
    out = tmp_path / "q8.gguf"
    assert run(["model", "quantize", str(tiny_llama), str(out), "--type", "Q8_0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["bytes"] == out.stat().st_size
    assert inspect(out).quantisation["Q8_0"] == 15
    assert run(["model", "quantize", str(tiny_llama), str(out), "--type", "Q8_0"]) == 1
    assert "exists" in one_line(capsys.readouterr().err)
    assert run(["model", "quantize", str(tiny_llama), str(tmp_path / "x.gguf"), "--type", "Q9"]) == 2
    assert "Choose among" in one_line(capsys.readouterr().err)
    assert [path.name for path in tmp_path.iterdir()] == ["q8.gguf"]


@pytest.fixture
def tiny_eval(tiny_llama, make_tiny, capsys):
    """Plays two tiny models; returns what --json prints."""
    other = make_tiny("F32")

    def run_it(*more: str) -> dict:
        models = [str(tiny_llama), str(other)]
        arguments = ["eval", *models, "--env", "scripted", "--plays", "12", "--threads", "1", "--json"]
        assert run([*arguments, *more]) == 0
        return json.loads(capsys.readouterr().out)

    return run_it


def test_eval_compares_models_with_each_other_and_with_random_legal(tiny_eval, tiny_llama):
    report = tiny_eval("--seed", "3")
    (part,) = report["environments"]
    assert part["games"] == 3
    first, _second, chance = part["arms"]
    assert first["arm"] == part["reference"] == tiny_llama.stem
    assert chance["arm"] == "random-legal"
    for arm in part["arms"]:
        assert arm["success"]["low"] <= arm["won"] / 12 <= arm["success"]["high"]
    difference = chance["difference"]["success"]
    assert difference["mean"] == pytest.approx(chance["success"]["mean"] - first["success"]["mean"])
    assert 0 < difference["p_value"] <= 1
    assert tiny_eval("--seed", "3") == report
    assert tiny_eval("--seed", "4") != report


def test_eval_takes_the_lessons_that_a_device_prints(tiny_eval, tmp_path):
    lessons = tmp_path / "lessons.json"
    item = {"lesson": {"family": "scripted", "template": "take {any} key", "cue": "legal"}}
    lessons.write_text(json.dumps({"release": "base", "lessons": [item]}))
    arms = [arm["arm"] for arm in tiny_eval("--lessons", str(lessons))["environments"][0]["arms"]]
    assert len(arms) == 5
    assert [arm.endswith(" + lessons") for arm in arms] == [False, True, False, True, False]
    listed = tiny_eval("--lessons", str(lessons), "--context", "all")["environments"][0]["arms"]
    assert [arm["arm"] for arm in listed] == arms


@pytest.mark.parametrize(
    "text", ["{}", "[1]", "nonsense", '[{"family": "x"}]', '[{"family": 1, "template": 2}]']
)
def test_eval_refuses_what_are_no_lessons(text, tiny_llama, tmp_path, capsys):
    (tmp_path / "l.json").write_text(text)
    assert run(["eval", str(tiny_llama), "--env", "scripted", "--lessons", str(tmp_path / "l.json")]) == 2
    assert "is not a list of lessons" in one_line(capsys.readouterr().err)


def test_eval_of_several_environments_keeps_them_apart(tiny_eval):
    parts = tiny_eval("--env", "scripted?rooms=3")["environments"]
    assert [part["environment"] for part in parts] == ["scripted", "scripted?rooms=3"]
    assert parts[0]["arms"] != parts[1]["arms"]
