"""A run as one file that others can repeat: a zip that is a Workflow Run RO-Crate."""
