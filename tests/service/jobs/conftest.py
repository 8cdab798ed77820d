"""Databases for all tests of jobs."""

from tests.service.jobs.databases import database_url, postgres_url

__all__ = ["database_url", "postgres_url"]
