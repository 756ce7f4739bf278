"""From an agent to something that can be rolled out: `Policy(start, step)`."""

from jaxrl.types import Agent, Policy


def memoryless(agent: Agent) -> Policy:
    """Acts on the present observation alone."""

    def step(state, memory, obs, reward, last, key=None):
        del reward, last
        return memory, agent.act(state, obs, key)

    return Policy(start=lambda n: (), step=step)
