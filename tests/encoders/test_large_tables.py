"""Tables of many rows: the same numbers whether they are held or mapped, and little memory while they are filled."""

import pytest
import torch
from bench_negatives import added_mib

from mmood.encoders import EncoderSettings, large_tables
from mmood.encoders.large_tables import filled
from mmood.encoders.vision_language import VisionLanguageEncoder
from mmood.errors import MmoodError
from mmood.scores import GEN, MCM, Embedded

CPU = torch.device("cpu")


@pytest.fixture
def mapped(monkeypatch, tmp_path):
    """Every table is mapped, in this folder."""
    monkeypatch.setattr(large_tables, "LARGE", 0)
    monkeypatch.setenv("MMOOD_CACHE", str(tmp_path))
    return tmp_path / "tables"


def test_a_mapped_table_has_every_bit_and_leaves_no_file(mapped):
    blocks = [torch.randn(rows, 7, generator=torch.Generator().manual_seed(rows)) for rows in (3, 1, 6)]
    table = filled(iter(blocks), 10, 7, CPU)
    assert torch.equal(table, torch.cat(blocks))
    assert list(mapped.iterdir()) == []


def test_prototypes_and_scores_are_the_same_held_and_mapped(toy_model, mapped, monkeypatch):
    encoder = VisionLanguageEncoder(EncoderSettings(toy_model))
    names, templates = [f"thing {number}" for number in range(600)], ["a photo of a {}", "the {}"]
    with torch.no_grad():
        prototypes = encoder.prototypes(names, templates)
        monkeypatch.setattr(large_tables, "LARGE", 2**40)
        held = encoder.prototypes(names, templates)
    assert torch.equal(prototypes, held)
    assert torch.equal(held, encoder.prototypes(names, templates)), "nor does a gradient change them"
    images = torch.nn.functional.normalize(torch.randn(5, held.shape[1]), dim=1)
    for score in (MCM(), GEN()):
        found, expected = (score(Embedded(images, images @ rows.T)) for rows in (prototypes, held))
        assert torch.equal(found, expected)


def test_filling_takes_the_memory_of_a_block_beyond_the_table():
    rows, dim = 40_000, 256
    size = rows * dim * 4 / 2**20
    rise = added_mib(lambda: filled((torch.ones(1000, dim) for _ in range(rows // 1000)), rows, dim, CPU))
    assert rise < 1.5 * size


def test_a_disk_without_room_is_said(mapped, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(large_tables.tempfile, "NamedTemporaryFile", full)
    with pytest.raises(
        MmoodError, match=r"10 rows of 7 numbers do not fit .* No space left on device; set MMOOD_CACHE"
    ):
        filled(iter([]), 10, 7, CPU)
