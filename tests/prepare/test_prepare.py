"""`mmood prepare` against a server with archives in the layouts in which sets are published, and with its faults."""

import gzip
import hashlib
import io
import json
import os
import random
import shutil
import signal
import time

import numpy as np
import pytest
from archive_world import CLASSES, COUNT, IMAGES, ZIP, in_class_folders, listed, pinned, tarred, zipped
from PIL import Image

from mmood.classes.imagenet import openai_names
from mmood.cli.main import main
from mmood.errors import MmoodError
from mmood.prepare import downloads, transfer
from mmood.shards.indexing import verify_folder
from mmood.words.wordnet import find_wordnet

LAYOUTS = {
    "zip with folders": ("own.zip", ZIP),
    "zip without a top folder": ("own.zip", zipped(in_class_folders(""))),
    "tar": ("own.tar", tarred(in_class_folders("./images_largescale/own/"))),
    "tar.gz": ("own.tar.gz", gzip.compress(tarred(in_class_folders("OWN/")), mtime=0)),
    "tar of tars": (
        "own.tar",
        tarred({f"{name}.tar": tarred({f"{n:04d}.png": IMAGES[n] for n in range(i, COUNT, 3)})
                for i, name in enumerate(CLASSES)}),
    ),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_set_in_any_layout_becomes_the_same_shards(world, layout):
    name, content = LAYOUTS[layout]
    images = [{"url": world.serve(name, content), **pinned(content)}]
    lists = [{"url": world.serve("test_own.txt", listed("own/"))}]
    assert world.prepare("--recipe", world.recipe(count=COUNT, images=images, lists=lists)) == 0
    index, samples = world.samples()
    assert [sample.image for sample in samples] == IMAGES[:COUNT]
    assert (index.count, index.classes) == (COUNT, None)
    assert [row.name for row in index.rows()] == [CLASSES[n % 3] for n in range(COUNT)]
    verify_folder(world.root / "own", lambda amount: None)
    assert world.left() == ["hashes.json"]  # of the list; the archive is gone


def test_labels_of_folders_and_of_a_list_follow_the_class_names(world):
    names = world.folder / "names.txt"
    names.write_text("green\nred\nblue\n")
    archive = world.serve("own.zip", ZIP)
    folders = world.recipe(
        "folders", images=[{"url": archive, **pinned(ZIP)}], labels="folders", class_names=str(names)
    )
    assert world.prepare("--recipe", folders) == 0
    index, _ = world.samples("folders")
    assert index.class_names == ("green", "red", "blue")
    of_class = {row.name: row.label for row in index.rows()}
    assert of_class == {"green": 0, "red": 1, "blue": 2}


def test_a_list_that_is_not_for_these_images_is_refused_by_their_folders(world, capsys):
    names = world.folder / "names.txt"
    names.write_text("green\nred\nblue\n")
    recipe = world.recipe(
        images=[{"url": world.serve("own.zip", ZIP)}], labels="list", class_names=str(names),
        lists=[{"url": world.serve("list.txt", listed("own/", labels=True))}],
    )  # fmt: skip
    assert world.prepare("--recipe", recipe) == 2
    assert "it lies in the folder red, which is label 1" in capsys.readouterr().err


@pytest.mark.parametrize("label", [0, 1])
def test_images_of_imagenet_lie_in_the_folder_of_their_synset(world, label, capsys):
    content = zipped({"val/n01440764/ILSVRC2012_val_00000293.png": IMAGES[0]})
    line = f"imagenet_1k/val/ILSVRC2012_val_00000293.png {label}\n".encode()
    recipe = world.recipe(
        images=[{"url": world.serve("val.zip", content)}], lists=[{"url": world.serve("list.txt", line)}],
        labels="list", class_names="imagenet-openai",
    )  # fmt: skip
    assert world.prepare("--recipe", recipe) == (0 if label == 0 else 2)
    if label == 0:
        assert (world.samples()[0].classes, world.samples()[0].class_names[0]) == (1000, "tench")
    else:
        assert "it lies in the folder n01440764, which is label 0" in capsys.readouterr().err


def test_training_images_are_packed_in_a_fixed_random_order(world):
    content = tarred({f"{name}.tar": tarred({f"{i}_{n}.png": IMAGES[3 * i + n] for n in range(3)})
                      for i, name in enumerate(CLASSES)})  # fmt: skip
    recipe = world.recipe(images=[{"url": world.serve("train.tar", content)}], labels="folders", shuffle=0)
    assert world.prepare("--recipe", recipe) == 0
    files = [row.file for row in world.samples()[0].rows()]
    assert files != sorted(files)
    assert len(set(files)) == 9
    assert all(row.file.startswith(f"{row.name}/") for row in world.samples()[0].rows())


def test_two_sets_of_one_archive_fetch_it_once_and_delete_it_at_the_end(world):
    archive = {"url": world.serve("own.zip", ZIP), **pinned(ZIP)}
    first = world.recipe("first", images=[archive])
    second = world.recipe(
        "second", images=[archive], lists=[{"url": world.serve("l.txt", listed("own/")[:110].rpartition(b"\n")[0])}]
    )
    assert world.prepare("--recipe", first, second) == 0
    assert world.server.paths.count("/own.zip") == 1
    assert world.samples("first")[0].count == COUNT
    assert world.samples("second")[0].count < COUNT
    assert world.left() == ["hashes.json"]


def test_what_is_there_is_not_fetched_again_and_what_is_kept_is_used(world):
    recipe = world.recipe(count=COUNT, images=[{"url": world.serve("own.zip", ZIP), **pinned(ZIP)}])
    assert world.prepare("--recipe", recipe, "--keep") == 0
    assert world.prepare("--recipe", recipe) == 0
    (world.root / "own" / "index.json").unlink()
    for path in (world.root / "own").iterdir():
        path.unlink()
    assert world.prepare("--recipe", recipe, "--offline") == 0
    assert world.server.paths == ["/own.zip"]


def test_a_set_of_sets_has_their_images_one_after_the_other(world):
    names = world.folder / "names.txt"
    names.write_text("red\ngreen\nblue\n")
    common = {"images": [{"url": world.serve("own.zip", ZIP)}], "labels": "folders", "class_names": str(names)}
    one, two = world.recipe("one", **common), world.recipe("two", **common)
    both = world.recipe("both", sets=["one", "two"], labels="list", count=2 * COUNT)
    assert world.prepare("both", "--recipe", one, two, both) == 0
    index, samples = world.samples("both")
    single = [sample.image for sample in world.samples("one")[1]]
    assert [sample.image for sample in samples] == single * 2
    assert index.class_names == ("red", "green", "blue")


def test_files_that_are_not_called_like_images_are_not_taken_without_a_list(world):
    members = {"README": b"hello", "list.txt": b"x", **in_class_folders("")}
    assert world.prepare("--recipe", world.recipe(images=[{"url": world.serve("own.zip", zipped(members))}])) == 0
    assert world.samples()[0].count == COUNT


def test_class_names_that_cannot_be_read_are_said_before_anything_is_fetched(world, capsys):
    recipe = world.recipe(images=[{"url": world.serve("own.zip", ZIP)}], labels="folders", class_names="none.txt")
    assert world.prepare("--recipe", recipe) == 2
    assert "no class-name file 'none.txt'" in capsys.readouterr().err
    assert world.server.paths == []
    (world.folder / "none.txt").write_text("blue\nred\ngreen\n")  # beside the recipe
    assert world.prepare("--recipe", recipe) == 0
    assert world.samples()[0].class_names == ("blue", "red", "green")


def test_the_halves_of_imagenet_x_are_made_of_a_set_with_all_classes(world):
    try:
        find_wordnet()
    except MmoodError:
        pytest.skip("there is no WordNet")
    names = openai_names()
    lines = "".join(f"val/{n}.png {n}\n" for n in range(6)).encode()
    common = {"labels": "list", "class_names": "imagenet-openai"}
    content = zipped({f"val/{n}.png": IMAGES[n] for n in range(6)})
    lists = [{"url": world.serve("list.txt", lines)}]
    whole = world.recipe("whole", images=[{"url": world.serve("val.zip", content)}], lists=lists, **common)
    first = world.recipe("first", sets=["whole"], keep="imagenet-x-first", count=4, **common)
    second = world.recipe("second", sets=["whole"], keep="imagenet-x-second", count=2)
    assert world.prepare("--recipe", whole, first, second) == 0
    index, samples = world.samples("first")  # of the labels 0 to 5, the authors' first half has 0, 2, 4, 5
    assert [sample.image for sample in samples] == [IMAGES[n] for n in (0, 2, 4, 5)]
    assert [row.label for row in index.rows()] == [0, 1, 2, 3]
    assert index.classes == 500
    assert index.class_names[:4] == (names[0], names[2], names[4], names[5])
    index, samples = world.samples("second")
    assert [sample.image for sample in samples] == [IMAGES[n] for n in (1, 3)]
    assert index.classes is None
    assert [row.name for row in index.rows()] == [names[1], names[3]]


# The faults of servers.


def test_connections_that_break_are_resumed_at_their_byte(world):
    world.server.faults = [None, 1000.0, 900.0, "break"]
    images = [{"url": world.serve("own.zip", ZIP), **pinned(ZIP)}]
    lists = [{"url": world.serve("l.txt", listed("own/"))}]
    assert world.prepare("--recipe", world.recipe(images=images, lists=lists)) == 0
    assert world.server.sent["/own.zip"] == len(ZIP)
    assert len([path for path in world.server.paths if path == "/own.zip"]) == 4
    assert [sample.image for sample in world.samples()[1]] == IMAGES[:COUNT]


def test_a_server_without_ranges_sends_again_and_the_set_is_right(world):
    world.server.ranges = False
    world.server.faults = [1000.0]
    recipe = world.recipe(images=[{"url": world.serve("own.zip", ZIP), **pinned(ZIP)}])
    assert world.prepare("--recipe", recipe) == 0
    assert world.samples()[0].count == COUNT


@pytest.mark.parametrize("tag", ['"1"', 'W/"1"', None])
def test_a_server_without_lengths_and_tags_is_slow_and_right(world, tag):
    world.server.lengths, world.server.tag, world.server.pause = False, tag, 0.01
    recipe = world.recipe(images=[{"url": world.serve("own.zip", ZIP), **pinned(ZIP)}])
    assert world.prepare("--recipe", recipe) == 0
    assert world.samples()[0].count == COUNT


def test_redirections_are_followed_to_http_only(world, capsys):
    world.serve("there.zip", ZIP)
    world.server.redirects = {"/own.zip": f"{world.server.url}/there.zip", "/bad.zip": "file:///etc/passwd"}
    world.server.faults = [1000.0]
    good = world.recipe("good", images=[{"url": f"{world.server.url}/own.zip", **pinned(ZIP)}])
    assert world.prepare("--recipe", good) == 0
    assert world.server.sent["/there.zip"] == len(ZIP)
    bad = world.recipe("bad", images=[{"url": f"{world.server.url}/bad.zip"}])
    assert world.prepare("--recipe", bad) == 2
    assert "bad.zip could not be fetched" in capsys.readouterr().err


def test_the_next_mirror_goes_on_where_the_first_one_failed(world):
    url = world.serve("own.zip", ZIP)
    world.server.faults = [2000.0, 404, None]
    recipe = world.recipe(images=[{"url": [url, f"{world.server.url}/own.zip?mirror"], **pinned(ZIP)}])
    (world.folder / "www" / "own.zip?mirror").write_bytes(ZIP)
    assert world.prepare("--recipe", recipe) == 0
    assert sum(world.server.sent.values()) == len(ZIP)


def test_a_wrong_hash_takes_the_next_archive_and_ends_in_a_sentence_without_one(world, capsys):
    bad = {"url": world.serve("bad.zip", ZIP[:-1] + b"x"), **pinned(ZIP)}
    good = {"url": world.serve("good.zip", ZIP), **pinned(ZIP)}
    assert world.prepare("--recipe", world.recipe("one", images=[{**bad, "instead": [good]}])) == 0
    assert world.samples("one")[0].count == COUNT
    assert world.prepare("--recipe", world.recipe("two", images=[bad])) == 2
    told = capsys.readouterr().err
    assert "has the sha256" in told
    assert "and should have" in told
    assert "Traceback" not in told
    assert not any("bad.zip" in name for name in world.left())


def test_a_file_without_a_published_hash_is_bound_to_the_first_one(world, capsys):
    recipe = world.recipe(images=[{"url": world.serve("own.zip", ZIP)}])
    assert world.prepare("--recipe", recipe) == 0
    assert "trusted at first use and recorded" in capsys.readouterr().out
    for path in (world.root / "own").iterdir():
        path.unlink()
    world.serve("own.zip", zipped(in_class_folders("other/")))
    assert world.prepare("--recipe", recipe) == 2
    assert "at first use; if the publisher is known to have changed it" in capsys.readouterr().err
    assert json.loads((world.root / ".prepare" / "hashes.json").read_text())[f"{world.server.url}/own.zip"] == (
        hashlib.sha256(ZIP).hexdigest()
    )


def test_a_file_that_changed_since_the_part_is_fetched_anew(world):
    url = world.serve("own.zip", ZIP)
    world.server.faults = [1000.0, 500, 500, 500]
    recipe = world.recipe(images=[{"url": url}])
    assert world.prepare("--recipe", recipe) == 2
    world.serve("own.zip", zipped(in_class_folders("new/")))
    world.server.tag = '"2"'
    assert world.prepare("--recipe", recipe) == 0
    assert {row.file for row in world.samples()[0].rows()} == set(in_class_folders("new/"))


def test_a_page_instead_of_an_archive_is_a_sentence_and_is_not_kept(world, capsys):
    recipe = world.recipe(images=[{"url": world.serve("own.zip", b"<html>please log in</html>")}])
    assert world.prepare("--recipe", recipe) == 2
    assert "cannot be read as an archive" in capsys.readouterr().err
    world.serve("own.zip", ZIP)
    assert world.prepare("--recipe", recipe) == 0


def test_a_part_that_is_too_long_or_whose_note_is_damaged_is_started_over(world):
    recipe = world.recipe(images=[{"url": world.serve("own.zip", ZIP), **pinned(ZIP)}])
    for note in (b"", b"{}", b"[1]", b'{"url": 1, "tag": 2, "length": 3}'):
        world.server.faults = [1000.0, 404]
        assert world.prepare("--recipe", recipe) == 2
        (part,) = (world.root / ".prepare").glob("*/*.part")
        part.write_bytes(bytes(2 * len(ZIP)))
        part.with_name(f"{part.name}.json").write_bytes(note)
        assert world.prepare("--recipe", recipe) == 0
        assert world.left() == []
        shutil.rmtree(world.root)


def test_a_file_that_does_not_end_is_given_up(world, capsys):
    world.server.lengths = False
    recipe = world.recipe(images=[{"url": world.serve("own.zip", ZIP * 9), **pinned(ZIP)}])
    assert world.prepare("--recipe", recipe) == 2
    assert "it sends more than the" in capsys.readouterr().err


# The faults of disks and processes.


def test_no_room_is_said_before_the_first_byte(world, monkeypatch, capsys):
    monkeypatch.setattr(transfer, "free_bytes", lambda folder: transfer.RESERVE + len(ZIP) // 2)
    recipe = world.recipe(images=[{"url": world.serve("own.zip", ZIP), **pinned(ZIP)}])
    assert world.prepare("--recipe", recipe) == 2
    assert "make room" in capsys.readouterr().err
    assert world.server.paths == []
    unknown = world.recipe("unknown", images=[{"url": world.serve("own.zip", ZIP)}])
    assert world.prepare("--recipe", unknown) == 2  # its size is known from the server's answer alone
    assert "make room" in capsys.readouterr().err
    assert not (world.root / "own").exists()


def test_a_disk_that_fills_up_keeps_what_came(world, monkeypatch, capsys):
    class Full:
        def __init__(self, path):
            self.file = path.open("ab")

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def tell(self):
            return self.file.tell()

        def write(self, piece):
            self.file.write(piece[:1000])
            self.file.flush()
            raise OSError(28, "No space left on device")

    recipe = world.recipe(images=[{"url": world.serve("own.zip", ZIP), **pinned(ZIP)}])
    with monkeypatch.context() as full:
        full.setattr(transfer, "_appending", Full)
        assert world.prepare("--recipe", recipe) == 2
    assert "No space left on device. What came is kept" in capsys.readouterr().err
    assert world.prepare("--recipe", recipe) == 0
    assert world.server.seen[-1]["Range"] == "bytes=1000-"


def killed_at(arguments, count):
    """Run a command and die, as by SIGKILL, once so many bytes have been written to a download or a shard."""
    written = 0

    def advance(amount):
        nonlocal written
        written += amount
        if written >= count:
            os.kill(os.getpid(), signal.SIGKILL)

    from mmood.output.console import Bar

    Bar.advance = lambda self, amount, title=None: advance(amount)
    main(arguments)


def test_a_kill_at_any_byte_costs_nothing_that_was_there(world, forked):
    content = gzip.compress(tarred(in_class_folders("own/")), mtime=0)
    recipe = world.recipe(count=COUNT, images=[{"url": world.serve("own.tar.gz", content), **pinned(content)}])
    arguments = ["prepare", "--root", str(world.root), "--recipe", recipe]
    world.server.pause = 0.002
    draw = random.Random(0)
    codes = [forked.call(killed_at, arguments, draw.randrange(1, 2 * len(content))).code for _ in range(4)]
    assert -signal.SIGKILL in codes
    assert world.prepare("--recipe", recipe) == 0
    assert [row.file for row in world.samples()[0].rows()] == sorted(in_class_folders("own/"))
    verify_folder(world.root / "own", lambda amount: None)
    assert world.left() == []


def test_no_room_to_decompress_keeps_the_archive(world, monkeypatch, capsys):
    content = gzip.compress(tarred(in_class_folders("own/")), mtime=0)
    recipe = world.recipe(images=[{"url": world.serve("own.tar.gz", content), **pinned(content)}])
    with monkeypatch.context() as full:
        full.setattr(downloads, "decompress", _no_space)
        assert world.prepare("--recipe", recipe) == 2
    assert "No space left" in capsys.readouterr().err
    assert world.prepare("--recipe", recipe) == 0
    assert world.server.paths == ["/own.tar.gz"]


def _no_space(path, target):
    raise MmoodError(f"{target} cannot be written: No space left on device.")


def test_sigterm_says_what_is_kept(world, forked):
    world.server.pause = 5.0
    recipe = world.recipe(images=[{"url": world.serve("own.zip", ZIP), **pinned(ZIP)}])
    process = forked.start(main, ["prepare", "--root", str(world.root), "--recipe", recipe, "--quiet"])
    while not world.server.sent:
        assert process.poll() is None, process.err
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 143
    assert "What was fetched and packed is kept; run the same command again to resume." in process.err
    world.server.pause = 0.0
    assert world.prepare("--recipe", recipe) == 0
    assert world.samples()[0].count == COUNT


def mask(number, size=(24, 24)):
    buffer = io.BytesIO()
    Image.fromarray(np.full(size, number, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


STREETS = {
    "beside": ({"folder": "S/test", "masks": "S/testannot"}, "S/test/a/{}.png", "S/testannot/a/{}.png"),
    "in folders of the images": (
        {"folder": "frames", "masks": "frames", "mask_ending": ".labels/labels.png"},
        "R/frames/{}.png",
        "R/frames/{}.labels/labels.png",
    ),
    "with an ending": (
        {"folder": "images", "masks": "masks", "mask_ending": "_labels.png"},
        "T/images/{}.png",
        "T/masks/{}_labels.png",
    ),
}


@pytest.mark.parametrize("layout", STREETS)
def test_masks_come_with_their_images_and_images_without_one_are_left_out(world, layout):
    keys, image, of_image = STREETS[layout]
    members = {image.format(n): IMAGES[n] for n in range(4)} | {of_image.format(n): mask(n) for n in range(3)}
    archive = world.serve("own.zip", zipped(members | {"S/other/0.png": IMAGES[5], "R/frames/0.labels/x.png": mask(9)}))
    assert world.prepare("--recipe", world.recipe(count=3, images=[{"url": archive}], **keys)) == 0
    _, samples = world.samples()
    assert [(sample.image, sample.mask) for sample in samples] == [(IMAGES[n], mask(n)) for n in range(3)]


def test_masks_of_another_size_or_none_are_a_sentence(world, capsys):
    for masks, sentence in (
        ({"S/testannot/0.png": mask(0, (24, 25))}, "the mask has 25 x 24 pixels, but the image has 24 x 24"),
        ({"S/testannot/7.png": mask(0)}, "has no image of 'own' with a mask; masks are below a folder 'S/testannot'"),
    ):
        archive = world.serve("own.zip", zipped({"S/test/0.png": IMAGES[0], **masks}))
        recipe = world.recipe(images=[{"url": archive}], folder="S/test", masks="S/testannot")
        assert world.prepare("--recipe", recipe) == 2
        assert sentence in " ".join(capsys.readouterr().err.split())
        shutil.rmtree(world.root)
