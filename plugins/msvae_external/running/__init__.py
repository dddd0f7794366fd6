"""How a program runs: its environment, its folder, and the guard between it and its rank."""
