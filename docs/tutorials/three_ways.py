# ---
# jupyter:
#   jupytext:
#     formats: py:percent
# ---
# %% [markdown]
# # Zero-shot, probe and fine-tuning compared
#
# The same encoder can be used in four ways: as it is, with a head taught by its own predictions (PLP), with a head taught by
# labels, and fine-tuned. Which detects OoD images best? A higher ID accuracy does not mean a better detector, so measure both.

# %%
# !mmood demo --world_only --size 300 --steps 80 --pictures 5000

# %% [markdown]
# ## Four runs
#
# Zero-shot needs no training. The probes train a linear head on stored features; the pseudo-label probe never reads a label.

# %%
# !mmood test --config demo_zeroshot.yaml --run_dir runs/zeroshot --overwrite true --evaluation.show false
# !mmood fit --config demo_plp.yaml --run_dir runs/plp --overwrite true --evaluation.show false --trainer.enable_model_summary false
# !mmood test --ckpt_path runs/plp/checkpoints/last.ckpt --run_dir runs/plp --overwrite true --evaluation.show false
# !mmood fit --config demo_linear.yaml --run_dir runs/linear --overwrite true --evaluation.show false --trainer.enable_model_summary false
# !mmood test --ckpt_path runs/linear/checkpoints/last.ckpt --run_dir runs/linear --overwrite true --evaluation.show false

# %% [markdown]
# Fine-tuning trains both towers with the contrastive loss and an alignment term; one epoch here.

# %%
# !mmood fit --config demo_align.yaml --data.batch_size 40 --trainer.max_epochs 1 --run_dir runs/align --overwrite true --evaluation.show false --trainer.enable_model_summary false
# !mmood test --ckpt_path runs/align/checkpoints/last.ckpt --run_dir runs/align --overwrite true --evaluation.show false

# %% [markdown]
# ## Side by side

# %%
import json

print(f"{'run':9} {'score':22} {'near':>6} {'far':>6} {'ID accuracy':>12}")
for run in ("zeroshot", "plp", "linear", "align"):
    results = json.load(open(f"runs/{run}/results.json"))
    means = {(mean["score"], mean["group"]): mean["auroc"] for mean in results["rows"]}
    for score in dict.fromkeys(row["score"] for row in results["rows"]):
        near, far = means[score, "near"], means[score, "far"]
        print(
            f"{run:9} {score:22} {100 * near:6.1f} {100 * far:6.1f} {100 * results['id'][0]['accuracy']:12.1f}"
        )

# %% [markdown]
# What to look at:
#
# * A head trained with cross-entropy is *confident everywhere*: its softmax (`msp`) can be worse than zero-shot on far OoD images,
#   whatever its ID accuracy. The features below the head are the same as before: `relative_mahalanobis` and `knn` read
#   these instead.
# * The pseudo-label probe has never read a label. How accurate it is depends on its teacher, the zero-shot model.
# * One epoch of fine-tuning with a small weight changes little here; with real towers and data it is where most of the ID accuracy
#   comes from.
# * Each row is one seed of one small world. `mmood report` adds intervals and paired tests before anybody should believe a
#   difference:

# %%
# !mmood report runs/zeroshot runs/plp runs/linear runs/align --out report.html --resamples 200

# %% [markdown]
# A leaderboard does not trust what runs claim: `mmood leaderboard` computes every number again from the scores of single images in
# the run folders, and refuses a folder whose results are others. [This one](../leaderboard/index.html) was made by the next line:

# %%
# !mmood leaderboard runs/zeroshot runs/plp runs/linear runs/align --out leaderboard --resamples 200
