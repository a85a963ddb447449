"""`mmood attack` from outside: what it writes, that other commands can read it, that kills and ranks change nothing."""

import io
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms.functional import center_crop, resize
from torchvision.transforms.v2 import InterpolationMode

from mmood.attacks.crafting import Crafting
from mmood.cli.main import main
from mmood.errors import MmoodError
from mmood.results.attack import read_attack
from mmood.results.serialisation import read_results

SCORES = "{mcm: {class_path: MCM}, knn: {class_path: KNN}}"
EPS = ("2/255", "8/255")
ATTACK = ["--attack", "apgd", "--steps", "3", "--eps", *EPS, "--direction", "both", "--quiet"]


@pytest.fixture(scope="module")
def flags(toy_flags) -> list[str]:
    """A zero-shot detector with two scores over the toy sets, attacked in several blocks."""
    own = ["--model.scores", SCORES, "--data.train", "toy-train", "--data.batch_size", "8"]
    return ["--config", "vitb16_zeroshot.yaml", *toy_flags, *own]


@pytest.fixture(scope="module")
def run(flags, tmp_path_factory) -> Path:
    """The folder of a whole run in both directions."""
    folder = tmp_path_factory.mktemp("attack") / "run"
    assert main(["attack", *flags, *ATTACK, "--run_dir", str(folder)]) == 0
    return folder


def stored(folder: Path) -> dict[str, bytes]:
    """The attacked shards of a run, by their places."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted((folder / "attacked").rglob("*.tar"))}


def pictures(shard: Path) -> list[np.ndarray]:
    """The images of a shard."""
    with tarfile.open(shard) as tar:
        found = [tar.extractfile(member).read() for member in tar if member.name.endswith((".png", ".jpg"))]
    return [np.array(Image.open(io.BytesIO(content)).convert("RGB")).astype(int) for content in found]


def scores(folder: Path, name: str) -> dict[str, np.ndarray]:
    return dict(np.load(folder / "scores" / f"{name}.npz"))


def test_the_rows_are_what_the_stored_scores_say(run):
    found = read_attack(run)
    assert found.settings["eps"] == list(EPS)
    arrays = {name: scores(run, name) for name in ("toy-test", "toy-near", "toy-far")}
    sides = ["ood-as-id", "id-as-ood", "both"]
    assert [(row.score, row.side, row.eps, row.set) for row in found.rows] == [
        *(("mcm", "clean", None, name) for name in ("toy-near", "toy-far")),
        *(("knn", "clean", None, name) for name in ("toy-near", "toy-far")),
        *(
            (score, side, eps, name)
            for score in ("mcm", "knn")
            for eps in EPS
            for side in sides
            for name in ("toy-near", "toy-far")
        ),
    ]
    for row in found.rows:
        label = f"{row.score} [clean]" if row.side == "clean" else f"{row.score} [apgd linf {row.eps} {row.side}]"
        before, after = ((arrays["toy-test"][name], arrays[row.set][name]) for name in (f"{row.score} [clean]", label))
        threshold = np.sort(before[0])[::-1][int(np.ceil(0.95 * len(before[0]))) - 1]
        assert row.auroc == pytest.approx(np.mean([[(i > o) + 0.5 * (i == o) for o in after[1]] for i in after[0]]))
        assert row.ood_accepted == pytest.approx((after[1] >= threshold).mean())
        assert row.id_accepted == pytest.approx((after[0] >= threshold).mean())
        if row.side in ("ood-as-id", "both"):
            rejected = before[1] < threshold
            expected = (after[1][rejected] >= threshold).mean() if rejected.any() else None
            assert row.hidden == (None if expected is None else pytest.approx(expected))
        if row.side in ("id-as-ood", "both"):
            assert row.broken == pytest.approx((after[0][before[0] >= threshold] < threshold).mean())


def test_every_attacked_score_has_moved_the_right_way(run):
    for name, sign, side in (("toy-near", 1, "ood-as-id"), ("toy-test", -1, "id-as-ood")):
        found = scores(run, name)
        for score in ("mcm", "knn"):
            clean, *moved = (found[f"{score} [{of}]"] for of in ("clean", *(f"apgd linf {eps} {side}" for eps in EPS)))
            for attacked in moved:
                assert (sign * (attacked - clean) >= -1e-6).all()
                assert (attacked != clean).mean() > 0.8


def test_results_are_those_of_a_test_on_clean_and_on_attacked_sets(run, flags, tmp_path):
    """The attacked sets are sets as any other: `mmood test` finds in them the numbers of the attack."""
    rows = read_results(run).rows
    root = run / "attacked" / "knn" / "linf-8of255"
    places = {name: f"{root}/{name}" for name in ("toy-test", "toy-near", "toy-far")}
    attacked = ["--data.id", places["toy-test"]]
    attacked += ["--data.ood", f"{{near: ['{places['toy-near']}'], far: ['{places['toy-far']}']}}"]
    for variant, changed in (("clean", []), ("apgd linf 8/255 both", attacked)):
        folder = tmp_path / variant.replace("/", "of")
        assert main(["test", *flags, *changed, "--run_dir", str(folder)]) == 0
        expected = {row.set: row.metrics for row in read_results(folder).rows if row.score == "knn"}
        found = {row.set: row.metrics for row in rows if (row.score, row.variant) == ("knn", variant)}
        assert found.keys() == expected.keys()
        for name, metrics in expected.items():
            assert vars(found[name]) == pytest.approx(vars(metrics), abs=0.02)
            assert found[name].auroc == pytest.approx(metrics.auroc, abs=2e-3)


def test_stored_images_lie_in_the_budget(run, toy_root):
    """Against torchvision's resize and crop of the clean images."""
    clean = [image for shard in sorted((toy_root / "toy-near").glob("*.tar")) for image in pictures(shard)]
    fitted = []
    for image in clean:
        resized = resize(Image.fromarray(image.astype(np.uint8)), 32, InterpolationMode.BICUBIC)
        fitted.append(np.array(center_crop(resized, [32, 32])).astype(int))
    for eps, most in zip(EPS, (2, 8), strict=True):
        folder = run / "attacked" / "mcm" / f"linf-{eps.replace('/', 'of')}" / "toy-near"
        moved = pictures(next(folder.glob("*.tar")))
        changes = [np.abs(one - other).max() for one, other in zip(moved, fitted, strict=True)]
        assert max(changes) == most


def test_what_a_run_leaves(run, capsys):
    for name in ("attack.csv", "attack.md", "attack.svg", "config.attack.yaml", "results.md", "results.csv"):
        assert (run / name).stat().st_size > 0
    assert not (run / "attacked" / ".blocks").exists()
    assert "OoD images attacked" in (run / "attack.svg").read_text()
    assert "| 8/255 | toy-near |" in (run / "attack.md").read_text()
    assert main(["report", str(run), "--out", str(run / "page.html")]) == 0
    assert "apgd linf 8/255 both" in (run / "page.html").read_text()


def test_a_killed_run_goes_on_and_leaves_the_same_bytes(run, flags, tmp_path, monkeypatch, capsys):
    craft, made = Crafting.craft, []

    def dying(self, task, number, block):
        if len(made) == 7:
            raise MmoodError("The power is gone.")
        made.append((task.folder, number))
        craft(self, task, number, block)

    arguments = ["attack", *flags, *ATTACK, "--run_dir", str(tmp_path / "run")]
    with monkeypatch.context() as patched:
        patched.setattr(Crafting, "craft", dying)
        assert main(arguments) == 2
    left = list((tmp_path / "run").rglob(".blocks/**/*.npy"))
    assert len(left) == 7
    times = {path.name: path.stat().st_mtime_ns for path in left}
    assert main([*arguments, "--seed", "1"]) == 2
    assert "attacked with other settings" in capsys.readouterr().err
    assert {path.name: path.stat().st_mtime_ns for path in left} == times
    assert main(arguments) == 0
    assert stored(tmp_path / "run") == stored(run)
    assert read_attack(tmp_path / "run").rows == read_attack(run).rows
    assert main(arguments) == 2
    assert "of an earlier run" in capsys.readouterr().err


@pytest.mark.ddp
def test_two_ranks_leave_the_same_bytes(run, flags, forked, tmp_path):
    finished = forked.ranks(["attack", *flags, *ATTACK, "--run_dir", str(tmp_path / "run")])
    assert finished.code == 0, finished.err
    assert stored(tmp_path / "run") == stored(run)
    assert read_attack(tmp_path / "run").rows == read_attack(run).rows


def test_a_radius_of_0_changes_nothing(flags, tmp_path):
    arguments = ["--attack", "pgd", "--steps", "2", "--eps", "0", "--score", "knn", "--limit", "5", "--quiet"]
    assert main(["attack", *flags, *arguments, "--run_dir", str(tmp_path)]) == 0
    rows = {(row.side, row.set): row for row in read_attack(tmp_path).rows if row.score == "knn"}
    assert rows["ood-as-id", "toy-near"].n_ood == 5
    assert rows["ood-as-id", "toy-near"].n_id == 37, "what is not attacked is used whole"
    for name in ("toy-near", "toy-far"):
        clean, attacked = rows["clean", name], rows["ood-as-id", name]
        assert (clean.auroc, clean.ood_accepted) == (attacked.auroc, attacked.ood_accepted)
        assert attacked.hidden in (0, None)


def test_the_baselines_and_l2(flags, tmp_path):
    for method in ("noise", "fgsm"):
        folder = tmp_path / method
        arguments = ["--attack", method, "--norm", "l2", "--eps", "0.5", "--score", "mcm", "--limit", "5", "--quiet"]
        assert main(["attack", *flags, *arguments, "--run_dir", str(folder)]) == 0
    noise, step = (scores(tmp_path / method, "toy-near") for method in ("noise", "fgsm"))
    gains = [
        found[f"mcm [{name} l2 0.5 ood-as-id]"] - found["mcm [clean]"]
        for name, found in (("noise", noise), ("fgsm", step))
    ]
    assert gains[1].min() >= -1e-6
    assert gains[1].mean() > np.abs(gains[0]).mean()


def test_a_manipulation_leads_1_nn_astray(flags, tmp_path):
    arguments = ["--attack", "manipulation", "--steps", "60", "--smoothness", "0", "--limit", "6", "--quiet"]
    assert main(["attack", *flags, *arguments, "--run_dir", str(tmp_path)]) == 0
    found = read_attack(tmp_path)
    assert {row.score for row in found.rows} == {"mcm", "knn", "knn (targets removed)"}
    assert {row.eps for row in found.rows} == {None}
    near = scores(tmp_path, "toy-near")
    assert (near["knn [manipulation]"] > near["knn [clean]"]).all()
    assert (near["knn (targets removed) [manipulation]"] <= near["knn [manipulation]"] + 1e-6).all()
    page = (tmp_path / "attack.md").read_text()
    assert "no robust accuracy" in page
    assert not (tmp_path / "attack.svg").exists()


def test_transfer_to_the_same_detector_gives_the_same_scores(flags, toy_model, tmp_path):
    settings = {"encoder": {"name": toy_model}, "scores": {"knn": {"class_path": "KNN"}}}
    (tmp_path / "twin.yaml").write_text(json.dumps({"model": {"class_path": "ZeroShot", "init_args": settings}}))
    attack = ["--attack", "fgsm", "--eps", "8/255", "--score", "knn", "--limit", "4", "--quiet"]
    places = ["--transfer_to", str(tmp_path / "twin.yaml"), "--run_dir", str(tmp_path / "run")]
    assert main(["attack", *flags, *attack, *places]) == 0
    rows = [row for row in read_attack(tmp_path / "run").rows if row.score == "knn"]
    own, twin = ({(row.side, row.set): row for row in rows if row.detector == of} for of in (None, "twin"))
    assert own.keys() == twin.keys()
    for place, row in own.items():
        assert twin[place].auroc == pytest.approx(row.auroc)
        assert twin[place].ood_accepted == row.ood_accepted


def test_an_image_beyond_its_budget_is_refused(run, flags, tmp_path, capsys):
    """The budget is checked on the shards themselves."""
    shutil.copytree(run, tmp_path / "run")
    for name in ("attack.json", "results.json"):
        (tmp_path / "run" / name).unlink()
    attacked = tmp_path / "run" / "attacked" / "mcm"
    shutil.rmtree(attacked / "linf-2of255" / "toy-near")
    shutil.copytree(attacked / "linf-8of255" / "toy-near", attacked / "linf-2of255" / "toy-near")
    assert main(["attack", *flags, *ATTACK, "--run_dir", str(tmp_path / "run")]) == 2
    assert "further than 2/255 (linf)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--attack", "square"], "--attack is 'square'; it must be one of noise, fgsm, pgd, apgd, manipulation."),
        (["--norm", "l1"], "--norm is 'l1'; it must be one of linf, l2."),
        (["--direction", "up"], "--direction is 'up'; it must be one of ood-as-id, id-as-ood, both."),
        (["--eps", "big"], "--eps is 'big'; write a number such as 4/255 or 0.5"),
        (["--eps", "1/0"], "--eps is '1/0'; write a number"),
        (["--eps", "4"], "--eps is 4, but pixel values lie in [0, 1]; write 4/255 for 4 levels."),
        (["--eps", "1/510"], "--eps is 1/510, less than one level of an 8-bit image"),
        (["--eps", "1/255", "2/510"], "--eps names a radius twice"),
        (["--steps", "0"], "--steps is 0; it must be a whole number"),
        (["--limit", "0"], "--limit is 0; it must be a whole number of at least 1"),
        (["--attack", "fgsm", "--steps", "5"], "--attack fgsm takes one step"),
        (["--attack", "manipulation", "--eps", "1/255"], "--attack manipulation has no budget"),
        (["--attack", "manipulation", "--direction", "both"], "--direction must be ood-as-id"),
        (["--attack", "manipulation", "--score", "knn"], "leave out --score"),
        (
            ["--score", "energy"],
            "--score is 'energy', which is no score of the config; these can be attacked: mcm, knn.",
        ),
        (["--data.csid", "[toy-train]"], "only ID and OoD sets are attacked"),
        (["--data.corruption", "{name: fog, severity: 2}"], "images are attacked as they are"),
        (["--evaluation.smoothing.copies", "50"], "scores are attacked without it"),
        (["--transfer_to", "no.yaml"], "no.yaml"),
        (["--ckpt_path", "no.ckpt"], "--ckpt_path no.ckpt does not exist"),
    ],
)
def test_bad_flags_are_refused_in_a_sentence(arguments, said, flags, tmp_path, capsys):
    assert main(["attack", *flags, "--quiet", *arguments, "--run_dir", str(tmp_path / "run")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run" / "attacked").exists()


def test_scores_without_a_gradient_are_refused(flags, tmp_path, capsys):
    streams = "{mcm: {class_path: MCM}, coevo: {class_path: CoEvo}}"
    changed = [streams if flag == SCORES else flag for flag in flags]
    assert main(["attack", *changed, "--quiet", "--run_dir", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "No gradient leads through the score 'coevo' (CoEvo)" in said
    assert "these can be attacked: mcm (--score NAME ...)" in said
