"""The readers of files that may be somebody else's: a valid file of each kind, and what a reading must fulfil."""

import gzip
import io
import json
import os
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import detectors
import numpy as np
import torch
from mutation import Damage, damaged_bytes, damaged_json, damaged_lines, damaged_value, damaged_yaml
from PIL import Image
from safetensors.torch import save
from states import METHODS, damaged_state, reader, write_valid
from taxonomy_world import write_taxonomy

from mmood.chat import Answer, AnswerCache, Message, Question
from mmood.chat.answers import parse_completion
from mmood.chat.parsing import parse_list
from mmood.classes.names import load_class_names
from mmood.cli.report import write_report
from mmood.configuration.lightning import parsed
from mmood.encoders.base import EncoderSettings
from mmood.encoders.loading import check_open_clip
from mmood.features.store import Manifest, open_store, read_manifest, write_manifest
from mmood.files import parse_yaml
from mmood.loading.decoding import SampleError, decode_image, decode_label
from mmood.prompts import LearnedPrompts, PromptFamily, load_prompts, save_prompts
from mmood.prompts.family import Layout
from mmood.recipes.recipe import read_recipe
from mmood.report.maps import run_maps
from mmood.report.runs import load_runs
from mmood.results.serialisation import read_results, to_json
from mmood.results.tables import to_csv, to_latex, to_markdown
from mmood.runs.checkpoints import read_config
from mmood.sets.contents import Contents, Paths, read_contents, write_contents
from mmood.sets.finding import find_set
from mmood.shards.archives import decompress, open_archive
from mmood.shards.hashes import dump_hashes, parse_hashes
from mmood.shards.indexing import index_folder
from mmood.shards.inputs import from_list
from mmood.shards.reading import RawSample, Skipped
from mmood.shards.shard_index import load_index
from mmood.words.class_texts import ClassTexts, TextsFile, load_class_texts
from mmood.words.cleaning import clean_name
from mmood.words.lists import NegativeList, NegativePart, load_negatives
from mmood.words.names_file import NamesFile, ProposedName
from mmood.words.proposed import origin_for
from mmood.words.taxonomy import read_taxonomy
from mmood.words.wordnet import read_wordnet


@dataclass(frozen=True)
class Reader:
    """A reader under test.

    Attributes:
        file: the file that is damaged, relative to the folder of the world.
        read: reads it and asserts of what was read whatever must hold; takes the folder.
        damage: how the file is damaged.
        share: of the inputs that the other readers get; for slow ones.
    """

    file: str
    read: Callable[[Path], Any]
    damage: Damage = damaged_bytes
    share: float = 1.0


RECIPE = {
    "name": "pets",
    "count": 3,
    "images": [
        {
            "url": ["https://example.org/a.tar"],
            "bytes": 5,
            "sha256": "0" * 64,
            "instead": [{"file": "b.zip", "obtain": "Ask."}],
        }
    ],
    "lists": [{"url": "hf://datasets/a/b/c.txt", "member": "d/c.txt"}],
    "labels": "list",
    "avoid": ["train"],
}


def build_world(folder: Path) -> None:
    """Write a small valid file of every kind."""
    folder.mkdir(parents=True)
    _write_set(folder / "set")
    _write_photos(folder)
    _write_archives(folder)
    (folder / "set" / "images.npy").write_bytes(dump_hashes([1, 2, 3]))
    (folder / "bare").mkdir()
    (folder / "bare" / "bare-0.tar").write_bytes((folder / "set" / "set-0.tar").read_bytes())
    for name in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM"):
        (folder / f"image.{name.lower()}").write_bytes(image_bytes(name))
    _write_store(folder / "store")
    _write_words(folder)
    _write_run(folder / "run")
    write_valid(folder / "states")
    detectors.write_detectors(folder / "detectors")
    _write_checkpoint(folder / "a.ckpt")
    _write_prompts(folder / "prompts")
    (folder / "config.yaml").write_text(json.dumps(CONFIG))
    (folder / "clip").mkdir()
    (folder / "clip" / "open_clip_config.json").write_text(json.dumps(CLIP))
    (folder / "clip" / "open_clip_model.safetensors").write_bytes(b"")


def image_bytes(kind: str) -> bytes:
    """Return a small image of noise."""
    pixels = np.random.default_rng(0).integers(0, 256, (9, 11, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def _write_set(folder: Path) -> None:
    folder.mkdir()
    with tarfile.open(folder / "set-0.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        for number in range(3):
            name = f"{number:03}é" if number == 1 else f"{number:03}"  # the second has a pax header
            facts = json.dumps({"name": "fish", "source": "here"}).encode()
            for extension, content in (("png", image_bytes("PNG")), ("json", facts), ("cls", b"1")):
                member = tarfile.TarInfo(f"{name}.{extension}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    shard = {"url": "set-0.tar", "nsamples": 3, "sha256": "0" * 64}
    index = {"schema": 1, "name": "set", "source": "x", "classes": 2, "class_names": ["a", "b"], "shards": [shard]}
    (folder / "index.json").write_text(json.dumps(index))
    row = {"sample": "a", "label": 1, "name": "fish", "source": "here", "file": "f.png"}
    (folder / "samples.jsonl").write_text("".join(json.dumps({"key": key, **row}) + "\n" for key in range(3)))


def _write_store(folder: Path) -> None:
    folder.mkdir()
    tensors = {"features": torch.ones(3, 4), "embedding": torch.ones(3, 2), "label": torch.arange(3)}
    (folder / "features.safetensors").write_bytes(save(tensors))
    write_manifest(folder, Manifest({"weights_sha256": "0" * 64}, "fp32", 3, 2, {"name": "x"}, "0" * 64))


def _write_words(folder: Path) -> None:
    parts = (
        NegativePart("noun", ("the nice {}",), ("sea", "glass"), (0.1, 0.2)),
        NegativePart("adjective", ("This is a {} photo",), ("blue",)),
    )
    NegativeList(parts, ("the nice {}",), {"criterion": {"fraction": 0.1}}).save(folder / "words.json")
    np.save(folder / "words.npy", np.array(["sea", "the nice lake", "blue"]))
    (folder / "words.txt").write_text("# words\nsea\nblue\tadjective\nglass\tnoun\n")
    _write_proposals(folder)
    (folder / "classes.txt").write_text("red square\ngreen square\nblau\n")
    (folder / "list.txt").write_text("image.png 0\nimage.jpeg 1\n")
    (folder / "wordnet").mkdir()
    header = "  1 This is WordNet 3.0\n"
    (folder / "wordnet" / "data.noun").write_text(header + "00001740 03 n 01 entity 0 003 ~ 00001930 n 0000 | that\n")
    (folder / "wordnet" / "data.adj").write_text(header + "00001740 00 a 02 able(p) 0 apt 1 000 | having\n")


QUESTION = Question("parrot", (Message("user", "List fish."),))


def _write_proposals(folder: Path) -> None:
    origin = origin_for("eoe-near", ["red square"], {"model": "parrot", "parameters": {"temperature": 0.0}})
    names = (ProposedName("dace", "near", "red square", "0" * 16), ProposedName("sea lion", "far"))
    NamesFile(origin, names, {"an ID class": ("red square",)}).save(folder / "names.json")
    TextsFile(origin, (ClassTexts("red square", ("a square",), ("a red circle",)),)).save(folder / "texts.json")
    AnswerCache(folder / "answers").put(QUESTION, Answer("- dace", "parrot-1", False, 7, 3))
    AnswerCache(folder / "answers").path(QUESTION).rename(folder / "answer.json")
    message = {"role": "assistant", "content": 'Two: ["dace", "sea lion"]\n- **chub**: a fish'}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 7, "completion_tokens": 3}
    (folder / "completion.json").write_text(json.dumps({"model": "parrot-1", "choices": [choice], "usage": usage}))
    write_taxonomy(folder / "taxonomy")


METRICS = {"auroc": 0.9, "aupr_id": 0.8, "aupr_ood": 0.7, "fpr95_id_pos": 0.4, "fpr95_ood_pos": 0.3}
TOWER = {
    **{"name": "x", "image_size": "8x8", "mean": "0.5, 0.5, 0.5", "std": "0.5, 0.5, 0.5"},
    **{"interpolation": "bicubic", "resize_mode": "center 0.9"},
}


def _write_run(folder: Path) -> None:
    (folder / "scores").mkdir(parents=True)
    (folder / "maps").mkdir()
    row = {"score": "mcm", "variant": None, "seed": None, "protocol": "static", "set": "far", "group": "far"}
    mean = {"score": "mcm", "variant": None, "protocol": "static"}
    provenance = {"sets": {"far": {"index_sha256": "0" * 64, "count": 3}}, "encoder": TOWER, "version": "1"}
    results = {
        **{"schema": 1, "stage": "test", "provenance": provenance},
        "id": [{"set": "set", "n": 3, "accuracy": 0.5}],
        "rows": [{**row, "n_id": 3, "n_ood": 3, **METRICS}],
        "means": [{**mean, "group": group, **METRICS} for group in ("far", "all")],
        "skipped": [{"set": "far", "key": 3, "shard": "s", "sample": "a", "reason": "r"}],
    }
    (folder / "results.json").write_text(json.dumps(results))
    (folder / "config.test.yaml").write_text(
        json.dumps({"data": {"root": str(folder.parent), "class_names": "cifar10"}})
    )
    for name, base in (("set", 0.5), ("far", 0.0)):
        numbers = np.arange(3)
        arrays = {"key": numbers, "label": numbers, "predicted": numbers, "mcm": (numbers + base).astype(np.float32)}
        np.savez(folder / "scores" / f"{name}.npz", **arrays)
        maps = np.arange(12, dtype=np.float32).reshape(3, 2, 2)
        np.savez(folder / "maps" / f"{name}.npz", key=numbers, mcm=maps)


CONFIG = {
    "model": {
        "class_path": "ZeroShot",
        "init_args": {
            "encoder": {"name": "ViT-B-16/openai"},
            "prompts": "mcm",
            "scores": {"mcm": {"class_path": "MCM", "init_args": {"temperature": 1.0}}},
        },
    },
    "data": {
        **{"root": "/data", "id": "set", "ood": {"far": ["far"]}, "class_names": "cifar10", "batch_size": 8},
        **{"loader": {"workers": 0, "on_error": "raise"}, "features": "auto", "val": {"id": 0.1}},
    },
    "trainer": {"devices": 1, "accelerator": "cpu", "precision": "32-true", "logger": False},
}
CLIP = {
    "model_cfg": {"embed_dim": 16, "vision_cfg": {"width": 32}, "text_cfg": {"width": 32, "tokenizer_kwargs": {}}},
    "preprocess_cfg": {},
}


def _write_checkpoint(path: Path) -> None:
    content = {
        "state_dict": {"head.weight": torch.ones(2, 3), "head.bias": torch.zeros(2)},
        "mmood": {"version": "1", "model": CONFIG["model"], "data": CONFIG["data"]},
        "epoch": 1,
    }
    torch.save(content, path)


def damaged_checkpoint(content: bytes, rng: Any) -> bytes:
    """Return a checkpoint with damaged bytes, or a whole one with damaged settings."""
    if rng.randrange(2):
        return damaged_bytes(content, rng)
    checkpoint = torch.load(io.BytesIO(content), weights_only=True)
    checkpoint["mmood"] = damaged_value(checkpoint["mmood"], rng)
    buffer = io.BytesIO()
    try:
        torch.save(checkpoint, buffer)
    except (UnicodeEncodeError, ValueError):
        return damaged_bytes(content, rng)  # pickle has no halves of surrogate pairs
    return buffer.getvalue()


def _write_photos(folder: Path) -> None:
    with zipfile.ZipFile(folder / "photos.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("cat/a.png", "dog/b.png"):
            archive.writestr(name, name.encode() * 9)
    paths = Paths.of(["cat/a.png", "dog/b.png"])
    digests = np.arange(64, dtype=np.uint8).reshape(2, 32)
    numbers = np.arange(2, dtype=np.int64)
    write_contents(folder / "photos.safetensors", Contents(paths, numbers, numbers, digests))


def read_index(folder: Path) -> None:
    index = load_index(str(folder), "set")
    assert index.count == sum(shard.nsamples for shard in index.shards) == len(index.keys())
    assert all(shard.nsamples >= 0 for shard in index.shards)
    for number in range(len(index.shards)):
        place = index.location(number)
        assert place.startswith(("http://", "https://", f"{folder}/set/"))
        assert ".." not in place.split("/")
    index.hash.encode()
    " ".join(index.class_names).encode()


def read_table(folder: Path) -> None:
    rows = load_index(str(folder), "set").rows()
    assert [row.key for row in rows] == [0, 1, 2]
    json.dumps([row.name for row in rows], ensure_ascii=False).encode()


def read_shard(folder: Path) -> None:
    index = load_index(str(folder), "set")
    for skip in (True, False):
        samples = list(index.read(index.keys(), skip))
        assert [sample.key for sample in samples] == [0, 1, 2]
        for sample in samples:
            if isinstance(sample, Skipped):
                assert skip
                continue
            _check_sample(sample)


def _check_sample(sample: RawSample) -> None:
    try:
        assert decode_image(sample, "apply").mode == "RGB"
        assert 0 <= decode_label(sample, 2) < 2
    except SampleError as error:
        check_sentence(error)


def read_folder_index(folder: Path) -> None:
    contents = read_contents(folder / "photos.safetensors")
    assert len(contents.paths) == len(contents.size) == len(contents.stamp) == len(contents.sha256)
    assert all(contents.paths)


def read_zip(folder: Path) -> None:
    shutil.rmtree(Path(os.environ["MMOOD_CACHE"]) / "sets", ignore_errors=True)
    index = find_set("data", f"zip:{folder / 'photos.zip'}")
    samples = list(index.read(index.keys(), skip=True))
    assert [sample.key for sample in samples] == list(range(index.count))


def index_shard(folder: Path) -> None:
    for file in ("index.json", "samples.jsonl"):
        (folder / "bare" / file).unlink(missing_ok=True)
    index = index_folder(folder / "bare", (), "", lambda _: None).index
    assert len(load_index(str(folder), "bare").rows()) == index.count


def read_image(kind: str) -> Callable[[Path], None]:
    def read(folder: Path) -> None:
        image = decode_image(RawSample(0, "shard", "name", (folder / f"image.{kind}").read_bytes()), "apply")
        assert image.mode == "RGB"
        assert len(image.tobytes()) == 3 * image.width * image.height

    return read


def read_store(folder: Path) -> None:
    store = open_store(folder / "store")
    assert store.features.shape[0] == len(store.label) == 3
    (store.features.sum() + store.label.sum()).item()


def read_words(name: str) -> Callable[[Path], None]:
    def read(folder: Path) -> None:
        found = load_negatives(folder / name)
        assert len(found) == len(found.words) == len(found.prompts) > 0
        "".join(text for prompts in found.prompts for text in prompts).encode()
        assert NegativeList.from_document(found.to_document(), "itself").content_hash == found.content_hash

    return read


def read_texts(folder: Path) -> TextsFile:
    found = load_class_texts(folder / "texts.json", ["red square"])
    assert all(text.isprintable() for entry in found.texts for text in (*entry.positive, *entry.negative))
    return found


def read_kept_answer(folder: Path) -> Answer | None:
    cache = AnswerCache(folder / "answers")
    path = cache.path(QUESTION)
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(folder / "answer.json", path)
    return cache.get(QUESTION)


def read_completion(folder: Path) -> Answer:
    return parse_completion((folder / "completion.json").read_bytes(), "The answer")


def read_answer(folder: Path) -> list[str]:
    """Whatever a model writes, only names come of it."""
    entries = parse_list((folder / "completion.json").read_bytes().decode(errors="replace")).entries
    names = [name for entry in entries if (name := clean_name(entry)) is not None]
    assert all(name.isprintable() and not set(name) & set("/\\<>[]{}|`") for name in names)
    return names


def read_class_names(folder: Path) -> None:
    names = load_class_names(str(folder / "classes.txt"))
    assert names
    assert all(name.strip() == name and name for name in names)


def read_image_list(folder: Path) -> None:
    for position in range(len(found := from_list(folder / "list.txt", folder))):
        assert found[position].image


def read_results_file(folder: Path) -> None:
    results = read_results(folder / "run")
    for row in results.rows:
        assert all(0 <= getattr(row.metrics, name) <= 1 for name in METRICS)
    for text in (to_json(results), to_csv(results), to_markdown(results), to_latex(results)):
        text.encode()


def read_scores(folder: Path) -> None:
    (run,) = load_runs([folder / "run"])
    for entry in run.sets.values():
        assert len(entry.key) == len(entry.label) == len(entry.predicted)
        for values in entry.scores.values():
            assert len(values) == len(entry.key)
            assert not np.isnan(values).any()


def read_maps(folder: Path) -> None:
    (run,) = load_runs([folder / "run"])
    maps = run_maps(run)
    picture = Image.new("RGB", (6, 4))
    for name, of in {} if maps is None else maps.sets.items():
        for key in of.key[:3].tolist():
            laid = maps.over(name, key, picture, (60, 40))
            assert laid is not None
            assert laid.size == picture.size


def read_report(folder: Path) -> None:
    out = folder / "report.html"
    write_report([folder / "run"], out, resamples=0)
    assert "<script>alert" not in out.read_text()


def read_config_file(folder: Path) -> None:
    parsed(["--config", str(folder / "config.yaml")])


def read_yaml(folder: Path) -> None:
    parse_yaml((folder / "config.yaml").read_text(errors="replace"), "The file")


def read_checkpoint_settings(folder: Path) -> None:
    config = read_config(folder / "a.ckpt")
    assert set(config) == {"model", "data"}
    assert not any(text in repr(config) for text in ("'class_path': 'os.", "'optimizer': 'os."))


def _write_prompts(folder: Path) -> None:
    families = {
        "positive": PromptFamily(torch.randn(1, 4, 8), Layout("every", ".")),
        "negative": PromptFamily(torch.randn(3, 4, 8), Layout("none", "")),
    }
    tower = {"name": "ViT-B-16", "pretrained": "openai", "weights_sha256": "0" * 64}
    maps = {"map": torch.eye(3)}
    save_prompts(LearnedPrompts("CoOp", ("cat", "dog"), families, ("a {}",), tower, {"seed": 1}, maps), folder)


def read_learned_prompts(folder: Path) -> None:
    prompts = load_prompts(folder / "prompts")
    assert all(family.context.ndim == 3 for family in prompts.families.values())
    assert all(bool(family.context.isfinite().all()) for family in prompts.families.values())
    assert all(isinstance(name, str) for name in prompts.class_names)


def check_sentence(error: BaseException) -> None:
    """Assert that an error is one clear sentence."""
    text = str(error)
    assert 10 < len(text) < 2000, text
    assert "Traceback" not in text
    assert text[0].isprintable()


def _write_archives(folder: Path) -> None:
    (folder / "archive").mkdir()
    inner = folder / "set" / "set-0.tar"
    with tarfile.open(folder / "archive" / "a.tar", "w") as tar:
        tar.add(inner, "n01440764.tar")
        tar.add(inner, "images/1.png")
    (folder / "archive" / "a.tar.gz").write_bytes(gzip.compress((folder / "archive" / "a.tar").read_bytes()))
    (folder / "recipe.yaml").write_text(json.dumps(RECIPE))


def read_archive(folder: Path) -> None:
    _check_archive(folder / "archive" / "a.tar")


def read_compressed_archive(folder: Path) -> None:
    plain = folder / "archive" / "plain.tar"
    plain.unlink(missing_ok=True)
    decompress(folder / "archive" / "a.tar.gz", plain)
    _check_archive(plain)


def _check_archive(path: Path) -> None:
    archive = open_archive(path)
    try:
        for member in archive.members:
            assert len(archive.read(member)) == member.size
            assert not member.path.startswith("/")
            assert ".." not in member.path.split("/")
    finally:
        archive.close()


def read_recipe_file(folder: Path) -> None:
    recipe = read_recipe(folder / "recipe.yaml")
    assert "/" not in recipe.name
    for need in recipe.needs:
        for file in need.files:
            assert "/" not in file.name
            assert all(url.startswith(("http://", "https://", "hf://datasets/")) for url in file.urls)


def read_image_hashes(folder: Path) -> None:
    content = (folder / "set" / "images.npy").read_bytes()
    assert len(parse_hashes(content, 3, "The hashes")) == 3


READERS = {
    "archive": Reader("archive/a.tar", read_archive),
    "archive-gz": Reader("archive/a.tar.gz", read_compressed_archive, share=0.5),
    "recipe": Reader("recipe.yaml", read_recipe_file, damaged_yaml),
    "image-hashes": Reader("set/images.npy", read_image_hashes, share=0.5),
    "index": Reader("set/index.json", read_index, damaged_json),
    "table": Reader("set/samples.jsonl", read_table, damaged_lines),
    "shard": Reader("set/set-0.tar", read_shard, share=2),
    "folder-index": Reader("photos.safetensors", read_folder_index),
    "zip": Reader("photos.zip", read_zip, share=0.5),
    "shard-index": Reader("bare/bare-0.tar", index_shard, share=0.5),
    "manifest": Reader("store/manifest.json", lambda folder: read_manifest(folder / "store"), damaged_json),
    "store": Reader("store/features.safetensors", read_store),
    "words-json": Reader("words.json", read_words("words.json"), damaged_json),
    "words-text": Reader("words.txt", read_words("words.txt")),
    "words-array": Reader("words.npy", read_words("words.npy")),
    "names": Reader("names.json", read_words("names.json"), damaged_json),
    "class-texts": Reader("texts.json", read_texts, damaged_json),
    "kept-answer": Reader("answer.json", read_kept_answer, damaged_json),
    "completion": Reader("completion.json", read_completion, damaged_json),
    "answer": Reader("completion.json", read_answer),
    "taxonomy": Reader("taxonomy/data.noun", lambda folder: read_taxonomy(folder / "taxonomy"), share=0.5),
    "senses": Reader("taxonomy/index.noun", lambda folder: read_taxonomy(folder / "taxonomy"), share=0.5),
    "class-names": Reader("classes.txt", read_class_names),
    "image-list": Reader("list.txt", read_image_list),
    "wordnet": Reader("wordnet/data.noun", lambda folder: read_wordnet(folder / "wordnet"), share=0.5),
    "results": Reader("run/results.json", read_results_file, damaged_json),
    "scores": Reader("run/scores/far.npz", read_scores),
    "maps": Reader("run/maps/far.npz", read_maps),
    "maps-of-id": Reader("run/maps/set.npz", read_maps),
    "maps-of-results": Reader("run/results.json", read_maps, damaged_json),
    "report-of-results": Reader("run/results.json", read_report, damaged_json, share=0.1),
    "report-of-settings": Reader("run/config.test.yaml", read_report, damaged_yaml, share=0.1),
    "config": Reader("config.yaml", read_config_file, damaged_yaml, share=0.1),
    "yaml": Reader("config.yaml", read_yaml, damaged_yaml),
    "checkpoint": Reader("a.ckpt", read_checkpoint_settings, damaged_checkpoint),
    **{f"state-{name}": Reader(f"states/{name}.safetensors", reader(name), damaged_state) for name in METHODS},
    "prompts": Reader("prompts/prompts.json", read_learned_prompts, damaged_json),
    "prompt-vectors": Reader("prompts/context.safetensors", read_learned_prompts),
    "detector": Reader("detectors/onnx/detector.json", detectors.read_onnx, detectors.damaged_document),
    "detector-scores": Reader("detectors/onnx/detector.json", detectors.read_onnx, damaged_json, share=0.5),
    "detector-of-torch": Reader(
        "detectors/torch/detector.json", detectors.read_torch, detectors.damaged_document, share=0.1
    ),
    "detector-tensors": Reader("detectors/torch/score.safetensors", detectors.read_torch, share=0.1),
    "calibration": Reader("detectors/torch/calibration.safetensors", detectors.read_calibration),
    "job": Reader("detectors/killed/job.json", detectors.finish_job, damaged_json, share=0.5),
    "job-rows": Reader("detectors/killed/00000001.jsonl", detectors.finish_job, damaged_lines, share=0.5),
    "job-embeddings": Reader("detectors/killed/00000001.npy", detectors.finish_job, share=0.5),
    "decisions-csv": Reader("detectors/decisions.csv", detectors.read_decisions(".csv"), share=0.5),
    "decisions-jsonl": Reader(
        "detectors/decisions.jsonl", detectors.read_decisions(".jsonl"), damaged_lines, share=0.5
    ),
    "decisions-parquet": Reader("detectors/decisions.parquet", detectors.read_decisions(".parquet"), share=0.5),
    "decisions-embeddings": Reader(
        "detectors/decisions.jsonl.embeddings.npy", detectors.read_decisions(".jsonl"), share=0.5
    ),
    "model-config": Reader(
        "clip/open_clip_config.json",
        lambda folder: check_open_clip(EncoderSettings(name=f"local-dir:{folder / 'clip'}")),
        damaged_json,
    ),
    **{f"image-{kind}": Reader(f"image.{kind}", read_image(kind)) for kind in ("jpeg", "png", "webp", "gif")},
    **{f"image-{kind}": Reader(f"image.{kind}", read_image(kind), share=0.5) for kind in ("bmp", "tiff", "ppm")},
}
