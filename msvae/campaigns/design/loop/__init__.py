"""The loop of a search: proposals, evaluations, learning from them, and the time that a proposal may take."""
