"""A real adapter merged into its base for other programs: the same answers, or nothing is written."""

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from lmm_mcp import artifacts
from lmm_mcp.cli import program
from lmm_mcp.errors import ModelError
from lmm_mcp.paths import Home

torch = pytest.importorskip("torch")

from lmm_mcp.model import network  # noqa: E402 - these need torch
from trainer import export  # noqa: E402

ENV = {"PATH": "/nowhere"}


@pytest.fixture(scope="module")
def version(small_models, tmp_path_factory) -> Path:
    """A version's folder with a LoRA adapter that changes what the base says."""
    folder = tmp_path_factory.mktemp("v0001")
    told = network.load(small_models / "base")
    card, tokenizer = told.card, told.tokenizer
    model = network.with_lora(told.model, rank=4, alpha=8)
    torch.manual_seed(3)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if "lora_B" in name:
                weights.normal_(0, 0.3)
    network.save_adapter(network.Network(model, tokenizer, card), folder / "adapter")
    (folder / "manifest.json").write_text(json.dumps({"base": str(small_models / "base")}), encoding="utf-8")
    return folder


def test_the_merged_model_answers_as_the_adapter_does(version, small_models, tmp_path):
    done = export.export(version, tmp_path / "out", env=ENV)
    assert done.difference < export.MAX_DIFFERENCE
    assert not (done.folder / "adapter_config.json").exists(), "it stands alone"
    alone, base = network.load(done.folder), network.load(small_models / "base")
    learned = network.load(small_models / "base", adapter=version / "adapter")
    for merged, adapted, untrained in zip(*map(export.logits, (alone, learned, base)), strict=True):
        assert torch.allclose(merged, adapted, atol=1e-2)
        assert not torch.allclose(merged, untrained, atol=1e-2), "the adapter must matter, or the test shows nothing"


def test_what_differs_once_merged_is_not_kept(version, tmp_path, monkeypatch):
    real = export.merged

    def spoiled(told):
        model = real(told)
        with torch.no_grad():
            model.lm_head.weight.add_(0.05)
        return model

    monkeypatch.setattr(export, "merged", spoiled)
    with pytest.raises(ModelError, match="differs from the adapter by"):
        export.export(version, tmp_path / "out", env=ENV)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_there_is_left_alone(version, tmp_path):
    with pytest.raises(ModelError, match="is there already"):
        export.export(version, tmp_path, env=ENV)


def test_without_a_converter_gguf_is_refused_before_any_work(version, tmp_path):
    with pytest.raises(ModelError, match="LLAMA_CPP"):
        export.export(version, tmp_path / "out", gguf=True, env=ENV)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("works", [True, False])
def test_gguf_is_written_by_the_converter_of_llama_cpp(version, tmp_path, works):
    tools = tmp_path / "llama.cpp"
    tools.mkdir()
    script = "import sys, pathlib\n" + (
        "pathlib.Path(sys.argv[sys.argv.index('--outfile') + 1]).write_bytes(b'GGUF')"
        if works
        else "sys.exit('unknown architecture')"
    )
    (tools / export.CONVERTER).write_text(script, encoding="utf-8")
    env = {**ENV, "LLAMA_CPP": str(tools)}
    if works:
        done = export.export(version, tmp_path / "out", gguf=True, env=env)
        assert done.gguf is not None
        assert done.gguf.read_bytes() == b"GGUF"
    else:
        with pytest.raises(ModelError, match="unknown architecture"):
            export.export(version, tmp_path / "out", gguf=True, env=env)
        assert (tmp_path / "out" / "model.safetensors").exists()


def test_as_a_program_it_tells_one_line_and_what_went_wrong(version, tmp_path):
    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "trainer.export", str(version), *arguments]
        return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=120, check=False)

    done = run(str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["folder"] == str(tmp_path / "out")
    if os.name == "posix":
        assert stat.S_IMODE((tmp_path / "out" / "model.safetensors").stat().st_mode) == 0o600
    again = run(str(tmp_path / "out"))
    assert again.returncode == 1
    assert "is there already" in json.loads(again.stdout)["error"]


def test_the_command_exports_a_version_of_a_base_of_this_memory(version, small_models, tmp_path, monkeypatch, capsys):
    home = Home(tmp_path / "lmm").ensure()
    shutil.copytree(small_models / "base", artifacts.bases_folder(home) / "mine")
    draft = artifacts.draft(home)
    shutil.copytree(version / "adapter", draft / "adapter")
    told = {"base": "mine", "recipe": {}, "libraries": {}, "seed": 0, "verdict": None}
    marks = ("base_hash", "store_version", "lessons_hash", "probes_hash", "run", "code_version", "hardware")
    about = artifacts.Manifest(**told, **dict.fromkeys(marks, ""))
    name = artifacts.commit(home, draft, about, None, artifacts.Sources.of((), (), as_of=0)).name
    monkeypatch.setenv("LMM_HOME", str(home.root))
    assert program.run(("model", "export", name, "--to", str(tmp_path / "out"))) == 0, capsys.readouterr()
    assert f"written to {tmp_path / 'out'}" in capsys.readouterr().out.replace("\n", " ")
    assert (tmp_path / "out" / "model.safetensors").is_file()
    monkeypatch.delenv("LLAMA_CPP", raising=False)
    assert program.run(("model", "export", name, "--to", str(tmp_path / "again"), "--gguf")) == 1
    assert "LLAMA_CPP" in capsys.readouterr().err
    assert not (tmp_path / "again").exists()
