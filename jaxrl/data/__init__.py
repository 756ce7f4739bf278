"""Experience: the replay ring of online agents."""
