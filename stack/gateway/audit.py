"""The gateway's part of the audit trail: what is written of a call that goes to the engine."""

from stack.gateway.call import Call
from stack.service import audit
from stack.telemetry.logs import utc


class Audit(audit.Audit):
    """The trail, which knows calls."""

    def record(self, call: Call) -> None:
        """The prompt of a call that goes to the engine now."""
        self.write(
            {
                "received_at": utc(call.received_at),
                "request_id": call.ids.request_id,
                "trace_id": call.ids.trace_id,
                "tenant": call.tenant,
                "assistant": call.assistant,
                "messages": call.prompt,
            }
        )
