"""`msvae run --dry-run`: what a study would do, how long it would take, and how much memory and disk."""
