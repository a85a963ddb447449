"""The measurements of `make gpu` run, in a tiny size on the CPU, and the page holds what they found."""

import json
from dataclasses import replace

import torch
from gpu import page as pages
from gpu.__main__ import MODULES, main, measured


def test_the_page_is_made_of_what_was_measured(toy_model, tmp_path, monkeypatch):
    sizes = {name: module.TINY for name, module in MODULES.items()}
    sizes["embedding"] = replace(sizes["embedding"], encoder=toy_model)
    found = json.loads(json.dumps(measured(sizes)))
    found["negatives"]["images"] = 123_456_789
    text = pages.page(found)
    assert "123,456,789 embeddings" in text
    assert text.count("\n## ") == len(MODULES)
    assert "nan" not in text
    (tmp_path / "gpu.json").write_text(json.dumps(found))
    monkeypatch.setattr("sys.argv", ["gpu", "--from", str(tmp_path / "gpu.json"), "--page", str(tmp_path / "gpu.md")])
    assert main() == 0
    assert (tmp_path / "gpu.md").read_text() == text


def test_without_a_gpu_it_says_so_and_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("sys.argv", ["gpu", "--page", str(tmp_path / "gpu.md")])
    assert main() == 0
    assert len(capsys.readouterr().out.splitlines()) == 1
    assert not (tmp_path / "gpu.md").exists()
