"""`mmood reproduce` from outside: the plan where nothing is there, and the page where stand-ins or the real sets are."""

import json
import shlex

import pytest

from mmood.cli import reproduce
from mmood.cli.main import main
from mmood.configuration.lightning import parsed
from mmood.errors import MmoodError
from mmood.published.registry import registry
from mmood.reproduction.comparing import Compared, outcomes
from mmood.reproduction.plan import Plan, Wishes, make_plan


@pytest.fixture
def stand_ins(toy_root, toy_flags) -> list[str]:
    """The flags that put the toy world in the place of ImageNet."""
    flags = [
        flag
        for place in range(0, len(toy_flags), 2)
        for flag in toy_flags[place : place + 2]
        if toy_flags[place] not in ("--data.root", "--data.benchmark", "--data.id", "--data.ood")
    ]
    return ["--root", str(toy_root), "--stand_in", "imagenet=toy-test", "sun=toy-near", "textures=toy-far", *flags]


@pytest.fixture
def in_process(monkeypatch) -> list[list[str]]:
    """The commands that were run, in this process."""
    ran: list[list[str]] = []

    def run(arguments: list[str]) -> int:
        ran.append(arguments)
        return main(arguments)

    monkeypatch.setattr(reproduce, "run_command", run)
    return ran


def test_the_list_has_every_table(capsys):
    assert main(["reproduce"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in registry().tables)


def test_with_nothing_there_it_says_what_is_missing_and_how_to_get_it(tmp_path, in_process, capsys):
    assert main(["reproduce", "neglabel:main", "--root", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    printed = capsys.readouterr().out
    assert "neglabel:main: Benchmark imagenet-mos; ViT-B-16/openai (not run: see MISSING)" in printed
    for name in ("imagenet", "inaturalist", "sun", "places", "textures"):
        assert f"MISSING set {name}: " in printed
    assert "weights ViT-B-16/openai: 0.6 GB in float32" in printed
    assert f"get     mmood prepare imagenet-mos --root {tmp_path}" in printed
    assert "run     mmood test --config vitb16_neglabel_paper.yaml --data.root" in printed
    assert "then run the same command again" in printed
    assert in_process == []


def test_a_training_is_shared_by_the_benchmarks_and_says_its_memory(tmp_path, capsys):
    assert main(["reproduce", "cma", "--root", str(tmp_path), "--plan"]) == 1
    printed = capsys.readouterr().out
    lines = [line.strip() for line in printed.splitlines() if line.startswith("  run")]
    assert len([line for line in lines if "fit --config vitb16_align.yaml --data" in line]) == 1
    tests = [line for line in lines if "cma/checkpoints/last.ckpt" in line]
    assert [line.rpartition("/")[2] for line in tests] == ["imagenet-mos", "imagenet-openood"]
    assert "MISSING set imagenet_train" in printed
    assert "get     mmood prepare imagenet-openood" in printed
    assert "memory  cma: 35 GiB" in printed
    probe = next(place for place, line in enumerate(lines) if "--model.trained.towers none" in line)
    assert any("probe/checkpoints/last.ckpt" in line for line in lines[probe + 1 :]), "what is built upon comes first"


def test_stand_ins_run_once_and_give_no_verdict(stand_ins, tmp_path, in_process, capsys):
    arguments = ["reproduce", "mcm:main", "--out", str(tmp_path / "out"), *stand_ins]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "STAND-IN: toy-near, 21 images" in printed
    assert "set places: left out" in printed
    content = json.loads((tmp_path / "out" / "mcm-main.json").read_text())
    (row,) = content["rows"]
    assert row["verdict"] == "no verdict"
    assert {number["place"] for number in row["numbers"]} == {"sun", "textures"}
    results = json.loads((tmp_path / "out" / "zeroshot" / "imagenet-mos" / "results.json").read_text())
    (ours,) = [r["auroc"] for r in results["rows"] if (r["score"], r["set"]) == ("mcm", "toy-near")]
    (number,) = [n for n in row["numbers"] if (n["place"], n["metric"]) == ("sun", "auroc")]
    assert number["ours"] == ours
    assert number["published"] == 0.9257
    for kind in ("md", "html"):
        text = (tmp_path / "out" / f"mcm-main.{kind}").read_text()
        assert "STAND-IN data or model: the numbers show that the commands work, and nothing about the paper" in text
        assert "reproduced" not in text
        assert "sun (here toy-near)" in text
        assert "places was left out" in text

    in_process.clear()
    assert main(arguments) == 0
    assert in_process == []
    assert "done before" in capsys.readouterr().out
    (tmp_path / "out" / "reproduce.json").unlink()  # as if killed between the results and the record
    assert main(arguments) == 0
    assert [arguments[-2:] for arguments in in_process] == [["--overwrite", "true"]]
    assert main([*arguments, "--data.batch_size", "3"]) == 2
    assert "was begun with other flags" in capsys.readouterr().err


def test_a_command_that_fails_is_named_and_run_again_the_next_time(stand_ins, tmp_path, monkeypatch, capsys):
    arguments = ["reproduce", "mcm:main", "--out", str(tmp_path / "out"), *stand_ins]
    monkeypatch.setattr(reproduce, "run_command", lambda arguments: 143)
    assert main(arguments) == 1
    assert "The command ended with code 143: mmood test --config vitb16_zeroshot.yaml" in capsys.readouterr().err
    content = json.loads((tmp_path / "out" / "mcm-main.json").read_text())
    assert [row["verdict"] for row in content["rows"]] == ["not run"]
    monkeypatch.setattr(reproduce, "run_command", main)
    assert main(arguments) == 0


def real_run(folder, off: float = 0.0, temperature: float = 1.0) -> None:
    """Write results as a run on the published sets would."""
    sizes = {"inaturalist": 10_000, "sun": 10_000, "places": 10_000, "textures": 5_640}
    row = registry().tables["mcm:main"].rows[0]
    provenance = {
        "module": "ZeroShot",
        "encoder": {"name": "ViT-B-16/openai", "pretrained": None},
        "settings": {"prompts": ["a photo of a {}"]},
        "scores": {"mcm": {"temperature": temperature}},
    }
    rows = [
        {"score": "mcm", "variant": None, "seed": None, "protocol": "static", "set": name, "group": "far"}
        | {"n_id": 50_000, "n_ood": n, "aupr_id": 0.5, "aupr_ood": 0.5, "fpr95_ood_pos": 0.5, **row.sets[name]}
        for name, n in sizes.items()
    ]
    rows[1]["auroc"] += off
    results = {"schema": 1, "stage": "test", "provenance": provenance, "rows": rows, "means": []}
    folder.mkdir(parents=True)
    ids = [{"set": "imagenet", "n": 50_000, "accuracy": 0.66}]
    (folder / "results.json").write_text(json.dumps({**results, "id": ids}))


@pytest.mark.parametrize(
    ("changed", "verdict", "reason"),
    [
        ({}, "reproduced", ""),
        ({"off": 0.005}, "reproduced", ""),
        ({"off": 0.0052}, "not reproduced", ""),
        ({"off": -0.02}, "not reproduced", ""),
        ({"temperature": 0.01}, "no verdict", "the score 'mcm' has temperature = 0.01, not 1.0"),
    ],
)
def test_the_verdict_follows_from_tolerance_and_protocol(changed, verdict, reason, tmp_path):
    folder = tmp_path / "zeroshot" / "imagenet-mos"
    real_run(folder, **changed)
    table = registry().tables["mcm:main"]
    plan = Plan(table, (), (), (), {"zeroshot": (folder,)}, {})
    (found,) = outcomes(plan, Wishes("data", tmp_path))
    assert found.verdict == verdict
    assert ", ".join(found.reasons) == reason
    assert {one.place for one in found.numbers} == {"inaturalist", "sun", "places", "textures", "mean of far"}


def test_a_difference_is_judged_as_it_is_printed():
    assert Compared("sun", "auroc", 0.9257, 0.93074, 0.005).fits
    assert not Compared("sun", "auroc", 0.9257, 0.93086, 0.005).fits


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["neglable"], "There is no paper 'neglable'; did you mean 'neglabel'"),
        (["cma:7"], "There is no table 'cma:7'"),
        (["openood"], "mmood has no run for a row of openood"),
        (["mcm:main", "--stand_in", "sun"], "--stand_in has 'sun'; it must be PUBLISHED=OWN"),
        (["mcm:main", "--stand_in", "moon=toy-far"], "--stand_in names 'moon', but mcm:main needs imagenet, inat"),
        (["mcm:main", "--stand_in", "sun=toy-moon"], "--stand_in sun=toy-moon: "),
    ],
)
def test_bad_input_ends_in_a_sentence(arguments, message, toy_root, capsys):
    assert main(["reproduce", *arguments, "--root", str(toy_root)]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("name", sorted(registry().runs))
def test_the_commands_of_every_run_are_valid(name, toy_root, tmp_path):
    """Their configs and flags are read as the commands read them; `propose` and checkpoints come from runs."""
    table = next(
        table
        for table in registry().tables.values()
        if any(name in {protocol.run} for protocol in table.protocols().values())
        or (name == "probe" and table.id == "cma:1")
    )
    wishes = Wishes(str(tmp_path), tmp_path, {}, ("--data.train", "some-train"))
    steps = [step for step in make_plan(table, registry(), wishes).steps if step.run.startswith(name)]
    for step in steps:
        if step.stage in ("fit", "test") and "--ckpt_path" not in step.arguments:
            assert parsed(list(step.arguments[1:])).config.model.class_path, step.line()
    assert steps


def test_flags_go_to_the_commands_that_know_them(tmp_path):
    flags = (
        "--endpoint",
        "http://localhost:1",
        "--llm",
        "x",
        "--trainer.devices",
        "1",
        "--model.encoder.name=local-dir:x",
    )
    plan = make_plan(registry().tables["eoe:main"], registry(), Wishes(str(tmp_path), tmp_path, {}, flags))
    propose, test = (shlex.join(step.arguments) for step in plan.steps)
    assert propose.endswith("--endpoint http://localhost:1 --llm x")
    assert "--trainer.devices 1 --model.encoder.name=local-dir:x" in test
    assert "endpoint" not in test
    assert [need.here for need in plan.needs if need.what.startswith("flag")] == [True, True]


def test_an_unknown_run_is_a_mistake_of_the_registry():
    with pytest.raises(MmoodError, match="mmood has no run"):
        make_plan(registry().tables["neglabel:prompts"], registry(), Wishes("data", None))
