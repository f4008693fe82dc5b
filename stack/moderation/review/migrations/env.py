"""Alembic's entry: migrates the connection that `stack.moderation.review.database` hands over.

A new revision is a new file in `versions/`; a test compares the tables that all of them make with `models.py`.
"""

from alembic import context

from stack.moderation.review.models import Base

context.configure(connection=context.config.attributes["connection"], target_metadata=Base.metadata)
context.run_migrations()
