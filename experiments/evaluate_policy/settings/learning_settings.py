"""The settings that all programs of policy evaluation share, in groups as --help shows them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from experiments.runs.command_line.common_settings import ComputingSettings, FolderSettings
from experiments.runs.command_line.requirements import (
    above,
    at_least,
    count,
    from_to,
    one_of,
    read_by,
)
from experiments.runs.command_line.settings import CheckedSettings
from neural_tdc.learning.averaging import AVERAGED_PARTS
from neural_tdc.learning.optimisers import OPTIMIZER_MAKERS
from neural_tdc.learning.projections import projection
from neural_tdc.learning.reward_scale import fixed_reward_scale
from neural_tdc.learning.schedules import check_schedule
from neural_tdc.networks.activations import ACTIVATIONS
from neural_tdc.networks.bodies import BODIES
from neural_tdc.rules.projection_features import PSI_KINDS


def _one_or_three(names: Sequence[str]) -> None:
    if len(names) not in (1, 3):
        raise ValueError("give one name, or three for body, head and auxiliary")


@dataclass(frozen=True, kw_only=True)
class PolicySettings(CheckedSettings):
    """The policies and the discount."""

    policy: str | None = None
    """The policy to evaluate: default, soft or uniform on Gymnasium problems; module:function; a
    checkpoint.pt of train_dqn; a TorchScript file ending in .pt; sb3:FILE.zip of Stable-Baselines3,
    with ,STATISTICS.pkl of its VecNormalize and ,deterministic if need be; with --data the one
    that acted if not given."""
    behaviour: str | None = None
    """The policy that acts, likewise; the evaluated one if not given (a chain's own on chains)."""
    ratio_limit: Annotated[float | None, above(0)] = None
    """Largest importance ratio π(a|s)/b(a|s) (dimensionless); greater ones are lowered to it and
    counted; no limit if not given."""
    gamma: Annotated[float | None, from_to(0, 1)] = None
    """Discount γ in [0, 1]; the problem's own if not given (0.99 on Gymnasium problems
    and data)."""


@dataclass(frozen=True, kw_only=True)
class FeatureSettings(CheckedSettings):
    """The features and their network."""

    features: Annotated[str, one_of(("neural", "given"))] = "neural"
    """neural: a body learns them; given: those that a finite problem gives, or the vectors of
    --data as they are (no body)."""
    body: Annotated[str, one_of(BODIES, own=True)] = "mlp"
    """mlp, paper_atari, nature_atari, or module:function of the observation's shape."""
    hidden: Annotated[tuple[int, ...] | None, count(1)] = None
    """Units of each hidden layer of the mlp (32 if not given); without a number there is no hidden
    layer."""
    width: Annotated[int | None, count(1)] = None
    """Learned features d; half the states on a chain, 16 on Gymnasium problems if not given."""
    activation: Annotated[str, one_of(ACTIVATIONS)] = "tanh"
    """Activation of the mlp: tanh, relu, softplus, silu, gelu, sigmoid."""
    constant_feature: bool = False
    """Make one of the mlp's features the constant 1, a bias of the head."""
    layer_norm: bool = False
    """Normalise what enters every activation of the mlp, over the layer's units."""


@dataclass(frozen=True, kw_only=True)
class UpdateSettings(CheckedSettings):
    """How an update is made."""

    schedule: Annotated[str, read_by(check_schedule)] = "constant"
    """constant; linear (falls to 0 at the end of the run, which --resume cannot make longer);
    general or strongly-convex (the paper's exponents); polynomial:A[,B,C]."""
    optimizer: Annotated[
        tuple[str, ...], read_by(_one_or_three, whole=True), one_of(OPTIMIZER_MAKERS)
    ] = ("sgd",)
    """sgd, rmsprop or adam: one for all parts, or three for body, head and auxiliary."""
    max_grad_norm: Annotated[float | None, above(0)] = None
    """Largest Euclidean norm of a direction, of each part (body, head, auxiliary) of each run by
    itself; longer ones are shrunk. No limit if not given."""
    average: Annotated[str, one_of(AVERAGED_PARTS)] = "none"
    """Polyak averaging: none, head, or all parameters. The mean over the updates is measured and
    saved as the value function; learning does not read it."""
    average_after: Annotated[int, count(0)] = 0
    """For --average: updates at the beginning that the mean leaves out."""
    reward_scale: Annotated[str, read_by(fixed_reward_scale)] = "none"
    """What rewards are divided by for learning: none, a number, or auto, the standard deviation of
    the returns of the first stream. Values and errors keep the unit of the rewards."""
    batch: Annotated[int, count(1)] = 1
    """Transitions per update; their directions are averaged."""
    replay_window: Annotated[int, count(0)] = 0
    """For --sampling replay: how many of the latest transitions are kept; 0 for all."""
    sequence_length: Annotated[int, count(1)] = 8
    """For --sampling sequences: transitions in a segment; --batch is the number of segments."""
    constraint: Annotated[str, read_by(projection)] = "none"
    """Projection of θ and W each: none, box:R or ball:R."""
    ridge: Annotated[float, at_least(0)] = 0.0
    """λ of a ridge λ/2·‖θ‖² on the head."""
    epsilon: Annotated[float, at_least(0)] = 0.0
    """ε of C + εI for the auxiliary vectors."""
    psi: Annotated[str, one_of(PSI_KINDS)] = "random"
    """Frozen features of the generalized rule: random, fourier, observation, snapshot, present."""
    psi_width: Annotated[int, count(0)] = 0
    """How many random features ψ has; 0 for four times the width."""
    target_period: Annotated[int, count(1)] = 100
    """Updates between two copies of the network that fqe takes its targets from."""
    lstd_window: Annotated[int, count(1)] = 1000
    """Transitions that an LSTD head remembers; 1 for the present batch alone."""
    lstd_epsilon: Annotated[float, at_least(0)] = 1e-3
    """ε of (A + εI)⁻¹ for an LSTD head."""


@dataclass(frozen=True, kw_only=True)
class MeasuringSettings(CheckedSettings):
    """How long is learned, and how errors are measured."""

    runs: Annotated[int, count(1)] = 10
    """Independent runs, each with initial parameters and, except for --data, a stream of its
    own."""
    steps: Annotated[int | None, count(1)] = None
    """Updates per run; the field's usual number if not given (20,000 on Gymnasium problems
    and data)."""
    measure_every: Annotated[int | None, count(1)] = None
    """Updates between two measurements, from the first update on; if not given there are some 50,
    denser at the beginning: the i-th after (i/50)² of the run."""
    truth_states: Annotated[int, count(0)] = 200
    """Gymnasium problems: states at which the true value is estimated by Monte Carlo; 0 for no
    truth."""
    truth_rollouts: Annotated[int, count(2)] = 8
    """Gymnasium problems: returns averaged at each of these states, at least 2."""
    held_out: Annotated[int, count(2)] = 5000
    """Gymnasium problems: transitions of a separate stream that the moments are estimated from."""


@dataclass(frozen=True, kw_only=True)
class LearningSettings(
    MeasuringSettings,
    PolicySettings,
    FeatureSettings,
    UpdateSettings,
    ComputingSettings,
    FolderSettings,
):
    """Learning to evaluate a policy."""

    compile: Annotated[str, one_of(("auto", "on", "off"))] = "auto"
    """auto: compile where the steps are worth some 10 seconds of compilation per rule; on; off."""
    out: Path | None = None
    """Folder of the run, or of one run per rule; runs/PROBLEM if not given."""
    resume: bool = False
    """Continue the run in --out; only --steps (longer) and --device may differ."""
