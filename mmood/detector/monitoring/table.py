"""The findings of `mmood monitor` on the screen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.table import Table
from rich.text import Text

from mmood.detector.monitoring.monitor import Finding
from mmood.output.escaping import visible

_NOTHING = "\u2013"
_HEADS = ("images", "below threshold\n95 % interval", "PSI of scores\n(usual)", "mean cosine\n(usual)")


def to_rich(findings: Sequence[Finding]) -> Table:
    """Return a row for each window, for a terminal of 80 columns or more.

    The p-values are those after Holm's correction, which an alarm is raised by.
    """
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("window", overflow="fold")
    for head in _HEADS:
        table.add_column(head, justify="right", no_wrap=True)
    for finding in findings:
        name = Text(visible(Path(finding.window).name))
        if finding.alarm:
            name.append("\nALARM", "bold red")
        table.add_row(name, *_cells(finding))
    return table


def conclusion(findings: Sequence[Finding]) -> list[str]:
    """Return what the table comes to, in sentences."""
    expected = next((finding.below.expected for finding in findings if finding.below), None)
    alarms = sum(finding.alarm for finding in findings)
    sentences = [f"{alarms} of {len(findings)} windows raise an alarm."]
    if expected is not None:
        sentences.append(
            f"Without a change, at most {expected:.2%} of the images are below the threshold in expectation."
        )
    without = sum(finding.images > 0 and finding.embeddings is None for finding in findings)
    if without:
        sentences.append(
            f"{without} windows have no embeddings beside them and were tested by their scores alone; "
            "`mmood detect --embeddings` keeps them."
        )
    return sentences


def _cells(finding: Finding) -> list[Text]:
    images = Text(f"{finding.images}" + (f"\n{finding.broken} broken" if finding.broken else ""))
    if finding.below is None or finding.scores is None:
        return [images, *[Text(_NOTHING)] * 3]
    below, scores, embeddings = finding.below, finding.scores, finding.embeddings
    share = f"{below.share:.1%} ({100 * below.low:.1f}-{100 * below.high:.1f})"
    cells = [images, _with_p(share, finding, "share below")]
    cells.append(_with_p(f"{scores.psi:.3f} ({scores.psi_expected:.3f})", finding, "scores"))
    if embeddings is None:
        return [*cells, Text(_NOTHING)]
    return [*cells, _with_p(f"{embeddings.cosine:.4f} ({embeddings.cosine_expected:.4f})", finding, "embeddings")]


def _with_p(value: str, finding: Finding, test: str) -> Text:
    return Text(f"{value}\n").append(
        f"p {finding.adjusted[test]:.2g}", "bold red" if test in finding.because else "dim"
    )
