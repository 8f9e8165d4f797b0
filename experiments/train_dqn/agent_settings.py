"""The settings of an agent: its network, its learning and its evaluations."""

from dataclasses import dataclass
from typing import Annotated

from agents.dqn.learner import PRECISIONS
from agents.dqn.objectives import CONTROL_RULES, LOSSES, TARGETS
from agents.dqn.optimizers import OPTIMIZERS
from agents.dqn.q_network import NETWORKS
from experiments.runs.command_line.common_settings import DEVICES
from experiments.runs.command_line.requirements import above, at_least, count, from_to, one_of
from experiments.runs.command_line.settings import CheckedSettings


@dataclass(frozen=True, kw_only=True)
class AgentSettings(CheckedSettings):
    """The agent, its network, its learning and its evaluations."""

    body_step: Annotated[float, above(0)]
    """Learning rate of the body."""
    head_step: Annotated[float, above(0)]
    """Learning rate of the head, the last layer."""
    rate_last: Annotated[float, from_to(0, 1)] = 1.0
    """Factor by which all learning rates are multiplied at the last step. It falls linearly from 1;
    1 means constant rates. If a finished run is continued with more --steps, the factor keeps its
    last value."""
    optimizer: Annotated[str, one_of(OPTIMIZERS)]
    """The optimiser: rmsprop (centred, decay 0.95), adam or sgd."""
    damping: Annotated[float | None, above(0)] = None
    """ε in the denominator of the optimiser. The default is 0.01 for rmsprop and 1e-8 for adam."""
    network: Annotated[str, one_of(NETWORKS)]
    """paper: one convolution and two fully connected layers; nature: three convolutions and two
    fully connected layers; mlp: fully connected layers only."""
    features: Annotated[int | None, count(1)] = None
    """Units of the last hidden layer, the features of the head. The default is 512 for nature, 256
    for paper on Atari and 128 otherwise."""
    hidden: Annotated[tuple[int, ...], count(1)] = (128,)
    """For --network mlp: units of each hidden layer before the last one."""
    rule: Annotated[str, one_of(CONTROL_RULES)] = "double-q"
    """Learning rule. double-q: the network chooses the next action, and the target network gives
    its value; q: the target network does both; qc, qrc, tdc (Algorithm 1): gradient TD with an
    auxiliary head for each action."""
    target: Annotated[str | None, one_of(TARGETS)] = None
    """Where the value of the next state comes from. network: a copy of the network; head: a copy of
    the head alone; none: the network itself. The default is network for q and double-q, and none
    for qc, qrc and tdc."""
    auxiliary_step: Annotated[float | None, above(0)] = None
    """For --rule qc, qrc, tdc: learning rate of the auxiliary heads. The default is that of the
    head."""
    kappa: Annotated[float | None, at_least(0)] = None
    """For --rule qrc: coefficient κ of the ridge on the auxiliary heads. The default is 1."""
    lambda_: Annotated[float, from_to(0, 1)] = 0.0
    """λ of λ-returns over segments of consecutive transitions, in [0, 1]. A trace ends before an
    explored action (Watkins). λ > 0 requires --n-step 1 and --environments 1."""
    sequence_length: Annotated[int, count(2)] = 8
    """For --lambda: transitions per segment. --batch must be a multiple of it."""
    loss: Annotated[str, one_of(LOSSES)] = "huber"
    """For --rule q and double-q: loss of the TD error. huber (quadratic up to 1) or squared."""
    gamma: Annotated[float, from_to(0, 1)] = 0.99
    """Discount γ per agent step, in [0, 1]."""
    n_step: Annotated[int, count(1)]
    """Number of rewards in a return before the value of the state that follows (n-step returns)."""
    reward_limit: Annotated[float, at_least(0)]
    """For learning, rewards are clipped to [-LIMIT, LIMIT]; 0 means no clipping. Scores are never
    clipped."""
    gradient_norm: Annotated[float, at_least(0)] = 0.0
    """Largest Euclidean norm of the gradient of all parameters. Longer gradients are shortened; 0
    means no limit."""
    steps: Annotated[int, count(1)]
    """Total number of agent steps. An agent step is one action; on Atari it lasts 4 frames."""
    environments: Annotated[int, count(1, 1000)] = 1
    """Number of games that are played in parallel, at most 1000. The number of updates per agent
    step does not depend on it."""
    batch: Annotated[int, count(1)]
    """Transitions per update."""
    update_every: Annotated[int, count(1)]
    """Agent steps per update."""
    target_period: Annotated[int, count(1)]
    """Agent steps between two copies of the network into the target network."""
    replay_capacity: Annotated[int, count(1)]
    """Capacity of the replay, in frames (observations)."""
    learning_starts: Annotated[int, count(0)]
    """Agent steps before the first update."""
    epsilon_first: Annotated[float, from_to(0, 1)] = 1.0
    """Probability of a random action at the beginning of training."""
    epsilon_last: Annotated[float, from_to(0, 1)]
    """Probability of a random action after --epsilon-steps."""
    epsilon_steps: Annotated[int, count(0)]
    """Agent steps over which this probability falls linearly."""
    sticky_actions: Annotated[float | None, from_to(0, 1)] = None
    """Atari and MinAtar: probability that the environment repeats the last action. The default is 0
    on Atari and 0.1 on MinAtar."""
    noop_max: Annotated[int, count(0)] = 30
    """Atari: largest number of no-op steps at the beginning of a game. The number is drawn at
    random."""
    frame_limit: Annotated[int, count(1)] = 108_000
    """Atari: emulated frames after which a game is truncated."""
    full_action_set: bool = False
    """Atari: use all 18 actions, not only those of the game."""
    life_loss: bool = True
    """Atari: in training, a lost life is the end of an episode. A score is always that of the whole
    game."""
    fire_reset: bool = False
    """Atari: press the fire button at the beginning of a game that waits for it."""
    measure_every: Annotated[int, count(1)]
    """Agent steps between two measurements."""
    evaluate_every: Annotated[int, count(1)]
    """Agent steps between two evaluations."""
    evaluation_episodes: Annotated[int, count(1, 1000)] = 10
    """Number of whole games of an evaluation, at most 1000. They are played in parallel, each with
    its own seed."""
    evaluation_epsilon: Annotated[float, from_to(0, 1)] = 0.05
    """Probability of a random action in evaluations."""
    evaluation_longest: Annotated[int, count(1)] = 27_000
    """Agent steps after which a game of an evaluation is stopped. Its score is the sum of its
    rewards until then."""
    precision: Annotated[str, one_of(PRECISIONS)] = "float32"
    """Precision of the products in forward and backward passes: float32; on a GPU also tf32
    (shorter mantissas); or bf16."""
    compile: bool = False
    """Compile the loss and its gradients. Compilation takes some 20 seconds."""
    threads: Annotated[int, count(0)] = 0
    """Number of threads per run. With 0, Atari uses all threads, divided among the runs at a time;
    other problems use one."""
    save_replay: bool = False
    """Store the replay in checkpoints, so that a resumed run continues where it was."""
    checkpoint_every: Annotated[float, at_least(0)] = 60.0
    """Seconds between two checkpoints."""
    device: Annotated[str, one_of(DEVICES)] = "auto"
    """cpu, cuda, or auto: a GPU if there is one."""
    deterministic: bool = False
    """On a GPU: the same seed gives the same result to the bit, by slower kernels."""
