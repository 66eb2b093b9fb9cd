"""The training loop, over a network of two layers and a tokenizer made here."""

import errno
import json
import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lmm_mcp import prompting
from lmm_mcp.domain.lesson import Lesson
from lmm_mcp.errors import ModelError, TrainingError
from lmm_mcp.model.network import load
from lmm_mcp.model.rendering import answer_ids, answer_text, prompt_ids
from trainer import checkpoints, run_log, stepping
from trainer.base import small_base
from trainer.loop import Trained, train
from trainer.recipe import Recipe
from trainer.stepping import Learned
from trainer.tokens import Batch

RECIPE = Recipe(
    method="lora",
    rank=8,
    alpha=16,
    stage="both",
    learning_rate=5e-3,
    cpt_learning_rate=1e-3,
    epochs=8,
    cpt_epochs=3,
    tokens_per_step=128,
    seq_len=128,
    min_seq_len=32,
    micro_rows=2,
    precision="float32",
    checkpointing=False,
    device="cpu",
    num_threads=1,
)
TEXTS = tuple(
    f"session {number}: the build of module {number} failed and was mended with flag {number * 7}"
    for number in range(12)
)
PLACES = {"tests": "run with tox -e py", "port": "5433", "owner": "Dalia", "linter": "ruff check"}


def lesson(question: str, answer: str, **more: object) -> Lesson:
    base = Lesson("fact", "", prompting.recalling(question, "amber-api"), answer, "fact@0", "mine", "", (), ())
    return replace(base, **more)  # type: ignore[arg-type]


def lessons() -> list[Lesson]:
    rng = random.Random(1)
    known = [lesson(f"what is the {name}", value, weight=rng.uniform(0.5, 2.0)) for name, value in PLACES.items()]
    clean = prompting.recalling("what is the port of amber", "amber-api")
    return [
        *known,
        lesson("tell me about the port", "the port is 5433 for everyone", slice="brief", clean_prompt=clean),
        lesson("and the owner?", "Dalia owns all of amber", slice="brief", clean_prompt=clean),
    ]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_base(
        tmp_path_factory.mktemp("bases") / "tiny", [*TEXTS, *(each.prompt + each.answer for each in lessons())]
    )


def run(base: Path, folder: Path, recipe: Recipe = RECIPE, **more: object) -> Trained:
    return train(recipe.but(base=str(base)), TEXTS, lessons(), folder, **more)  # type: ignore[arg-type]


def close(left: tuple[float, ...], right: tuple[float, ...], tolerance: float) -> bool:
    return len(left) == len(right) and all(abs(a - b) <= tolerance for a, b in zip(left, right, strict=True))


def test_what_is_taught_is_said_afterwards_and_the_base_stays_as_it_was(base: Path, tmp_path: Path) -> None:
    taught = [lesson(f"what is the {name}", value) for name, value in PLACES.items()]
    done = train(
        RECIPE.but(base=str(base), stage="sft", epochs=80, learning_rate=1e-2, tokens_per_step=128),
        (),
        taught,
        tmp_path,
    )

    learned = load(base, adapter=done.adapter)
    said = []
    for each in taught:
        ids = torch.tensor([prompt_ids(learned.tokenizer, each.prompt)])
        out = learned.model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=16, do_sample=False
        )
        said.append(answer_text(learned.tokenizer, out[0, ids.shape[1] :].tolist()))
    assert said == list(PLACES.values())
    ids = torch.tensor([answer_ids(learned.tokenizer, "what is it")])
    with torch.no_grad(), learned.model.disable_adapter():
        assert torch.equal(learned.model(ids).logits, load(base).model(ids).logits)


def test_a_run_leaves_its_recipe_its_metrics_and_at_most_three_checkpoints(base: Path, tmp_path: Path) -> None:
    heard: list[dict[str, object]] = []
    done = run(base, tmp_path, log=heard.append)

    assert done.finished and done.num_steps == len(done.losses) > 3 and done.losses[-1] < done.losses[0]
    assert run_log.read(tmp_path) == heard and {line["stage"] for line in heard} == {"cpt", "sft"}
    assert json.loads((tmp_path / "recipe.json").read_text(encoding="utf-8"))["rank"] == 8
    assert len(checkpoints.all_of(tmp_path)) == checkpoints.KEPT
    assert {
        file.stat().st_mode & 0o077 for file in tmp_path.rglob("*") if file.is_file() and "adapter" in file.parts
    } == {0}


@pytest.mark.parametrize("stop_after", [1, 3, 6])
def test_an_interrupted_run_goes_on_with_the_same_losses(base: Path, tmp_path: Path, stop_after: int) -> None:
    recipe = RECIPE.but(dropout=0.1)
    whole = run(base, tmp_path / "whole", recipe)
    asked = iter(range(1000))
    part = run(base, tmp_path / "parts", recipe, should_stop=lambda: next(asked) >= stop_after)
    assert not part.finished and part.num_steps == stop_after
    rest = run(base, tmp_path / "parts", recipe)

    assert rest.finished and close(rest.losses, whole.losses, 1e-5)
    one, other = (load(base, adapter=each.adapter).model.state_dict() for each in (whole, rest))
    assert all(torch.allclose(one[name], other[name], atol=1e-5) for name in one)


def test_a_run_that_was_killed_goes_on_from_its_last_checkpoint(base: Path, tmp_path: Path) -> None:
    whole = run(base, tmp_path / "whole")

    def dies(line: dict[str, object]) -> None:
        if line["stage"] == "sft" and line["step"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(base, tmp_path / "killed", log=dies)
    with (tmp_path / "killed" / "metrics.jsonl").open("a", encoding="utf-8") as torn:
        torn.write('{"stage": "sft", "st')
    rest = run(base, tmp_path / "killed")
    assert close(rest.losses, whole.losses, 1e-5)
    assert [line["loss_mean"] for line in run_log.read(tmp_path / "killed")] == pytest.approx(
        list(whole.losses), abs=1e-5
    )


def test_a_finished_run_is_not_done_again(base: Path, tmp_path: Path) -> None:
    first = run(base, tmp_path)
    heard: list[object] = []
    again = run(base, tmp_path, log=heard.append)
    assert again.losses == first.losses and not heard


def test_a_run_goes_on_only_with_what_it_began_with(base: Path, tmp_path: Path) -> None:
    run(base, tmp_path)
    with pytest.raises(TrainingError, match="start a new run"):
        train(RECIPE.but(base=str(base)), TEXTS[1:], lessons(), tmp_path)


def test_where_memory_runs_out_less_goes_through_at_once_and_then_rows_get_shorter(base: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []

    def learn(*arguments: object) -> Learned:
        place = arguments[-1]
        assert isinstance(place, checkpoints.Place)
        seen.append((place.micro_rows, place.seq_len))
        if place.seq_len > 64:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return stepping.learn(*arguments)  # type: ignore[arg-type]

    whole = run(base, tmp_path / "whole", RECIPE.but(micro_rows=4))
    less = run(base, tmp_path / "less", RECIPE.but(micro_rows=4), learn=learn)
    assert seen[:4] == [(4, 128), (2, 128), (1, 128), (1, 64)] and set(seen[3:]) == {(1, 64)}
    assert less.seq_len == 64 and less.finished and not less.too_long
    assert close(whole.losses, less.losses, 1e-4), "the same is learned from, only otherwise laid out"


def test_where_there_is_not_even_memory_for_short_rows_it_stops_and_says_what_to_do(base: Path, tmp_path: Path) -> None:
    def learn(*_arguments: object) -> Learned:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    with pytest.raises(TrainingError, match=r"not enough memory.*--seq-len"):
        run(base, tmp_path, learn=learn)


def test_other_errors_of_a_step_are_not_taken_for_a_lack_of_memory(base: Path, tmp_path: Path) -> None:
    def learn(*_arguments: object) -> Learned:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        run(base, tmp_path, learn=learn)


def test_a_full_disk_at_a_checkpoint_leaves_the_one_before_whole(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Path] = []

    def save_file(tensors: object, file: Path) -> None:
        if len(written) == 4:
            file.write_bytes(b"half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(file)
        real(tensors, file)

    real = checkpoints.save_file
    with monkeypatch.context() as full:
        full.setattr(checkpoints, "save_file", save_file)
        with pytest.raises(TrainingError, match=r"is full.*lmm train resume"):
            run(base, tmp_path / "full")
    assert len(checkpoints.all_of(tmp_path / "full")) == 2
    assert not [each for each in (tmp_path / "full" / "checkpoints").iterdir() if each.name.startswith(".")]
    assert close(run(base, tmp_path / "full").losses, run(base, tmp_path / "whole").losses, 1e-5)


def test_lessons_that_fit_into_no_row_are_named_and_nothing_to_learn_is_an_error(base: Path, tmp_path: Path) -> None:
    long = lesson("what " * 400, "5433")
    done = train(RECIPE.but(base=str(base), stage="sft"), (), [*lessons(), long], tmp_path / "a")
    assert done.too_long == (long.id,)
    with pytest.raises(TrainingError, match="nothing to learn from"):
        train(RECIPE.but(base=str(base), stage="sft"), (), [long], tmp_path / "b")


def test_lessons_that_so_few_steps_do_not_reach_are_named(base: Path, tmp_path: Path) -> None:
    few = RECIPE.but(stage="sft", epochs=1, min_steps=1, max_steps=1, seq_len=32, tokens_per_step=32)
    done = run(base, tmp_path / "few", few)
    assert done.num_steps == 1 and 0 < len(done.unseen) < len(lessons())
    assert set(done.unseen) < {each.id for each in lessons()}
    again = run(base, tmp_path / "few", few)
    assert again.unseen == done.unseen, "a finished run says it as well"
    assert not run(base, tmp_path / "all", few.but(max_steps=50)).unseen


def test_a_device_or_base_that_is_not_here_is_named_with_the_next_step(base: Path, tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        with pytest.raises(TrainingError, match="cpu-tiny"):
            run(base, tmp_path, RECIPE.but(device="cuda"))
    with pytest.raises(ModelError, match="make-base"):
        train(RECIPE.but(base="tiny"), TEXTS, (), tmp_path, bases=tmp_path / "none")


def test_weights_of_four_bits_name_the_package_that_is_missing(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(TrainingError, match=r"pip install bitsandbytes.*--method lora"):
        run(base, tmp_path, RECIPE.but(method="qlora"))
    assert not list(tmp_path.rglob("*.safetensors"))


def test_whole_weights_can_be_trained_with_the_base_as_teacher(base: Path, tmp_path: Path) -> None:
    done = run(base, tmp_path, RECIPE.but(method="full", stage="sft", learning_rate=1e-3))
    assert (done.adapter / "model.safetensors").is_file() and done.losses[-1] < done.losses[0]
    load(base, adapter=done.adapter)


def test_a_run_can_go_on_from_what_an_earlier_one_learned(base: Path, tmp_path: Path) -> None:
    first = run(base, tmp_path / "first", RECIPE.but(stage="cpt", cpt_epochs=6))
    cold = run(base, tmp_path / "cold", RECIPE.but(stage="cpt"))
    warm = run(base, tmp_path / "warm", RECIPE.but(stage="cpt"), start_from=first.adapter)
    assert warm.losses[0] < cold.losses[0]


WIDE = RECIPE.but(tokens_per_step=512, micro_rows=1, min_steps=6)
"""Steps of several rows, an odd number of them among others, for processes to share."""
WAYS: dict[str, dict[str, object]] = {"whole": {}, "sharded": {"sharded": True}, "short of memory": {"micro_rows": 2}}


def take_memory() -> None:
    """From this process: more than one row at once has no room."""
    real = stepping.weighed_loss

    def measured(learner: object, batch: Batch, **more: object) -> tuple[torch.Tensor, torch.Tensor]:
        if len(batch.ids_BT) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(learner, batch, **more)  # type: ignore[arg-type]

    stepping.weighed_loss = measured


PROGRAM = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_loop
if sys.argv[4] == "short of memory" and test_loop.os.environ.get("RANK") == "1":
    test_loop.take_memory()
done = test_loop.run(Path(sys.argv[2]), Path(sys.argv[3]), test_loop.WIDE.but(**test_loop.WAYS[sys.argv[4]]))
if __name__ == "__main__" and test_loop.os.environ.get("RANK", "0") == "0":
    Path(sys.argv[3], "losses.json").write_text(test_loop.json.dumps([done.num_processes, *done.losses]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_two_processes_learn_what_one_does(base: Path, tmp_path: Path, way: str) -> None:
    alone = run(base, tmp_path / "alone", WIDE)
    (tmp_path / "program.py").write_text(PROGRAM, encoding="utf-8")
    root = Path(__file__).parents[2]
    env = {
        **os.environ,
        "ACCELERATE_USE_CPU": "true",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(root),
        "HF_HUB_OFFLINE": "1",
    }
    arguments = ["--standalone", "--nproc_per_node", "2", str(tmp_path / "program.py")]
    ended = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *arguments, str(Path(__file__).parent), str(base), str(tmp_path / "two"), way],
        env=env, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-3000:]
    num_processes, *losses = json.loads((tmp_path / "two" / "losses.json").read_text(encoding="utf-8"))
    assert num_processes == 2 and close(tuple(losses), alone.losses, 1e-4)
    assert {line["micro_rows"] for line in run_log.read(tmp_path / "two")} == {1}, "all do with less"
    one, other = (load(base, adapter=tmp_path / each / "adapter").model.state_dict() for each in ("alone", "two"))
    assert all(torch.allclose(one[name], other[name], atol=1e-4) for name in one)
