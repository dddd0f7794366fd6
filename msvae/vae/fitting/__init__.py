"""How networks are fitted: objective, steps, history, and ranks that train together."""
