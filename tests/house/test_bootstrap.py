"""The first command a newcomer types: it must never install twice, never stay half done, and say what is missing."""

import ast
import importlib.util
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = (ROOT / "bootstrap.py").read_text(encoding="utf-8")


@pytest.fixture
def bootstrap(tmp_path, monkeypatch):
    """The program, set on a project of its own, with its installing steps written down instead of done."""
    spec = importlib.util.spec_from_file_location("bootstrap_under_test", ROOT / "bootstrap.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    root = tmp_path / "a project"
    (root / "ci").mkdir(parents=True)
    (root / "pyproject.toml").write_text("[project]\n", encoding="utf-8")
    module.ROOT, module.VENV = root, root / ".venv"
    module.STAMP = module.VENV / "lmm-bootstrap.json"
    module.done = []

    def make_venv():
        python = Path(module.venv("python"))
        python.parent.mkdir(parents=True, exist_ok=True)
        python.touch()
        (module.VENV / "pyvenv.cfg").write_text("version = 3.12\n", encoding="utf-8")

    monkeypatch.setattr(module, "make_venv", make_venv)
    monkeypatch.setattr(module, "install", lambda wanted: module.done.append(wanted))
    monkeypatch.setattr(module, "step", lambda title, command, environment=None: None)
    return module


def test_a_second_run_installs_nothing(bootstrap):
    bootstrap.set_up("base")
    bootstrap.set_up("base")
    assert bootstrap.done == ["base"]


def test_what_was_set_up_for_tests_serves_too_but_not_the_other_way_round(bootstrap):
    bootstrap.set_up("base")
    bootstrap.set_up("test")
    bootstrap.set_up("base")
    assert bootstrap.done == ["base", "test"]


@pytest.mark.parametrize("changed", ["pyproject.toml", "ci/constraints.txt", ".venv/pyvenv.cfg"])
def test_a_changed_project_is_installed_again(bootstrap, changed):
    bootstrap.set_up("base")
    (bootstrap.ROOT / changed).write_text("something else\n", encoding="utf-8")
    bootstrap.set_up("base")
    assert bootstrap.done == ["base", "base"]


def test_an_interrupted_installation_is_done_again(bootstrap, monkeypatch):
    bootstrap.set_up("base")
    monkeypatch.setattr(bootstrap, "install", lambda wanted: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        bootstrap.set_up("test")
    assert not bootstrap.STAMP.exists()
    monkeypatch.setattr(bootstrap, "install", lambda wanted: bootstrap.done.append(wanted))
    bootstrap.set_up("base")
    assert bootstrap.done == ["base", "base"]


@pytest.mark.parametrize("torn", ["", "{", "[]", '{"fingerprint": 1}', "null"])
def test_a_torn_stamp_counts_as_none(bootstrap, torn):
    bootstrap.set_up("base")
    bootstrap.STAMP.write_text(torn, encoding="utf-8")
    bootstrap.set_up("base")
    assert bootstrap.done == ["base", "base"]
    assert json.loads(bootstrap.STAMP.read_text(encoding="utf-8"))["installed"] == ["base"]


def test_an_environment_whose_python_is_gone_is_made_again(bootstrap):
    bootstrap.set_up("base")
    Path(bootstrap.venv("python")).unlink()
    bootstrap.set_up("base")
    assert bootstrap.done == ["base", "base"]


def test_a_failed_step_ends_with_what_it_printed_and_the_next_step(bootstrap, monkeypatch, capsys):
    def install(wanted):
        raise bootstrap.Failed("`pip` ended with 1:\n    no space left on device")

    monkeypatch.setattr(bootstrap, "install", install)
    assert bootstrap.main(["setup"]) == 1
    told = capsys.readouterr().err
    assert "no space left" in told and "Run this again" in told


def test_a_real_step_that_fails_shows_the_end_of_its_output(tmp_path):
    spec = importlib.util.spec_from_file_location("bootstrap_real", ROOT / "bootstrap.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with pytest.raises(module.Failed, match=r"ended with 3:\n(?s:.)*the reason"):
        module.step("try", [sys.executable, "-c", "print('the reason'); raise SystemExit(3)"])


def test_an_unknown_word_shows_the_usage(bootstrap, capsys):
    assert bootstrap.main(["tests"]) == 2
    assert "python3 bootstrap.py test" in capsys.readouterr().out


def test_an_old_python_is_told_which_one_to_install(bootstrap, monkeypatch, capsys):
    monkeypatch.setattr(sys, "version_info", (3, 9, 18))
    monkeypatch.setattr(bootstrap.shutil, "which", lambda name: None)
    assert bootstrap.main([]) == 1
    told = capsys.readouterr().err
    assert "needs Python 3.11 or newer; this is 3.9" in told and "install" in told


def test_an_old_python_can_read_the_file_and_it_needs_no_library():
    tree = ast.parse(SOURCE, feature_version=(3, 6))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert names <= set(sys.stdlib_module_names)
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    assert not any(node.returns or any(argument.annotation for argument in node.args.args) for node in functions)


def test_tests_run_with_homes_of_their_own(bootstrap, monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setenv("LMM_EMBEDDER_NAME", "none")
    monkeypatch.setenv("LMM_CORPUS", "/data/corpus")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    calls = []
    monkeypatch.setattr(bootstrap.subprocess, "call", lambda command, **named: calls.append((command, named)) or 5)
    assert bootstrap.run_tests(["-k", "two words"]) == 5
    command, named = calls[0]
    environment = named["env"]
    assert command[-4:] == ["-m", "pytest", "-k", "two words"]
    homes = [
        environment[name]
        for name in ("HOME", "USERPROFILE", "LMM_HOME", "CLAUDE_CONFIG_DIR", "CODEX_HOME", "XDG_CACHE_HOME")
    ]
    assert not any(home.startswith("/home/somebody") for home in homes)
    assert environment["LMM_CORPUS"] == "/data/corpus" and environment["HF_HUB_OFFLINE"] == "1"
    assert not {"LMM_EMBEDDER_NAME", "PYTHONDONTWRITEBYTECODE"} & set(environment)
