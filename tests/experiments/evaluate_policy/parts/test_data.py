"""`--data`: the values of a policy from a file, no environment."""

import json

import numpy as np
import pytest
import torch

from experiments.runs.results.figures import draw_histories
from experiments.runs.results.history import read
from neural_tdc.value_file import load_value

TIME = 120
TINY = "--steps 9 --runs 2 --measure-every 4 --compile off"
TARGET = "def half(observation):\n    return torch.full((len(observation), 2), 0.5)\n"


def arrays(seed=0):
    """Return a log of 120 rows with two components, an end at row 49 and a cut at row 99."""
    draws = np.random.default_rng(seed)
    ends, cuts = np.zeros(TIME, bool), np.zeros(TIME, bool)
    ends[49], cuts[99] = True, True
    return {
        "observation": 5 + 3 * draws.normal(size=(TIME, 2)).astype(np.float32),
        "action": draws.integers(2, size=TIME),
        "reward": draws.normal(size=TIME),
        "terminated": ends,
        "truncated": cuts,
        "behaviour_probability": np.full(TIME, 0.4),
    }


@pytest.fixture
def data(tmp_path):
    """Return a function that writes the log with changes and returns the flag for it."""

    def write(**changes):
        content = {name: array for name, array in (arrays() | changes).items() if array is not None}
        np.savez(tmp_path / "walk.npz", **content)
        return "--data walk.npz"

    return write


def refused(outcome, *said):
    assert outcome.status == 2
    assert outcome.out == ""
    assert len(outcome.lines) == 1, outcome.error
    for part in said:
        assert part in outcome.error, outcome.error


def test_a_log_is_evaluated_from_end_to_end_without_a_truth(evaluate, data, tmp_path):
    line = f"{data()} --rule tdc td --width 3 {TINY} --out run"
    outcome = evaluate(line, figure=True)
    assert outcome.status == 0, outcome.error
    assert "walk: on-policy, as logged, on cpu" in outcome.out
    assert "2 of 120 rows are left out" in outcome.out
    # 118 are left; of their last 24 the cut moves to the start of an episode, at 99.
    assert "99 transitions to learn from, the last 19 held out" in outcome.out
    assert "RMSTDE 1." in outcome.error or "RMSTDE 0." in outcome.error
    heading = next(each for each in outcome.out.splitlines() if each.startswith("rule"))
    assert " ".join(heading.split()) == ("rule mean RMSTDE mean RMSPBE mean AUC RMSTDE diverged")
    folder = tmp_path / "run" / "tdc"
    history = read(folder / "metrics.csv")
    assert history.steps.tolist() == [1, 5, 9]
    assert {"error/rmstde", "error/rmspbe", "tracking_error/head", "tracking_error/auxiliary"} <= {
        *history.names
    }
    assert not [name for name in history.names if "rmsve" in name]
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["problem"], summary["runs"]) == ("walk", 2)
    assert summary["metrics"]["rmstde"]["final"]["mean"] > 0
    config = json.loads((folder / "config.json").read_text())
    assert (config["data"], config["problem"], config["gamma"]) == (["walk.npz"], None, 0.99)
    assert (tmp_path / "run" / "figure.png").read_bytes().startswith(b"\x89PNG\r\n")
    titles = [axes.get_title() for axes in draw_histories({"tdc": history}, "x").axes]
    assert titles[:2] == ["Temporal-difference error", "Projected Bellman error"]


def test_without_out_the_folder_is_named_after_the_file(evaluate, data, tmp_path):
    assert evaluate(f"{data()} --rule td {TINY}").status == 0
    assert (tmp_path / "runs" / "walk" / "summary.json").exists()


def test_the_value_function_takes_raw_observations(evaluate, data, tmp_path):
    observation = arrays()["observation"].astype(np.float64) + 1e8
    line = f"{data(observation=observation)} --rule td --width 3 {TINY} --head-step 0.5 --out run"
    assert evaluate(line).status == 0
    value = load_value(tmp_path / "run")
    of_first, of_second = value(torch.tensor(observation[:2]))
    assert abs(of_first - of_second) > 1e-6
    shift, scale = observation[:99].mean(0), observation[:99].std(0)
    network = value.network(0)
    expected = network[1:](torch.tensor((observation[:5] - shift) / scale).float())[:, 0]
    torch.testing.assert_close(value(torch.tensor(observation[:5]), run=0), expected)
    torch.testing.assert_close(network(torch.tensor(observation[:5]))[:, 0], expected)


def test_another_policy_is_evaluated_by_its_ratios(evaluate, own, data):
    module = own(TARGET)
    outcome = evaluate(f"{data()} --policy {module}:half --rule td {TINY} --out run")
    assert outcome.status == 0, outcome.error
    assert "off-policy, target half, behaviour as logged" in outcome.out
    assert "mean 1.25" in outcome.out


@pytest.mark.parametrize("sampling", ["iid", "replay"])
def test_given_vectors_are_features_and_draws_tell_the_runs_apart(
    evaluate, data, tmp_path, sampling
):
    line = f"{data()} --rule td frozen+lstd --features given --sampling {sampling} {TINY} --out run"
    outcome = evaluate(line)
    assert outcome.status == 0, outcome.error
    assert "warning: --" not in outcome.error
    last = read(tmp_path / "run" / "td" / "metrics.csv").values("norm/head")[-1]
    assert last[0] != last[1]


def test_runs_that_nothing_tells_apart_are_warned_of(evaluate, data):
    outcome = evaluate(f"{data()} --rule td --features given {TINY} --out run")
    assert outcome.status == 0
    assert "warning: --runs 2: with given features all runs learn the same" in outcome.error
    single = TINY.replace("--runs 2", "--runs 1")
    assert "warning: --" not in evaluate(f"{data()} --rule td --features given {single}").error
    assert "warning: --" not in evaluate(f"{data()} --rule td --width 3 {TINY}  --out neural").error


def test_a_resumed_run_is_the_uninterrupted_one_and_wants_the_same_data(evaluate, data, tmp_path):
    line = f"{data()} --rule tdc --width 3 --sampling iid {TINY}"
    longer = line.replace("--steps 9", "--steps 13")
    assert evaluate(f"{line} --out run").status == 0
    resumed = evaluate(f"{longer} --out run --resume")
    # i.i.d. draws are over the whole log, however long the run.
    assert resumed.status == 0, resumed.error
    assert evaluate(f"{longer} --out whole").status == 0
    states = [
        torch.load(tmp_path / name / "value.pt", weights_only=True)["head"]
        for name in ("run", "whole")
    ]
    assert torch.equal(*states)
    data(reward=1 + arrays()["reward"])
    refused(evaluate(f"{longer} --out run --resume"), "--data", "contents have changed")


REFUSED = [
    ("--rule td", "--problem must be given, or --data in its place"),
    ("--data walk.npz --problem boyan --rule td", "--problem boyan and --data walk.npz exclude"),
    ("--data nowhere.npz --rule td", "--data nowhere.npz does not exist"),
    ("--data walk.npz --rule td --behaviour no:where", "--behaviour no:where: no module no"),
    ("--data walk.npz --rule td --behaviour uniform", "--behaviour 'uniform': with --data give"),
    ("--data walk.npz walk.npz --rule td", "--data names walk.npz 2 times"),
    (
        "--data walk.npz --columns reward --rule td",
        "--columns 'reward' does not name one: give the log's array",
    ),
    ("--problem boyan --cumulant speed --rule td", "--cumulant speed has no effect without --data"),
    (
        "--data walk.npz --ratio-limit 3 --rule td",
        "--ratio-limit 3.0 has no effect without --policy",
    ),
    ("--data walk.npz --rule td --truth-states 9", "--truth-states 9 has no effect with --data"),
    ("--data walk.npz --rule td --held-out 9", "--held-out 9 has no effect with --data"),
    ("--problem boyan --rule td --held-out-fraction 0.1", "--held-out-fraction 0.1 has no effect"),
    ("--data walk.npz --rule td --held-out-fraction 1", "--held-out-fraction 1 is not allowed"),
    ("--data walk.npz --rule td --held-out-fraction nan", "--held-out-fraction nan is not"),
    ("--data walk.npz --rule td --held-out-fraction 0.001", "--data walk.npz: holding out 0.001"),
    ("--data walk.npz --rule td --policy soft", "--policy 'soft': with --data give module:func"),
    ("--data walk.npz --rule td --policy no:where", "--policy no:where: no module no"),
    ("--data walk.npz --rule td --gamma 2", "--gamma 2 is not allowed"),
    ("--data walk.npz --rule etd", "--rule etd follows episodes to their ends: in walk.npz"),
    ("--data walk.npz --rule td --body nature_atari", "--body nature_atari", "shape (2,)"),
]


@pytest.mark.parametrize(("line", "said"), [(line, said) for line, *said in REFUSED])
def test_a_usage_error_is_one_line_with_status_2_and_leaves_no_folder(
    evaluate, data, tmp_path, line, said
):
    data()
    outcome = evaluate(f"{line} --out run")
    refused(outcome, *said)
    assert [path.name for path in tmp_path.iterdir()] == ["walk.npz"]


def test_a_defect_of_the_file_is_named_with_its_row(evaluate, data):
    reward = arrays()["reward"]
    reward[17] = np.nan
    line = f"{data(reward=reward)} --rule td --out run"
    refused(evaluate(line), "error: --data walk.npz: reward in row 17 is nan")


def test_names_columns_cumulants_and_several_files_by_flags(evaluate, tmp_path):
    own = arrays()
    own["gain"] = 7 * own.pop("reward")
    own["x"], own["y"] = own.pop("observation").T
    np.savez(tmp_path / "a.npz", **own)
    np.savez(tmp_path / "b.npz", **own)
    line = "--rule td --features given --sampling iid --runs 1 --steps 9 --compile off --out run"
    refused(
        evaluate(f"--data a.npz --columns reward=gain {line}"),
        "error: --data a.npz has no array observation; it has action, terminated,",
    )
    outcome = evaluate(f"--data a.npz b.npz --columns observation=x,y --cumulant gain {line}")
    assert outcome.status == 0, outcome.error
    assert "a+b: on-policy, as logged" in outcome.out
    # 118 rows are left of either file.
    assert "a.npz b.npz: 4 of 240 rows are left out" in outcome.out
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (config["data"], config["cumulant"]) == (["a.npz", "b.npz"], "gain")


def test_a_guess_is_put_as_the_flag_that_says_so(evaluate, data):
    line = f"{data(reward=None, rewrad=arrays()['reward'])} --rule td --out run"
    refused(evaluate(line), "did you mean rewrad for reward? If so, give --columns reward=rewrad")


def test_the_policy_that_acted_may_be_given_in_place_of_its_probabilities(evaluate, own, data):
    acted = TARGET.replace("half", "acted").replace("2), 0.5", "2), 0.5) * torch.tensor([0.8, 1.2]")
    module = own(f"{TARGET}\n{acted}")
    line = f"{data(behaviour_probability=None)} --policy {module}:half --rule td {TINY} --out run"
    outcome = evaluate(f"{line} --behaviour {module}:acted")
    assert outcome.status == 0, outcome.error
    assert "off-policy, target half, behaviour acted" in outcome.out
    mean = np.where(arrays()["action"] == 0, 0.5 / 0.4, 0.5 / 0.6).mean()
    assert f"mean {mean:.3g}" in outcome.out


def test_a_log_with_discounts_and_ratios_of_its_own(evaluate, data, tmp_path):
    line = f"{data(discount=np.full(TIME, 0.3), ratio=np.full(TIME, 2.0))} --ratio-limit 1.5"
    outcome = evaluate(f"{line} --rule td {TINY} --out run")
    assert outcome.status == 0, outcome.error
    assert "off-policy, ratios as logged" in outcome.out
    assert "120 limited to 1.5" in outcome.out
    assert "each step has the discount of the file, " in outcome.out
    assert json.loads((tmp_path / "run" / "config.json").read_text())["gamma"] == 0.3


def test_an_image_is_no_given_feature(evaluate, data):
    line = f"{data(observation=np.zeros((TIME, 3, 4)))} --rule td --features given --out run"
    refused(evaluate(line), "--features given: the observations of walk.npz have the shape [3, 4]")


def test_a_policy_without_behaviour_probability_is_refused(evaluate, own, data):
    line = f"{data(behaviour_probability=None)} --policy {own(TARGET)}:half --rule td --out run"
    refused(evaluate(line), "--data walk.npz has no array behaviour_probability")


def test_an_emphatic_trace_follows_a_log_whose_episodes_end(evaluate, data):
    cuts, ends = np.zeros(TIME, bool), arrays()["terminated"]
    ends[95], ends[119] = True, True
    assert (
        evaluate(f"{data(truncated=cuts, terminated=ends)} --rule etd {TINY} --out a").status == 0
    )
    again = TINY.replace("--steps 9", "--steps 100")
    outcome = evaluate(f"{data(truncated=cuts, terminated=ends)} --rule etd {again} --out b")
    assert outcome.status == 0, outcome.error
    assert "gone through 1.04 times" in outcome.out


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--rule td --width 3", "--data walk.npz: its observations as numbers take some"),
        ("--rule auto", "--data walk.npz --rule auto: all transitions at once take some"),
    ],
)
def test_what_a_log_takes_more_is_known_before_it_is_taken(
    evaluate, data, tmp_path, monkeypatch, flags, said
):
    longer = {name: np.tile(array.T, 400).T for name, array in arrays().items()}
    line = f"{data(**longer)} {flags} --out run"
    # The file fits: it is read by another function.
    monkeypatch.setattr(
        "experiments.evaluate_policy.parts.memory.available_bytes", lambda place: 500_000
    )
    refused(evaluate(line), said)
    assert not (tmp_path / "run").exists()


def test_pictures_are_evaluated_from_end_to_end_resampled_and_by_auto(evaluate, data, tmp_path):
    pictures = np.random.default_rng(0).integers(0, 256, (TIME, 1, 3, 4)).astype(np.uint8)
    ends = np.zeros(TIME, bool)
    ends[4::5] = True
    line = data(observation=pictures, terminated=ends)
    tiny = "--width 3 --runs 3 --steps 9 --measure-every 4 --compile off --resample episodes"
    outcome = evaluate(f"{line} --rule td lstd-random {tiny} --out run")
    assert outcome.status == 0, outcome.error
    value = load_value(tmp_path / "run" / "td")
    assert value(torch.from_numpy(pictures[:5])).shape == (5,)
    assert evaluate(f"{line} --rule auto --updates 0 --out auto").status == 0
    found = load_value(tmp_path / "auto")(torch.from_numpy(pictures[:5]))
    assert found.isfinite().all()
