"""Settings: checked in one way, and recorded as plain data by the objects that they build."""

from mmood.settings.checks import check_choice, check_count, check_number
from mmood.settings.recorded import Recorded, plain

__all__ = ["Recorded", "check_choice", "check_count", "check_number", "plain"]
