"""What run.sh compares: `same.py weights|results|stores FOLDER FOLDER`; exit code 1 and the difference if they differ."""

import json
import sys
from pathlib import Path

import numpy as np
import torch


def weights(one: Path, two: Path) -> str:
    """Compare the checkpoints of two runs, bit for bit."""
    names = [sorted(path.name for path in folder.glob("*.ckpt")) for folder in (one, two)]
    assert names[0] == names[1], f"checkpoints {names[0]} and {names[1]}"
    for name in names[0]:
        first, second = (torch.load(folder / name, weights_only=True) for folder in (one, two))
        assert first["global_step"] == second["global_step"], f"{name}: steps"
        other = [key for key, value in first["state_dict"].items() if not torch.equal(value, second["state_dict"][key])]
        assert not other, f"{name}: {len(other)} of {len(first['state_dict'])} tensors differ, such as {other[0]}"
    steps = torch.load(one / "last.ckpt", weights_only=True)["global_step"]
    return f"{', '.join(names[0])}: every tensor is the same, bit for bit, after {steps} steps"


def results(one: Path, two: Path) -> str:
    """Compare the numbers of two tests: counts and metrics, and the scores of every image."""
    first, second = (json.loads((folder / "results.json").read_text()) for folder in (one, two))
    worlds = [each["provenance"]["world_size"] for each in (first, second)]
    for part in ("id", "rows", "means"):
        assert first[part] == second[part], f"{part}:\n{first[part]}\n{second[part]}"
    largest = 0.0
    for path in sorted((one / "scores").glob("*.npz")):
        with np.load(path) as left, np.load(two / "scores" / path.name) as right:
            assert left.files == right.files
            assert np.array_equal(left["key"], right["key"]), f"{path.name}: other images"
            largest = max(largest, *(float(np.abs(left[name] - right[name]).max()) for name in ("mcm", "max_logit")))
    assert largest < 1e-5, f"scores differ by {largest}"
    row = min(first["rows"], key=lambda row: row["auroc"])
    return (
        f"{len(first['rows'])} rows equal on {worlds[0]} and {worlds[1]} processes, e.g. {row['score']} on {row['set']}: "
        f"AUROC {row['auroc']:.6f}; single scores differ by at most {largest:.0e}"
    )


def stores(one: Path, two: Path) -> str:
    """Compare two folders of features, bit for bit."""
    from mmood.features.store import open_store

    compared = 0
    for folder in sorted(path.parent for path in one.rglob("manifest.json")):
        left, right = open_store(folder), open_store(two / folder.relative_to(one))
        for name in ("label", "features", "embedding"):
            assert np.array_equal(getattr(left, name), getattr(right, name)), f"{folder.name}: {name}"
        compared += len(left.label)
    assert compared, "no store"
    return f"{compared} images have the same features, bit for bit"


if __name__ == "__main__":
    kind, *folders = sys.argv[1:]
    try:
        print({"weights": weights, "results": results, "stores": stores}[kind](*map(Path, folders)))
    except AssertionError as difference:
        sys.exit(f"{kind} differ: {difference}")
