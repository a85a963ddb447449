"""The argument parser of the tools beside LightningCLI."""

from __future__ import annotations

import argparse
from typing import NoReturn

from mmood.errors import MmoodError


class ToolParser(argparse.ArgumentParser):
    """An ArgumentParser that answers bad arguments in a sentence, without its usage."""

    def error(self, message: str) -> NoReturn:
        """Raise the message as MmoodError."""
        raise MmoodError(f"`{self.prog}`: {message}; `{self.prog} --help` lists what there is.")
