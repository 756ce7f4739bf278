"""Loops as generators: they play and learn; scripts decide what to log, score and save."""

from jaxrl.loops.loop import Loop, Run, check_fits, check_memory, seeds, shard, step_of, train

__all__ = ["Loop", "Run", "check_fits", "check_memory", "seeds", "shard", "step_of", "train"]
