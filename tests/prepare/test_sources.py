"""Where files come from: what users fetched themselves, other processes, the hub; and what the plan says of it."""

import gzip
import shutil
import time

import pytest
from archive_world import CLASSES, COUNT, IMAGES, ZIP, in_class_folders, listed, pinned, tarred, zipped

from mmood.cli.main import main
from mmood.prepare import downloads
from mmood.prepare.transfer import in_words
from mmood.recipes.recipe import parse_recipe
from mmood.shards.locations import web_address


@pytest.fixture
def given(world):
    """A folder of the user, and a recipe of an archive that must be fetched by hand."""
    folder = world.folder / "given"
    folder.mkdir()
    return folder


def by_hand(world, **keys):
    need = {"file": "own_val.tar", "obtain": "Register at example.org.", "md5": "0" * 32} | keys
    lists = [{"url": world.serve("test_own.txt", listed("own/")), "member": "lists/test_own.txt"}]
    return world.recipe(count=COUNT, images=[need], lists=lists, known_as=["own_val", "val"], avoid=["other"])


PLACES = {
    "sorted into class folders": in_class_folders("sets/own_val/"),
    "flat, under another top folder": {f"deep/er/VAL/{n:04d}.png": IMAGES[n] for n in range(COUNT)},
    "beside the same names of other sets": {
        **in_class_folders("images_largescale/own/"),
        **{f"images_largescale/own/other/{n:04d}.png": IMAGES[-1] for n in range(COUNT)},
    },
}


@pytest.mark.parametrize("place", PLACES)
def test_folders_of_the_user_are_found_in_any_layout(world, given, place):
    for name, content in PLACES[place].items():
        (given / name).parent.mkdir(parents=True, exist_ok=True)
        (given / name).write_bytes(content)
    assert world.prepare("--recipe", by_hand(world), "--from", str(given)) == 0
    assert [sample.image for sample in world.samples()[1]] == IMAGES[:COUNT]


def test_archives_of_the_user_are_used_and_stay(world, given):
    content = gzip.compress(tarred(in_class_folders("x/")), mtime=0)
    (given / "own_val.tar.gz").write_bytes(content)
    assert world.prepare("--recipe", by_hand(world), "--from", str(given)) == 0
    assert (given / "own_val.tar.gz").read_bytes() == content
    assert world.samples()[0].count == COUNT
    assert world.left() == ["hashes.json"]


def test_an_archive_of_the_user_with_another_hash_is_refused(world, given, capsys):
    (given / "own_val.tar").write_bytes(tarred(in_class_folders("x/")))
    recipe = world.recipe(images=[{"file": "own_val.tar", "obtain": "Ask.", "md5": "0" * 32}])
    assert world.prepare("--recipe", recipe, "--from", str(given)) == 2
    assert "has the md5" in capsys.readouterr().err


def test_a_list_of_the_user_is_found_by_the_end_of_its_path(world, given):
    (given / "benchmark/lists").mkdir(parents=True)
    (given / "benchmark/lists/test_own.txt").write_bytes(listed("own/"))
    (given / "own.zip").write_bytes(ZIP)
    assert world.prepare("--recipe", by_hand(world), "--from", str(given), "--offline") == 0
    assert world.server.paths == []


def test_a_list_in_an_archive_is_read_there(world):
    lists = {"splits/near/test_own.txt": listed("own/"), "splits/far/test_own.txt": listed("own/")[:0]}
    archive = {"url": world.serve("splits.zip", zipped(lists)), "member": "near/test_own.txt"}
    recipe = world.recipe(count=COUNT, images=[{"url": world.serve("own.zip", ZIP)}], lists=[archive])
    assert world.prepare("--recipe", recipe) == 0
    assert world.samples()[0].count == COUNT


def test_what_must_be_fetched_by_hand_is_said_and_the_rest_is_done(world, capsys):
    other = world.recipe("other", images=[{"url": world.serve("own.zip", ZIP)}])
    assert world.prepare("--recipe", by_hand(world), other) == 2
    shown = capsys.readouterr()
    assert "own_val.tar must be fetched by hand. Register at example.org. Then add --from" in shown.err
    assert "1 of 2 sets were not prepared (own)" in shown.err
    assert "What you must fetch yourself" in shown.out
    assert world.samples("other")[0].count == COUNT


def test_offline_without_the_files_says_where_they_are(world, capsys):
    url = world.serve("own.zip", ZIP)
    assert world.prepare("--recipe", world.recipe(images=[{"url": url}]), "--offline") == 2
    shown = capsys.readouterr()
    assert f"It is at {url}" in " ".join(shown.out.split())
    assert "--offline forbids" in shown.err
    assert world.server.paths == []


def test_a_dry_run_touches_nothing(world, capsys):
    recipe = world.recipe(
        count=COUNT, licence="CC BY 4.0", images=[{"url": world.serve("own.zip", ZIP), **pinned(ZIP)}]
    )
    assert world.prepare("--recipe", recipe, "--dry_run") == 0
    shown = capsys.readouterr().out
    for told in ("12 images", in_words(len(ZIP)), "sha256", "own.zip", "CC BY 4.0", "Disk:"):
        assert told in shown
    assert not world.root.exists()
    assert world.server.paths == []


def test_the_plan_of_imagenet_names_all_that_a_stranger_needs(tmp_path, capsys):
    assert main(["prepare", "imagenet-mos", "imagenet-openood", "--root", str(tmp_path / "data"), "--dry_run"]) == 0
    shown = capsys.readouterr().out
    for told in (
        "50,000 images", "45,000 images", "What you must fetch yourself", "ILSVRC2012_img_val.tar (about 6.3 GB)",
        "https://image-net.org", "--from FOLDER", "sha256 801fd2026c281090", "hash unknown: recorded at first use",
        "Licences", "CC BY 4.0", "free",
    ):  # fmt: skip
        assert told in shown, told
    assert shown.count("  texture.zip:") == 1  # two sets need it
    assert not (tmp_path / "data").exists()


def test_two_at_once_do_not_fetch_or_pack_twice(world, forked):
    recipe = world.recipe(count=COUNT, images=[{"url": world.serve("own.zip", ZIP), **pinned(ZIP)}])
    arguments = ["prepare", "--root", str(world.root), "--recipe", recipe, "--quiet"]
    first = forked.paused("mmood.prepare.preparation:pack", world.folder, arguments)
    second = forked.start(main, arguments)
    while "Waiting for process" not in second.err:
        assert second.poll() is None, second.err
        time.sleep(0.01)
    first.kill()
    assert second.wait() == 0, second.err
    assert world.samples()[0].count == COUNT
    assert world.server.paths.count("/own.zip") == 1


def test_hub_addresses_are_those_of_the_hub_or_of_its_mirror(world, monkeypatch):
    assert web_address("hf://datasets/a/b/c/d.zip") == "https://huggingface.co/datasets/a/b/resolve/main/c/d.zip"
    path = world.folder / "www" / "datasets/a/b/resolve/main/own.zip"
    path.parent.mkdir(parents=True)
    path.write_bytes(ZIP)
    monkeypatch.setenv("HF_ENDPOINT", world.server.url)
    assert world.prepare("--recipe", world.recipe(images=[{"url": "hf://datasets/a/b/own.zip", **pinned(ZIP)}])) == 0
    assert world.samples()[0].count == COUNT


def test_the_client_of_the_hub_is_used_where_it_is_asked_for(world, monkeypatch):
    asked = []

    def hf_hub_download(repo, filename, repo_type, local_dir):
        asked.append((repo, filename, repo_type))
        local_dir.mkdir(parents=True)
        (local_dir / filename).write_bytes(ZIP)
        return str(local_dir / filename)

    monkeypatch.setattr(downloads, "_hub_download", lambda: hf_hub_download)
    recipe = world.recipe(images=[{"url": "hf://datasets/a/b/own.zip", **pinned(ZIP)}])
    assert world.prepare("--recipe", recipe, "--hub_client") == 0
    assert asked == [("a/b", "own.zip", "dataset")]
    assert world.samples()[0].count == COUNT
    assert world.left() == []


def test_a_recipe_of_ten_lines_is_a_set(world, capsys):
    """The recipe of docs/data.md, with an address and a hash that exist here."""
    (world.folder / "pets.txt").write_text("\n".join(CLASSES))
    text = f"""\
name: pets
title: Pets of three colours
count: {COUNT}
licence: CC BY-SA 4.0
images:
  - url: {world.serve("pets.zip", ZIP)}
    sha256: {pinned(ZIP)["sha256"]}
labels: folders
class_names: pets.txt
"""
    assert len(text.splitlines()) < 10
    (world.folder / "pets.yaml").write_text(text)
    assert world.prepare("--recipe", str(world.folder / "pets.yaml")) == 0
    assert world.samples("pets")[0].class_names == CLASSES
    recipe = str(world.folder / "pets.yaml")
    assert main(["sets", "pets", "--root", str(world.root), "--recipe", recipe]) == 0
    card = capsys.readouterr().out
    for told in ("CC BY-SA 4.0", "3 classes", "median 24 x 24", "0 of its images are exact copies", "pets.zip (sha256"):
        assert told in card, told


def test_names_that_are_neither_set_nor_benchmark(world, capsys):
    assert world.prepare("imagnet-mos") == 2
    assert "did you mean 'imagenet-mos'?" in capsys.readouterr().err
    assert world.prepare() == 2
    assert "No benchmark or set was named" in capsys.readouterr().err


def test_recipes_that_are_made_of_one_another_are_refused(world, capsys):
    one, two = world.recipe("one", sets=["two"]), world.recipe("two", sets=["one"])
    assert world.prepare("--recipe", one, two) == 2
    assert "is made of itself (`sets`: one -> two -> one)" in capsys.readouterr().err


def test_a_root_elsewhere_is_refused(capsys):
    assert main(["prepare", "textures", "--root", "https://sets.invalid/data"]) == 2
    assert "a folder of this machine" in capsys.readouterr().err


def test_a_kept_file_that_was_damaged_is_fetched_anew_but_not_offline(world, capsys):
    recipe = world.recipe(count=COUNT, images=[{"url": world.serve("own.zip", ZIP), **pinned(ZIP)}])
    assert world.prepare("--recipe", recipe, "--keep") == 0
    (kept,) = (world.root / ".prepare").glob("*/own.zip")
    kept.write_bytes(ZIP[:-1] + b"x")
    shutil.rmtree(world.root / "own")
    assert world.prepare("--recipe", recipe, "--offline") == 2
    assert "has the sha256" in capsys.readouterr().err
    assert world.server.paths == ["/own.zip"]
    assert world.prepare("--recipe", recipe) == 0
    assert "it is fetched anew" in capsys.readouterr().err
    assert world.samples()[0].count == COUNT


def test_another_set_in_the_place_is_refused(world, capsys):
    recipe = world.recipe(count=COUNT, images=[{"url": world.serve("own.zip", ZIP)}])
    assert world.prepare("--recipe", recipe) == 0
    assert world.prepare("--recipe", world.recipe(count=7, images=[{"url": world.serve("own.zip", ZIP)}])) == 2
    assert "is there with 12 images, but 'own' has 7" in capsys.readouterr().err
    shutil.rmtree(world.root / "own")
    assert parse_recipe("{name: own, sets: [other]}", "It").count is None
