# ---
# jupyter:
#   jupytext:
#     formats: py:percent
# ---
# %% [markdown]
# # Negative labels explained
#
# MCM asks which class an image looks like most. It never asks whether it looks like something *else*. CLIP knows many other
# things, and their names cost nothing: the negative labels of NegLabel.

# %%
# !mmood demo --world_only --size 300 --steps 80 --pictures 5000

# %%
import torch

from mmood import EncoderSettings, ZeroShot
from mmood.demo.world import SETS, render
from mmood.scores import MCM

classes = open("demo-world/data/classes.txt").read().splitlines()
words = open("demo-world/data/words.txt").read().splitlines()
print(len(classes), "class names, such as", classes[:3])
print(len(words), "other names, such as", words[:3] + words[-3:])

# %% [markdown]
# ## The score by hand
#
# NegLabel is the softmax mass of the class names among class names and negative labels. With temperature T:

# %%
model = ZeroShot(
    EncoderSettings("local-dir:demo-world/clip"),
    classes,
    {"mcm": MCM()},
    prompts="a photo of a {}",
)
reference, transform = model.reference(), model.encoder.transform()
negatives = reference.encode_words(words, ["a photo of a {}"])


def embedded(name, count=200):
    images = [render(name, SETS[name], index, seed=0).image for index in range(count)]
    with torch.no_grad():
        return model.encoder.encode_image(
            torch.stack([transform(image) for image in images])
        ).embedding


def neglabel(images, negatives, temperature=0.05):
    positive, negative = images @ reference.prototypes.T, images @ negatives.T
    return (
        (positive / temperature).logsumexp(1) - (negative / temperature).logsumexp(1)
    ).double()


images = {name: embedded(name) for name in ("demo-test", "demo-near", "demo-far")}
for name, rows in images.items():
    mass = neglabel(rows, negatives).sigmoid()
    print(f"{name:10} mean mass of the class names {mass.mean():.2f}")

# %% [markdown]
# ## How many, and which?

# %%
from mmood import ood_metrics


def auroc(negatives):
    scores = {name: neglabel(rows, negatives).numpy() for name, rows in images.items()}
    return [
        100 * ood_metrics(scores["demo-test"], scores[name]).auroc
        for name in ("demo-near", "demo-far")
    ]


generator = torch.Generator().manual_seed(0)
for count in (1, 10, 30, len(words)):
    chosen = torch.randperm(len(words), generator=generator)[:count]
    near, far = auroc(negatives[chosen])
    print(f"{count:3} random words: near {near:5.1f}, far {far:5.1f}")

nonsense = reference.encode_words(
    ["tax form", "democracy", "yesterday", "opinion"], ["a photo of a {}"]
)
near, far = auroc(nonsense)
print(f"words that name nothing visible: near {near:5.1f}, far {far:5.1f}")

# %% [markdown]
# Far OoD images look so little like the classes that a few words suffice, even words that name nothing visible: any fixed reference
# shows that no class stands out. Near OoD is different. Here a word must name what the image shows, and look more like it than
# the class names do. Without any knowledge of the OoD images, NegLabel takes thousands of WordNet's words and keeps those that are *far from all class names*, so that an ID
# image does not fall for them. That also explains its weakness: names of near OoD things are close to the class names, so they are not chosen.
#
# Two mistakes are easily made. The list must not contain your classes under another name ("auto" for "car"). And words must not be chosen by
# looking at the OoD test images: here the demo's list names them, which is why its numbers are an upper bound.
#
# With your own classes, `mmood negatives` mines such a list from WordNet, and `mmood propose` asks a language model ([Names of
# outliers](../names.md)). The demo's list as a file:

# %%
# !mmood test --config demo_zeroshot.yaml --model.scores.neglabel.negatives demo-world/data/words.txt --run_dir runs/negatives --overwrite true
