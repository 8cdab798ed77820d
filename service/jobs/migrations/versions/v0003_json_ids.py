"""Ids that are no strings."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """A column of items."""
    op.add_column("items", sa.Column("json_id", sa.Text))
