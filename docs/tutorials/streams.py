# ---
# jupyter:
#   jupytext:
#     formats: py:percent
# ---
# %% [markdown]
# # Streams and why order matters
#
# Some scores learn from the unlabelled test images while they score them. A published number of such a score belongs to a
# *stream*: to an order, a ratio of ID to OoD images and a batch size. Here is AdaNeg on the same images in three orders, beside
# NegLabel, on which it builds and which learns nothing.

# %%
# !mmood demo --world_only --size 300 --steps 80 --pictures 5000

# %% [markdown]
# Both scores as a config; it takes the data of the demo's own.

# %%
from pathlib import Path

_ = Path("streams.yaml").write_text("""
model:
  class_path: ZeroShot
  init_args:
    encoder: {name: local-dir:demo-world/clip}
    prompts: a photo of a {}
    scores:
      neglabel:
        class_path: NegLabel
        init_args: &settings
          groups: 1
          temperature: 0.02
          negatives: demo-world/data/words.txt
          mining: {templates: {id: ["a photo of a {}"], noun: ["a photo of a {}"]}}
      adaneg: {class_path: AdaNeg, init_args: *settings}
data:
  root: demo-world/data
  id: demo-test
  ood: {near: [demo-near], far: [demo-far]}
  class_names: demo-world/data/classes.txt
  loader: {workers: 0}
evaluation: {show: false, stream: {batch_size: 32}}
""")
# %%
# !mmood test --config streams.yaml --run_dir runs/shuffled --overwrite true --evaluation.stream.order shuffled
# !mmood test --config streams.yaml --run_dir runs/id-first --overwrite true --evaluation.stream.order id-first
# !mmood test --config streams.yaml --run_dir runs/ood-first --overwrite true --evaluation.stream.order ood-first

# %%
import json
from statistics import mean, stdev

print(f"{'order':10} {'score':9} {'near AUROC':>13} {'far AUROC':>13}")
for order in ("shuffled", "id-first", "ood-first"):
    rows = json.load(open(f"runs/{order}/results.json"))["rows"]
    for score in ("neglabel", "adaneg"):
        cells = []
        for group in ("near", "far"):
            values = [
                100 * row["auroc"]
                for row in rows
                if (row["score"], row["group"]) == (score, group)
            ]
            cells.append(
                f"{mean(values):5.1f} ± {stdev(values):3.1f}"
                if len(values) > 1
                else f"{values[0]:5.1f}      "
            )
        print(f"{order:10} {score:9} {cells[0]:>13} {cells[1]:>13}")

# %% [markdown]
# NegLabel's rows are equal, as they must be: a static score sees each image alone. AdaNeg's are not: the same images and the same settings give
# other numbers in another order, and with another seed of the same order (±). Here they differ by less than a point; on real images [up to
# 20 points](../streams.md#on-real-images) have been measured.
#
# ## What the memory has learned
#
# AdaNeg keeps confident images under the text that is nearest to them. Whether they are kept on the right side can be measured
# afterwards, since the labels are known then:

# %%
for run in json.load(open("runs/shuffled/results.json"))["provenance"]["streams"][
    "runs"
]:
    id, ood = run["purity"]["id"], run["purity"]["ood"]
    print(
        f"{run['set']:9} seed {run['seed']}: kept as ID {id['kept']:3}, truly ID {id['pure']:4.0%};",
        end=" ",
    )
    print(f"kept as OoD {ood['kept']:3}, truly OoD {ood['pure']:4.0%}")

# %% [markdown]
# So when you read a number of a test-time score, ask: which order, which ratio, which batch, how many seeds, reset between sets or carried? mmood
# writes them all into the results. And ask whether your own application is such a stream: if the first hundred images of the day are all OoD,
# the row `ood-first` is yours. [Streams](../streams.md) has these measurements on real images.
