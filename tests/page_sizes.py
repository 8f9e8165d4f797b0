"""How the commands of the pages are run by `make pages`: with smaller sizes, or why they are not.

A row holds for every command that has its words. The first row that fits is taken. A command
without a row is run as it stands.
"""

# With sizes of its own, {words of the command: flags in place of its own, or added}.
SMALLER = {
    "make demo": "STAMP=",
    # Studies.
    "sweep --problem boyan random-walk-inverted": "--rule tdrc td --runs 3 --steps 60"
    " --head-steps 2^-6:2^-4 --compile off",
    "--study experiments/studies/control": "--problem CartPole-v1 --rule td tdc --steps 100"
    " --measure-every 50 --runs 2 --fresh-runs 2 --held-out 500 --truth-states 5 --compile off",
    "--study experiments/studies/small_steps": "--problem CartPole-v1 --steps 100"
    " --measure-every 50 --runs 2 --fresh-runs 2 --held-out 500 --truth-states 5 --compile off",
    "--study experiments/studies/structured": "--problem noisy-grid --rule td tdc"
    " --body-steps 2^-6 --ratios 1 10 --steps 40 --measure-every 40 --runs 2 --fresh-runs 2"
    " --controls constant --compile off",
    "--study experiments/studies/garnets": "--problem garnet-off-policy-1 --rule td tdc"
    " --body-steps 2^-6 --ratios 1 10 --steps 40 --measure-every 40 --runs 2 --fresh-runs 2"
    " --controls constant --compile off",
    "--study experiments/studies/presets": "--problem garnet-4 --rule td tdrc --steps 100"
    " --measure-every 50 --runs 2 --compile off",
    "--study experiments/studies/standard": "--problem boyan baird --rule tdrc td --steps 60"
    " --head-steps 2^-6:2^-5 --runs 2 --fresh-runs 2 --compile off",
    "experiments.sweep --problem garnet --width 8": "--rule td tdc --ratios 1 10 --runs 2"
    " --steps 200 --measure-every 100 --body-steps 2^-6 --compile off",
    "experiments.sweep --data": "--rule tdrc td --body-steps 2^-6 --ratios 1 10 --runs 2"
    " --steps 60 --controls constant --compile off",
    # Benchmarks.
    "benchmarks.accuracy.best_setting": "--problems queue-off --logs 2",
    "benchmarks.accuracy --designed": "--seeds 1 --methods 'lstd(0)' --problems MountainCar",
    "benchmarks.accuracy": "--seeds 1 --methods 'lstd(0)' --problems queue",
    "benchmarks.presets": "--purpose fast --updates 50",
    "benchmarks.dqn --only-memory": "--transitions 2000",
    "benchmarks.dqn_population": "--runs 4 --rounds 1",
    "benchmarks.held_out_noise": "--problem CartPole-v1 --sizes 1000 --total 20000",
    "benchmarks.coverage": "--chains boyan --sizes 500 --methods lstd --logs 3",
    "benchmarks.supervised": "--task friedman --rounds 1",
    # Deep Q-networks.
    "train_dqn --problem ALE/Pong-v5": "--steps 800 --learning-starts 400 --replay-capacity 2000"
    " --evaluate-every 800 --evaluation-episodes 1 --evaluation-longest 200",
    "--problem ALE/Pong-v5 --policy": "--steps 50 --truth-states 2 --held-out 50",
    "compare_dqn --problem ALE/": "--seeds 1 --steps 800 --learning-starts 400"
    " --evaluate-every 800 --evaluation-episodes 1 --evaluation-longest 200 --random-games 2",
    "compare_dqn --problem MinAtar": "--seeds 1 --steps 1500 --learning-starts 500"
    " --evaluate-every 1500 --evaluation-episodes 2 --random-games 3",
    "compare_dqn --grid": "--seeds 2 --selection-seeds 2 --steps 1000 --evaluate-every 500"
    " --learning-starts 300 --evaluation-episodes 2 --random-games 3",
    "train_dqn": "--steps 3000",
    # Policy evaluation.
    "--budget 60": "--budget 3 --updates 0",
    "--rule td --runs 50": "--runs 5 --steps 60 --compile off",
    "--resample episodes --out runs/interval": "--updates 50",
    "evaluate_policy --data": "--steps 60 --measure-every 60 --runs 2 --compile off",
    "--rule td lstd-random stackelberg-td": "--updates 20 --steps 60 --measure-every 60 --runs 2"
    " --compile off",
    "--problem CartPole-v1 --behaviour uniform": "--updates 50",
    "--rule lstd-random fitted": "--updates 20 --steps 60 --runs 2",
    "--preset": "--steps 60 --measure-every 60 --runs 2 --compile off",
    "--problem boyan": "--steps 100 --compile off --runs 10",
    "--rule": "--steps 60 --measure-every 60 --runs 2 --compile off",
    # Supervised learning; the pictures are a few of three by five pixels.
    "--task mnist": "--data FOLDER --steps 20 --measure-every 10 --runs 2 --curvature-products 2",
    "--task fashion-mnist": "--data FOLDER --steps 20 --measure-every 10 --runs 2"
    " --curvature-products 2",
    "train_supervised": "--steps 100 --runs 2 --compile off --curvature-runs 1",
    "experiments.landscape": "--runs 3 --curvature-runs 2 --steps 100 --at 0 15 100"
    " --measure-every 5 --grid 5 --curvature-every 10",
}
# {words of the command: why it is not run}.
NOT_RUN = {
    "make test": "it is the suite",
    "make bench": "measures for an hour; its programs have tests",
    "benchmarks.jax_peer": "needs the extra bench (jax)",
    "make gpu": "needs a GPU; a test runs it with --device cpu --small",
    "make wheels": "downloads packages",
    "LunarLander": "needs Box2D, which no extra of this package has",
    "benchmarks.dqn --no-memory": "fills replays of 10,000 frames first",
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
MODULES = {"docs/own-parts.md": "parts.py", "docs/guide/policies.md": "policies.py"}
