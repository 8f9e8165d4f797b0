"""What a user can get wrong on the command lines of supervised learning: status 2, one line."""

import pytest

from experiments.landscape.__main__ import draw_landscape
from experiments.train_supervised.__main__ import train_supervised
from experiments.train_supervised.settings import USUAL, read_supervised_settings

TINY = "--task friedman --runs 2 --steps 3 --compile off"

REFUSED = [
    ("--task friedmann", "--task 'friedmann' is not one of", "did you mean friedman?"),
    ("--task mnist --ridge 0", "--ridge 0 with --task mnist", "give a number above 0"),
    ("--task friedman --ridge -1", "--ridge -1 is not allowed"),
    ("--task friedman --body-step 0", "--body-step 0 is not allowed", "above 0"),
    ("--task friedman --body-step -1e-3", "--body-step -0.001 is not allowed", "above 0"),
    ("--task friedman --head-step nan", "--head-step nan is not allowed", "above 0"),
    ("--task friedman --head-step inf", "--head-step inf is not allowed", "above 0"),
    ("--task friedman --head-step x", "--head-step 'x' is not a number"),
    (
        "--task friedman --arm splitt",
        "--arm 'splitt' is not one of",
        "did you mean split or limit?",
    ),
    ("--task friedman --arm", "--arm is given without a value"),
    ("--task friedman --arm split split", "--arm names split 2 times"),
    ("--task friedman --runs 0", "--runs 0 is not allowed"),
    ("--task friedman --steps 0", "--steps 0 is not allowed"),
    ("--task friedman --batch 0", "--batch 0 is not allowed"),
    ("--task friedman --hidden 4 0", "--hidden 0 is not allowed"),
    ("--task friedman --runs 1000000000", "--runs 1000000000 --hidden", "networks of 4 arms take"),
    ("--task friedman --hidden 1000000 1000000", "--hidden 1000000 1000000: the networks of 4"),
    ("--task friedman --hidden", "--hidden is given without a number"),
    ("--task friedman --measure-every 0", "--measure-every 0 is not allowed"),
    ("--task friedman --response-every 0", "--response-every 0 is not allowed"),
    ("--task friedman --response-samples 0", "--response-samples 0 is not allowed"),
    ("--task friedman --response-tolerance 0", "--response-tolerance 0 is not allowed"),
    ("--task friedman --curvature-every -1", "--curvature-every -1 is not allowed"),
    ("--task friedman --curvature-products 1", "--curvature-products 1", "at least 2"),
    ("--task friedman --runs 2 --curvature-runs 3", "--curvature-runs 3 is more than the 2"),
    ("--task friedman --activation gelu", "--activation 'gelu' is not one of relu, tanh"),
    ("--task friedman --optimizer adma", "--optimizer 'adma' is not one of sgd, rmsprop, adam"),
    ("--task friedman --schedule linear", "--schedule", "'linear'", "strongly-convex"),
    ("--task friedman --constraint ball:0", "--constraint", "'ball:0'"),
    ("--task friedman --dtype half", "--dtype 'half'"),
    ("--task friedman --compile maybe", "--compile 'maybe'"),
    ("--task friedman --device tpu", "--device 'tpu'"),
    ("--task friedman --seed -1", "--seed -1 is not allowed"),
    ("--task friedman --data somewhere", "--data somewhere has no effect with --task friedman"),
    ("--task friedman --batch 1000000000", "--batch 1000000000: an update takes"),
    ("--task friedman --arm limit body-rate --head-step 0.5", "--head-step 0.5 has no effect with"),
    ("--task friedman --arm head-rate --body-step 0.5", "--body-step 0.5 has no effect with --arm"),
    (
        "--task friedman --arm split --response-every 3",
        "--response-every 3 has no effect with --arm",
    ),
    ("--task friedman --response-tolerance 1e-3", "--response-tolerance 0.001 has no effect with"),
    ("--task friedman --automatic-low 0.1", "--automatic-low 0.1 has no effect"),
    ("--task friedman --arm automatic-sgd --automatic-low 2", "--automatic-low 2 is above"),
    ("--task friedman --arm automatic-sgd --automatic-kind middle", "--automatic-kind 'middle'"),
    ("--task friedman --arm automatic-sgd --optimizer sgd", "--optimizer sgd has no effect"),
    ("--task friedman --resume --overwrite", "--resume and --overwrite exclude each other"),
    ("--task mnist --data nowhere", "--data nowhere: train-images-idx3-ubyte", "nowhere/MNIST/raw"),
    ("--task cifar10 --data nowhere", "data_batch_1 of CIFAR-10 is missing", "torchvision"),
    ("--runs 2", "--task must be given"),
]


@pytest.mark.parametrize(("line", "said"), [(line, said) for line, *said in REFUSED])
def test_a_wrong_value_ends_with_status_2_and_one_line_that_names_it(
    run_program, tmp_path, line, said
):
    outcome = run_program(train_supervised, line)
    assert outcome.status == 2
    assert len(outcome.lines) == 1, outcome.error
    for part in said:
        assert part in outcome.error
    assert list(tmp_path.iterdir()) == []


LANDSCAPES = [
    ("--arm split limit", "--arm split limit: give one"),
    ("--at 0 70", "--at 70 is not measured: give multiples of --measure-every 100 up to"),
    ("--at 8000", "--at 8000 is not measured"),
    ("--at -100", "--at -100 is not measured"),
    ("--at 0 0", "--at names 0 2 times"),
    ("--grid 20", "--grid 20: give an odd number, so that one point is the body"),
    ("--grid 1", "--grid 1 is not allowed"),
    ("--span 0", "--span 0 is not allowed"),
    ("--curvature-every 0", "--curvature-every 0 is not allowed"),
    ("--body-step 0", "--body-step 0 is not allowed"),
]


@pytest.mark.parametrize(("line", "said"), LANDSCAPES)
def test_a_wrong_value_of_a_landscape_is_named_too(run_program, tmp_path, line, said):
    outcome = run_program(draw_landscape, line)
    assert outcome.status == 2
    assert len(outcome.lines) == 1, outcome.error
    assert said in outcome.error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("task", USUAL)
def test_what_is_not_given_is_the_tasks_usual(task):
    whole = read_supervised_settings(["--task", task])
    assert (whole.steps, whole.batch) == (USUAL[task].steps, USUAL[task].batch)
    assert whole.hidden == USUAL[task].hidden
    assert whole.arm == ("split", "body-rate", "head-rate", "limit")
    # Between 3 and 10 times, as in the paper.
    assert 3 <= whole.head_step / whole.body_step <= 10 + 1e-9
    assert whole.curvature_runs == min(USUAL[task].curvature_runs, whole.runs)


def test_what_is_given_stays():
    line = "--task mnist --hidden 5 --steps 3 --runs 2 --ridge 0.5 --arm limit"
    whole = read_supervised_settings(line.split())
    assert (whole.hidden, whole.steps, whole.runs, whole.ridge) == ((5,), 3, 2, 0.5)
    assert whole.arm == ("limit",)


@pytest.mark.parametrize("program", [train_supervised, draw_landscape])
def test_help_explains_every_flag(run_program, program):
    with pytest.raises(SystemExit) as ended:
        run_program(program, "--help")
    assert ended.value.code == 0
