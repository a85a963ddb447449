"""The classes of a set beside `data.class_names`."""

from dataclasses import replace

import pytest
from data_world import to_tensor, write_set

from mmood.data.catalog import joined_classes
from mmood.data.datamodule import OoDDataModule
from mmood.data.settings import ValSettings
from mmood.errors import MmoodError
from mmood.shards.shard_index import load_index, save_index
from mmood.shards.table import TABLE_FILE, SampleRow, dump_rows

NAMES = ("tench", "cock", "great_dane", "fox", "owl")


@pytest.fixture
def root(tmp_path):
    write_set(tmp_path, "id", [6])
    write_set(tmp_path, "empty", [0], labelled=False)
    return tmp_path


def module(root, class_names, **settings):
    return OoDDataModule(str(root), id="id", class_names=list(class_names), **settings)


def named(root, **names):
    save_index(replace(load_index(str(root), "id"), **names), root / "id")


def test_the_same_names_in_another_order_are_refused_naming_the_first_pair(root):
    named(root, class_names=NAMES)
    assert module(root, ["Tench", "rooster", "Great Dane", "fox", "OWL"]).check() == []
    with pytest.raises(MmoodError, match=r"label 1 is 'cock' in the set and 'fox' in .*'cock' is label 3"):
        module(root, ["tench", "fox", "great_dane", "cock", "owl"]).check()


@pytest.mark.parametrize(
    "names", [{"seen_names": NAMES}, {"class_names": NAMES, "class_folders": ("a", "b", "c", "d", "e")}]
)
def test_names_that_samples_give_are_compared_too(root, names):
    named(root, **names)
    with pytest.raises(MmoodError, match="the same names in different orders"):
        module(root, NAMES[::-1]).check()


def test_synset_folders_are_compared_by_meaning(root):
    synsets = ("n01440764", "n01443537", "n01484850", "n01491361", "n01494475")
    words = ("tench", "goldfish", "great white shark", "tiger shark", "hammerhead")
    named(root, class_names=synsets)
    assert module(root, words).check() == []
    with pytest.raises(MmoodError, match="label 0 is 'n01440764' in the set and 'hammerhead'"):
        module(root, words[::-1]).check()


def test_other_names_are_said(root):
    named(root, class_names=NAMES)
    (note,) = module(root, ["tench", "hen", "x", "fox", "owl"]).check()
    assert "call 2 of 5 classes differently, such as 'cock' and 'hen' at label 1" in note


@pytest.mark.parametrize("names", [{}, {"class_names": ("0", "1", "2", "3", "4")}])
def test_a_set_without_names_is_said(root, names):
    named(root, **names)
    (note,) = module(root, NAMES).check()
    assert "has no class names in its index" in note


def test_a_set_without_a_sample_is_refused(root):
    named(root, class_names=NAMES)
    with pytest.raises(MmoodError, match="'empty' has no sample"):
        module(root, NAMES, ood={"far": ["empty"]}).check()


@pytest.mark.parametrize("key", ["class_names", "class_folders", "seen_names"])
def test_an_index_with_another_number_of_names_is_refused(root, key):
    named(root, **{key: NAMES[:3]})
    with pytest.raises(MmoodError, match=f"`{key}` has 3 names for 5 classes"):
        load_index(str(root), "id")


def test_folders_and_names_as_a_run_joins_them(root):
    named(root, class_names=NAMES, class_folders=("f0", "f1", "f2", "f3", "f4"))
    classes = joined_classes(load_index(str(root), "id"), ["tench", "hen", "Great Dane", "fox", "owl"])
    assert (classes.folders[1], classes.names[1], classes.odd) == ("f1", "hen", (1,))


def test_only_id_sets_are_joined_with_the_class_names(root):
    named(root, class_names=NAMES)
    write_set(root, "own", [3])
    save_index(replace(load_index(str(root), "own"), class_names=("v", "w", "x", "y", "z")), root / "own")
    data = module(root, NAMES, ood={"far": ["own"]})
    data.check()
    assert [*data.id_classes()] == ["id"]


class Towers:
    """What the data module asks of a model that is trained on images."""

    def image_transform(self, train):
        return to_tensor

    def training_rows(self):
        return None

    def few_shot(self):
        return None


def test_classes_without_an_image_to_train_on_are_said_once(root, capsys):
    data = module(root, [*NAMES, "newt"], train="id", batch_size=2)
    save_index(replace(load_index(str(root), "id"), classes=6), root / "id")
    rows = [SampleRow(key, f"{key}", label=key % 5) for key in range(6)]
    (root / "id" / TABLE_FILE).write_bytes(dump_rows(rows))
    data.connect(Towers())
    for _ in range(2):
        data.train_dataloader()
    assert capsys.readouterr().err == "mmood: 1 of 6 classes has no image to train on, such as newt.\n"
    data = module(root, [*NAMES, "newt"], train="id", val=ValSettings(id=0.5), batch_size=2)
    data.connect(Towers())
    data.train_dataloader()
    assert "of 6 classes have no image to train on" in capsys.readouterr().err
