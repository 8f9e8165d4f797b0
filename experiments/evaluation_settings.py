"""The command line of policy evaluation: its flags, their checks, and what they stand for."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import torch

from agents.policy_evaluation import Report, Task, chain_task, control_task
from envs.control import PROBLEMS as CONTROL_PROBLEMS
from envs.control import ControlProblem, collect, control_problem
from envs.finite import FiniteMDP, checked
from envs.policies import policy_name
from envs.standard_problems import PROBLEMS as CHAINS
from envs.standard_problems import problem as standard_problem
from experiments.command_line import (
    UsageError,
    check_choice,
    check_fraction,
    check_integer,
    check_positive_integer,
    check_several,
    check_step_size,
    load_part,
    resolve_device,
    suggestion,
)
from neural_tdc.constraints import projection
from neural_tdc.experience import SAMPLINGS, Sampling
from neural_tdc.frozen_features import KINDS
from neural_tdc.networks import ACTIVATIONS, BODIES, MakeBody, check_body, mlp
from neural_tdc.optimizers import NAMES, Optimizer
from neural_tdc.rules import RULES, configured
from neural_tdc.schedules import exponents

GYMNASIUM_STEPS = 20_000
GYMNASIUM_WIDTH = 16
# Below this many updates a compiled program does not win back the time of its compilation.
WORTH_COMPILING = 10_000


@dataclass
class Settings:
    """Evaluate a fixed policy by Algorithm 1 and its relatives.

    Problems: random-walk-tabular, random-walk-dependent, random-walk-inverted, boyan, baird,
    garnet, garnet-SEED, garnet-off-policy, garnet-off-policy-SEED, grid; MountainCar-v0,
    CartPole-v1, Acrobot-v1 and any other Gymnasium id; or module:function.

    Rules: tdc (Algorithm 1), td, gtd2, tdrc, htd, vtrace, etd, residual, generalized, ttn,
    nonlinear-tdc, nonlinear-gtd2; or BODY+HEAD with a body of mspbe, semi_gradient, residual,
    corrected, generalized, frozen and a head of td, vtrace, residual, gtd2, tdc, tdrc, htd, etd,
    generalized, lstd; or module:function.
    """

    problem: str
    """A problem's name, or module:function that returns a FiniteMDP or makes an environment."""
    rule: list[str]
    """One or several learning rules, which learn from the same experience."""
    features: str = "neural"
    """neural: a body learns them; given: those that a finite problem gives (no body)."""
    sampling: str = "markov"
    """markov: the stream in its order; iid: draws from the whole stream; replay: from its past."""
    runs: int = 10
    """Independent runs, each with a stream and initial parameters of its own."""
    steps: int | None = None
    """Updates a run; the field's usual number if not given (20,000 on Gymnasium problems)."""
    head_step: float = 0.01
    """Step size β of the head θ (dimensionless factor of a direction)."""
    auxiliary_step: float | None = None
    """Step size η of the auxiliary vector ω; that of the head if not given."""
    body_step: float = 0.001
    """Step size α of the body W; 0 leaves the body as it was initialised."""
    schedule: str = "constant"
    """constant; general or strongly-convex (the paper's exponents); polynomial:A[,B,C]."""
    optimizer: list[str] | None = None
    """sgd or rmsprop: one for all parts, or three for body, head and auxiliary (sgd)."""
    gamma: float | None = None
    """Discount γ in [0, 1]; the problem's own if not given (0.99 on Gymnasium problems)."""
    policy: str | None = None
    """The policy to evaluate: default, soft or uniform on Gymnasium problems; module:function."""
    behaviour: str | None = None
    """The policy that acts, likewise; the evaluated one if not given (a chain's own on chains)."""
    body: str = "mlp"
    """mlp, paper_atari, nature_atari, or module:function of the observation's shape."""
    hidden: list[int] | None = None
    """Units of each hidden layer of the mlp (32)."""
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


class Plan(NamedTuple):
    """What checked settings stand for.

    problem:    a finite problem or a Gymnasium one
    rules:      {name as given: rule}
    make_body:  None for given features
    """

    problem: FiniteMDP | ControlProblem
    rules: dict[str, Any]
    make_body: MakeBody | None
    steps: int
    step_sizes: tuple[float, float, float]
    optimizer: Optimizer
    sampling: Sampling
    device: torch.device
    dtype: torch.dtype
    warnings: tuple[str, ...]

    def task(self, settings: Settings, transitions: int, report: Report) -> Task:
        """Make the problem ready, with a stream of `transitions` a run."""
        common: dict[str, Any] = {
            "runs": settings.runs,
            "transitions": transitions,
            "seed": settings.seed,
            "device": self.device,
            "dtype": self.dtype,
        }
        if isinstance(self.problem, FiniteMDP):
            return chain_task(self.problem, given=self.make_body is None, **common)
        return control_task(
            self.problem,
            states=settings.truth_states,
            rollouts=settings.truth_rollouts,
            judged=settings.held_out,
            report=report,
            **common,
        )


def plan(settings: Settings) -> Plan:
    """Check all settings and return what they stand for; UsageError or ValueError in one line."""
    _check_values(settings)
    device = resolve_device(settings.device)
    problem = _problem(settings)
    finite = isinstance(problem, FiniteMDP)
    steps = settings.steps or (problem.steps if isinstance(problem, FiniteMDP) else GYMNASIUM_STEPS)
    if settings.features == "given" and not finite:
        raise UsageError(
            f"--features given: {problem.name} has no given features; use --features neural"
        )
    rules = {name: _rule(name, settings) for name in check_several("--rule", settings.rule)}
    for name, rule in rules.items():
        if getattr(rule, "ordered", False) and (settings.sampling, settings.batch) != ("markov", 1):
            raise UsageError(
                f"--rule {name} follows a trace through an ordered stream: it wants --sampling "
                f"markov and --batch 1, not {settings.sampling} and {settings.batch}"
            )
        if settings.features == "given" and not (
            hasattr(rule, "frozen") or getattr(rule, "body", "") == "nonlinear"
        ):
            raise UsageError(f"--rule {name} learns a body: it needs --features neural")
    warnings: list[str] = []
    make_body = None
    if settings.features == "neural":
        make_body = _body(settings, problem)
        width = _try_body(make_body, problem)
        if finite and width >= len(problem.start):
            warnings.append(
                f"--width {width}: {width} features span the {len(problem.start)} states of "
                f"{problem.name}, so that any value is exact and learning them means little; "
                f"{problem.width} is half the states"
            )
    for name, rule in rules.items():
        if getattr(rule, "body", "") == "mspbe" and rule.head == "lstd":
            warnings.append(
                f"--rule {name}: its body stands still, since ω* = 0 at the head's best response"
            )
    names = settings.optimizer or ["sgd"]
    optimizer = Optimizer(*(names * 3 if len(names) == 1 else names))
    auxiliary = settings.head_step if settings.auxiliary_step is None else settings.auxiliary_step
    return Plan(
        problem=problem,
        rules=rules,
        make_body=make_body,
        steps=steps,
        step_sizes=(settings.body_step, settings.head_step, auxiliary),
        optimizer=optimizer,
        sampling=Sampling(settings.sampling, settings.batch, settings.replay_window),
        device=device,
        dtype={"float32": torch.float32, "float64": torch.float64}[settings.dtype],
        warnings=tuple(warnings),
    )


def _check_values(settings: Settings) -> None:
    check_choice("--features", settings.features, ("neural", "given"))
    check_choice("--sampling", settings.sampling, SAMPLINGS)
    check_choice("--activation", settings.activation, ACTIVATIONS)
    check_choice("--psi", settings.psi, KINDS)
    check_choice("--dtype", settings.dtype, ("float32", "float64"))
    check_choice("--compile", settings.compile, ("auto", "on", "off"))
    for flag, count in (
        ("--runs", settings.runs),
        ("--batch", settings.batch),
        ("--measure-every", settings.measure_every),
        ("--truth-states", settings.truth_states),
        ("--lstd-window", settings.lstd_window),
    ):
        check_positive_integer(flag, count)
    check_integer("--truth-rollouts", settings.truth_rollouts, 2)
    check_integer("--held-out", settings.held_out, 2)
    check_integer("--seed", settings.seed, 0)
    check_integer("--psi-width", settings.psi_width, 0)
    check_integer("--replay-window", settings.replay_window, 0)
    if settings.steps is not None:
        check_positive_integer("--steps", settings.steps)
    if settings.width is not None:
        check_positive_integer("--width", settings.width)
    for units in settings.hidden or []:
        check_positive_integer("--hidden", units)
    for flag, size in (
        ("--head-step", settings.head_step),
        ("--auxiliary-step", settings.auxiliary_step),
        ("--body-step", settings.body_step),
        ("--ridge", settings.ridge),
        ("--epsilon", settings.epsilon),
        ("--lstd-epsilon", settings.lstd_epsilon),
    ):
        if size is not None:
            check_step_size(flag, size)
    if settings.gamma is not None:
        check_fraction("--gamma", settings.gamma)
    names = settings.optimizer or ["sgd"]
    for name in names:
        check_choice("--optimizer", name, NAMES)
    if len(names) not in (1, 3):
        raise UsageError(
            f"--optimizer {' '.join(names)}: give one name, or three for body, head and auxiliary"
        )
    for flag, read, value in (
        ("--schedule", exponents, settings.schedule),
        ("--constraint", projection, settings.constraint),
    ):
        try:
            read(value)
        except ValueError as error:
            raise UsageError(f"{flag}: {error}") from None
    if settings.resume and settings.overwrite:
        raise UsageError("--resume and --overwrite exclude each other: give one of them")
    if settings.replay_window and settings.sampling != "replay":
        raise UsageError(
            f"--replay-window {settings.replay_window} needs --sampling replay, "
            f"not {settings.sampling}"
        )


def _rule(name: str, settings: Settings) -> Any:
    chosen = {
        "epsilon": settings.epsilon,
        "ridge": settings.ridge,
        "psi": settings.psi,
        "psi_width": settings.psi_width,
        "lstd_window": settings.lstd_window,
        "lstd_epsilon": settings.lstd_epsilon,
    }
    if ":" in name:
        rule = load_part(name, "--rule")()
        for method in ("initial", "remember", "directions"):
            if not callable(getattr(rule, method, None)):
                raise UsageError(f"--rule {name}: {type(rule).__name__} has no method {method}")
        return rule
    try:
        rule = RULES[name]
    except ValueError as error:
        raise UsageError(f"--rule: {error}") from None
    if name.startswith("nonlinear"):
        for flag, value in (("--epsilon", settings.epsilon), ("--ridge", settings.ridge)):
            if value:
                raise UsageError(
                    f"{flag} {value:g} is not defined for --rule {name}: leave it at 0"
                )
        return rule
    return configured(rule, **chosen)


def _policy(value: str | None, flag: str) -> Any:
    return load_part(value, flag) if value and ":" in value else value


def _problem(settings: Settings) -> FiniteMDP | ControlProblem:
    name = settings.problem
    made: Any = None
    if ":" in name and not name.startswith("ALE"):
        made = load_part(name, "--problem")
        result = made()
        if isinstance(result, FiniteMDP):
            return _with_policies(result, settings)
        if not isinstance(result, gymnasium.Env):
            raise UsageError(
                f"--problem {name} returned a {type(result).__name__}; it must return a FiniteMDP "
                "or a gymnasium.Env"
            )
        result.close()
    elif name in CHAINS or name.startswith("garnet"):
        try:
            return _with_policies(standard_problem(name), settings)
        except ValueError as error:
            raise UsageError(f"--problem {name}: {error}") from None
    known = [*CHAINS, *CONTROL_PROBLEMS, *gymnasium.registry]
    if made is None and "/" not in name and name not in known:
        raise UsageError(f"--problem {name!r} is not known{suggestion(name, known)}; see --help")
    policy = _policy(settings.policy, "--policy")
    behaviour = _policy(settings.behaviour, "--behaviour")
    try:
        return control_problem(made or name, policy, behaviour, settings.gamma)
    except ValueError as error:
        raise UsageError(f"--problem {name}: {error}") from None


def _with_policies(mdp: FiniteMDP, settings: Settings) -> FiniteMDP:
    """Put the user's policies and discount into a finite problem and check it again."""
    changes: dict[str, Any] = {}
    for flag, field in (("--policy", "target"), ("--behaviour", "behaviour")):
        value = settings.policy if field == "target" else settings.behaviour
        if value is None:
            continue
        if value == "uniform":
            changes[field] = torch.full_like(mdp.target, 1 / mdp.target.shape[1])
        elif ":" in value:
            changes[field] = load_part(value, flag)(mdp.observation)
        else:
            raise UsageError(
                f"{flag} {value!r}: on a finite problem give uniform or module:function"
            )
    if settings.gamma is not None:
        changes["discount"] = settings.gamma
    try:
        return checked(mdp._replace(**changes))
    except ValueError as error:
        raise UsageError(f"--problem {settings.problem}: {error}") from None


def _body(settings: Settings, problem: FiniteMDP | ControlProblem) -> MakeBody:
    usual = problem.width if isinstance(problem, FiniteMDP) else GYMNASIUM_WIDTH
    width = settings.width or usual
    if ":" in settings.body:
        if settings.width is not None:
            raise UsageError("--width: a body of your own has the width that it returns")
        return load_part(settings.body, "--body")
    check_choice("--body", settings.body, BODIES)
    if settings.body != "mlp":
        make: Callable[..., Any] = BODIES[settings.body]
        return partial(make, **({"features": settings.width} if settings.width else {}))
    return partial(
        mlp,
        features=width,
        hidden=tuple(settings.hidden or (32,)),
        activation=settings.activation,
        constant=settings.constant_feature,
    )


def _try_body(make_body: MakeBody, problem: FiniteMDP | ControlProblem) -> int:
    """Try the body on a few observations, before any long work; return its number of features."""
    if isinstance(problem, FiniteMDP):
        example = problem.observation[:1].repeat(3, 1)
    else:
        example = collect(problem, 1, 3, 0).observation[0]
    shape = tuple(example.shape[1:])
    try:
        module = make_body(shape)
    except Exception as error:
        said = " ".join(str(error).split())
        raise UsageError(
            f"--body: no body can be made for observations of shape {shape}: "
            f"{type(error).__name__}: {said}"
        ) from None
    if not isinstance(module, torch.nn.Module):
        raise UsageError(f"--body: {type(module).__name__} is no torch.nn.Module")
    return check_body(module, example.float())


def policies_in_words(problem: FiniteMDP | ControlProblem) -> str:
    """Return one line that says which policy is evaluated and which one acts."""
    if isinstance(problem, FiniteMDP):
        same = torch.equal(problem.target, problem.behaviour)
        return "on-policy" if same else "off-policy"
    target, behaviour = policy_name(problem.target), policy_name(problem.behaviour)
    if problem.target is problem.behaviour:
        return f"on-policy, {target}"
    return f"off-policy, target {target}, behaviour {behaviour}"
