"""What comes before a run: a look at data and a first study, a look at the machine, and an estimate."""
