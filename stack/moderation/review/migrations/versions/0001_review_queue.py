"""The queue's items and what happens to them."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "review_items",
        sa.Column("id", _ID, primary_key=True),
        sa.Column("key", sa.String(64), nullable=False, unique=True),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("content_hash", sa.String(64), nullable=False),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("request_id", sa.String(64), nullable=False),
        sa.Column("trace_id", sa.String(32), nullable=False),
        sa.Column("policy_version", sa.String(32), nullable=False),
        sa.Column("category", sa.String(32), nullable=False),
        sa.Column("score", sa.Double, nullable=False),
        sa.Column("leaning", sa.String(8), nullable=False),
        sa.Column("degraded", sa.Boolean, nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("urgency", sa.Double, nullable=False),
        sa.Column("enqueued_at", sa.Double, nullable=False),
        sa.Column("lease", sa.String(32)),
        sa.Column("reviewer", sa.String(64)),
        sa.Column("leased_until", sa.Double),
        sa.Column("times_leased", sa.Integer, nullable=False),
        sa.Column("decided_at", sa.Double),
        sa.Column("outcome", sa.String(8)),
        sa.Column("note", sa.Text),
    )
    undecided = sa.text("decided_at IS NULL")
    op.create_index(
        "ix_review_items_open",
        "review_items",
        ["priority", "enqueued_at"],
        sqlite_where=undecided,
        postgresql_where=undecided,
    )
    op.create_table(
        "review_events",
        sa.Column("id", _ID, primary_key=True),
        sa.Column("item_id", _ID, sa.ForeignKey("review_items.id"), nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("reviewer", sa.String(64)),
        sa.Column("lease", sa.String(32)),
        sa.Column("outcome", sa.String(8)),
    )
    op.create_index("ix_review_events_item_id", "review_events", ["item_id"])


def downgrade() -> None:
    op.drop_table("review_events")
    op.drop_table("review_items")
