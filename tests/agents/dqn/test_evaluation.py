"""Scores of whole games, and when the network is asked."""

import numpy as np

from agents.dqn.evaluation import GreedyActor, evaluate_episodes
from agents.dqn.q_network import make_network
from envs.games.discrete_control import GymnasiumEnvironments, control
from tests.agents.dqn.identity_game import SCHEDULE, Identity, training


def test_an_identity_environment_is_learned():
    schedule = SCHEDULE._replace(epsilon_steps=300, steps=1500, learning_starts=50, update_every=1)
    learning = training(GymnasiumEnvironments("identity", Identity, 2), schedule=schedule)
    learning.advance(1500)
    games = GymnasiumEnvironments("identity", Identity, 9)
    scores, lengths = evaluate_episodes(GreedyActor(learning.learner.network), games, 0.0, 4, 100)
    assert scores == [7.0] * 9
    assert lengths == [7] * 9
    random, _ = evaluate_episodes(GreedyActor(learning.learner.network), games, 1.0, 4, 100)
    assert np.mean(random) < 4


def test_scores_are_of_whole_games_and_a_long_game_is_left():
    games = control("CartPole-v1", 4)
    network = make_network("mlp", (4,), 2, seed=0)
    scores, lengths = evaluate_episodes(GreedyActor(network), games, 1.0, 3, 500)
    assert scores == [float(length) for length in lengths]
    assert min(lengths) > 7
    cut, _ = evaluate_episodes(GreedyActor(network), games, 1.0, 3, 5)
    assert cut == [5.0] * 4
    assert evaluate_episodes(GreedyActor(network), games, 1.0, 3, 500)[0] == scores
    assert evaluate_episodes(GreedyActor(network), games, 1.0, 4, 500)[0] != scores


def test_the_network_is_asked_only_where_some_game_follows_it():
    learning = training(
        GymnasiumEnvironments("identity", Identity, 1),
        schedule=SCHEDULE._replace(epsilon_last=1.0, learning_starts=10**6),
    )
    asked = []
    learning.learner.greedy = lambda observation: asked.append(1)
    learning.advance(100)
    assert asked == []
