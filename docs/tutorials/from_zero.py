# ---
# jupyter:
#   jupytext:
#     formats: py:percent
# ---
# %% [markdown]
# # From zero to AUROC
#
# Is this image one of my classes at all? We ask a CLIP that question about images of a small synthetic world, and measure
# how often it is right. Nothing is downloaded.

# %% [markdown]
# ## A world
#
# The command renders sets of images and pre-trains a tiny CLIP on their captions. What exists is kept, so the other
# tutorials begin with the same line and find the world made.

# %%
# !mmood demo --world_only --size 300 --steps 80 --pictures 5000

# %% [markdown]
# The ID classes are 20 coloured shapes. *Near* OoD images are other pairings of the same colours and shapes; *far* OoD images
# are patterns. Each row shows six images of one set:

# %%
from PIL import Image

from mmood.demo.world import SETS, render

rows = [
    [render(name, SETS[name], i, seed=0).image for i in range(6)]
    for name in ("demo-test", "demo-near", "demo-far")
]
side = rows[0][0].width
sheet = Image.new("RGB", (6 * side, 3 * side))
for r, row in enumerate(rows):
    for c, image in enumerate(row):
        sheet.paste(image, (c * side, r * side))
sheet

# %% [markdown]
# ## A score
#
# CLIP embeds images and texts in one space. By hand first: compare the first image of each row with the prompt of each class.

# %%
import torch

from mmood import EncoderSettings, ZeroShot
from mmood.scores import MCM

classes = open("demo-world/data/classes.txt").read().splitlines()
model = ZeroShot(
    EncoderSettings("local-dir:demo-world/clip"),
    classes,
    {"mcm": MCM()},
    prompts="a photo of a {}",
)
transform = model.encoder.transform()
with torch.no_grad():
    embedding = model.encoder.encode_image(
        torch.stack([transform(row[0]) for row in rows])
    ).embedding
cosines = embedding @ model.reference().prototypes.T
for name, row in zip(("ID  ", "near", "far "), cosines):
    nearest = row.topk(3).indices.tolist()
    print(name, *(f"{classes[i]} {row[i]:.2f}" for i in nearest), sep="   ")

# %% [markdown]
# For the ID image one class stands out. *Maximum concept matching* (MCM) is how clearly it does: the largest probability of
# the softmax over the cosines. It is returned as log-odds, in which nothing rounds to 1.

# %%
probabilities = cosines.double().softmax(dim=1).amax(dim=1)
print("MCM by hand", [round(value, 4) for value in torch.logit(probabilities).tolist()])

# %% [markdown]
# ## A test
#
# One command scores all images of all sets with several scores at once, in one pass:

# %%
# !mmood test --config demo_zeroshot.yaml --run_dir runs/zeroshot --overwrite true

# %% [markdown]
# **AUROC** is the probability that a random ID image scores higher than a random OoD image: 50 % is chance. **FPR95 ID-pos** is
# the share of OoD images that slip through at the threshold that accepts 95 % of ID images; for OoD-pos the roles are
# exchanged ([the two](../concepts/fpr95.md)). Far OoD is easy and near OoD is hard, as with photographs: "red circle" and "blue star"
# are classes, and "red star" is not.
#
# ## The same by hand
#
# A run keeps the score of every image, so that any number can be computed again:

# %%
import numpy as np

from mmood import ood_metrics

id_scores, near, far = (
    np.load(f"runs/zeroshot/scores/{name}.npz")["mcm"]
    for name in ("demo-test", "demo-near", "demo-far")
)
wins = (id_scores[:, None] > far[None]).mean() + 0.5 * (
    id_scores[:, None] == far[None]
).mean()
print(
    f"far AUROC  counted pair by pair {100 * wins:.2f} %, by mmood {100 * ood_metrics(id_scores, far).auroc:.2f} %"
)

threshold = np.sort(id_scores)[len(id_scores) - int(np.ceil(0.95 * len(id_scores)))]
print(
    f"far FPR95  counted {100 * (far >= threshold).mean():.2f} %, by mmood {100 * ood_metrics(id_scores, far).fpr95_id_pos:.2f} %"
)

# %% [markdown]
# Next: [your own images](../start.md#your-own-images), or [training](three_ways.md).
