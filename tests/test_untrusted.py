"""Untrusted files run no code, name nothing outside their folder, and do not fill the memory."""

import bz2
import contextlib
import gzip
import io
import json
import lzma
import struct
import tarfile
import zipfile
import zlib

import numpy as np
import pytest
import torch

from mmood.cli.main import main
from mmood.cli.report import write_report
from mmood.configuration.lightning import parsed
from mmood.encoders.base import EncoderSettings
from mmood.encoders.loading import check_open_clip
from mmood.errors import MmoodError
from mmood.files import parse_yaml
from mmood.images.rgb import MAX_PIXELS
from mmood.loading.decoding import SampleError, decode_image
from mmood.results.arrays import read_arrays
from mmood.runs.checkpoints import KEY, TRUST, read_config, stored_config
from mmood.shards.index import MAX_SAMPLES
from mmood.shards.inputs import from_list
from mmood.shards.reading import UNREADABLE, RawSample, tar_samples
from mmood.shards.shard_index import load_index, parse_index
from mmood.shards.tar import MAX_CONTENT_BYTES

SETTINGS = {
    "model": {"class_path": "mmood.modules.ZeroShot", "init_args": {"encoder": {"name": "ViT-B-16/openai"}}},
    "data": {"root": "/data", "class_names": ["a", "b"], "loader": {"workers": 0}},
}


def changed(*path, to):
    settings = json.loads(json.dumps(SETTINGS))
    place = settings
    for key in path[:-1]:
        place = place.setdefault(key, {})
    place[path[-1]] = to
    return settings


def checkpoint(folder, settings):
    path = folder / "a.ckpt"
    torch.save({"state_dict": {}, KEY: settings}, path)
    return path


# Checkpoints: what they name is not run.

RUNS_CODE = {
    "a class of another package": changed("model", "class_path", to="subprocess.Popen"),
    "a class deep inside": changed("model", "init_args", "scores", to={"a": [{"class_path": "os.system"}]}),
    "a look-alike": changed("model", "class_path", to="mmoodevil.X"),
    "a path behind a path": changed("model", "class_path", to="mmood.modules.ZeroShot; import os"),
    "an optimiser as a function": changed("model", "init_args", "optimizer", to="os.system"),
    "a schedule as a function": changed("model", "init_args", "schedule", to="os.popen"),
    "an optimiser of elsewhere": changed("model", "init_args", "optimizer", to={"class_path": "evil.Adam"}),
    "no name at all": changed("model", "class_path", to=["os.system"]),
}


@pytest.mark.parametrize("settings", RUNS_CODE.values(), ids=RUNS_CODE)
def test_a_checkpoint_chooses_no_code(settings, tmp_path):
    with pytest.raises(MmoodError, match=r"not a class of mmood or torch\.optim. A checkpoint must not choose"):
        read_config(checkpoint(tmp_path, settings))


def test_a_checkpoint_of_a_trusted_package_is_read(tmp_path, monkeypatch):
    (tmp_path / "ours.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(TRUST, "mine, ours")
    (tmp_path / "ours.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    settings = changed("model", "init_args", "scores", to={"a": {"class_path": "ours.scores.Mine"}})
    assert read_config(checkpoint(tmp_path, settings)) == settings
    monkeypatch.setenv(TRUST, "mine, yours")
    with pytest.raises(MmoodError, match=f"trust the package 'ours', set {TRUST}=mine,yours,ours"):
        read_config(checkpoint(tmp_path, settings))


def test_settings_of_a_checkpoint_are_plain_data(tmp_path):
    with pytest.raises(MmoodError, match=r"has a Tensor at data\.root; settings are plain data"):
        read_config(checkpoint(tmp_path, changed("data", "root", to=None) | {"data": {"root": torch.ones(2)}}))
    with pytest.raises(MmoodError, match="has no settings of the model"):
        read_config(checkpoint(tmp_path, {**SETTINGS, "model": "/home/me/other.yaml"}))


def test_a_command_in_a_checkpoint_needs_consent(tmp_path):
    marker = tmp_path / "ran"
    path = checkpoint(tmp_path, changed("data", "root", to=f"pipe:touch {marker}; cat /data/"))
    assert main(["test", "--ckpt_path", str(path)]) == 2
    assert not marker.exists()
    with pytest.raises(MmoodError, match=f"with the command 'pipe:touch {marker}.*--data.root"):
        stored_config([f"--ckpt_path={path}"])
    # The user's own root is used, and the one in the checkpoint is not.
    _, settings = stored_config(["--ckpt_path", str(path), "--data.root", "/data"])
    assert "pipe:" not in settings


def test_the_consent_to_commands_does_not_come_from_a_checkpoint(tmp_path):
    path = checkpoint(tmp_path, changed("data", "loader", to={"workers": 0, "pipes": True}))
    _, settings = stored_config(["--ckpt_path", str(path)])
    assert "pipes" not in settings


class Evil:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (open, (self.marker, "w"))


def test_lightning_unpickles_nothing_either(tmp_path, toy_flags, capsys):
    # Named in a config, the checkpoint is read by Lightning alone.
    marker, path = tmp_path / "ran", tmp_path / "evil.ckpt"
    torch.save({"state_dict": {}, "x": Evil(str(marker))}, path)
    (tmp_path / "more.yaml").write_text(json.dumps({"ckpt_path": str(path), "weights_only": False}))
    arguments = ["test", "--config", "vitb16_zeroshot.yaml", "--config", str(tmp_path / "more.yaml")]
    assert main([*arguments, *toy_flags, "--run_dir", str(tmp_path / "run")]) == 2
    assert "cannot be read as a checkpoint" in capsys.readouterr().err
    assert not marker.exists()


# Configs: programs, but of a narrow language.


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("--model.optimizer", "os.system"),
        ("--model.optimizer", '{class_path: subprocess.Popen, init_args: {args: [touch, MARK]}}'),
        ("--model.schedule", "os.popen"),
        ("--model.scores", '{a: {class_path: subprocess.Popen, init_args: {args: [touch, MARK]}}}'),
        ("--trainer.logger", '{class_path: subprocess.Popen, init_args: {args: [touch, MARK]}}'),
        ("--trainer.callbacks", '[{class_path: subprocess.Popen, init_args: {args: [touch, MARK]}}]'),
    ],
)  # fmt: skip
def test_a_config_names_only_classes_that_fit(key, value, tmp_path):
    marker = tmp_path / "ran"
    with pytest.raises(MmoodError, match=key.removeprefix("--")):
        parsed(["--config", "vitb16_align.yaml", key, value.replace("MARK", str(marker))])
    assert not marker.exists()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("!!python/object/apply:os.system ['true']", "could not determine a constructor"),
        ("a: &a [*a]", "contains itself|more than|recursi"),
        ("\n".join(["a0: &a0 [x, x]", *(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 60))]), "with its aliases"),
        ("[" * 5000, "nested too deeply"),
        ("x: 2001-99-99", "month must be in"),
    ],
)  # fmt: skip
def test_yaml_is_plain_data_of_bounded_size(text, reason):
    with pytest.raises(MmoodError, match=reason):
        parse_yaml(text, "The file x")
    assert parse_yaml("a: &a [1, 2]\nb: *a", "x") == {"a": [1, 2], "b": [1, 2]}


def test_a_tokenizer_brings_no_code(tmp_path):
    config = {"model_cfg": {"text_cfg": {"tokenizer_kwargs": {"trust_remote_code": True}}}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    (tmp_path / "open_clip_model.safetensors").write_bytes(b"")
    with pytest.raises(MmoodError, match="trust_remote_code"):
        check_open_clip(EncoderSettings(name=f"local-dir:{tmp_path}"))


# Names that would leave their folder.


def index_of(url, nsamples=1):
    return {"schema": 1, "shards": [{"url": url, "nsamples": nsamples, "sha256": "0" * 64}]}


@pytest.mark.parametrize(
    "url",
    ["../other/x.tar", "/etc/passwd", "a/../../x.tar", "./x.tar", "~/x.tar", "file:///etc/passwd", "C:\\x", "a\0b", ""],
)
def test_a_shard_lies_below_its_index(url):
    with pytest.raises(MmoodError, match=r"shards\[0\], the url"):
        parse_index(index_of(url), "index.json", "set", "/data")


def test_an_image_list_stays_in_its_folder(tmp_path):
    for line in ("../secret.png 0", "/etc/secret.png 0", "a/../../secret.png 0"):
        (tmp_path / "list.txt").write_text(line)
        with pytest.raises(MmoodError, match="leaves the folder of the images"):
            from_list(tmp_path / "list.txt", tmp_path)


def tar_of(*members):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for member, content in members:
            info = tarfile.TarInfo(member) if isinstance(member, str) else member
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def link(name, target, kind):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def test_members_write_nothing_and_links_lead_nowhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content = tar_of(
        ("../../escaped.png", b"1"),
        ("/absolute.png", b"2"),
        (link("link.png", "/etc/passwd", tarfile.SYMTYPE), b""),
        (link("hard.png", "/etc/passwd", tarfile.LNKTYPE), b""),
        (link("device.png", "", tarfile.CHRTYPE), b""),
        (link("pipe.png", "", tarfile.FIFOTYPE), b""),
        ("last.png", b"3"),
    )
    found = list(tar_samples(io.BytesIO(content)))
    assert found == [("../../escaped", {"png": b"1"}), ("/absolute", {"png": b"2"}), ("last", {"png": b"3"})]
    assert not list(tmp_path.iterdir())
    assert not (tmp_path.parent.parent / "escaped.png").exists()


# Sizes that would fill the memory.


def header(name, size, kind=tarfile.REGTYPE):
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (header("a.png", MAX_CONTENT_BYTES + 1), "over the limit"),
        (header("a.png", 2**40), "over the limit"),
        (header("a.png", 1000), "truncated"),
        (header("a", 2**33, tarfile.GNUTYPE_LONGNAME), "a header of 8589934592 bytes is over the limit"),
        (header("a", 2**33, tarfile.XHDTYPE), "a header of 8589934592 bytes is over the limit"),
        (header("a", 10, tarfile.XHDTYPE) + b"99999 path=x".ljust(512, b"\0"), "a pax header is damaged"),
        (header("a", 10, tarfile.XHDTYPE) + b"0 path=xx\n".ljust(512, b"\0"), "a pax header is damaged"),
        (lzma.compress(b"x"), "compressed with xz"),
        (b"", "it is empty"),
        (b"no tar at all", "not a tar file"),
        (b"x" * 2000, "not a tar file"),
    ],
)  # fmt: skip
def test_a_tar_header_claims_no_memory(content, reason):
    with pytest.raises(tarfile.ReadError, match=reason):
        list(tar_samples(io.BytesIO(content)))


def test_a_bomb_in_a_compressed_header_is_refused():
    bomb = header("a", 2**30, tarfile.GNUTYPE_LONGNAME) + bytes(2**24)
    for packed in (gzip.compress(bomb), bz2.compress(bomb)):
        with pytest.raises(tarfile.ReadError, match="over the limit"):
            list(tar_samples(io.BytesIO(packed)))


def test_what_tar_programs_write_is_read(tmp_path):
    """The same members as tarfile finds, in every format, packed and not."""
    names = ["a.png", "d/" + "b" * 120 + ".png", "ü" * 90 + ".png", "x/" * 60 + "c.png", "e.txt"]
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
            for number, name in enumerate(names):
                info = tarfile.TarInfo(name)
                info.size = 1000 * number
                with contextlib.suppress(ValueError):  # a name that the oldest format cannot hold
                    tar.addfile(info, io.BytesIO(bytes([number]) * info.size))
                tar.addfile(link(f"folder{number}", "", tarfile.DIRTYPE))
        with tarfile.open(fileobj=io.BytesIO(buffer.getvalue())) as tar:
            oracle = [(m.name, tar.extractfile(m).read()) for m in tar if m.isreg() and m.name.endswith(".png")]
        for packed in (bytes, gzip.compress, bz2.compress):
            found = tar_samples(io.BytesIO(packed(buffer.getvalue())))
            assert [(f"{name}.png", fields["png"]) for name, fields in found] == oracle


def test_damage_to_packed_shards_is_an_error_of_reading(tmp_path):
    packed = gzip.compress(tar_of(("a.png", b"x" * 5000)))
    for content in (packed[:-30], packed[:40], packed[:60] + b"\0\0\0" + packed[63:]):
        with pytest.raises(UNREADABLE):
            list(tar_samples(io.BytesIO(content)))


def png_of(width, height):
    """Return a PNG that claims any size and has no pixels to speak of."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    claimed = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", claimed)
        + chunk(b"IDAT", zlib.compress(bytes(2**16)))
        + chunk(b"IEND", b"")
    )


def test_an_image_has_a_limit_of_pixels():
    with pytest.raises(SampleError, match=f"12000 x 12000 pixels, more than {MAX_PIXELS}"):
        decode_image(RawSample(0, "shard", "name", png_of(12_000, 12_000)), "ignore")
    with pytest.raises(SampleError, match=f"more than {MAX_PIXELS} pixels"):  # Pillow's own, for twice its limit
        decode_image(RawSample(0, "shard", "name", png_of(20_000, 20_000)), "ignore")


def test_an_index_has_a_limit_of_samples(tmp_path):
    with pytest.raises(MmoodError, match=f"a set has at most {MAX_SAMPLES}"):
        parse_index(index_of("a.tar", 10**18), "index.json", "set", "/data")


def test_json_is_not_nested_for_ever(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "index.json").write_text("[" * 100_000)
    with pytest.raises(MmoodError, match=r"index\.json cannot be read as JSON: it is nested too deeply"):
        load_index(str(tmp_path), "set")


def npz(path, content, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("key.npy", content)
    return path


def array_bytes(array, **settings):
    buffer = io.BytesIO()
    np.save(buffer, array, **settings)
    return buffer.getvalue()


def test_scores_are_plain_numbers_stored_as_they_are(tmp_path):
    path = tmp_path / "far.npz"
    assert read_arrays(npz(path, array_bytes(np.arange(3))), "It")["key"].tolist() == [0, 1, 2]
    with pytest.raises(MmoodError, match=r"'key\.npy' is compressed"):
        read_arrays(npz(path, array_bytes(np.zeros(10**6)), compression=zipfile.ZIP_DEFLATED), "It")
    with pytest.raises(MmoodError, match="must be plain numbers"):
        read_arrays(npz(path, array_bytes(np.array([{}], dtype=object), allow_pickle=True)), "It")
    lying = array_bytes(np.arange(3)).replace(b"(3,)", b"(3000000000000,)")
    with pytest.raises(MmoodError, match="cannot be read"):
        read_arrays(npz(path, lying), "It")


# The page of a report.

SCRIPT = "<script>alert(1)</script>"


def test_a_page_runs_no_untrusted_code(tmp_path):
    run = tmp_path / 'a"><img src=x onerror=alert(1)>'
    (run / "scores").mkdir(parents=True)
    metrics = {"auroc": 0.9, "aupr_id": 0.8, "aupr_ood": 0.7, "fpr95_id_pos": 0.4, "fpr95_ood_pos": 0.3}
    common = {"score": SCRIPT, "variant": SCRIPT, "protocol": "static", "group": SCRIPT, **metrics}
    results = {
        **{"schema": 1, "stage": "test", "provenance": {SCRIPT: SCRIPT, "encoder": {"name": SCRIPT}}},
        "id": [{"set": SCRIPT, "n": 3, "accuracy": 0.5}],
        "rows": [{**common, "seed": None, "set": SCRIPT, "n_id": 3, "n_ood": 3}],
        "means": [common, {**common, "group": "all"}],
    }
    (run / "results.json").write_text(json.dumps(results))
    (run / "config.test.yaml").write_text(json.dumps({"data": {"id": SCRIPT, SCRIPT: [SCRIPT]}}))
    page = tmp_path / "report.html"
    write_report([run], page, resamples=0)
    text = page.read_text()
    assert "&lt;script&gt;alert(1)" in text
    assert "<script>alert" not in text
    assert "<img src=x" not in text
