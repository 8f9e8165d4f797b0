"""How the commands of the pages are run by `make pages`: with smaller sizes, or why they are not.

A row holds for every command that has its words. The first row that fits is taken. A command
without a row is run as it stands.
"""

# With sizes of its own, {words of the command: flags in place of its own, or added}.
SMALLER = {
    "make demo": "STAMP=",
    # Studies: four problems and more, in some minutes to hours.
    "--study experiments/studies/body_rules": "--problem garnet-1 CartPole-v1 --sampling markov"
    " --rule td tdrc --steps 200 --measure-every 100 --runs 2 --fresh-runs 3",
    "--study experiments/studies/garnets": "--problem garnet-off-policy-1 garnet-off-policy-2",
    "--study experiments/studies/presets": "--problem garnet-4 CartPole-v1 --rule td tdrc"
    " --steps 200 --measure-every 100 --runs 2",
    "--shard": "--problem boyan baird --runs 3 --fresh-runs 4",
    "--study experiments/studies/standard": "--problem boyan baird --runs 5 --fresh-runs 5",
    "experiments.sweep --problem garnet --width 8": "--rule td tdc --runs 3 --steps 300",
    "experiments.sweep --data": "--rule tdrc td --body-steps 2^-6 --runs 2 --steps 500",
    # Benchmarks.
    "benchmarks.accuracy --seeds 2": "--seeds 1 --methods 'lstd(0)' --problems queue-off",
    "benchmarks.accuracy --designed": "--seeds 1 --methods 'lstd(0)' --problems MountainCar",
    "benchmarks.accuracy": "--seeds 1 --methods 'lstd(0)' --problems queue",
    "benchmarks.presets": "--purpose on-policy --updates 50",
    "benchmarks.dqn --no-memory": "--rounds 1 --window 20 --environments 1",
    "benchmarks.dqn --only-memory": "--transitions 2000",
    "benchmarks.dqn_population": "--runs 4 --rounds 1",
    "benchmarks.held_out_noise": "--problem CartPole-v1 --sizes 1000 --total 20000",
    "benchmarks.coverage": "--chains boyan --sizes 500 --methods lstd --logs 3",
    "benchmarks.supervised": "--task friedman --rounds 1",
    # Deep Q-networks.
    "train_dqn --problem ALE/Pong-v5": "--steps 1200 --learning-starts 500 --replay-capacity 2000"
    " --evaluate-every 1200 --evaluation-episodes 1 --evaluation-longest 200",
    "--problem ALE/Pong-v5 --policy": "--steps 100 --truth-states 2 --held-out 50",
    "compare_dqn --problem ALE/Breakout-v5": "--seeds 1 --steps 1200 --learning-starts 500"
    " --evaluate-every 1200 --evaluation-episodes 1 --evaluation-longest 200 --random-games 2",
    "compare_dqn --problem MinAtar": "--seeds 1 --steps 3000 --learning-starts 500"
    " --evaluate-every 3000 --evaluation-episodes 2 --random-games 3",
    "compare_dqn --grid": "--seeds 2 --selection-seeds 2 --steps 2000 --evaluate-every 1000"
    " --learning-starts 300 --evaluation-episodes 2 --random-games 3",
    "compare_dqn": "--seeds 2 --steps 2000 --evaluate-every 1000 --evaluation-episodes 2"
    " --random-games 3",
    "train_dqn": "--steps 5000",
    # Supervised learning; the pictures are a few of three by five pixels.
    "--task mnist": "--data FOLDER --steps 20 --measure-every 10 --runs 2",
    "--task fashion-mnist": "--data FOLDER --steps 20 --measure-every 10 --runs 2",
    "train_supervised": "--steps 200 --runs 4",
    "experiments.landscape --runs 10": "--runs 3 --curvature-runs 2 --steps 100 --at 0 15 100"
    " --measure-every 5 --grid 5",
}
# {words of the command: why it is not run}.
NOT_RUN = {
    "make test": "it is the suite",
    "make bench": "measures for an hour; its programs have tests",
    "make gpu": "needs a GPU; a test runs it with --device cpu --small",
    "make wheels": "downloads packages",
    "--wheels": "needs the downloads of make wheels",
    "ray start": "leaves servers behind; test_ray_engine.py starts a cluster of its own",
    "--engine ray": "needs the cluster of the commands before it",
    "--rule td tdc --sampling combined": "needs changes of the clone; test_own_parts.py makes them",
    "ALE/Breakout-v5 ALE/Pong-v5": "days",
    "--task cifar10": "needs the files of CIFAR-10",
}
# What a page takes from other pages: {page: [(other page, words of the piece)]}.
NEEDS = {
    "README.md": [("docs/guide/logs.md", 'np.savez("cartpole.npz"')],
    "docs/guide/logs.md": [("docs/guide/first-evaluation.md", "# mine.py")],
    "docs/guide/studies.md": [("docs/guide/logs.md", 'np.savez("cartpole.npz"')],
    "docs/guide/runs.md": [("docs/guide/first-evaluation.md", "--problem boyan")],
}
# Pages whose Python is one module in the current folder.
MODULES = {"docs/own-parts.md": "mine.py", "docs/guide/policies.md": "policies.py"}
