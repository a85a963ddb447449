"""Features of images that cameras held otherwise: apart for each way of treating them."""

import torch
from PIL import Image

from mmood.cli.main import main
from mmood.encoders import EncoderSettings, build_encoder
from mmood.features.encoding import Ranks, SetEncoder
from mmood.features.store import store_name
from mmood.loading.settings import LoaderSettings
from mmood.shards.shard_index import load_index


def test_orientation_decides_features_and_names_their_store(tmp_path, toy_model):
    upright = Image.effect_noise((40, 36), 90).convert("RGB")
    (tmp_path / "images").mkdir()
    upright.save(tmp_path / "images/0.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "images/1.png", exif=exif)
    assert main(["pack", "--out", str(tmp_path / "set"), "--folder", str(tmp_path / "images"), "--quiet"]) == 0
    index, encoder = load_index(str(tmp_path), "set"), build_encoder(EncoderSettings(toy_model)).eval()
    stores, names = {}, set()
    for treated in ("apply", "ignore"):
        made = SetEncoder(encoder, Ranks.alone(), 2, LoaderSettings(workers=0), quiet=True, exif=treated)
        names.add(store_name(index, made.identity(index), "fp32"))
        stores[treated] = made.encode(index, tmp_path / treated)
    assert len(names) == 2
    applied, ignored = stores["apply"].features, stores["ignore"].features
    assert torch.equal(applied[0], applied[1])
    assert torch.equal(applied[0], ignored[0])
    assert not torch.allclose(ignored[0], ignored[1])
    assert stores["apply"].manifest.identity == {**stores["ignore"].manifest.identity, "exif": "apply"}
