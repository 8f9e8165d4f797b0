import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tensorboard.summary.writer.record_writer import RecordWriter

from experiments.runs.recording.tensorboard_log import TensorBoardLog
from experiments.runs.results.history import History
from experiments.runs.results.intervals import mean_interval


def grow(history, log, steps, diverges=()):
    for step in steps:
        values = {
            "error/rmsve": np.array([1.0, 2.0, 6.0]) + step,
            "step_size/head": np.full(3, 0.25),
        }
        history.append(step, values, np.array([run in diverges for run in range(3)]))
        log.write(history)


def read(folder):
    return EventAccumulator(str(folder)).Reload()


def points(events, tag):
    return [(event.step, event.value) for event in events.Scalars(tag)]


def test_means_intervals_and_the_count_of_diverged_runs_are_shown(tmp_path):
    history, log = History(), TensorBoardLog(tmp_path)
    grow(history, log, [0, 100])
    grow(history, log, [200], diverges=[2])
    log.close()
    events = read(tmp_path)
    assert sorted(events.Tags()["scalars"]) == [
        "error/rmsve",
        "interval/error/rmsve/high",
        "interval/error/rmsve/low",
        "runs/diverged",
        "step_size/head",
    ]
    assert points(events, "error/rmsve") == [(0, 3.0), (100, 103.0), (200, 201.5)]
    assert points(events, "runs/diverged") == [(0, 0.0), (100, 0.0), (200, 1.0)]
    assert points(events, "step_size/head") == [(0, 0.25), (100, 0.25), (200, 0.25)]
    low, high = (
        points(events, "interval/error/rmsve/low"),
        points(events, "interval/error/rmsve/high"),
    )
    for (step, bottom), (_, top), values in zip(
        low, high, ([1, 2, 6], [101, 102, 106], [201, 202]), strict=True
    ):
        expected = mean_interval(np.array(values, dtype=float), logarithm=True)
        np.testing.assert_allclose([bottom, top], expected[1:], rtol=1e-6, err_msg=str(step))


def test_a_mean_over_no_run_is_left_out(tmp_path):
    history, log = History(), TensorBoardLog(tmp_path)
    grow(history, log, [0])
    grow(history, log, [100], diverges=[0, 1, 2])
    log.close()
    events = read(tmp_path)
    assert points(events, "error/rmsve") == [(0, 3.0)]
    assert points(events, "runs/diverged") == [(0, 0.0), (100, 3.0)]


def test_what_is_flushed_is_there_before_the_file_is_closed(tmp_path):
    history, log = History(), TensorBoardLog(tmp_path)
    grow(history, log, [0, 100])
    log.flush()
    assert len(points(read(tmp_path), "error/rmsve")) == 2
    log.close()


def test_a_resumed_run_neither_repeats_nor_skips_a_measurement(tmp_path):
    history, log = History(), TensorBoardLog(tmp_path)
    grow(history, log, [0, 100, 200, 300])
    log.flush()
    resumed = History()
    for step in (0, 100):
        resumed.append(step, {"error/rmsve": np.ones(3), "step_size/head": np.ones(3)}, [0, 0, 0])
    log = TensorBoardLog(tmp_path, purge_step=101)
    grow(resumed, log, [200, 300, 400])
    log.close()
    steps = [step for step, _ in points(read(tmp_path), "error/rmsve")]
    assert steps == [0, 100, 200, 300, 400]


def test_a_torn_record_costs_no_more_than_itself(tmp_path):
    history, log = History(), TensorBoardLog(tmp_path)
    grow(history, log, [0, 100])
    log.close()
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-3])
    log = TensorBoardLog(tmp_path, purge_step=101)
    grow(history, log, [200])
    log.close()
    assert [step for step, _ in points(read(tmp_path), "error/rmsve")] == [0, 100, 200]


def test_settings_and_final_errors_stand_in_the_same_folder(tmp_path):
    history, log = History(), TensorBoardLog(tmp_path)
    grow(history, log, [0, 100])
    log.write_hparams(
        {"head_step": 0.5, "rule": "td", "out": None, "width": [4, 8], "resume": False}, history
    )
    log.close()
    assert all(path.is_file() for path in tmp_path.iterdir())
    events = read(tmp_path)
    assert points(events, "whole_run/auc_rmsve") == [(100, 53.0)]
    content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    start = HParamsPluginData.FromString(content).session_start_info
    settings = {name: value.WhichOneof("kind") for name, value in start.hparams.items()}
    assert settings == {
        "head_step": "number_value",
        "rule": "string_value",
        "width": "string_value",
        "resume": "string_value",
    }
    assert start.hparams["width"].string_value == "4 8"
    content = events.SummaryMetadata("_hparams_/experiment").plugin_data.content
    metrics = HParamsPluginData.FromString(content).experiment.metric_infos
    assert sorted(metric.name.tag for metric in metrics) == ["error/rmsve", "whole_run/auc_rmsve"]


def test_curves_come_before_single_points(tmp_path):
    history, log = History(), TensorBoardLog(tmp_path)
    for step in (0, 100):
        values = {name: np.ones(3) for name in ("error/rmsve", "tracking_error/head", "test/loss")}
        history.append(step, values, np.zeros(3, dtype=bool))
        log.write(history)
    log.write_hparams({"rule": "td"}, history)
    log.close()
    events = read(tmp_path)
    tags = sorted(events.Tags()["scalars"])
    assert tags[0] == "error/rmsve"
    counts = [len(points(events, tag)) for tag in tags]
    # All that has one point comes last.
    assert counts == [2] * (len(tags) - 2) + [1, 1]


def test_bands_are_laid_out_for_the_custom_scalars_page(tmp_path):
    history, log = History(), TensorBoardLog(tmp_path)
    grow(history, log, [0])
    log.close()
    layout = read(tmp_path).Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0]
    for tag in ("error/rmsve", "interval/error/rmsve/low", "interval/error/rmsve/high"):
        assert tag.encode() in layout
    assert b"RMSVE (units of value)" in layout
    assert b"step_size" not in layout


@pytest.mark.parametrize(
    ("tag", "said"),
    [
        ("error/rmsve", "RMSVE (units of value), mean over the runs that have not diverged"),
        (
            "interval/error/rmsve/low",
            "low end of the 95 % interval over runs of RMSVE (units of value)",
        ),
        ("runs/diverged", "number of runs that have diverged"),
        ("step_size/head", "learning rate of the head at the last update"),
    ],
)
def test_a_tag_has_a_description(tmp_path, tag, said, caplog):
    history, log = History(), TensorBoardLog(tmp_path)
    grow(history, log, [0, 100])
    log.close()
    events = read(tmp_path)
    assert events.SummaryMetadata(tag).summary_description == said
    # A tag that no page of TensorBoard claims would be warned of.
    assert not caplog.records


def test_a_full_disk_is_an_os_error_of_the_call_that_writes(tmp_path):
    log = TensorBoardLog(tmp_path)
    with open("/dev/full", "wb", buffering=0) as full:
        log._records = RecordWriter(full)
        with pytest.raises(OSError, match="No space left"):
            log.scalar("error/rmsve", 1.0, 0)
    log.close()
