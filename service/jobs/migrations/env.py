"""Run by Alembic, on the connection that `service.jobs.database.migrate` opened."""

from __future__ import annotations

from alembic import context

from service.jobs.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
