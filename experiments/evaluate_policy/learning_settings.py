"""The flags that all programs of policy evaluation share: how is learned, measured and kept."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(kw_only=True)
class LearningSettings:
    """How a population learns to evaluate a policy, how it is measured, and where it is kept."""

    features: str = "neural"
    """neural: a body learns them; given: those that a finite problem gives, or the vectors of
    --data as they are (no body)."""
    runs: int = 10
    """Independent runs, each with initial parameters and, but for --data, a stream of its own."""
    steps: int | None = None
    """Updates a run; the field's usual number if not given (20,000 on Gymnasium problems
    and data)."""
    schedule: str = "constant"
    """constant; general or strongly-convex (the paper's exponents); polynomial:A[,B,C]."""
    optimizer: list[str] | None = None
    """sgd or rmsprop: one for all parts, or three for body, head and auxiliary (sgd)."""
    gamma: float | None = None
    """Discount γ in [0, 1]; the problem's own if not given (0.99 on Gymnasium problems
    and data)."""
    policy: str | None = None
    """The policy to evaluate: default, soft or uniform on Gymnasium problems; module:function; a
    checkpoint.pt of train_dqn; with --data the one that acted if not given."""
    behaviour: str | None = None
    """The policy that acts, likewise; the evaluated one if not given (a chain's own on chains)."""
    body: str = "mlp"
    """mlp, paper_atari, nature_atari, or module:function of the observation's shape."""
    hidden: list[int] | None = None
    """Units of each hidden layer of the mlp (32); without a number there is no hidden layer."""
    width: int | None = None
    """Learned features d; half the states on a chain, 16 on Gymnasium problems if not given."""
    activation: str = "tanh"
    """Activation of the mlp: tanh, relu, softplus, silu, gelu, sigmoid."""
    constant_feature: bool = False
    """Make one of the mlp's features the constant 1, a bias of the head."""
    batch: int = 1
    """Transitions an update; their directions are averaged."""
    replay_window: int = 0
    """For --sampling replay: how many of the latest transitions are kept; 0 for all."""
    sequence_length: int = 8
    """For --sampling sequences: transitions in a segment; --batch is the number of segments."""
    constraint: str = "none"
    """Projection of θ and W each: none, box:R or ball:R."""
    ridge: float = 0.0
    """λ of a ridge λ/2·‖θ‖² on the head."""
    epsilon: float = 0.0
    """ε of C + εI for the auxiliary vectors."""
    psi: str = "random"
    """Frozen features of the generalized rule: random, fourier, observation, snapshot, present."""
    psi_width: int = 0
    """How many random features ψ has; 0 for four times the width."""
    lstd_window: int = 1000
    """Transitions that an LSTD head remembers; 1 for the present batch alone."""
    lstd_epsilon: float = 1e-3
    """ε of (A + εI)⁻¹ for an LSTD head."""
    measure_every: int = 100
    """Updates between two measurements; the first is after the first update."""
    truth_states: int = 200
    """Gymnasium problems: states at which the true value is estimated by Monte Carlo."""
    truth_rollouts: int = 8
    """Gymnasium problems: returns averaged at each of these states, at least 2."""
    held_out: int = 5000
    """Gymnasium problems: transitions of a separate stream that the moments are estimated from."""
    dtype: str = "float32"
    """float32 or float64, for learning; errors are always measured in float64."""
    compile: str = "auto"
    """auto: compile where the number of steps is worth its 10 to 20 seconds a rule; on; off."""
    seed: int = 0
    """Seed of everything; same seed, machine and --compile, same result to the bit on the CPU."""
    device: str = "auto"
    """auto, cpu or cuda."""
    out: Path | None = None
    """Folder of the run, or of one run a rule; runs/PROBLEM if not given."""
    resume: bool = False
    """Go on with the run in --out; only --steps (longer) and --device may differ."""
    overwrite: bool = False
    """Replace a run in --out."""
