"""Every metric that the project's own services expose is defined in this package, and nowhere else.

One module a service. Labels are bounded: their values come from the configuration.
"""

from stack.telemetry.metrics.drift import DriftMetrics
from stack.telemetry.metrics.gate import GateMetrics
from stack.telemetry.metrics.gateway import GatewayMetrics
from stack.telemetry.metrics.llm import CanaryMetrics
from stack.telemetry.metrics.moderation import ModerationMetrics
from stack.telemetry.metrics.rag import RagMetrics

__all__ = ["CanaryMetrics", "DriftMetrics", "GateMetrics", "GatewayMetrics", "ModerationMetrics", "RagMetrics"]
