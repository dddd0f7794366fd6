"""The loop of a search: questions, answers, what is learned from them, and how long a question may take."""
