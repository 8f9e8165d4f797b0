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
    checkpoint.pt of train_dqn; a TorchScript file that ends in .pt; or sb3:FILE.zip of
    Stable-Baselines3, optionally followed by ,STATISTICS.pkl (its VecNormalize) and ,deterministic.
    With --data the default is the policy that acted."""
    behaviour: str | None = None
    """The policy that acts, with the same values as --policy. The default is the evaluated policy
    (on finite problems the problem's own behaviour policy). With --data it is the policy that
    acted, or estimate, which learns its probabilities from the data."""
    ratio_limit: Annotated[float | None, above(0)] = None
    """Largest importance ratio π(a|s)/b(a|s) (dimensionless). Larger ratios are lowered to it and
    counted. There is no limit if not given."""
    gamma: Annotated[float | None, from_to(0, 1)] = None
    """Discount γ in [0, 1]. The default is that of the problem (0.99 on Gymnasium problems and
    with --data)."""


@dataclass(frozen=True, kw_only=True)
class FeatureSettings(CheckedSettings):
    """The features and their network."""

    features: Annotated[str, one_of(("neural", "given"))] = "neural"
    """neural: a body learns the features; given: no body learns; the features are those of the
    finite problem, or the observations of --data."""
    body: Annotated[str, one_of(BODIES, own=True)] = "mlp"
    """mlp, paper_atari, nature_atari, or module:function that makes a module from the shape of an
    observation."""
    hidden: Annotated[tuple[int, ...] | None, count(1)] = None
    """Units of each hidden layer of the mlp; one layer with 32 units if not given, no hidden layer
    if no number follows."""
    width: Annotated[int | None, count(1)] = None
    """Number of learned features d. The default is half the number of states on finite problems
    and 16 otherwise."""
    activation: Annotated[str, one_of(ACTIVATIONS)] = "tanh"
    """Activation of the mlp: tanh, relu, softplus, silu, gelu, sigmoid."""
    constant_feature: bool = False
    """Make one feature of the mlp the constant 1, so that the head has a bias."""
    layer_norm: bool = False
    """Apply layer normalisation before every activation of the mlp."""


@dataclass(frozen=True, kw_only=True)
class UpdateSettings(CheckedSettings):
    """How an update is made."""

    schedule: Annotated[str, read_by(check_schedule)] = "constant"
    """constant; linear (falls to 0 at the end of the run; --resume cannot make such a run longer);
    general or strongly-convex (the paper's exponents); polynomial:A, or
    polynomial:BODY,HEAD,AUXILIARY, with exponents of your own. NAME@H, for the last three, holds
    the steps nearly constant over H updates: ((H + k)/H)^(-a) after k updates."""
    optimizer: Annotated[
        tuple[str, ...], read_by(_one_or_three, whole=True), one_of(OPTIMIZER_MAKERS)
    ] = ("sgd",)
    """sgd, rmsprop or adam: one name for all parts, or three names for body, head and auxiliary."""
    max_grad_norm: Annotated[float | None, above(0)] = None
    """Largest Euclidean norm of the direction of a part (body, head, auxiliary) in one run. Longer
    directions are shortened. There is no limit if not given."""
    average: Annotated[str, one_of(AVERAGED_PARTS)] = "none"
    """Polyak averaging of no parameters, of the head, or of all parameters. The mean over the
    updates is measured and saved as the value function. It does not change what is learned."""
    average_after: Annotated[int, count(0)] = 0
    """For --average: number of updates at the beginning that are not in the mean."""
    reward_scale: Annotated[str, read_by(fixed_reward_scale)] = "none"
    """Divide rewards while learning: by nothing (none), by a number, or by the standard deviation
    of the returns of the first stream (auto). Values and errors keep the unit of the rewards."""
    batch: Annotated[int, count(1)] = 1
    """Transitions per update. Their directions are averaged."""
    replay_window: Annotated[int, count(0)] = 0
    """For --sampling replay: number of latest transitions that are kept; 0 keeps all."""
    sequence_length: Annotated[int, count(1)] = 8
    """For --sampling sequences: transitions per segment. --batch is the number of segments."""
    constraint: Annotated[str, read_by(projection)] = "none"
    """Projection of θ and of W after each update: none, box:R or ball:R with radius R."""
    ridge: Annotated[float, at_least(0)] = 0.0
    """Coefficient λ of a ridge λ/2·‖θ‖² on the head."""
    epsilon: Annotated[float, at_least(0)] = 0.0
    """Coefficient ε of C + εI for the auxiliary vectors."""
    psi: Annotated[str, one_of(PSI_KINDS)] = "random"
    """Features ψ of the generalized rule. random: random tanh features; fourier: random cosines;
    observation: the observation itself; snapshot: random tanh features and those of a copy of the
    body, renewed every 1,000 updates; present: random tanh features and those of the body."""
    psi_width: Annotated[int, count(0)] = 0
    """Number of random features ψ; 0 means four times --width."""
    target_period: Annotated[int, count(1)] = 100
    """Updates between two renewals of the target network of fqe."""
    lstd_window: Annotated[int, count(1)] = 1000
    """Number of latest transitions that an LSTD head uses; 1 means only the present batch."""
    lstd_epsilon: Annotated[float, at_least(0)] = 1e-3
    """Coefficient ε of (A + εI)⁻¹ for an LSTD head."""


@dataclass(frozen=True, kw_only=True)
class MeasuringSettings(CheckedSettings):
    """Length of learning, and measuring of errors."""

    runs: Annotated[int, count(1)] = 10
    """Number of independent runs. Each has its own initial parameters and, without --data, its own
    stream."""
    steps: Annotated[int | None, count(1)] = None
    """Updates per run. The default is the usual number for the problem (20,000 on Gymnasium
    problems and with --data)."""
    measure_every: Annotated[int | None, count(1)] = None
    """Updates between two measurements. If not given, there are some 50 measurements, more of them
    at the beginning: measurement i is after (i/50)² of the run."""
    truth_states: Annotated[int, count(0)] = 200
    """Gymnasium problems: number of states whose true value is estimated by Monte Carlo; 0 for no
    true values."""
    truth_rollouts: Annotated[int, count(2)] = 8
    """Gymnasium problems: returns per state whose mean estimates the true value; at least 2."""
    held_out: Annotated[int, count(2)] = 5000
    """Gymnasium problems: number of transitions of a separate stream, from which the moments A, b
    and C are estimated."""


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
    """auto: compile if learning takes longer than compiling, some 10 seconds per rule; on; off."""
    out: Path | None = None
    """Folder of the run; with several rules, each has a folder in it. Default: runs/PROBLEM."""
    resume: bool = False
    """Continue the run in --out. Only --steps (which may increase) and --device may differ."""
