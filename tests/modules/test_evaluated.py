"""What a step returns: the scores of a batch and what they were computed from, no longer than the batch lasts."""

import gc
import weakref

import torch
from lightning.pytorch import Callback
from tiny import batches, evaluating, save_tiny, tune

from mmood.encoders import EncoderSettings
from mmood.modules import ZeroShot
from mmood.scores import KNN, MCM, base
from mmood.scores.base import Embedded


def test_a_step_returns_scores_and_what_they_were_computed_from(tmp_path):
    module = tune(save_tiny(tmp_path)).eval()
    module.fit_scores()
    (batch,) = batches(1, 6)
    with torch.no_grad():
        embedded = module.embed(batch)
        expected = module.scores["mcm"](embedded)
        for step in (module.validation_step, module.test_step, module.predict_step):
            found = step(batch, 0)
            assert torch.equal(found.embedded.embedding, embedded.embedding)
            assert torch.equal(found.embedded.logits, embedded.logits)
            assert torch.equal(found.scored.scores[:, 0], expected)
            assert torch.equal(found.scored.predicted, embedded.logits.argmax(dim=1))
            assert found.scored.key is batch["key"]


def test_without_scores_a_step_returns_what_other_scores_will_read(tmp_path):
    module = tune(save_tiny(tmp_path)).eval()
    (batch,) = batches(1, 6)
    with torch.no_grad():
        module.fit_scores()
        assert module.test_step(batch, 0).embedded.patches is None
        module.without_scores({"logits", "patches"}).fit_scores()
        found = module.test_step(batch, 0)
    assert found.scored.scores.shape == (6, 0)
    assert found.embedded.patches.shape[::2] == (6, 24)
    assert torch.equal(module.reference_.prototypes, module.prototypes)


def test_a_batch_with_many_classes_is_scored_in_parts(tmp_path, monkeypatch):
    module = tune(save_tiny(tmp_path)).eval()
    module.fit_scores()
    (batch,) = batches(1, 6)
    with torch.no_grad():
        whole = module.test_step(batch, 0).scored.scores
        sizes = []
        score = module.scores["mcm"].forward
        monkeypatch.setattr(module.scores["mcm"], "forward", lambda part: sizes.append(len(part.logits)) or score(part))
        monkeypatch.setattr(base, "MOST_LOGITS", 4 * len(module.class_names))
        torch.testing.assert_close(module.test_step(batch, 0).scored.scores, whole, rtol=1e-6, atol=0)
    assert sizes == [4, 2]


def test_parts_are_rows_of_the_batch_and_know_their_images(monkeypatch):
    monkeypatch.setattr(base, "MOST_LOGITS", 7)
    images = torch.randn(5, 3, 2, 2)
    batch = Embedded(torch.randn(5, 2), torch.randn(5, 3), torch.randn(5, 4), pixels=lambda rows: images[rows])
    parts = list(batch.parts())
    assert [len(part.logits) for part in parts] == [2, 2, 1]
    for name in ("features", "logits", "embedding"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(batch, name))
    assert torch.equal(parts[1].images(torch.tensor([1])), images[3:4])
    assert parts[0].patches is None


def test_no_part_outlives_the_next(tmp_path, monkeypatch):
    module = tune(save_tiny(tmp_path)).eval()
    module.fit_scores()
    (batch,) = batches(1, 6)
    parts, alive = [], []

    def forward(part):
        gc.collect()
        alive.append(sum(one() is not None for one in parts))
        parts.append(weakref.ref(part))
        return part.softmax(1.0).log_odds

    monkeypatch.setattr(module.scores["mcm"], "forward", forward)
    monkeypatch.setattr(base, "MOST_LOGITS", len(module.class_names))
    with torch.no_grad():
        module.test_step(batch, 0)
    assert len(parts) == 6
    assert max(alive) <= 1  # the one before, until the next has its name


class Watch(Callback):
    """Counts what steps have returned and is still alive two batches later."""

    def __init__(self) -> None:
        self.returned: list[weakref.ref] = []
        self.alive = 0

    def on_test_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0) -> None:
        gc.collect()
        self.alive = max(self.alive, sum(one() is not None for one in self.returned[:-1]))
        self.returned += [weakref.ref(outputs.embedded)]

    on_predict_batch_end = on_test_batch_end


def test_nothing_keeps_the_embeddings_of_a_batch(data, toy_root, toy_model, tmp_path):
    module = ZeroShot(EncoderSettings(toy_model), str(toy_root / "classes.txt"), {"mcm": MCM(), "knn": KNN()})
    for stage in ("test", "predict"):
        watch, own = Watch(), data(predict="toy-test")
        # A bank in the cache puts no store of the test sets there: they are read as images, in batches of 16.
        trainer = evaluating(tmp_path)
        trainer.callbacks.append(watch)
        if stage == "test":
            trainer.test(module, own, verbose=False)
        else:
            trainer.predict(module, own, return_predictions=False)
        assert len(watch.returned) >= 3
        assert watch.alive == 0
