"""Poise."""
