"""The world of run.sh: sets as shards and a tiny random CLIP in the folder that the command line names."""

import json
import sys
from pathlib import Path

import torch
from open_clip import CLIP
from safetensors.torch import save_model

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from conftest import CLASSES, MODEL, SIZES, _images

from mmood.cli.main import main

ALIGN = """\
model:
  class_path: AlignmentFineTune
  init_args:
    encoder: {{name: "local-dir:{world}/clip"}}
    alignment: 0.001
    prompts: a photo of a {{}}
    loss: {{texts: distinct, multi_positive: true}}
    optimizer: {{class_path: torch.optim.AdamW, init_args: {{lr: 1.0e-4, weight_decay: 0.1}}}}
    schedule: {{class_path: WarmupCosine, init_args: {{warmup: 10}}}}
    scores: {{mcm: {{class_path: MCM, init_args: {{temperature: 0.1}}}}, max_logit: {{class_path: MaxLogit}}}}
data:
  root: {world}/shards
  id: toy-test
  ood: {{near: [toy-near], far: [toy-far]}}
  train: toy-train
  val: {{id: 0.25, ood: {{far: [toy-val-ood]}}}}
  class_names: {world}/shards/classes.txt
  batch_size: 2
  loader: {{workers: 1, shuffle_buffer: 8}}
trainer:
  accelerator: cpu
  precision: 32-true
  max_epochs: 6
  enable_progress_bar: false
  enable_model_summary: false
  callbacks:
    - class_path: lightning.pytorch.callbacks.ModelCheckpoint
      init_args: {{monitor: id/accuracy, mode: max, filename: "{{epoch}}"}}
    - class_path: lightning.pytorch.callbacks.ModelCheckpoint
      init_args: {{filename: last, enable_version_counter: false}}
"""


def make(world: Path) -> None:
    """Write shards/, clip/ and align.yaml below `world`."""
    (world / "shards").mkdir()
    (world / "shards" / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    # The last set is for `embed`, which is done with the others before anyone could interrupt it.
    for number, (name, size) in enumerate({**SIZES, "many": 400}.items()):
        labelled = name in ("toy-train", "toy-test")
        _images(world / "images" / name, size, seed=number, labelled=labelled)
        packed = ["--out", str(world / "shards" / name), "--folder", str(world / "images" / name)]
        packed += ["--classes", str(world / "shards" / "classes.txt")] if labelled else []
        assert main(["pack", *packed, "--shard_size", str(max(15, size // 4)), "--quiet"]) == 0
    (world / "clip").mkdir()
    (world / "clip" / "open_clip_config.json").write_text(json.dumps({"model_cfg": MODEL, "preprocess_cfg": {}}))
    torch.manual_seed(0)
    save_model(CLIP(**MODEL), str(world / "clip" / "open_clip_model.safetensors"))
    (world / "align.yaml").write_text(ALIGN.format(world=world))


if __name__ == "__main__":
    make(Path(sys.argv[1]))
