# ---
# jupyter:
#   jupytext:
#     formats: py:percent
# ---
# %% [markdown]
# # A detector in production
#
# A score becomes a detector by a threshold. The threshold comes from images of your classes alone, with a promise about new ones; the detector is a
# folder that needs neither config nor training code.

# %%
# !mmood demo --world_only --size 300 --steps 80 --pictures 5000

# %% [markdown]
# ## Calibrate
#
# Half of the ID test images, chosen by a hash of their keys, are for calibration.

# %%
import shutil

shutil.rmtree("detector", ignore_errors=True)
# !mmood calibrate --config demo_zeroshot.yaml --score neglabel --fraction 0.5 --out detector

# %% [markdown]
# ## Decide
#
# The promise: at least 95 % of new ID images are accepted, in expectation. Nothing is promised about OoD images, since none were seen. So measure
# both on new images:

# %%
from mmood import Detector
from mmood.demo.world import SETS, render

detector = Detector.load("detector")


def new_images(name, count=200):
    return [
        render(name, SETS[name], 10_000 + index, seed=0).image for index in range(count)
    ]


for name in ("demo-test", "demo-near", "demo-far"):
    decisions = detector(new_images(name))
    print(
        f"{name:10} accepted {sum(one.accepted for one in decisions) / len(decisions):6.1%}"
    )

# %%
detector(new_images("demo-far", 1)[0])

# %% [markdown]
# A p-value of 0.01 means: one in a hundred images of your classes looks at least as unusual.
#
# ## Decide on a folder, and watch
#
# `mmood detect` writes a row per image; the exit code of `mmood monitor` is 3 if the images are no longer those that the detector was calibrated
# on. Two days: on Monday images of the classes come in, on Tuesday a third of them are something else.

# %%
from pathlib import Path

monday = new_images("demo-test", 150)
tuesday = monday[:100] + new_images("demo-far", 50)
for day, images in (("monday", monday), ("tuesday", tuesday)):
    Path(day).mkdir(exist_ok=True)
    for number, image in enumerate(images):
        image.save(f"{day}/{number:03}.png")

# %%
# !mmood detect detector monday --out monday.csv --embeddings
# !mmood detect detector tuesday --out tuesday.csv --embeddings
# !mmood monitor detector monday.csv tuesday.csv

# %% [markdown]
# No label was needed to notice Tuesday. (Images that the detector can hardly tell from its classes, such as the near OoD ones, it cannot notice
# either: with those, Tuesday raises no alarm.) What is left is a service: `mmood export` writes the detector as ONNX, which runs without PyTorch, and
# `mmood serve` answers over HTTP ([Ship a detector](../ship.md)).
