"""A small study's command line, and readers of what it leaves."""

import csv

LINE = (
    "--problem boyan --width 5 --rule td tdc --steps 7 --runs 3 --measure-every 3 "
    "--body-steps 2^-7 2^-3 --ratios 1 8 inf --auxiliary-ratios 0.25 1 --controls --workers 1"
)


def rows_of(path):
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def shards_of(folder):
    return {path.name: path.read_bytes() for path in sorted((folder / "parts").iterdir())}
