"""What a learning rule is: a row of the body's table beside a row of the head's.

The named ones are in `neural_tdc.rules.registry`. A rule of the user's own is any object with the
three methods of `LearningRule`.
"""

from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from neural_tdc.rules import emphatic, lstd, traces
from neural_tdc.rules.batch_terms import BatchTerms, batch_terms, outer
from neural_tdc.rules.bodies import BODY_ROWS
from neural_tdc.rules.heads import AUXILIARY_ROWS, HEAD_ROWS
from neural_tdc.rules.projection_features import KINDS, initial_psi, psi_features, refreshed
from neural_tdc.types import FeatureMap, Parameters, Transition

Memory = dict[str, Any]


@runtime_checkable
class LearningRule(Protocol):
    """What every rule offers. All of it acts on one run; many runs are `torch.vmap` of it."""

    name: str

    def initial(
        self, parameters: Parameters, observation: Tensor, generator: torch.Generator
    ) -> tuple[Parameters, Memory]:
        """Complete the parameters by the auxiliary vector and return the rule's memory.

        observation: [sample, *observation], a sample of what will be seen.
        """

    def remember(
        self, features: FeatureMap, parameters: Parameters, memory: Memory, batch: Transition
    ) -> Memory:
        """Take the batch into the memory, before the directions are taken."""

    def directions(
        self,
        features: FeatureMap,
        parameters: Parameters,
        batch: Transition,
        memory: Memory | None = None,
    ) -> Parameters:
        """Return what is subtracted after multiplication by the step sizes, a mean over the batch.

        features: `features(body, observation) -> [batch, d]`.
        """


@dataclass(frozen=True)
class Rule:
    """A body's row and a head's row of the tables.

    epsilon:      ε of C + εI, for the auxiliary vectors that estimate C⁻¹E[ρδφ]
    ridge:        λ of the ridge λ/2·‖θ‖² on the head
    kappa:        κ of TDRC
    psi:          which frozen features the `generalized` rows use, and how many random ones
                  (0: four times the head's features); a snapshot is renewed every `psi_period`
    lstd_window:  transitions that LSTD's statistics remember; 1 for the present batch alone
    lstd_epsilon: ε of LSTD's (A + εI)⁻¹
    trace_decay:  λ of the eligibility traces of `neural_tdc.rules.traces`; above 0 the body must be
                  `frozen` and the stream ordered
    """

    name: str
    body: str
    head: str
    epsilon: float = 0.0
    ridge: float = 0.0
    kappa: float = 1.0
    psi: str = "random"
    psi_width: int = 0
    psi_period: int = 1000
    lstd_window: int = 1000
    lstd_epsilon: float = 1e-3
    trace_decay: float = 0.0

    def __post_init__(self) -> None:
        traces.check(self.trace_decay, self.head)
        if self.psi not in KINDS:
            raise ValueError(f"psi {self.psi!r} is not one of {', '.join(KINDS)}")

    @property
    def assigns_head(self) -> bool:
        """Whether the head's direction is an assignment, which wants a step of 1."""
        return self.head == "lstd"

    @property
    def ordered(self) -> bool:
        """Whether the rule wants an ordered stream of batch 1; emphatic TD without truncation."""
        return self.head == "etd" or self.trace_decay > 0

    @property
    def auxiliaries(self) -> list[str]:
        """Name the auxiliary vectors kept: the head's own, then the one the body still needs."""
        kept = HEAD_ROWS[self.head].auxiliary
        needed = BODY_ROWS[self.body].auxiliary
        names = [kept] if kept else []
        return names + ([needed[0]] if needed and kept not in needed else [])

    def frozen(self) -> "Rule":
        """Return the rule for given features, whose body does not learn."""
        return replace(self, body="frozen")

    def initial(
        self, parameters: Parameters, observation: Tensor, generator: torch.Generator
    ) -> tuple[Parameters, Memory]:
        """Set every auxiliary vector to 0 and draw what the rule keeps; see `LearningRule`."""
        head = parameters.head
        memory: Memory = {}
        sizes = dict.fromkeys(self.auxiliaries, len(head))
        if "generalized" in sizes:
            width = self.psi_width or 4 * len(head)
            memory["psi"] = initial_psi(self.psi, width, observation, parameters.body, generator)
            extra = len(head) if self.psi in ("snapshot", "present") else 0
            wide = observation[0].numel() if self.psi == "observation" else width
            sizes["generalized"] = wide + extra
        if self.head == "etd":
            memory["trace"] = emphatic.initial_trace(head)
        if self.head == "lstd":
            memory["lstd"] = lstd.initial_statistics(head)
        if self.trace_decay:
            if self.body != "frozen":
                raise ValueError(
                    f"rule {self.name!r} with trace_decay {self.trace_decay:g} wants given "
                    f"features or a frozen body, not the body {self.body!r}, which learns"
                )
            memory["traces"] = traces.initial_traces(head, self.head)
        return parameters._replace(auxiliary=head.new_zeros(sum(sizes.values()))), memory

    def remember(
        self, features: FeatureMap, parameters: Parameters, memory: Memory, batch: Transition
    ) -> Memory:
        """Move the trace, the statistics or the snapshot on by one batch; see `LearningRule`."""
        memory = dict(memory)
        if "trace" in memory:
            memory["trace"] = emphatic.follow(memory["trace"], batch)
        if "traces" in memory or "lstd" in memory:
            feature = features(parameters.body, batch.observation)
        if "traces" in memory:
            memory["traces"] = traces.follow(memory["traces"], feature, batch, self.trace_decay)
        if "lstd" in memory:
            memory["lstd"] = lstd.accumulate(
                memory["lstd"],
                feature,
                features(parameters.body, batch.next_observation),
                batch.reward,
                batch.discount,
                batch.ratio,
                self.lstd_window,
                memory["traces"][traces.TRACE] if "traces" in memory else None,
            )
        if "age" in memory.get("psi", ()):
            memory["psi"] = refreshed(memory["psi"], parameters.body, self.psi_period)
        return memory

    def directions(
        self,
        features: FeatureMap,
        parameters: Parameters,
        batch: Transition,
        memory: Memory | None = None,
    ) -> Parameters:
        """Return the three directions of one batch; see `LearningRule`."""
        memory = memory or {}
        body, head, _ = parameters
        feature, next_feature, pull_back = _pair_of_features(
            features, body, batch, BODY_ROWS[self.body].reaches_next
        )
        s = batch_terms(batch, feature, next_feature, head, self._ratio(batch, memory))
        vectors, inner = self._auxiliary_vectors(features, parameters, batch, s, memory)
        auxiliary = [
            self._auxiliary_direction(name, s, vectors[name], *inner[name], memory)
            for name in vectors
        ]
        return Parameters(
            body=self._body_direction(body, s, vectors, inner, pull_back),
            head=self._head_direction(s, vectors, inner, memory),
            auxiliary=torch.cat(auxiliary) if auxiliary else torch.zeros_like(parameters.auxiliary),
        )

    def omega(self, parameters: Parameters) -> tuple[Tensor, float] | None:
        """Return ω and the regulariser of the ω* = (C + εI)⁻¹E[ρδφ] that it estimates, if any."""
        if self.trace_decay:
            # With a trace z it estimates (C + εI)⁻¹E[δz].
            return None
        for position, name in enumerate(self.auxiliaries):
            if name in ("tdc", "tdrc"):
                # A ψ vector of another size, if there is one, stands at the end that ω does not.
                size = parameters.head.shape[-1]
                vector = parameters.auxiliary
                omega = vector[..., :size] if position == 0 else vector[..., -size:]
                return omega, self.epsilon + (self.kappa if name == "tdrc" else 0.0)
        return None

    def _ratio(self, batch: Transition, memory: Memory) -> Tensor:
        if self.head == "vtrace":
            return batch.ratio.clamp(max=1)
        if self.head == "etd":
            return memory["trace"]["emphasis"] * batch.ratio
        return batch.ratio

    def _auxiliary_vectors(
        self,
        features: FeatureMap,
        parameters: Parameters,
        batch: Transition,
        s: BatchTerms,
        memory: Memory,
    ) -> tuple[dict[str, Tensor], dict[str, tuple[Tensor, Tensor]]]:
        """Return the auxiliary vectors by name, and for each its features and inner products."""
        spaces = {}
        for name in self.auxiliaries:
            spaces[name] = s.feature
            if name == "generalized":
                spaces[name] = psi_features(
                    self.psi, memory["psi"], features, batch.observation, s.feature
                )
        sizes = [space.shape[1] for space in spaces.values()]
        parts = parameters.auxiliary.split(sizes) if sizes else ()
        vectors = dict(zip(spaces, parts))
        return vectors, {
            name: (spaces[name], spaces[name] @ vector) for name, vector in vectors.items()
        }

    def _auxiliary_direction(
        self,
        name: str,
        s: BatchTerms,
        vector: Tensor,
        space: Tensor,
        correction: Tensor,
        memory: Memory,
    ) -> Tensor:
        if self.trace_decay:
            added = traces.AUXILIARY_ROWS[name](s, memory["traces"], vector)
        else:
            added = AUXILIARY_ROWS[name](s, space, correction)
        shrinkage = self.epsilon if name != "htd" else 0.0
        if name == "tdrc":
            shrinkage += self.kappa
        return shrinkage * vector - added

    def _head_direction(
        self,
        s: BatchTerms,
        vectors: dict[str, Tensor],
        inner: dict[str, tuple[Tensor, Tensor]],
        memory: Memory,
    ) -> Tensor:
        row = HEAD_ROWS[self.head]
        if row.direction is None:
            return s.head - lstd.solution(memory["lstd"], self.lstd_epsilon)
        correction = inner[row.auxiliary][1] if row.auxiliary else torch.zeros_like(s.td_error)
        if self.trace_decay:
            omega = vectors[row.auxiliary] if row.auxiliary else torch.zeros_like(s.head)
            added = traces.HEAD_ROWS[self.head](s, memory["traces"], self.trace_decay, omega)
        else:
            added = row.direction(s, correction)
        direction = self.ridge * s.head - added
        if self.head == "tdc":
            # With C + εI the gradient in TDC's form gains εω; TDRC leaves it out on purpose.
            direction = direction + self.epsilon * vectors["tdc"]
        return direction

    def _body_direction(
        self,
        body: Any,
        s: BatchTerms,
        vectors: dict[str, Tensor],
        inner: dict[str, tuple[Tensor, Tensor]],
        pull_back: Any,
    ) -> Any:
        row = BODY_ROWS[self.body]
        name = next((name for name in row.auxiliary if name in vectors), None)
        omega = vectors[name] if name else torch.zeros_like(s.head)
        correction = inner[name][1] if name else torch.zeros_like(s.td_error)
        c, c_next = row.cotangents(s, omega, correction)
        if self.body == "generalized" and self.psi == "present" and c is not None:
            c = c + outer(s.ratio * s.td_error - correction, omega[-len(s.head) :])
        if c is None or not body:
            return {name: torch.zeros_like(tensor) for name, tensor in body.items()}
        batch = len(s.td_error)
        cotangents = c / batch if c_next is None else torch.cat([c, c_next]) / batch
        return pull_back(cotangents)[0]


def _pair_of_features(
    features: FeatureMap, body: Any, batch: Transition, reaches_next: bool
) -> tuple[Tensor, Tensor, Any]:
    """Return φ, φ' and the product with what the body's row differentiates: both, or φ alone."""
    if not body:
        observation, next_observation = batch.observation, batch.next_observation
        return features(body, observation), features(body, next_observation), None
    if not reaches_next:
        next_feature = features(body, batch.next_observation)
        feature, pull_back = torch.func.vjp(lambda b: features(b, batch.observation), body)  # type: ignore[misc]
        return feature, next_feature, pull_back
    both = torch.cat([batch.observation, batch.next_observation])
    joint, pull_back = torch.func.vjp(lambda b: features(b, both), body)  # type: ignore[misc]
    feature, next_feature = joint.split(len(batch.reward))
    return feature, next_feature, pull_back
