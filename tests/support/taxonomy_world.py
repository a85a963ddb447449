"""A small WordNet of things for the tests of taxonomies, with its index of senses."""

from pathlib import Path

from mmood.words.wordnet import LEXICOGRAPHER_FILES

HEADER = "  1 This software and database is provided ...\n  2 WordNet 2.9 Copyright by nobody.  \n"

# Indentation is "is a kind of"; then the supersense, the words, and "!" for a single thing or "~" for a common word.
THINGS = """\
Tops entity
 animal animal ~
  animal fish ~
   animal cyprinid
    animal tench Tinca_tinca
    animal goldfish
    animal dace
    animal chub
     animal lake_chub
    animal Wanda !
   animal shark ~
    animal great_white
  animal bird ~
   animal crane.2
   animal hen ~
    animal bantam
 artifact machine ~
  artifact crane.1 ~
  artifact lathe ~
 artifact tool ~
 shape figure ~
  shape circle ~
  shape square ~
  shape oval
 food dish ~
  food soup ~
  food Welsh_rarebit
 plant plant.1 ~
  plant rose ~
 cognition idea ~
"""


def write_taxonomy(folder: Path, things: str = THINGS) -> Path:
    """Write data.noun, index.noun and data.adj; a line `word.2` is the second sense of its word."""
    folder.mkdir(parents=True, exist_ok=True)
    synsets, path, senses = [], [], {}
    for number, line in enumerate(things.splitlines(), start=1):
        depth = len(line) - len(line.lstrip())
        supersense, *words = line.split()
        offset = f"{1000 + number:08}"
        path[depth:] = [offset]
        common, single = "~" in words, "!" in words
        words = [word for word in words if word not in "~!"]
        sign = "@i" if single else "@"
        pointers = f"001 {sign} {path[depth - 1]} n 0000" if depth else "000"
        written = [word.partition(".")[0] for word in words]
        count = f"{len(words):02x}"
        file = LEXICOGRAPHER_FILES.index(f"noun.{supersense}")
        pairs = " ".join(f"{word} 0" for word in written)
        synsets.append(f"{offset} {file:02} n {count} {pairs} {pointers} | a thing\n")
        for word, spelling in zip(words, written, strict=True):
            rank = int(word.partition(".")[2] or 1)
            senses.setdefault(spelling.lower(), []).append((rank, offset, common))
    (folder / "data.noun").write_text(HEADER + "".join(synsets))
    (folder / "data.adj").write_text(HEADER)
    lines = []
    for word, found in sorted(senses.items()):
        found.sort()
        offsets = " ".join(offset for _, offset, _ in found)
        lines.append(f"{word} n {len(found)} 1 @ {len(found)} {sum(common for _, _, common in found)} {offsets}  \n")
    (folder / "index.noun").write_text(HEADER + "".join(lines))
    return folder
