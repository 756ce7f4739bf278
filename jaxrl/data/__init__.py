"""Experience: the replay ring of online agents, and datasets for offline ones."""
