"""Malformed policies, files of policies and environments: one clear line, and nothing half-made."""

import zipfile

import pytest
import torch

OWN = """
import gymnasium, numpy as np, torch
from gymnasium import spaces
from torch.distributions import Normal

def nan(seen): return torch.full((len(seen), 2), torch.nan)
def rows(seen): return [[0.5, 0.5] for _ in seen]
def logits(seen): return torch.ones(len(seen), 2)
def negative(seen): return torch.tensor([[1.5, -0.5]]).repeat(len(seen), 1)
def leaving(seen): raise SystemExit(3)
def one(seen): return torch.full((len(seen),), 0.5)
def moody(seen): return torch.rand(len(seen), 2).softmax(1)
def normal(seen): return Normal(torch.zeros(len(seen), 1), 1.0)
def two(seen): return Normal(torch.zeros(len(seen), 2), 1.0)
def endless(seen): return torch.full((len(seen), 1), torch.inf)
def nothing(): return None
async def later(seen): return torch.full((len(seen), 2), 0.5)
number = 3

class Needing:
    def __init__(self, path): pass

class Failing:
    def __init__(self): raise RuntimeError("no weights")

class Blind:
    def sample(self, seen, source): return torch.randn(len(seen), 1, generator=source)

class Short(Blind):
    def log_probability(self, seen, action): return torch.zeros(2)

class Halves:
    def sample(self, seen, source): return torch.full((len(seen),), 0.5)

class Plain(gymnasium.Env):
    observation_space = spaces.Box(-1, 1, (2,))
    action_space = spaces.Discrete(2)
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return np.zeros(2, np.float32), {}
    def step(self, action):
        self.time += 1
        return np.zeros(2, np.float32), 0.0, False, False, {}

class NoSpace(Plain):
    observation_space = None
class NoActions(Plain):
    action_space = None
class Several(Plain):
    action_space = spaces.MultiDiscrete([2, 2])
class Whole(Plain):
    action_space = spaces.Box(0, 3, (2,), dtype=np.int64)
class Unbounded(Plain):
    action_space = spaces.Box(-np.inf, np.inf, (2,))
class Sequenced(Plain):
    observation_space = spaces.Dict(near=spaces.Sequence(spaces.Discrete(2)))
class Graphs(Plain):
    observation_space = spaces.Graph(spaces.Discrete(2), None)
class Bare(Plain):
    def reset(self, *, seed=None, options=None): return np.zeros(2, np.float32)
class Seedless(Plain):
    def reset(self): return np.zeros(2, np.float32), {}
class Old(Plain):
    def step(self, action): return np.zeros(2, np.float32), 0.0, False, {}
class Unpaid(Plain):
    def step(self, action): return np.zeros(2, np.float32), None, False, False, {}
class NanReward(Plain):
    def step(self, action): return np.zeros(2, np.float32), np.nan, False, False, {}
class NanSeen(Plain):
    def step(self, action): return np.full(2, np.nan, np.float32), 0.0, False, False, {}
class Growing(Plain):
    def step(self, action): return np.zeros(3, np.float32), 0.0, False, False, {}
class Empty(Plain):
    def step(self, action): return None, 0.0, False, False, {}
class Broken(Plain):
    def step(self, action): raise KeyError("joint")
class Words(Plain):
    def reset(self, *, seed=None, options=None): return "start", {}
class Another(Plain):
    def reset(self, *, seed=None, options=None): return np.zeros(5, np.float32), {}

_shared = Plain()
def shared(): return _shared
def asking(size): return Plain()
def nobody(): return 7
"""


def files(folder):
    """Write the files of the cases."""
    (folder / "bytes.pt").write_bytes(bytes(range(256)) * 8)
    (folder / "empty.pt").touch()
    (folder / "folder.pt").mkdir()
    torch.save({"weight": torch.zeros(2)}, folder / "state.pt")
    script = torch.jit.script(torch.nn.Linear(4, 3))
    script.save(folder / "logits.pt")
    whole = (folder / "logits.pt").read_bytes()
    (folder / "half.pt").write_bytes(whole[: len(whole) // 2])
    (folder / "bytes.zip").write_bytes(b"PK\x03\x04" + bytes(100))
    for name, content in (("list", "[1]"), ("unknown", '{"gamma": 1}'), ("words", "no json")):
        with zipfile.ZipFile(folder / f"{name}.zip", "w") as archive:
            archive.writestr("data", content)
    with zipfile.ZipFile(folder / "other.zip", "w") as archive:
        archive.writestr("readme", "hello")


POLICIES = {
    "bytes.pt": "bytes.pt is damaged, or is not a checkpoint",
    "empty.pt": "empty.pt",
    "folder.pt": "folder.pt",
    "missing.pt": "missing.pt does not exist",
    "state.pt": "state.pt is damaged, or is not a checkpoint of this program",
    "half.pt": "half.pt",
    "logits.pt": "logits.pt",
    "sb3:": "does not exist",
    "sb3:missing.zip": "missing.zip does not exist",
    "sb3:bytes.zip": "bytes.zip was not saved by stable-baselines3",
    "sb3:other.zip": "other.zip was not saved by stable-baselines3",
    "sb3:words.zip": "words.zip was not saved by stable-baselines3",
    "sb3:list.zip": "not one of DQN, PPO, A2C, SAC, TD3, DDPG",
    "sb3:unknown.zip": "not one of DQN, PPO, A2C, SAC, TD3, DDPG",
    "sb3:list.zip,a.pkl,b.pkl": "give one file of statistics, not a.pkl and b.pkl",
    "OWN:nan": "the policy nan returned the row [nan, nan]",
    "OWN:rows": "the policy rows returned list",
    "OWN:logits": "the policy logits returned the row [1.0, 1.0]",
    "OWN:negative": "probabilities must be finite, not negative, and sum to 1",
    "OWN:leaving": "SystemExit: 3",
    "OWN:one": "the policy one returned the shape [3]",
    "OWN:moody": "the policy moody returned different answers for the same observation",
    "OWN:later": "the policy later returned coroutine",
    "OWN:normal": "the policy normal returned Normal",
    "OWN:nothing": "OWN:nothing returned a NoneType; without arguments it must make a policy",
    "OWN:number": "number is of type int, not a function",
    "OWN:Needing": "missing 1 required positional argument: 'path'",
    "OWN:Failing": "RuntimeError: no weights",
    "OWN:Halves": "the policy Halves sampled",
}
OF_PENDULUM = {
    "OWN:two": "the policy two returned [3, 2]; for the actions of Pendulum-v1",
    "OWN:endless": "the policy endless gave the shape [3, 1], first [inf, inf, inf]",
    "OWN:Blind --behaviour OWN:normal": "the policy Blind has no log_probability",
    "OWN:Short --behaviour OWN:normal": "log_probability of the policy Short returned the shape",
    "default --behaviour OWN:Blind": "the policy Blind has no log_probability",
}
ENVIRONMENTS = {
    "NoSpace": "NoSpace has the observation_space None",
    "NoActions": "NoActions has the action_space None",
    "Several": "Several has the action space MultiDiscrete",
    "Whole": "only Discrete and Box of real numbers",
    "Unbounded": "Unbounded has actions without bounds",
    "Sequenced": "the observation part near, Sequence",
    "Graphs": "Graphs has the observation space Graph",
    "Bare": "Bare returned a ndarray from reset; it must return (observation, info)",
    "Seedless": "unexpected keyword argument 'seed'",
    "Old": "Old returned a tuple of 4 from step; it must return (observation, reward,",
    "Unpaid": "Unpaid returned the reward None, which is not a number",
    "NanReward": "NanReward returned an observation or a reward that is not finite",
    "NanSeen": "NanSeen returned an observation or a reward that is not finite",
    "Growing": "Growing returned an observation of shape [3]",
    "Empty": "Empty returned an observation",
    "Broken": "KeyError: 'joint'",
    "Words": "Words returned the observation 'start', which is not an array of numbers",
    "Another": "Another returned an observation of shape [5], but its observation space says [2]",
    "shared": "shared must make a new environment at every call",
    "asking": "missing 1 required positional argument: 'size'",
    "nobody": "nobody returned a int; it must return a FiniteMDP or a gymnasium.Env",
}
CASES = {
    **{f"--problem CartPole-v1 --policy {each}": said for each, said in POLICIES.items()},
    **{f"--problem Pendulum-v1 --policy {each}": said for each, said in OF_PENDULUM.items()},
    **{f"--problem OWN:{each} --truth-states 0": said for each, said in ENVIRONMENTS.items()},
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("line", CASES)
def test_a_malformed_input_is_one_clear_line_and_nothing_half_made(evaluate, tmp_path, line):
    if "sb3:" in line:
        pytest.importorskip("stable_baselines3", reason="the extra sb3 is not installed")
    own = f"malformed_{abs(hash(line))}"
    (tmp_path / f"{own}.py").write_text(OWN)
    files(tmp_path)
    before = sorted(path.name for path in tmp_path.iterdir())
    flags = "--rule td --runs 3 --steps 6 --held-out 6 --out run"
    done = evaluate(f"{line.replace('OWN', own)} {flags}")
    assert done.status == 2, done.out + done.error
    (said,) = done.lines
    assert said.startswith("error: --p")
    assert CASES[line].replace("OWN", own) in said
    assert "Traceback" not in said
    after = sorted(path.name for path in tmp_path.iterdir() if path.name != "__pycache__")
    assert after == before
