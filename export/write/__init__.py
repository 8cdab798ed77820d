"""Bundles as files, and as text for the eye."""
