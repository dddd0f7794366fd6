"""Campaigns: one room for each question that a user asks, with its tables, its run and its figures."""
