"""Go on online from an offline run, or start SAC online with demonstrations.

    python experiments/iql.py --out runs/iql
    python experiments/finetune.py --run runs/iql --steps 5000

Pendulum, three seeds: from -198, -206 and -197 to -178, -183 and -177 in 22 s on two cores of a
Xeon (benchmarks/results/finetune_iql_pendulum.json).

    python experiments/finetune.py --dataset local/data/expert --offline-share 0.5

Without `--run` the agent is a fresh SAC, half of whose batches are the dataset's. With one, agent,
dataset and seeds are the run's, unless given. `--agent.calibrated` bounds CQL's penalty (Cal-QL).
"""

import sys

import tyro

from jaxrl import experiment, finetuning, processes


def main() -> None:
    """Go on online from an offline run, or start SAC online with demonstrations."""
    default = experiment.placed(finetuning.defaults(processes.given("run", sys.argv[1:])))
    config = tyro.cli(finetuning.Config, default=default, description=main.__doc__)
    finetuning.train(experiment.prepare(config))


if __name__ == "__main__":
    experiment.guard(main)
