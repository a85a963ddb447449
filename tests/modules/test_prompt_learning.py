"""What all prompt learners share: frozen towers, one gradient however it is chunked, ranks, resuming, what is left behind."""

import json
import os
import signal
from functools import partial
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from tiny import CLASSES, batches, save_tiny, trainer

from mmood.cli.main import main
from mmood.data.datamodule import OoDDataModule
from mmood.encoders import EncoderSettings
from mmood.errors import MmoodError
from mmood.loading.settings import LoaderSettings
from mmood.modules.prompt_learning import (
    PNPS,
    SCT,
    SUPREME,
    CoOp,
    IDLike,
    LocalPrompt,
    LoCoOp,
    NegPrompt,
    PromptLearning,
)
from mmood.modules.prompt_learning.context import ContextSettings
from mmood.modules.prompt_learning.method import AbstractPromptMethod, Views
from mmood.modules.prompt_learning.module import CropSettings, FewShotSettings
from mmood.modules.zero_shot import ZeroShot
from mmood.prompts import load_prompts, save_prompts
from mmood.scores import GMP, MCM, AdaNeg, IDLikeScore, NegPromptScore
from mmood.words.class_texts import ClassTexts, TextsFile
from mmood.words.proposed import origin_for

SHORT = ContextSettings(tokens=4)
OWN = ContextSettings(tokens=4, class_specific=True)
TOY = ["red square", "green square", "blue square"]
TEXTS: list[str] = []
"""The file of class texts, once it is written."""
METHODS = {
    "coop": partial(CoOp, SHORT),
    "coop-own": partial(CoOp, OWN),
    "locoop": partial(LoCoOp, SHORT, top_k=1),
    "sct": partial(SCT, SHORT, top_k=1),
    "local-prompt": partial(LocalPrompt, OWN, negatives=3, crops=3, positives=2, top_k=2),
    "id-like": partial(IDLike, SHORT, negatives=3, crops=4, kept=2),
    "neg-prompt": partial(NegPrompt, SHORT),
    "supreme": partial(SUPREME, ContextSettings(tokens=4, start="a photo")),
    "pnps": lambda: PNPS(class_texts=TEXTS[0], context=OWN),
}
EACH = pytest.mark.parametrize("name", METHODS)


def sgd(parameters):
    """Return an optimiser that moves a tiny model in a few steps."""
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=5e-4)


def learner(settings, method: AbstractPromptMethod, classes=CLASSES, **more) -> PromptLearning:
    """Return a module on the tiny model."""
    return PromptLearning(settings, list(classes), {"mcm": MCM()}, method, optimizer=sgd, **more)


@pytest.fixture(scope="module", autouse=True)
def class_texts(tmp_path_factory):
    """The file that `mmood propose --method pnps` writes."""
    path = tmp_path_factory.mktemp("texts") / "texts.json"
    rows = [ClassTexts(name, (f"a {name}", f"one {name} here"), (f"no {name}",)) for name in (*CLASSES, *TOY)]
    TextsFile(origin_for("pnps", [*CLASSES, *TOY], {}), tuple(rows)).save(path)
    TEXTS[:] = [str(path)]
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("prompts") / "clip")


def views_of(module, count=6, patches=5):
    """Return random views as the module's method reads them."""
    generator = torch.Generator().manual_seed(3)

    def unit(*shape):
        return torch.nn.functional.normalize(torch.randn(*shape, 24, generator=generator), dim=-1)

    crops = module.method.crops
    label = torch.arange(count) % len(module.class_names)
    local = unit(count, crops, patches) if module.method.reads_patches else None
    return Views(unit(count, crops), local, label)


def loss_of(module):
    views = views_of(module)
    texts = module.method.texts(module.side(), views, torch.Generator().manual_seed(0))
    return module.method.loss(views, texts, module.side().scale, 0)


@EACH
def test_only_the_method_learns_and_chunks_change_no_gradient(name, clip):
    whole = learner(clip, METHODS[name]())
    assert all(key.startswith("method.") for key, value in whole.named_parameters() if value.requires_grad)
    loss_of(whole).backward()
    chunked = learner(clip, METHODS[name](), chunk=2)
    loss_of(chunked).backward()
    assert all(parameter.grad is None for parameter in whole.encoder.parameters())
    for (key, one), (_, other) in zip(whole.method.named_parameters(), chunked.method.named_parameters(), strict=True):
        if one.requires_grad:
            assert one.grad.abs().max() > 0, key
            assert (one.grad - other.grad).norm() < 1e-5 * one.grad.norm(), key


def test_supremes_temperature_is_the_towers_unless_given(clip):
    context = ContextSettings(tokens=4, start="a photo")
    scale = float(learner(clip, SUPREME(context)).side().scale)
    own, same, other = (
        float(loss_of(learner(clip, SUPREME(context, temperature=given)))) for given in (None, 1 / scale, 0.01)
    )
    assert own == pytest.approx(same, rel=1e-5)
    assert abs(own - other) > 0.1


@EACH
def test_a_fit_leaves_the_towers_and_writes_what_evaluation_reads(name, toy_root, toy_model, tmp_path):
    module = learner(EncoderSettings(toy_model), METHODS[name](), TOY, training=FewShotSettings(8, shots=6, seed=2))
    before = module.encoder.weights_hash()
    start = {key: value.clone() for key, value in module.trained_state().items()}
    run = trainer(-1, max_epochs=3, default_root_dir=tmp_path)
    run.fit(module, datamodule=toy_data(toy_root))
    run.save_checkpoint(tmp_path / "end.ckpt")
    assert run.optimizers[0].param_groups[0]["fused"]
    assert module.encoder.weights_hash() == before
    assert any(not torch.equal(start[key], value) for key, value in module.trained_state().items())
    assert {parameter.dtype for parameter in module.method.parameters()} == {torch.float32}
    module.fit_scores()
    kept = load_prompts(tmp_path / "prompts")
    assert torch.equal(kept.positive(module.encoder, TOY), module._prototypes)
    assert kept.families.keys() == module.method.families().keys()
    assert sorted(path.name for path in (tmp_path / "prompts").iterdir()) == ["context.safetensors", "prompts.json"]
    assert kept.tower["weights_sha256"] == before
    assert kept.recipe["trained"]["max_epochs"] == 3
    again = learner(EncoderSettings(toy_model), METHODS[name](), TOY)
    checkpoint = torch.load(tmp_path / "end.ckpt", weights_only=True)
    again.on_load_checkpoint(checkpoint)
    again.load_state_dict(checkpoint["state_dict"], strict=False)
    again.fit_scores()
    assert torch.equal(again._prototypes, module._prototypes)
    for role, family in again.method.families().items():
        assert torch.equal(family.context, kept.families[role].context), role


def test_the_number_of_trained_scalars(clip):
    width, tokens = 16, 4
    for context, contexts in ((SHORT, 1), (ContextSettings(4, class_specific=True), len(CLASSES))):
        module = learner(clip, CoOp(context))
        trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
        assert sum(parameter.numel() for parameter in trained) == contexts * tokens * width


def test_texts_of_the_last_step_are_those_of_evaluation(clip):
    module = learner(clip, CoOp(SHORT))
    texts = module.method.texts(module.side(), views_of(module), torch.Generator())["positive"]
    module.fit_scores()
    torch.testing.assert_close(texts.detach(), module._prototypes)


def test_a_context_from_a_phrase_is_the_prompt(clip):
    module = learner(clip, CoOp(ContextSettings(4, start="a photo of a")), classes=("cat", "red_panda"))
    module.fit_scores()
    prompts = module.encoder.prototypes(["cat", "red panda"], ["a photo of a {}."])
    torch.testing.assert_close(module._prototypes, prompts)


def test_one_class_has_no_loss(clip):
    assert float(loss_of(learner(clip, CoOp(SHORT), classes=("cat",))).detach()) == 0


def test_the_context_stays_float32_under_autocast(clip):
    module = learner(clip, CoOp(SHORT))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        texts = module.method.texts(module.side(), views_of(module), torch.Generator())
    assert texts["positive"].dtype == torch.float32
    texts["positive"].sum().backward()
    assert module.method.positive.vectors.grad.dtype == torch.float32


def test_seeds_draw_the_start_and_the_shots(clip):
    def start(seed):
        return learner(clip, CoOp(SHORT), training=FewShotSettings(seed=seed)).method.positive.vectors

    assert torch.equal(start(1), start(1))
    assert not torch.equal(start(1), start(2))
    assert abs(float(torch.cat([start(seed).flatten() for seed in range(8)]).std()) - 0.02) < 0.002
    labels = torch.arange(90) % 3
    draws = [learner(clip, CoOp(SHORT), training=FewShotSettings(shots=4, seed=seed)).few_shot() for seed in (1, 1, 2)]
    one, same, other = (draw.drawn(labels) for draw in draws)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_what_does_not_fit_is_refused(clip):
    with pytest.raises(MmoodError, match="A context of 15 tokens and a class name do not fit"):
        learner(clip, CoOp(ContextSettings(15)))
    with pytest.raises(MmoodError, match="start` has 4 tokens, but the context has 2"):
        learner(clip, CoOp(ContextSettings(2, start="a photo of a")))
    with pytest.raises(MmoodError, match=r"area` is \[0.9, 0.5\]"):
        CropSettings(area=(0.9, 0.5))
    with pytest.raises(MmoodError, match="CoOp has learned no context that all classes share"):
        learner(clip, CoOp(OWN), negative_prompts="learned")
    long = ["a very long name of a cat", "a very long name of a dog"]
    with pytest.raises(
        MmoodError, match=r"'a very long name of a cat' and 'a very .* dog' lose their ends and are the"
    ):
        learner(clip, CoOp(ContextSettings(8)), classes=long)
    learner(clip, CoOp(ContextSettings(8)), classes=["cat", "Cat", "cat"])  # one text to the tower in any prompt
    module = learner(clip, CoOp(SHORT))
    with pytest.raises(MmoodError, match=r"set `trainer.max_epochs`"):
        trainer(3).fit(module, batches(2, 6))


def test_a_checkpoint_with_other_shapes_is_refused(clip):
    stored = {"state_dict": learner(clip, CoOp(SHORT)).trained_state()}
    module = learner(clip, CoOp(ContextSettings(5)))
    stored["mmood_encoder"] = module.encoder.identity()
    with pytest.raises(MmoodError, match=r"method.positive.vectors has the shape \(1, 4, 16\) there, and \(1, 5, 16\)"):
        module.on_load_checkpoint(stored)


def saved(module) -> dict[str, object]:
    """Return what a Trainer hands to a module that takes a checkpoint of this one."""
    checkpoint: dict[str, object] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mmood.modules.base.training_record", lambda _: {})
        patch.setattr(PromptLearning, "fitting", lambda _: True)
        module.on_save_checkpoint(checkpoint)
    return checkpoint


def test_a_checkpoint_belongs_to_its_method_and_what_is_one_class_to_its_name(clip):
    coop, own = learner(clip, CoOp(SHORT)), learner(clip, CoOp(OWN))
    learner(clip, CoOp(SHORT), classes=[*CLASSES[:-1], "another"]).on_load_checkpoint(saved(coop))
    with pytest.raises(MmoodError, match=r"trained with model.method.class_path = .*CoOp, but now it is .*LoCoOp"):
        learner(clip, LoCoOp(SHORT, top_k=1)).on_load_checkpoint(saved(coop))
    with pytest.raises(MmoodError, match=rf"model.class_names\[0\] = {CLASSES[0]}, but now it is {CLASSES[-1]}"):
        learner(clip, CoOp(OWN), classes=CLASSES[::-1]).on_load_checkpoint(saved(own))


def test_a_checkpoint_on_top_of_other_positive_prompts_is_refused(clip, tmp_path):
    first = NegPrompt(SHORT, positive=f"learned:{tmp_path}")
    save_prompts(learner(clip, CoOp(SHORT)).learned_prompts(), tmp_path)
    checkpoint = saved(learner(clip, first))
    learner(clip, NegPrompt(SHORT, positive=str(tmp_path))).on_load_checkpoint(dict(checkpoint))
    save_prompts(learner(clip, CoOp(SHORT), training=FewShotSettings(seed=9)).learned_prompts(), tmp_path)
    with pytest.raises(MmoodError, match=r"trained with model.method.positive \(sha256\) = "):
        learner(clip, NegPrompt(SHORT, positive=str(tmp_path))).on_load_checkpoint(dict(checkpoint))


@pytest.mark.parametrize(
    ("training", "said"),
    [(FewShotSettings(seed=4), "training.seed = None, but now it is 4"), (FewShotSettings(shots=2), "shots = 16, but")],
)
def test_a_run_goes_on_with_the_shots_and_the_seed_that_it_began_with(training, said, clip, monkeypatch):
    checkpoint = saved(learner(clip, CoOp(SHORT)))
    module = learner(clip, CoOp(SHORT), training=training)
    module.on_load_checkpoint(dict(checkpoint))  # only for a test
    monkeypatch.setattr(PromptLearning, "fitting", lambda _: True)
    with pytest.raises(MmoodError, match=said):
        module.on_load_checkpoint(dict(checkpoint))


def test_supreme_needs_images_of_each_class(clip):
    method = learner(clip, SUPREME(ContextSettings(tokens=4, start="a photo"))).method
    with pytest.raises(
        MmoodError, match=f"SUPREME needs images of every ID class, but data.train has none of '{CLASSES[1]}'"
    ):
        method.learn_support(torch.ones(2, 24), torch.tensor([0, 2]))


@pytest.mark.parametrize("views", [None, 2])
def test_classes_without_enough_images_are_named_however_images_are_read(views, toy_root, toy_model, tmp_path, capsys):
    training = FewShotSettings(8, shots=1000)
    module = learner(EncoderSettings(toy_model), CoOp(SHORT), TOY, training=training, images=CropSettings(views=views))
    run = trainer(1, max_epochs=1, default_root_dir=tmp_path)
    run.fit(module, datamodule=toy_data(toy_root))
    assert "3 of 3 classes have fewer than 1000 images, such as red square" in capsys.readouterr().err


def toy_data(toy_root, workers=0) -> OoDDataModule:
    return OoDDataModule(
        str(toy_root), id="toy-test", train="toy-train", class_names=str(toy_root / "classes.txt"),
        loader=LoaderSettings(workers=workers, seed=5),
    )  # fmt: skip


def views_in_ranks(name: str) -> tuple[int | None, ...]:
    return (None, 2) if name in ("coop", "local-prompt") else (2,)


def ranks_train(world: int, folder: Path, toy_root: Path, toy_model: str, texts: str) -> None:
    """Train each method for an epoch on stored crops, two of them on fresh ones, and write the weights."""
    rank, TEXTS[:] = int(os.environ.get("RANK", "0")), [texts]
    spread = {"devices": world, "strategy": "ddp"} if world > 1 else {}
    for name, make in METHODS.items():
        for views in views_in_ranks(name):
            settings = {"training": FewShotSettings(batch_size=8, shots=6, seed=2), "images": CropSettings(views=views)}
            module = PromptLearning(
                EncoderSettings(toy_model), TOY, {"mcm": MCM()}, make(),
                optimizer=sgd, **settings,
            )  # fmt: skip
            run = trainer(-1, max_epochs=2, default_root_dir=folder / f"{world}-{rank}", **spread)
            run.fit(module, datamodule=toy_data(toy_root))
            if rank == 0:
                torch.save(module.trained_state(), folder / f"{name}-{views}-{world}.pt")


@pytest.mark.ddp
def test_two_ranks_train_the_weights_of_one(toy_root, toy_model, tmp_path, forked):
    ranks = forked.start_ranks(ranks_train, 2, tmp_path, toy_root, toy_model, TEXTS[0])
    ranks_train(1, tmp_path, toy_root, toy_model, TEXTS[0])
    for rank in ranks:
        assert rank.wait() == 0, rank.err
    for name in METHODS:
        for views in views_in_ranks(name):
            one, two = (torch.load(tmp_path / f"{name}-{views}-{world}.pt") for world in (1, 2))
            for key, value in one.items():
                error = (two[key] - value).norm() / value.norm().clamp_min(1e-6)
                assert error < 1e-5, f"{name}, views {views}: {key} differs by {error:.1e}"


class Stop(Callback):
    def __init__(self, batch: int, kill: bool) -> None:
        self.left, self.kill = batch, kill

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.left -= 1
        if self.left < 0:
            if self.kill:
                os.kill(os.getpid(), signal.SIGKILL)
            raise KeyboardInterrupt


def train(
    name: str, toy_root: Path, toy_model: str, folder: Path, stop_at: int | None = None, kill: bool = False
) -> None:
    """Train for three epochs of two batches, from the last checkpoint in the folder if there is one."""
    saves = ModelCheckpoint(folder / "steps", "{step}", every_n_train_steps=1, save_top_k=-1)
    training = FewShotSettings(batch_size=8, shots=6, seed=2)
    module = PromptLearning(
        EncoderSettings(toy_model), TOY, {"mcm": MCM()}, METHODS[name](),
        training=training, optimizer=sgd,
    )  # fmt: skip
    last = max((folder / "steps").glob("*.ckpt"), key=lambda path: int(path.stem.split("=")[1]), default=None)
    callbacks = [saves, *([] if stop_at is None else [Stop(stop_at, kill)])]
    run = trainer(-1, max_epochs=3, callbacks=callbacks, enable_checkpointing=True, default_root_dir=folder)
    run.fit(module, datamodule=toy_data(toy_root), ckpt_path=last)
    torch.save(
        {**module.trained_state(), "lr": torch.tensor(run.optimizers[0].param_groups[0]["lr"])}, folder / "end.pt"
    )


def same_end(whole: Path, cut: Path) -> None:
    expected, found = torch.load(whole / "end.pt"), torch.load(cut / "end.pt")
    assert expected.keys() == found.keys()
    assert [key for key in expected if not torch.equal(expected[key], found[key])] == []


@EACH
@pytest.mark.filterwarnings("ignore")
def test_a_run_cut_in_the_middle_of_an_epoch_ends_with_the_same_weights(name, toy_root, toy_model, tmp_path):
    train(name, toy_root, toy_model, tmp_path / "whole")
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        train(name, toy_root, toy_model, tmp_path / "cut", stop_at=3)
    assert not (tmp_path / "cut/end.pt").exists()
    train(name, toy_root, toy_model, tmp_path / "cut")
    same_end(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.long
def test_a_killed_run_ends_with_the_same_weights(toy_root, toy_model, tmp_path, forked):
    train("coop", toy_root, toy_model, tmp_path / "whole")
    killed = forked.call(train, "coop", toy_root, toy_model, tmp_path / "cut", 3, True)
    assert killed.code == -signal.SIGKILL, killed.err
    train("coop", toy_root, toy_model, tmp_path / "cut")
    same_end(tmp_path / "whole", tmp_path / "cut")


@pytest.fixture
def words(tmp_path) -> Path:
    path = tmp_path / "words.txt"
    path.write_text("\n".join(f"word {number}" for number in range(8)) + "\n")
    return path


def test_from_fit_to_every_text_score(toy_flags, words, tmp_path):
    flags = [*toy_flags, "--data.train", "toy-train"]
    short = ["--model.method.init_args.context.tokens", "4", "--model.training.shots", "4"]
    short += [
        "--model.scores.neglabel.init_args.negatives",
        str(words),
        "--model.scores.neglabel.init_args.groups",
        "2",
    ]
    fit = ["fit", "--config", "vitb16_coop.yaml", *flags, *short, "--trainer.max_epochs", "2"]
    assert main([*fit, "--trainer.precision", "32-true", "--run_dir", str(tmp_path / "fit")]) == 0
    (checkpoint,) = (tmp_path / "fit/checkpoints").glob("*.ckpt")
    assert checkpoint.stat().st_size < 100_000
    assert main(["test", "--ckpt_path", str(checkpoint), "--run_dir", str(tmp_path / "own")]) == 0
    own = json.loads((tmp_path / "own/results.json").read_text())
    prompts = f"learned:{tmp_path / 'fit/prompts'}"
    negatives = {"class_path": "NegLabel", "init_args": {"groups": 2, "negatives": str(words)}}
    scores = json.dumps({"mcm": {"class_path": "MCM", "init_args": {"temperature": 1.0}}, "neglabel": negatives})
    found = {}
    for kind in ("fixed", "learned"):
        again = ["--config", "vitb16_zeroshot.yaml", *toy_flags, "--model.prompts", prompts, "--model.scores", scores]
        run = ["--model.negative_prompts", kind, "--run_dir", str(tmp_path / kind)]
        assert main(["test", *again, *run]) == 0
        found[kind] = json.loads((tmp_path / kind / "results.json").read_text())
    assert found["fixed"]["rows"] == own["rows"], "a checkpoint and the folder of its prompts are the same detector"
    assert found["fixed"]["id"] == own["id"]
    mcm, neglabel = (
        [[row for row in found[kind]["rows"] if row["score"] == score] for kind in ("fixed", "learned")]
        for score in ("mcm", "neglabel")
    )
    assert mcm[0] == mcm[1]
    assert neglabel[0] != neglabel[1]
    assert found["fixed"]["provenance"]["settings"]["learned_by"] == "CoOp"


LESS = {
    "localprompt": "{context: {tokens: 4}, negatives: 3, crops: 3, positives: 2}",
    "idlike": "{context: {tokens: 4}, negatives: 3, crops: 4, kept: 2}",
}


@pytest.mark.long
@pytest.mark.parametrize("name", ["coop", "locoop", "sct", "localprompt", "idlike", "negprompt", "supreme", "pnps"])
def test_fit_then_test_of_each_config(name, toy_flags, words, tmp_path):
    fit = [
        "fit",
        "--config",
        f"vitb16_{name}.yaml",
        *toy_flags,
        "--data.train",
        "toy-train",
        "--model.training.shots",
        "4",
    ]
    fit += (
        ["--model.method.init_args", LESS[name]] if name in LESS else ["--model.method.init_args.context.tokens", "4"]
    )
    fit += ["--model.method.init_args.class_texts", TEXTS[0]] if name == "pnps" else []
    if name in ("coop", "locoop", "sct", "supreme"):
        neglabel = "--model.scores.neglabel.init_args"
        fit += [f"{neglabel}.negatives", str(words), f"{neglabel}.groups", "2"]
    fit += ["--trainer.precision", "32-true", "--trainer.max_epochs", "2", "--run_dir", str(tmp_path / "fit")]
    assert main(fit) == 0
    test = ["test", "--ckpt_path", str(tmp_path / "fit/checkpoints/last.ckpt"), "--run_dir", str(tmp_path / "test")]
    assert main(test) == 0
    results = json.loads((tmp_path / "test/results.json").read_text())
    assert results["provenance"]["module"] == "PromptLearning"
    assert {row["set"] for row in results["rows"]} == {"toy-near", "toy-far"}


def test_a_misspelt_method_is_met_with_the_nearest_one(toy_flags, tmp_path, capsys):
    fit = ["fit", "--config", "vitb16_coop.yaml", *toy_flags, "--data.train", "toy-train", "--run_dir", str(tmp_path)]
    assert main([*fit, "--model.method.class_path", "CoOpp"]) == 2
    assert "names the class 'CoOpp', which does not exist; did you mean 'CoOp'?" in capsys.readouterr().err


@pytest.mark.parametrize(("flag", "value"), [("accumulate_grad_batches", "2"), ("gradient_clip_val", "1.0")])
def test_what_manual_steps_cannot_do_is_said_in_a_sentence(flag, value, toy_flags, tmp_path, capsys):
    fit = ["fit", "--config", "vitb16_coop.yaml", *toy_flags, "--data.train", "toy-train"]
    fit += ["--model.method.init_args.context.tokens", "4", "--model.scores", "{mcm: {class_path: MCM}}"]
    assert main([*fit, f"--trainer.{flag}", value, "--run_dir", str(tmp_path)]) == 2
    assert "PromptLearning takes its steps itself" in capsys.readouterr().err


def test_prompts_of_another_tower_are_refused(clip, toy_flags, tmp_path, capsys):
    save_prompts(learner(clip, CoOp(SHORT)).learned_prompts(), tmp_path / "prompts")
    again = ["--config", "vitb16_zeroshot.yaml", *toy_flags, "--model.prompts", f"learned:{tmp_path / 'prompts'}"]
    assert main(["test", *again, "--run_dir", str(tmp_path / "run")]) == 2
    assert "a context means nothing to another tower" in capsys.readouterr().err


def test_streams_compare_with_learned_prompts(clip, words):
    module = learner(clip, CoOp(SHORT), negative_prompts="learned")
    reference = module.reference()
    texts = AdaNeg(groups=2, negatives=str(words)).fit(reference).fitted_.texts
    assert torch.equal(texts[: len(CLASSES)], reference.prototypes)
    learned = reference.learned.of_words(module.encoder, [f"word {number}" for number in range(8)])
    assert torch.equal(texts[len(CLASSES) :].sort(dim=0).values, learned.sort(dim=0).values)


def test_scores_of_other_prompts_say_what_they_need(clip):
    coop = learner(clip, CoOp(SHORT)).reference()
    with pytest.raises(MmoodError, match="IDLikeScore needs negative prompts, but CoOp has learned none"):
        IDLikeScore().fit(coop)
    with pytest.raises(
        MmoodError, match=r"GMP needs image prototypes of shape \(5, 24\), but these prompts of CoOp have"
    ):
        GMP().fit(coop)
    supreme = learner(clip, METHODS["supreme"]())
    with pytest.raises(MmoodError, match="5 of 5 classes have none: SUPREME learns them when training begins"):
        GMP().fit(supreme.reference())
    supreme.method.learn_support(torch.eye(24)[:5], torch.arange(5))
    GMP().fit(supreme.reference())
    plain = ZeroShot(clip, list(CLASSES), {"mcm": MCM()}).reference()
    with pytest.raises(MmoodError, match="NegPromptScore needs learned prompts; train them with PromptLearning"):
        NegPromptScore().fit(plain)
