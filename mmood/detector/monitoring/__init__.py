"""`mmood monitor`: whether the images of today are still those that a detector was calibrated for."""

from mmood.detector.monitoring.monitor import Finding, Reference, Rule, monitor, write_findings
from mmood.detector.monitoring.picture import write_picture
from mmood.detector.monitoring.table import conclusion, to_rich

__all__ = ["Finding", "Reference", "Rule", "conclusion", "monitor", "to_rich", "write_findings", "write_picture"]
