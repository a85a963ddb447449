"""Registry: the sets that the literature evaluates on, their sizes, and where to get them without Google Drive."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mmood.errors import MmoodError, unknown


@dataclass(frozen=True)
class KnownSet:
    """A set of the literature.

    Attributes:
        name: the folder's name below `data.root`.
        count: number of images that the protocol has.
        get: where to get it and how to pack it, in sentences.
        variant: the other protocol's set of the same images, if there is one.
    """

    name: str
    count: int
    get: str
    variant: str | None = None


@dataclass(frozen=True)
class Benchmark:
    """An ID set, groups of OoD sets, and the class list.

    Attributes:
        name: as in `data.benchmark`.
        id: the ID test set.
        ood: group -> names of sets.
        class_names: name of the list of ID classes.
        notes: the source of the protocol, and what to know when comparing numbers.
    """

    name: str
    id: str
    ood: Mapping[str, tuple[str, ...]]
    class_names: str
    notes: str


_LISTS = "https://huggingface.co/datasets/torch-uncertainty/ood-datasets-splits (imagenet1k/)"
_HUB = "https://huggingface.co/datasets/torch-uncertainty"
_MOS = "http://pages.cs.wisc.edu/~huangrui/imagenet_ood_dataset"
_DTD = "https://www.robots.ox.ac.uk/~vgg/data/dtd/ (dtd-r1.0.1.tar.gz)"
_IMAGENET = "ImageNet-1k needs an account at https://image-net.org (ILSVRC2012)"

_SETS = (
    KnownSet(
        "imagenet",
        50_000,
        f"{_IMAGENET}; sort the validation images into one folder per synset and use `mmood pack --folder`.",
        variant="imagenet_openood",
    ),
    KnownSet(
        "imagenet_openood",
        45_000,
        f"{_IMAGENET}; OpenOOD's test list test_imagenet.txt is at {_LISTS}; use `mmood pack --list`.",
        variant="imagenet",
    ),
    KnownSet("imagenet_train", 1_281_167, f"{_IMAGENET}; use `mmood pack --folder train --shuffle 0`."),
    KnownSet("inaturalist", 10_000, f"{_MOS}/iNaturalist.tar.gz, or inaturalist.zip at {_HUB}/inaturalist."),
    KnownSet("sun", 10_000, f"{_MOS}/SUN.tar.gz."),
    KnownSet("places", 10_000, f"{_MOS}/Places.tar.gz (Places365 of the CIFAR benchmarks is another set)."),
    KnownSet(
        "textures",
        5_640,
        f"{_DTD}; all images, `mmood pack --folder images`.",
        variant="textures_5160",
    ),
    KnownSet(
        "textures_5160",
        5_160,
        f"{_DTD}; OpenOOD's list test_textures.txt is at {_LISTS}; use `mmood pack --list`.",
        variant="textures",
    ),
    KnownSet("ssb_hard", 49_000, f"ssb_hard.zip at {_HUB}/SSB_hard, list test_ssb_hard.txt at {_LISTS}."),
    KnownSet(
        "ninco",
        5_879,
        "NINCO_all.tar.gz at https://zenodo.org/records/8013288; pack the folder NINCO_OOD_classes only.",
    ),
    KnownSet(
        "openimage_o",
        15_869,
        "OpenImage-O.zip at https://zenodo.org/records/10540831 holds 17,632 images; "
        f"OpenOOD's list test_openimage_o.txt at {_LISTS} names the 15,869; use `mmood pack --list`.",
    ),
    KnownSet("imagenet_o", 2_000, "imagenet-o.tar at https://huggingface.co/datasets/cais/imagenet-o."),
    KnownSet("cifar10", 10_000, "`mmood pack --torchvision CIFAR10 --split test --download`."),
    KnownSet("cifar100", 10_000, "`mmood pack --torchvision CIFAR100 --split test --download`."),
    KnownSet("svhn", 26_032, "`mmood pack --torchvision SVHN --split test --download`."),
)

_BENCHMARKS = (
    Benchmark(
        "imagenet-mos",
        "imagenet",
        {"far": ("inaturalist", "sun", "places", "textures")},
        "imagenet-openai",
        "MOS (arXiv 2105.01879): all 50,000 validation images, all 5,640 textures.",
    ),
    Benchmark(
        "imagenet-openood",
        "imagenet_openood",
        {"near": ("ssb_hard", "ninco"), "far": ("inaturalist", "textures_5160", "openimage_o")},
        "imagenet-openai",
        "OpenOOD v1.5 (arXiv 2306.09301): 45,000 ID test images, 5,160 textures; NINCO pooled over its classes.",
    ),
    Benchmark(
        "cifar10",
        "cifar10",
        {"near": ("cifar100",), "far": ("svhn", "textures")},
        "cifar10",
        "Sets that torchvision has, in full; OpenOOD's CIFAR lists drop some images, so its numbers differ slightly.",
    ),
    Benchmark(
        "cifar100",
        "cifar100",
        {"near": ("cifar10",), "far": ("svhn", "textures")},
        "cifar100",
        "Sets that torchvision has, in full; OpenOOD's CIFAR lists drop some images, so its numbers differ slightly.",
    ),
)

KNOWN_SETS: Mapping[str, KnownSet] = {known.name: known for known in _SETS}
BENCHMARKS: Mapping[str, Benchmark] = {known.name: known for known in _BENCHMARKS}


def find_benchmark(name: str) -> Benchmark:
    """Return the benchmark of this name; MmoodError with the nearest one if there is none."""
    if name not in BENCHMARKS:
        raise unknown("benchmark", name, BENCHMARKS)
    return BENCHMARKS[name]


def where_to_get(name: str) -> str | None:
    """Return where to get a set and its expected size, or None for a set that the registry does not know."""
    known = KNOWN_SETS.get(name)
    return None if known is None else f"{name} ({known.count:,} images): {known.get}"


def check_sample_count(name: str, count: int) -> None:
    """Raise MmoodError if a set of the registry has another number of samples than its protocol."""
    known = KNOWN_SETS.get(name)
    if known is None or known.count == count:
        return
    hint = f" or use its variant '{known.variant}'" if known.variant else ""
    raise MmoodError(
        f"The set '{name}' holds {count:,} samples, but the protocol has {known.count:,}; pack it from the full source"
        f"{hint}, or give it another name to evaluate it as your own."
    )
