"""Write a dataset of a trained run, which `--dataset local/OUT` reads, and any reader of RLDS.

    python experiments/sac.py --out runs/expert
    python experiments/sac.py --out runs/medium --stop-at-return -600
    python experiments/collect.py --run runs/medium --kind replay --steps 5000 --out data/replay
    python experiments/collect.py --run runs/expert --medium-run runs/medium --kind mixed \\
        --mixture.medium 0.5 --mixture.replay 0 --mixture.expert 0.5 --out data/medium-expert

The kinds are those of `jaxrl.collection`. Prints one JSON object: what `metadata.json` says too.
"""

import json

import tyro

from jaxrl import checkpoint, collection, experiment
from jaxrl.data.sources import rlds
from jaxrl.errors import UserError


def main(config: collection.Config) -> None:
    """Write a dataset of a trained run."""
    if config.out.expanduser().exists():
        raise UserError(f"out: {config.out} exists, expected a new directory")
    num_actions = checkpoint.settings(config.run)["spec"]["num_actions"]
    episodes, metadata = collection.episodes(config)
    rlds.write(config.out, episodes, metadata, num_actions)
    print(json.dumps({"out": str(config.out), **metadata}))


if __name__ == "__main__":
    experiment.guard(lambda: main(tyro.cli(collection.Config)))
