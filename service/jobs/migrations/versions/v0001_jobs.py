"""Jobs, their items and their results."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Three tables."""
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("model", sa.String(64), nullable=False),
        sa.Column("model_sha256", sa.String(64), nullable=False),
        sa.Column("options", sa.Text, nullable=False),
        sa.Column("num_items", sa.Integer, nullable=False),
        sa.Column("idempotency_key", sa.String(255), unique=True),
        sa.Column("request_sha256", sa.String(64), nullable=False),
        sa.Column("started", sa.Float),
        sa.Column("cancelled", sa.Float),
        sa.Column("finished", sa.Float),
        sa.Column("webhook_url", sa.Text),
        sa.Column("webhook_due", sa.Float),
        sa.Column("webhook_tries", sa.Integer, nullable=False),
        sa.Column("webhook_error", sa.Text),
        sa.Column("webhook_delivered", sa.Float),
    )
    op.create_index("jobs_by_webhook", "jobs", ["webhook_due"])
    job = sa.ForeignKey("jobs.id", ondelete="CASCADE")
    op.create_table(
        "items",
        sa.Column("job_id", sa.String(36), job, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("uri", sa.Text, nullable=False),
        sa.Column("start_seconds", sa.Float, nullable=False),
        sa.Column("end_seconds", sa.Float),
        sa.Column("place", sa.String(36)),
        sa.Column("state", sa.String(9), nullable=False),
        sa.Column("owner", sa.String(64)),
        sa.Column("lease_until", sa.Float),
        sa.Column("fence", sa.Integer, nullable=False),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.UniqueConstraint("job_id", "id", name="items_by_id"),
    )
    op.create_index("items_by_state", "items", ["state", "number", "job_id"])
    op.create_index("items_of_job_by_state", "items", ["job_id", "state"])
    op.create_table(
        "results",
        sa.Column("job_id", sa.String(36), sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("row", sa.Text, nullable=False),
    )
